// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in Redis, alone and behind a sentinel.

#[path = "../../../crates/stores/redis/tests/support/server.rs"]
mod server;

use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, ensure};
use dulse_tests::shared::{Database, Place};
use server::Server;

/// Numbers of databases that the server has.
const DATABASES: i64 = 64;

/// A server, and a sentinel that names it.
pub(crate) struct Redis {
    server: Server,
    sentinel: Server,
    n_made: AtomicI64,
}

impl Database for Redis {
    const SECTIONS: &'static [&'static str] =
        &["redis2", "redis3", "redis2_sentinel", "redis3_sentinel"];

    fn start() -> Result<Self> {
        let n_databases = DATABASES.to_string();
        // What is acknowledged is on its disk.
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let arguments = [&durable[..], &["--databases", &n_databases]].concat();
        let server = Server::start_with(&arguments)?;
        let sentinel = Server::start_sentinel(server.port)?;
        let n_made = AtomicI64::new(0);
        Ok(Self {
            server,
            sentinel,
            n_made,
        })
    }

    fn make(&self, section: &str, _: &str) -> Result<Place> {
        let database = self.n_made.fetch_add(1, Ordering::Relaxed);
        ensure!(database < DATABASES, "the server has more databases");
        let (servers, shown) = match section.ends_with("_sentinel") {
            true => {
                let sentinel = self.sentinel.address();
                (
                    format!(
                        "addresses = [\"{sentinel}\"]\nmasterName = \"main\"\n\
                         sentinel_username = \"\"\nsentinel_password = \"\"\n"
                    ),
                    format!("main/{database}, which the sentinels {sentinel} name"),
                )
            }
            false => {
                let address = self.server.address();
                (
                    format!("address = \"{address}\"\n"),
                    format!("{address}/{database}"),
                )
            }
        };
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\n{servers}username = \"\"\npassword = \"\"\n\
                 database = {database}\nsuperLargeDirectories = []\n"
            ),
            shown,
            database: database.to_string(),
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        let key = format!("{directory}/{name}");
        let said = self
            .server
            .command(&["-n", &place.database, "EXISTS", &key])?;
        Ok(said != "0")
    }

    fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.server.start_again()
    }
}
