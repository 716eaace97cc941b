// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one PostgreSQL: each reads what the other wrote.

#[path = "../../crates/stores/postgres/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::Result;
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_store_postgres::{Config, Tables};
use dulse_tests::cross;
use server::Server;

/// Upstream's configuration of the database.
fn filer_toml(config: &Config) -> String {
    let section = match config.tables {
        Tables::One => "postgres",
        Tables::PerBucket => "postgres2",
    };
    format!(
        "[{section}]\nenabled = true\nhostname = \"{}\"\nport = {}\nusername = \"postgres\"\n\
         password = \"\"\ndatabase = \"{}\"\nschema = \"\"\nsslmode = \"disable\"\n\
         connection_max_idle = 10\nconnection_max_open = 10\n\
         connection_max_lifetime_seconds = 300\nenableUpsert = true\n\
         createTable = \"\"\"CREATE TABLE IF NOT EXISTS \"%s\" (dirhash BIGINT, name \
         VARCHAR(65535), directory VARCHAR(65535), meta bytea, PRIMARY KEY (dirhash, name));\"\"\"\n\
         upsertQuery = \"\"\"INSERT INTO \"%[1]s\" (dirhash, name, directory, meta) \
         VALUES($1, $2, $3, $4) ON CONFLICT (dirhash, name) DO UPDATE SET \
         directory=EXCLUDED.directory, meta=EXCLUDED.meta\"\"\"\n",
        config.hostname, config.port, config.database
    )
}

async fn cross_read(tables: Tables) -> Result<()> {
    let server = Server::start()?;
    let dir = tempfile::tempdir()?;
    let config = server.database_of(tables, dir.path());
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let toml = filer_toml(&config);
    let open = move || {
        let store = dulse_store_postgres::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read(&toml, open).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_in_one_table() -> Result<()> {
    cross_read(Tables::One).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_with_a_table_per_bucket() -> Result<()> {
    cross_read(Tables::PerBucket).await
}
