// SPDX-License-Identifier: Apache-2.0
//! How the database is reached: upstream's keys of `[mysql]` and `[mysql2]`.

use std::path::PathBuf;
use std::time::Duration;

use dulse_config::stores::{Dsn, DsnError, DsnTls, Section, StoreOptions};
use dulse_shared::sql::Tables;

/// How a connection is encrypted. The server's name must be in a certificate of one of the
/// trusted authorities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// PEM file of authorities (`ca_crt`); the system's where there is none.
    pub authorities: Option<PathBuf>,
    /// PEM files of our own certificate and its key (`client_crt`, `client_key`).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has; that of `hostname` where it is empty
    /// (`tls_server_name`).
    pub server_name: String,
    /// Whoever answers is believed (`tls_insecure_skip_verify`).
    pub is_unchecked: bool,
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
    /// A socket in the file system, in place of name and port.
    pub socket: Option<PathBuf>,
    /// User.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
    /// Database, which exists.
    pub database: String,
    /// Encryption, if any.
    pub tls: Option<Tls>,
    /// Connections, at most.
    pub connections_max: usize,
    /// Of these, at most this many are kept while nobody uses them.
    pub idle_max: usize,
    /// A connection is not used any more when it is older.
    pub connection_lifetime: Duration,
    /// Statement that makes a table, `%s` in the place of its name.
    pub create_table: String,
}

/// Upstream's statement for buckets' tables; its `filemeta` is the same.
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS `%s` (\
    `dirhash` BIGINT NOT NULL, `name` VARCHAR(766) NOT NULL, `directory` TEXT NOT NULL, \
    `meta` LONGBLOB, PRIMARY KEY (`dirhash`, `name`)) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

/// Upstream's `connection_max_open`.
const CONNECTIONS_MAX: usize = 50;

/// Upstream's `connection_max_idle`, of its template.
const IDLE_MAX: usize = 10;

/// Upstream's `connection_max_lifetime_seconds`.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The statement does not say where the name goes.
    #[error("createTable is `{0}`; expected a statement with %s in the place of the table's name")]
    CreateTable(String),
    /// One of the two files alone.
    #[error("client_crt and client_key belong together; expected both or none")]
    Identity,
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
    /// The `dsn` cannot be followed.
    #[error(transparent)]
    Dsn(#[from] DsnError),
}

impl Config {
    /// A database by upstream's defaults, to be changed field by field.
    #[must_use]
    pub fn at(tables: Tables, hostname: &str, port: u16, database: &str) -> Self {
        Self {
            tables,
            hostname: hostname.to_owned(),
            port,
            socket: None,
            username: "root".to_owned(),
            password: String::new(),
            database: database.to_owned(),
            tls: None,
            connections_max: CONNECTIONS_MAX,
            idle_max: IDLE_MAX,
            connection_lifetime: CONNECTION_LIFETIME,
            create_table: CREATE_TABLE.to_owned(),
        }
    }

    /// What `[mysql]` or `[mysql2]` says. Names and defaults are upstream's; its upserts are not
    /// needed and all statements are prepared, so `enableUpsert`, `upsertQuery` and
    /// `interpolateParams` may say anything.
    ///
    /// # Errors
    ///
    /// For values that cannot be followed.
    pub fn of(section: &Section, _: &StoreOptions) -> Result<Self, ConfigError> {
        let tables = match section.name() {
            "mysql2" => Tables::PerBucket,
            _ => Tables::One,
        };
        let number = |key: &'static str, expected| {
            let value = section.integer(key);
            let value_of = |_| ConfigError::Key {
                key,
                value: value.to_string(),
                expected,
            };
            u32::try_from(value).map_err(value_of)
        };
        let or = |text: &str, default: &str| match text.is_empty() {
            true => default.to_owned(),
            false => text.to_owned(),
        };
        let mut config = Self::at(tables, "localhost", 3306, "");
        let mut said = DsnTls::Unsaid;
        let dsn = section.text("dsn");
        if dsn.is_empty() {
            config.hostname = or(section.text("hostname"), "localhost");
            let port = section.integer("port");
            let is_port = |port: &u16| *port != 0;
            config.port =
                u16::try_from(port)
                    .ok()
                    .filter(is_port)
                    .ok_or_else(|| ConfigError::Key {
                        key: "port",
                        value: port.to_string(),
                        expected: "a port such as 3306",
                    })?;
            section.text("username").clone_into(&mut config.username);
            section.text("password").clone_into(&mut config.password);
            section.text("database").clone_into(&mut config.database);
        } else {
            let dsn: Dsn = dsn.parse()?;
            said = dsn.tls;
            config = Self {
                hostname: dsn.hostname,
                port: dsn.port,
                socket: dsn.socket,
                username: dsn.username,
                password: dsn.password,
                database: dsn.database,
                ..config
            };
        }
        for (key, text) in [
            ("username", &config.username),
            ("database", &config.database),
        ] {
            if text.is_empty() {
                return Err(ConfigError::Key {
                    key,
                    value: String::new(),
                    expected: "its name, here or in `dsn`",
                });
            }
        }
        let is_enabled = section.boolean("enable_tls");
        if is_enabled || matches!(said, DsnTls::Checked | DsnTls::Unchecked) {
            let authorities = section.text("ca_crt");
            config.tls = Some(Tls {
                authorities: (!authorities.is_empty()).then(|| authorities.into()),
                identity: Self::identity(section.text("client_crt"), section.text("client_key"))?,
                server_name: section.text("tls_server_name").to_owned(),
                is_unchecked: section.boolean("tls_insecure_skip_verify")
                    || said == DsnTls::Unchecked,
            });
        }
        match number("connection_max_open", "a number of connections")? {
            // Upstream's any number.
            0 => {}
            n => config.connections_max = n as usize,
        }
        config.idle_max = number("connection_max_idle", "a number of connections")? as usize;
        let lifetime = number("connection_max_lifetime_seconds", "a number of seconds")?;
        config.connection_lifetime = match lifetime {
            // Upstream's for ever.
            0 => Duration::from_secs(u32::MAX.into()),
            seconds => Duration::from_secs(seconds.into()),
        };
        if tables == Tables::PerBucket {
            config.create_table = or(section.text("createTable").trim(), CREATE_TABLE);
        }
        config.create("filemeta")?;
        Ok(config)
    }

    /// The database for people: where it is, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        let Self {
            username, database, ..
        } = self;
        match &self.socket {
            Some(socket) => format!("{username}@{}/{database}", socket.display()),
            None => format!("{username}@{}:{}/{database}", self.hostname, self.port),
        }
    }

    /// The certificate and key of upstream's `client_crt` and `client_key`.
    ///
    /// # Errors
    ///
    /// `Identity` for one without the other.
    pub fn identity(
        certificate: &str,
        key: &str,
    ) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        match (certificate, key) {
            ("", "") => Ok(None),
            ("", _) | (_, "") => Err(ConfigError::Identity),
            (certificate, key) => Ok(Some((certificate.into(), key.into()))),
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
    fn a_statement_names_the_table_once() {
        let mut config = Config::at(Tables::One, "h", 1, "d");
        assert!(config.create("t").unwrap().contains("`t` ("));
        for wrong in ["CREATE TABLE x", "%s %s"] {
            wrong.clone_into(&mut config.create_table);
            assert!(config.create("t").is_err());
        }
    }

    fn read(text: &str) -> Result<Config, ConfigError> {
        let path = std::path::Path::new("filer.toml");
        let stores = dulse_config::Stores::parse(path, text, &|_| None).unwrap();
        Config::of(&stores.store.expect("one is enabled"), &stores.options)
    }

    #[test]
    fn a_section_is_read_as_upstream_reads_it() {
        let config = read(
            "[mysql]\nenabled = true\nhostname = \"h\"\nport = 33\nusername = \"u\"\n\
             password = \"p\"\ndatabase = \"d\"\nconnection_max_open = 7\n\
             connection_max_idle = 3\n",
        )
        .unwrap();
        let expected = Config {
            username: "u".to_owned(),
            password: "p".to_owned(),
            connections_max: 7,
            idle_max: 3,
            ..Config::at(Tables::One, "h", 33, "d")
        };
        assert_eq!(config, expected);
        assert_eq!(config.place(), "u@h:33/d");
    }

    #[test]
    fn a_dsn_wins_over_the_other_keys() {
        let config = read(
            "[mysql2]\nenabled = true\ndsn = \"u:p@tcp(h:1)/d?tls=skip-verify\"\n\
             hostname = \"other\"\ncreateTable = \"CREATE TABLE `%s` (x)\"\n",
        )
        .unwrap();
        assert_eq!(config.place(), "u@h:1/d");
        assert_eq!(config.tables, Tables::PerBucket);
        assert!(config.tls.is_some_and(|tls| tls.is_unchecked));
        assert_eq!(config.create_table, "CREATE TABLE `%s` (x)");
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_what_is_expected() {
        let head = "[mysql2]\nenabled = true\nusername = \"u\"\ndatabase = \"d\"\n";
        for (more, expected) in [
            ("port = 0", "a port such as 3306"),
            ("connection_max_open = -1", "a number of connections"),
            ("createTable = \"CREATE TABLE x\"", "%s"),
            ("enable_tls = true\nclient_crt = \"x\"", "both or none"),
            ("dsn = \"u@tcp(h)/d?tls=preferred\"", "skip-verify"),
            ("dsn = \"u@tcp(h)/\"", "its name"),
        ] {
            let error = read(&format!("{head}{more}\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
    }

    #[test]
    fn a_certificate_goes_with_its_key() {
        assert_eq!(Config::identity("", ""), Ok(None));
        assert!(Config::identity("a", "b").unwrap().is_some());
        assert_eq!(Config::identity("a", ""), Err(ConfigError::Identity));
        assert_eq!(Config::identity("", "b"), Err(ConfigError::Identity));
    }
}
