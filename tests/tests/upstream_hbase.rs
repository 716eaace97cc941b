// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one HBase: each reads what the other wrote.

#[path = "../../crates/stores/hbase/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use dulse_hbase_client::{Client, ScanRange};
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_store_hbase::Config;
use dulse_tests::cross;
use server::Server;

/// Into how many each directory is divided: upstream's filer lists the first page of one over and
/// over (`docs/formats/hbase.md`), which has 1,024 names.
const N_PARTS: usize = 4;

/// Rows that are asked for at a time.
const PAGE: usize = 1_000;

/// The rows of a family of columns.
async fn rows_of(client: &Client, family: &[u8]) -> Result<Vec<Bytes>> {
    let (mut rows, mut next) = (Vec::new(), Some(Bytes::new()));
    while let Some(start) = next {
        let range = ScanRange {
            start,
            stop: Bytes::new(),
            n_rows: PAGE,
            n_bytes: usize::MAX,
        };
        let page = client.scan(family, b"a", &range).await?;
        rows.extend(page.rows.into_iter().map(|row| row.row));
        next = page.next;
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways() -> Result<()> {
    // It asks the server from a runtime of its own.
    let server = tokio::task::spawn_blocking(Server::start).await??;
    let dir = tempfile::tempdir()?;
    let config = Config {
        table: "here".to_owned(),
        ..server.table_of(dir.path())
    };
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let toml = format!(
        "[hbase]\nenabled = true\nzkquorum = \"{}\"\ntable = \"{}\"\n",
        config.zkquorum, config.table
    );
    let at = config.options()?;
    let open = move || {
        let store = dulse_store_hbase::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read_in_parts(&toml, N_PARTS, open).await?;

    // Both put entries into one family and keys into the other, and nothing elsewhere.
    let client = Client::new(at);
    let entries = rows_of(&client, b"meta").await?;
    ensure!(entries.len() > 10_000, "{} entries", entries.len());
    let stray = entries.iter().find(|row| !row.starts_with(b"/"));
    ensure!(stray.is_none(), "no path: {stray:?}");
    let keys = rows_of(&client, b"kv").await?;
    for key in [&b"filer.store.id"[..], b"of ours\xff", b"sync.\xff\0\0\x01"] {
        ensure!(keys.iter().any(|row| row == key), "{key:?} of {keys:?}");
    }
    Ok(())
}
