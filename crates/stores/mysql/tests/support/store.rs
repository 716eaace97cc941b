// SPDX-License-Identifier: Apache-2.0
//! The servers that pass the suites of entry stores, and a store on one.

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore};
use dulse_store::Error;
use dulse_store_mysql::{MySql, Tables};

use crate::server::{self, Kind};

/// Servers and what they need beside what all tests do: MySQL 5.6 takes no value above a tenth
/// of its log.
pub(crate) const SERVERS: [(Kind, &str, &[&str]); 2] = [
    (Kind::MariaDb, "mariadb", &[]),
    (Kind::MySql56, "mysql56", &["--innodb-log-file-size=128M"]),
];

/// The store of a directory: a database named after it, its journal inside it.
pub(crate) fn open(kind: Kind, tables: Tables, dir: &Path) -> Result<SharedStore<MySql>, Error> {
    let config = server::database_of(kind, tables, dir);
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    dulse_store_mysql::open(config, &options)
}
