// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in HBase.

#[path = "../../../crates/stores/hbase/tests/support/server.rs"]
mod server;

use std::path::Path;

use anyhow::{Result, anyhow};
use dulse_hbase_client::Client;
use dulse_shared_testkit::{Database, Place};
use server::Server;

/// See the module.
pub(crate) struct Hbase(Server);

impl Database for Hbase {
    const SECTIONS: &'static [&'static str] = &["hbase"];

    const SYNCED: &'static str = "HBase 2.6.4, one process; its log is handed to the system and not synced, as is its default";

    fn start() -> Result<Self> {
        Ok(Self(Server::start()?))
    }

    fn start_synced() -> Result<Self> {
        // With `hbase.wal.hsync` it would sync what upstream writes, and not what asks for
        // `SYNC_WAL` by name, as ours does.
        Ok(Self(Server::start_on_disk(&[])?))
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let config = self.0.table_of(Path::new(name));
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\nzkquorum = \"{}\"\ntable = \"{}\"\n",
                config.zkquorum, config.table
            ),
            shown: config.place(),
            database: config.table,
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        let config = dulse_store_hbase::Config {
            table: place.database.clone(),
            ..self.0.table_of(Path::new(""))
        };
        let options = config.options()?;
        let row = format!("{}/{name}", directory.trim_end_matches('/'));
        // On a thread of its own: who asks has a runtime already.
        let asking = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let cell = async {
                Client::new(options)
                    .get(row.as_bytes(), b"meta", b"a")
                    .await
            };
            anyhow::Ok(runtime.block_on(cell)?.is_some())
        });
        asking.join().map_err(|_| anyhow!("it panicked"))?
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        // On a thread of its own, as above: it is asked until it answers.
        let server = &mut self.0;
        let started = std::thread::scope(|scope| scope.spawn(|| server.start_again()).join());
        started.map_err(|_| anyhow!("it panicked"))?
    }
}
