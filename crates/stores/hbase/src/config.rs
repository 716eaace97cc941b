// SPDX-License-Identifier: Apache-2.0
//! How HBase is reached: upstream's keys of `[hbase]`, which are two.

use std::time::Duration;

use dulse_config::stores::{Section, StoreOptions};
use dulse_hbase_client::Options;
use dulse_hbase_client::zookeeper::parse_quorum;

/// HBase's node in ZooKeeper; upstream cannot set another.
const ROOT: &str = "/hbase";

/// Who upstream says it is; tables that know users know this one.
const USER: &str = "root";

/// Connections to each region server.
const N_CONNECTIONS: usize = 4;

/// Longest time of one call, its attempts included.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Longest name of a table that is taken.
const TABLE_LEN_MAX: usize = 255;

/// `[hbase]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// ZooKeeper's servers, `host:port` between commas; 2181 where no port is named.
    pub zkquorum: String,
    /// The table, `name` or `namespace:name`.
    pub table: String,
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// `zkquorum`.
    Quorum(String),
    /// `table`.
    Table(String),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quorum(part) => write!(
                f,
                "zkquorum has `{part}`; expected ZooKeeper's servers, such as \
                 `zk1,zk2:2181`, between commas"
            ),
            Self::Table(table) => write!(
                f,
                "table is `{table}`; expected letters, digits, `_`, `-` and `.`, beginning with \
                 neither of the last two, behind `namespace:` if it is in one"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// What `[hbase]` says; names and defaults are upstream's.
    ///
    /// # Errors
    ///
    /// What is wrong, and what was expected.
    pub fn of(section: &Section, _: &StoreOptions) -> Result<Self, ConfigError> {
        let config = Self {
            zkquorum: section.text("zkquorum").to_owned(),
            table: section.text("table").to_owned(),
        };
        config.options()?;
        Ok(config)
    }

    /// The table for people: where it is.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} by {}", self.table, self.zkquorum)
    }

    /// Checks it.
    ///
    /// # Errors
    ///
    /// What is wrong, and what was expected.
    pub fn options(&self) -> Result<Options, ConfigError> {
        let quorum = parse_quorum(&self.zkquorum).map_err(ConfigError::Quorum)?;
        let (namespace, name) = self
            .table
            .split_once(':')
            .unwrap_or(("default", &self.table));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_namespace = !namespace.is_empty() && namespace.chars().all(is_plain);
        let is_name = name.starts_with(is_plain)
            && name.chars().all(|c| is_plain(c) || c == '-' || c == '.')
            && name.len() <= TABLE_LEN_MAX;
        if !is_namespace || !is_name {
            return Err(ConfigError::Table(self.table.clone()));
        }
        // `default:name` is `name` wherever HBase writes it.
        let table = match namespace {
            "default" => name.to_owned(),
            _ => self.table.clone(),
        };
        Ok(Options {
            quorum,
            root: ROOT.to_owned(),
            table,
            user: USER.to_owned(),
            n_connections: N_CONNECTIONS,
            time_max: TIME_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let table = |zkquorum: &str, table: &str| {
            let config = Config {
                zkquorum: zkquorum.to_owned(),
                table: table.to_owned(),
            };
            config.options().map(|options| options.table)
        };
        assert_eq!(table("zk", "seaweedfs").unwrap(), "seaweedfs");
        assert_eq!(table("zk:1,zk2", "default:a.b").unwrap(), "a.b");
        assert_eq!(table("zk", "ns:a-b").unwrap(), "ns:a-b");
        assert_eq!(table("", "a"), Err(ConfigError::Quorum(String::new())));
        assert_eq!(
            table("zk:x", "a"),
            Err(ConfigError::Quorum("zk:x".to_owned()))
        );
        for wrong in ["", "-a", "a b", "a,b", ":a", "n:", "ä"] {
            assert_eq!(
                table("zk", wrong),
                Err(ConfigError::Table(wrong.to_owned()))
            );
        }
    }
}
