// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in Redis, alone, behind a sentinel and in a cluster.

#[path = "../../../crates/stores/redis/tests/support/server.rs"]
pub(crate) mod server;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use dulse_shared_testkit::{Database, Place};
use server::Server;

/// Numbers of databases that the server has.
const DATABASES: i64 = 64;

/// What is acknowledged is on the disk of a server with these settings.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A server, a sentinel that names it, and a cluster once it is asked for.
pub(crate) struct Redis {
    server: Server,
    sentinel: Server,
    cluster: Mutex<Vec<Server>>,
    /// Of each server of the cluster.
    cluster_settings: &'static [&'static str],
    n_made: AtomicI64,
}

impl Database for Redis {
    const SECTIONS: &'static [&'static str] = &[
        "redis2",
        "redis3",
        "redis2_sentinel",
        "redis3_sentinel",
        "redis_cluster2",
        "redis_cluster3",
    ];

    const SYNCED: &'static str = "Redis 7.0, `appendonly yes`, `appendfsync always`";

    fn start() -> Result<Self> {
        Self::start_with_cluster_of(&[])
    }

    fn start_synced() -> Result<Self> {
        Self::start_with_cluster_of(DURABLE)
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        if section.contains("cluster") {
            return self.make_in_cluster(section, name);
        }
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
        if place.toml.contains("_cluster") {
            let cluster = self.cluster.lock().expect("nobody panics with it");
            let server = cluster.first().context("it was started")?;
            let key = format!("{}{key}", place.database);
            return Ok(server.command_at(&["EXISTS"], key.as_bytes())? != "0");
        }
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

impl Redis {
    fn start_with_cluster_of(cluster_settings: &'static [&'static str]) -> Result<Self> {
        let n_databases = DATABASES.to_string();
        let arguments = [DURABLE, &["--databases", &n_databases]].concat();
        let server = Server::start_with(&arguments)?;
        let sentinel = Server::start_sentinel(server.port)?;
        Ok(Self {
            server,
            sentinel,
            cluster: Mutex::default(),
            cluster_settings,
            n_made: AtomicI64::new(0),
        })
    }

    /// Keys of a prefix; where upstream has none, an empty cluster.
    fn make_in_cluster(&self, section: &str, name: &str) -> Result<Place> {
        let mut cluster = self.cluster.lock().expect("nobody panics with it");
        if cluster.is_empty() {
            *cluster = Server::start_cluster(0, self.cluster_settings)?;
        }
        let address = cluster.first().context("it was started")?.address();
        let prefix = match section {
            "redis_cluster2" => format!("{name}:"),
            _ => {
                for server in &*cluster {
                    server.command(&["FLUSHALL"])?;
                }
                String::new()
            }
        };
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\naddresses = [\"{address}\"]\nusername = \"\"\n\
                 password = \"\"\nkeyPrefix = \"{prefix}\"\nsuperLargeDirectories = []\n"
            ),
            shown: format!("the cluster of {address}"),
            database: prefix,
        })
    }
}
