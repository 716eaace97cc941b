// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in etcd.

#[path = "../../../crates/stores/etcd/tests/support/server.rs"]
mod server;

use anyhow::Result;
use dulse_shared_testkit::{Database, Place};
use server::Server;

/// See the module.
pub(crate) struct Etcd(Server);

impl Database for Etcd {
    const SECTIONS: &'static [&'static str] = &["etcd"];

    const SYNCED: &'static str = "etcd 3.4, one member, which always syncs its log";

    fn start() -> Result<Self> {
        Ok(Self(Server::start(&[])?))
    }

    fn start_synced() -> Result<Self> {
        Ok(Self(Server::start_on_disk(&[])?))
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let address = self.0.address();
        let prefix = format!("{name}.");
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\nservers = \"{address}\"\n\
                 key_prefix = \"{prefix}\"\ntimeout = \"3s\"\n"
            ),
            shown: format!("{address}/{prefix}"),
            database: prefix,
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        // A program's arguments have no byte of zero, which is behind the directory.
        let (from, to) = (
            format!("{}{directory}", place.database),
            format!("{}{directory}\u{1}", place.database),
        );
        let key = format!("{from}\0{name}");
        let keys = ["get", &from, &to, "--keys-only"];
        Ok(self.0.ctl(&keys)?.lines().any(|line| line == key))
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start_again()
    }
}
