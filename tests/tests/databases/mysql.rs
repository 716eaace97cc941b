// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in MariaDB and in MySQL.

#[path = "../../../crates/stores/mysql/tests/support/server.rs"]
mod server;

use std::path::Path;

use anyhow::{Context, Result};
use dulse_shared_testkit::{Database, Place};
use dulse_store_mysql::Tables;
use server::{Kind, Server};

/// MariaDB 10.11.
pub(crate) struct MariaDb(Server);

impl Database for MariaDb {
    const SECTIONS: &'static [&'static str] = &["mysql", "mysql2"];

    const SYNCED: &'static str =
        "MariaDB 10.11, `innodb_flush_log_at_trx_commit = 1`, no binary log";

    fn start() -> Result<Self> {
        Ok(Self(Server::start(Kind::MariaDb, &[])?))
    }

    fn start_synced() -> Result<Self> {
        // The later one of two options counts.
        let settings = ["--innodb-flush-log-at-trx-commit=1"];
        Ok(Self(Server::start(Kind::MariaDb, &settings)?))
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let tables = match section {
            "mysql2" => Tables::PerBucket,
            _ => Tables::One,
        };
        let config = apart(|| self.0.database_of(tables, Path::new(name)));
        let mut toml = format!(
            "[{section}]\nenabled = true\nhostname = \"{}\"\nport = {}\nusername = \"root\"\n\
             password = \"\"\ndatabase = \"{}\"\nconnection_max_idle = 10\n\
             connection_max_open = 10\nconnection_max_lifetime_seconds = 300\n\
             interpolateParams = false\nenableUpsert = true\n\
             upsertQuery = \"\"\"INSERT INTO `%s` (`dirhash`,`name`,`directory`,`meta`) \
             VALUES (?,?,?,?) ON DUPLICATE KEY UPDATE `meta` = VALUES(`meta`)\"\"\"\n",
            config.hostname, config.port, config.database
        );
        if tables == Tables::PerBucket {
            toml += &format!("createTable = \"\"\"{}\"\"\"\n", config.create_table);
        }
        Ok(Place {
            toml,
            shown: config.place(),
            database: config.database,
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        let sql = format!(
            "SELECT count(*) FROM filemeta WHERE directory = '{directory}' AND name = '{name}'"
        );
        let said = apart(|| self.0.sql(&place.database, &sql))?;
        Ok(said.first().context("a count")? != "0")
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start_again()
    }
}

/// Runs what has a runtime of its own outside the case's.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(run).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
