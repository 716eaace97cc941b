// SPDX-License-Identifier: Apache-2.0
//! Filers of which one directory is in a store of its own under one journal, as real processes:
//! PostgreSQL for everything, and Redis for `/tmp`. With journals of their own: `beside.rs`.

#[path = "databases/located.rs"]
mod databases;

use anyhow::{Result, ensure};
use databases::Located;
use dulse_shared_testkit::Database;
use dulse_tests::Cluster;
use dulse_tests::located::{another_table_is_refused, nothing_crosses, paths, told};
use dulse_tests::shared::now_ns;

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_is_in_a_store_of_its_own_and_one_tree_shows() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let mut stores = Located::start(&name)?;
    let config = stores.configure(&cluster.dir.path().join("config"), Some(stores.tmp()))?;
    for _ in 0..2 {
        let filer = cluster.add_filer_on(&config, &[])?;
        cluster.wait_ready(filer).await?;
    }
    let text = cluster.dulse(&["status"], 0)?;
    ensure!(
        text.contains("; /tmp in ") && text.contains("(redis2.tmp)"),
        "{text}"
    );

    let since_ns = now_ns()?;
    // Each filer shows what the other made, wherever it is.
    for (writer, path) in [(0, "/tmp/a"), (1, "/tmp/d/b"), (0, "/x"), (1, "/tmpx/y")] {
        let content = path.as_bytes().to_vec();
        cluster.put(writer, path, content.clone()).await?;
        ensure!(
            cluster.get(1 - writer, path).await? == Some(content),
            "{path}"
        );
    }
    let top = cluster.names(1, "/").await?;
    for name in ["tmp", "tmpx", "x"] {
        ensure!(top.iter().any(|one| one == name), "{name} of {top:?}");
    }
    ensure!(cluster.names(0, "/tmp").await? == ["a", "d"]);
    ensure!(stores.tmp_has("", "a")? && stores.tmp_has("/d", "b")?);
    ensure!(stores.default_has("/", "tmp")? && stores.default_has("/tmpx", "y")?);
    ensure!(!stores.default_has("/tmp", "a")? && !stores.tmp_has("", "x")?);

    // One order at each, of all stores.
    let (at_0, at_1) = (
        told(&cluster, 0, since_ns, "/tmpx/y").await?,
        told(&cluster, 1, since_ns, "/tmpx/y").await?,
    );
    ensure!(at_0 == at_1, "{at_0:?} and {at_1:?}");
    ensure!(at_0.is_sorted_by_key(|(ts_ns, _)| *ts_ns), "{at_0:?}");
    ensure!(
        paths(&at_0) == ["/tmp/a", "/tmp/d", "/tmp/d/b", "/x", "/tmpx", "/tmpx/y"],
        "{at_0:?}"
    );

    // Within a store everything moves; between two nothing does, and nothing of it is done.
    let moved = cluster
        .http
        .post(cluster.url(1, "/tmp/e?mv.from=/tmp/d"))
        .send();
    ensure!(moved.await?.status().is_success());
    ensure!(cluster.get(0, "/tmp/e/b").await? == Some(b"/tmp/d/b".to_vec()));
    nothing_crosses(&cluster, &[("/x", "/tmp/x"), ("/tmp/a", "/a")]).await?;
    for path in ["/x", "/tmp/a", "/tmpx/y"] {
        ensure!(
            cluster.get(1, path).await? == Some(path.as_bytes().to_vec()),
            "{path}"
        );
    }

    // Who has another table does not start.
    let plain = stores.configure(&cluster.dir.path().join("plain"), None)?;
    let another = stores.another()?;
    let other = stores.configure(&cluster.dir.path().join("other"), Some(&another))?;
    another_table_is_refused(&mut cluster, &plain, &other).await?;

    // One that is killed comes back; a store that is away takes its directory alone.
    cluster.filers[0].kill()?;
    cluster.put(1, "/tmp/meanwhile", b"x".to_vec()).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    ensure!(cluster.get(0, "/tmp/meanwhile").await? == Some(b"x".to_vec()));
    stores.redis.kill()?;
    ensure!(cluster.put(0, "/tmp/away", b"x".to_vec()).await.is_err());
    cluster.put(0, "/there", b"x".to_vec()).await?;
    stores.redis.start_again()?;
    cluster.put(0, "/tmp/again", b"x".to_vec()).await?;
    ensure!(cluster.get(1, "/tmp/again").await? == Some(b"x".to_vec()));
    ensure!(cluster.get(1, "/tmp/a").await? == Some(b"/tmp/a".to_vec()));
    let told = told(&cluster, 1, since_ns, "/tmp/again").await?;
    ensure!(
        told.iter().any(|(_, path)| path == "/tmp/meanwhile"),
        "{told:?}"
    );
    Ok(())
}
