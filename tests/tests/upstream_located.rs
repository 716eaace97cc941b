// SPDX-License-Identifier: Apache-2.0
//! Upstream's real filer beside ours, both with `/tmp` in a store of its own: each shows what the
//! other made there.

#[path = "databases/located.rs"]
mod databases;

use anyhow::{Result, ensure};
use databases::Located;
use dulse_shared_testkit::Database as _;
use dulse_tests::{Cluster, free_port, start_weed_filer, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_filer_has_the_same_directory_in_the_same_store() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let mut stores = Located::start(&name)?;
    let config = stores.configure(&cluster.dir.path().join("config"), Some(stores.tmp()))?;
    let ours = cluster.add_filer_on(&config, &[])?;
    cluster.wait_ready(ours).await?;
    let port = free_port()?;
    let upstream = start_weed_filer(&config, port, cluster.master_port, &[])?;
    cluster.filers.push(upstream);
    cluster.filer_ports.push(port);
    let theirs = 1;
    let answers = || async { cluster.get(theirs, "/?limit=1").await.is_ok() };
    wait_for("upstream's filer", answers).await?;
    for (writer, path) in [
        (theirs, "/tmp/theirs"),
        (ours, "/tmp/ours"),
        (theirs, "/tmp/d/theirs"),
        (ours, "/tmp/d/ours"),
        (theirs, "/e/theirs"),
        (ours, "/e/ours"),
    ] {
        cluster.put(writer, path, path.as_bytes().to_vec()).await?;
        for reader in [ours, theirs] {
            let got = cluster.get(reader, path).await?;
            ensure!(
                got == Some(path.as_bytes().to_vec()),
                "{path} at filer {reader}"
            );
        }
    }
    for at in [ours, theirs] {
        ensure!(
            cluster.names(at, "/tmp").await? == ["d", "ours", "theirs"],
            "at filer {at}"
        );
        ensure!(
            cluster.names(at, "/tmp/d").await? == ["ours", "theirs"],
            "at filer {at}"
        );
        let top = cluster.names(at, "/").await?;
        ensure!(
            top.iter().any(|name| name == "tmp"),
            "{top:?} at filer {at}"
        );
    }
    for name in ["ours", "theirs"] {
        ensure!(
            stores.tmp_has("", name)? && stores.tmp_has("/d", name)?,
            "{name}"
        );
        ensure!(
            !stores.default_has("/tmp", name)? && stores.default_has("/e", name)?,
            "{name}"
        );
    }
    // Each removes what the other made; what upstream removes of the directory itself comes back.
    for (at, path) in [(ours, "/tmp/theirs"), (theirs, "/tmp/ours")] {
        let gone = cluster.http.delete(cluster.url(at, path)).send().await?;
        ensure!(gone.status().is_success(), "{}", gone.status());
        ensure!(cluster.get(ours, path).await?.is_none(), "{path}");
    }
    let gone = cluster.url(theirs, "/tmp?recursive=true");
    ensure!(
        cluster
            .http
            .delete(gone)
            .send()
            .await?
            .status()
            .is_success()
    );
    cluster.put(ours, "/tmp/again", b"x".to_vec()).await?;
    ensure!(cluster.get(theirs, "/tmp/again").await? == Some(b"x".to_vec()));
    ensure!(cluster.names(ours, "/tmp").await? == ["again"]);
    stores.redis.kill()
}
