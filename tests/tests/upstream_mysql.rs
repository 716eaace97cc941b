// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one MariaDB or MySQL: each reads what the other wrote.

#[path = "../../crates/stores/mysql/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::Result;
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_store_mysql::{Config, Tables};
use dulse_tests::cross;
use server::{Kind, Server};

/// Upstream's configuration of the database. Its own `upsertQuery` is for later servers.
fn filer_toml(config: &Config) -> String {
    let section = match config.tables {
        Tables::One => "mysql",
        Tables::PerBucket => "mysql2",
    };
    let create = match config.tables {
        Tables::One => String::new(),
        Tables::PerBucket => format!("createTable = \"\"\"{}\"\"\"\n", config.create_table),
    };
    format!(
        "[{section}]\nenabled = true\nhostname = \"{}\"\nport = {}\nusername = \"root\"\n\
         password = \"\"\ndatabase = \"{}\"\nconnection_max_idle = 10\nconnection_max_open = 10\n\
         connection_max_lifetime_seconds = 300\ninterpolateParams = false\nenableUpsert = true\n\
         upsertQuery = \"\"\"INSERT INTO `%s` (`dirhash`,`name`,`directory`,`meta`) \
         VALUES (?,?,?,?) ON DUPLICATE KEY UPDATE `meta` = VALUES(`meta`)\"\"\"\n{create}",
        config.hostname, config.port, config.database
    )
}

async fn cross_read(kind: Kind, tables: Tables) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().to_path_buf();
    // What the server is asked at its start waits for the answer.
    let started = tokio::task::spawn_blocking(move || {
        let server = Server::start(kind, &[])?;
        let config = server.database_of(tables, &place);
        if tables == Tables::One {
            // Upstream makes no table in this layout; its operator does.
            let sql = config.create_table.replace("%s", "filemeta");
            server.sql(&config.database, &sql)?;
        }
        anyhow::Ok((server, config))
    });
    let (_server, config) = started.await??;
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let toml = filer_toml(&config);
    let open = move || {
        let store = dulse_store_mysql::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read(&toml, open).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_in_one_table_of_mariadb() -> Result<()> {
    cross_read(Kind::MariaDb, Tables::One).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_with_a_table_per_bucket_in_mariadb() -> Result<()>
{
    cross_read(Kind::MariaDb, Tables::PerBucket).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_in_one_table_of_mysql() -> Result<()> {
    cross_read(Kind::MySql56, Tables::One).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_with_a_table_per_bucket_in_mysql() -> Result<()> {
    cross_read(Kind::MySql56, Tables::PerBucket).await
}
