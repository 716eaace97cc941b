// SPDX-License-Identifier: Apache-2.0
//! The directory of a million entries of the suites in `conformance.rs`, on MariaDB and MySQL. It
//! takes a minute or more on each and runs beside other tests; in one layout, since a directory
//! lies in one table in both.

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore};
use dulse_store::Error;
use dulse_store_mysql::{MySql, Tables};
use dulse_store_testkit::{self as testkit, opener};
use server::Kind;

/// Servers and what they need beside what all tests do: MySQL 5.6 takes no value above a tenth
/// of its log.
const SERVERS: [(Kind, &str, &[&str]); 2] = [
    (Kind::MariaDb, "mariadb", &[]),
    (Kind::MySql56, "mysql56", &["--innodb-log-file-size=128M"]),
];

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for (kind, server, more) in SERVERS {
        let lacks = server::start(kind, more).err().map(|e| format!("{e:#}"));
        let opener = opener(move |dir| open(kind, Tables::One, dir));
        let prefix = format!("{server}::mysql::");
        let million = testkit::million::SUITE;
        trials.extend(million.trials(&opener, lacks.as_deref(), &prefix));
    }
    let code = testkit::run(trials);
    server::stop();
    code
}

/// The store of a directory: a database named after it, its journal inside it.
fn open(kind: Kind, tables: Tables, dir: &Path) -> Result<SharedStore<MySql>, Error> {
    let config = server::database_of(kind, tables, dir);
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    dulse_store_mysql::open(config, &options)
}
