// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in Cassandra.

#[path = "../../../crates/stores/cassandra/tests/support/server.rs"]
mod server;

use anyhow::Result;
use dulse_shared_testkit::{Database, Place};
pub(crate) use server::Server;

/// See the module.
pub(crate) struct Cassandra(Server);

impl Database for Cassandra {
    const SECTIONS: &'static [&'static str] = &["cassandra2"];

    const SYNCED: &'static str = "Cassandra 5.0.8, one node, `commitlog_sync: batch`";

    fn start() -> Result<Self> {
        Ok(Self(Server::start()?))
    }

    fn start_synced() -> Result<Self> {
        // Its log is synced for tests, too, but in memory.
        Ok(Self(Server::start_on_disk()?))
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let keyspace = format!("k{name}").to_lowercase();
        self.0.make_with_table(&keyspace)?;
        let config = self.0.config(&keyspace);
        let address = self.0.address();
        Ok(Place {
            // Longer than it waits by default: the machine may be busy.
            toml: format!(
                "[{section}]\nenabled = true\nkeyspace = \"{keyspace}\"\nhosts = [\"{address}\"]\n\
                 username = \"\"\npassword = \"\"\nsuperLargeDirectories = []\n\
                 connection_timeout_millisecond = 10000\n"
            ),
            shown: config.place(),
            database: keyspace,
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        let rows = self.0.texts(&[&format!(
            "SELECT name FROM {}.filemeta WHERE directory = '{directory}' AND name = '{name}' \
             ALLOW FILTERING",
            place.database
        )])?;
        Ok(!rows.is_empty())
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start_again()
    }
}
