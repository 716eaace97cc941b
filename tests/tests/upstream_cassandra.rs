// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one Cassandra: each reads what the other wrote.

#[path = "../../crates/stores/cassandra/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::{Result, ensure};
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_tests::cross;
use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways() -> Result<()> {
    let server = Server::start()?;
    server.make_with_table("seaweedfs")?;
    let dir = tempfile::tempdir()?;
    let config = server.config("seaweedfs");
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    // Longer than it waits by default: the machine may be busy.
    let toml = format!(
        "[cassandra2]\nenabled = true\nkeyspace = \"seaweedfs\"\nhosts = [\"{}\"]\n\
         connection_timeout_millisecond = 10000\n",
        server.address()
    );
    let open = move || {
        let store = dulse_store_cassandra::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read(&toml, open).await?;
    // Nobody puts anything elsewhere.
    let directories =
        server.texts(&["SELECT DISTINCT directory, dirhash FROM seaweedfs.filemeta"])?;
    let is_key = |directory: &&String| !directory.starts_with('/');
    ensure!(directories.iter().any(|directory| directory == "/d"));
    ensure!(
        directories.iter().filter(is_key).count() > 0,
        "keys are there"
    );
    let tables = server.texts(&[
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'seaweedfs'",
    ])?;
    ensure!(tables == ["filemeta"], "{tables:?}");
    Ok(())
}
