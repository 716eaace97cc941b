// SPDX-License-Identifier: Apache-2.0
//! How the database is reached: upstream's keys of `[postgres]` and `[postgres2]`.

use std::path::PathBuf;
use std::time::Duration;

pub use dulse_shared::sql::Tables;

/// Whether the connection is encrypted, by libpq's names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Always, and the server's name must be in a certificate of one of the trusted authorities:
    /// those of the file, else the system's.
    VerifyFull {
        /// PEM file of authorities (`sslrootcert`).
        authorities: Option<PathBuf>,
    },
}

/// Connection and layout. There are no defaults: who opens a store decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Layout of the tables.
    pub tables: Tables,
    /// Name or address of the server.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// User.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
    /// Database, which exists.
    pub database: String,
    /// Schema; empty for the user's own.
    pub schema: String,
    /// Encryption.
    pub ssl: SslMode,
    /// Connections, at most.
    pub connections_max: usize,
    /// A connection is not used any more when it is older.
    pub connection_lifetime: Duration,
    /// The folder whose children are buckets, such as `/buckets`.
    pub buckets_folder: String,
    /// Statement that makes a table, `%s` in the place of its name.
    pub create_table: String,
}

/// Upstream's statement for `filemeta` and buckets' tables.
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS \"%s\" (\
    dirhash BIGINT, name VARCHAR(65535), directory VARCHAR(65535), meta bytea, \
    PRIMARY KEY (dirhash, name))";

/// Upstream's `connection_max_open`.
const CONNECTIONS_MAX: usize = 50;

/// Upstream's `connection_max_lifetime_seconds`.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Upstream's `sslmode` has other values than are supported.
    #[error(
        "sslmode is `{0}`; expected `disable` or `verify-full` (the others encrypt without \
         checking who answers)"
    )]
    SslMode(String),
    /// The statement does not say where the name goes.
    #[error("createTable is `{0}`; expected a statement with %s in the place of the table's name")]
    CreateTable(String),
}

impl Config {
    /// A database on this host by upstream's defaults, to be changed field by field.
    #[must_use]
    pub fn at(tables: Tables, hostname: &str, port: u16, database: &str) -> Self {
        Self {
            tables,
            hostname: hostname.to_owned(),
            port,
            username: "postgres".to_owned(),
            password: String::new(),
            database: database.to_owned(),
            schema: String::new(),
            ssl: SslMode::Disable,
            connections_max: CONNECTIONS_MAX,
            connection_lifetime: CONNECTION_LIFETIME,
            buckets_folder: "/buckets".to_owned(),
            create_table: CREATE_TABLE.to_owned(),
        }
    }

    /// The mode of upstream's `sslmode`.
    ///
    /// # Errors
    ///
    /// `SslMode` for those that encrypt without checking.
    pub fn ssl_mode(mode: &str, authorities: Option<PathBuf>) -> Result<SslMode, ConfigError> {
        match mode {
            "disable" | "" => Ok(SslMode::Disable),
            "verify-full" => Ok(SslMode::VerifyFull { authorities }),
            other => Err(ConfigError::SslMode(other.to_owned())),
        }
    }

    /// The statement that makes a table.
    ///
    /// # Errors
    ///
    /// `CreateTable` when it does not name one.
    pub(crate) fn create(&self, table: &str) -> Result<String, ConfigError> {
        let wrong = || ConfigError::CreateTable(self.create_table.clone());
        dulse_shared::sql::naming(&self.create_table, table).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_do_not_check_are_refused_with_what_is_expected() {
        for mode in ["require", "prefer", "verify-ca", "on"] {
            let error = Config::ssl_mode(mode, None).unwrap_err().to_string();
            assert!(
                error.contains(mode) && error.contains("verify-full"),
                "{error}"
            );
        }
        assert_eq!(Config::ssl_mode("disable", None), Ok(SslMode::Disable));
    }

    #[test]
    fn a_statement_names_the_table_once() {
        let mut config = Config::at(Tables::One, "h", 1, "d");
        assert!(config.create("t").unwrap().contains("\"t\" ("));
        for wrong in ["CREATE TABLE x", "%s %s"] {
            wrong.clone_into(&mut config.create_table);
            assert!(config.create("t").is_err());
        }
    }
}
