// SPDX-License-Identifier: Apache-2.0
//! How the database is reached: upstream's keys of `[postgres]` and `[postgres2]`.

use std::path::PathBuf;
use std::time::Duration;

use dulse_config::stores::{Section, StoreOptions};
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
    /// A key has a value that cannot be followed.
    #[error("`{key}` is `{value}`; expected {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
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
            create_table: CREATE_TABLE.to_owned(),
        }
    }

    /// What `[postgres]` or `[postgres2]` says. Names and defaults are upstream's; its own upserts
    /// are not needed, so `enableUpsert` and `upsertQuery` may say anything.
    ///
    /// # Errors
    ///
    /// For values that cannot be followed.
    pub fn of(section: &Section, _: &StoreOptions) -> Result<Self, ConfigError> {
        let wrong = |key: &'static str, value: String, expected| ConfigError::Key {
            key,
            value,
            expected,
        };
        let number = |key: &'static str, expected| {
            let value = section.integer(key);
            u32::try_from(value).map_err(|_| wrong(key, value.to_string(), expected))
        };
        let tables = match section.name() {
            "postgres2" => Tables::PerBucket,
            _ => Tables::One,
        };
        for key in ["sslcert", "sslkey", "sslcrl"] {
            if !section.text(key).is_empty() {
                let expected =
                    "nothing: client certificates and revocation lists are not supported";
                return Err(wrong(key, section.text(key).to_owned(), expected));
            }
        }
        if section.boolean("pgbouncer_compatible") {
            let expected = "false: prepared statements are needed";
            return Err(wrong("pgbouncer_compatible", "true".to_owned(), expected));
        }
        let port = section.integer("port");
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            wrong(
                "port",
                section.integer("port").to_string(),
                "a port such as 5432",
            )
        })?;
        for key in ["username", "database"] {
            if section.text(key).is_empty() {
                return Err(wrong(key, String::new(), "its name"));
            }
        }
        let or = |text: &str, default: &str| match text.is_empty() {
            true => default.to_owned(),
            false => text.to_owned(),
        };
        let authorities = section.text("sslrootcert");
        let authorities = (!authorities.is_empty()).then(|| PathBuf::from(authorities));
        let connections_max = number("connection_max_open", "a number of connections")?;
        let lifetime = number("connection_max_lifetime_seconds", "a number of seconds")?;
        let create_table = match tables {
            Tables::PerBucket => or(section.text("createTable"), CREATE_TABLE),
            Tables::One => CREATE_TABLE.to_owned(),
        };
        let config = Self {
            username: section.text("username").to_owned(),
            password: section.text("password").to_owned(),
            schema: section.text("schema").to_owned(),
            ssl: Self::ssl_mode(section.text("sslmode"), authorities)?,
            connections_max: match connections_max {
                0 => CONNECTIONS_MAX,
                n => n as usize,
            },
            connection_lifetime: match lifetime {
                // Upstream's for ever.
                0 => Duration::from_secs(u32::MAX.into()),
                seconds => Duration::from_secs(seconds.into()),
            },
            create_table,
            ..Self::at(
                tables,
                &or(section.text("hostname"), "localhost"),
                port,
                section.text("database"),
            )
        };
        config.create("filemeta")?;
        Ok(config)
    }

    /// The database for people: where it is, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        format!(
            "{}@{}:{}/{}",
            self.username, self.hostname, self.port, self.database
        )
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
