// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in PostgreSQL.

#[path = "../../../crates/stores/postgres/tests/support/server.rs"]
mod server;

use std::path::Path;

use anyhow::Result;
use dulse_shared_testkit::{Database, Place};
use dulse_store_postgres::Tables;
use server::Server;

/// See the module.
pub(crate) struct Postgres(Server);

impl Database for Postgres {
    const SECTIONS: &'static [&'static str] = &["postgres", "postgres2"];

    const SYNCED: &'static str = "PostgreSQL 15, `fsync = on`, `synchronous_commit = on`";

    fn start() -> Result<Self> {
        Ok(Self(Server::start()?))
    }

    fn start_synced() -> Result<Self> {
        let settings = ["-c", "fsync=on", "-c", "synchronous_commit=on"];
        Ok(Self(Server::start_with(&settings)?))
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let tables = match section {
            "postgres2" => Tables::PerBucket,
            _ => Tables::One,
        };
        let config = self.0.database_of(tables, Path::new(name));
        let mut toml = format!(
            "[{section}]\nenabled = true\nhostname = \"{}\"\nport = {}\nusername = \"postgres\"\n\
             password = \"\"\ndatabase = \"{}\"\nschema = \"\"\nsslmode = \"disable\"\n\
             connection_max_idle = 10\nconnection_max_open = 10\n\
             connection_max_lifetime_seconds = 300\nenableUpsert = true\n\
             upsertQuery = \"\"\"INSERT INTO \"%[1]s\" (dirhash, name, directory, meta) \
             VALUES($1, $2, $3, $4) ON CONFLICT (dirhash, name) DO UPDATE SET \
             directory=EXCLUDED.directory, meta=EXCLUDED.meta\"\"\"\n",
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
        Ok(self.0.sql(&place.database, &sql)?.trim() != "0")
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn start_again(&mut self) -> Result<()> {
        self.0.start_again()
    }
}
