// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one etcd: each reads what the other wrote.

#[path = "../../crates/stores/etcd/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::{Result, ensure};
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_store_etcd::Config;
use dulse_tests::cross;
use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways() -> Result<()> {
    let server = Server::start(&[])?;
    let dir = tempfile::tempdir()?;
    let config = Config {
        key_prefix: "here.".to_owned(),
        ..Config::at(&[&server.address()])
    };
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let toml = format!(
        "[etcd]\nenabled = true\nservers = \"{}\"\nkey_prefix = \"{}\"\ntimeout = \"3s\"\n",
        server.address(),
        config.key_prefix
    );
    let open = move || {
        let store = dulse_store_etcd::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read(&toml, open).await?;
    // Upstream puts nothing elsewhere, and no entry under a lease.
    let keys = ["get", "", "--from-key", "--keys-only", "-w", "fields"];
    let all = server.ctl(&keys)?;
    let mut n_entries = 0;
    let mut is_entry = false;
    for line in all.lines() {
        if let Some(key) = line.strip_prefix("\"Key\" : \"") {
            ensure!(key.starts_with("here."), "a key of nobody's: {key}");
            is_entry = key.starts_with("here./");
            n_entries += usize::from(is_entry);
        }
        let is_leased = line.starts_with("\"Lease\"") && !line.ends_with(" 0");
        ensure!(!is_entry || !is_leased, "an entry that goes by itself");
    }
    ensure!(n_entries > 10_000, "{n_entries} entries");
    Ok(())
}
