// SPDX-License-Identifier: Apache-2.0
//! Who replicates with whom, and flags of one filer, with real processes.

use std::time::Duration;

use anyhow::{Result, ensure};
use dulse_tests::{Cluster, free_port, wait_for};
use futures::{StreamExt, TryStreamExt};

/// Long enough for filers that may meet to have met.
const MEETING: Duration = Duration::from_secs(5);

#[tokio::test]
async fn filers_of_two_groups_under_one_master_do_not_replicate() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    let other = cluster.add_filer_with("redb", &["--filer-group=other"])?;
    cluster.wait_ready(other).await?;
    cluster.mkdir(0, "/here").await?;
    cluster.mkdir(other, "/there").await?;
    tokio::time::sleep(MEETING).await;
    assert_eq!(cluster.names(0, "/").await?, ["here"]);
    assert_eq!(cluster.names(other, "/").await?, ["there"]);
    let second = cluster.add_filer_with("sqlite", &["--filer-group=other"])?;
    cluster.wait_ready(second).await?;
    assert_eq!(cluster.names(second, "/").await?, ["there"]);
    Ok(())
}

#[tokio::test]
async fn filers_that_moved_while_no_master_answers_find_each_other_through_a_third() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb", "redb"]).await?;
    cluster.mkdir(0, "/before").await?;
    cluster.wait_converged().await?;
    cluster.master.kill()?;
    for moved in [1, 2] {
        cluster.filers[moved].kill()?;
    }
    // Each knows only the other's old address; filer 0 is told both new ones.
    for moved in [1, 2] {
        let port = free_port()?;
        cluster.filers[moved].restart_with("port", &port.to_string())?;
        cluster.filer_ports[moved] = port;
        cluster.wait_ready(moved).await?;
    }
    tokio::time::sleep(MEETING).await;
    cluster.filers[0].freeze()?;
    cluster.mkdir(1, "/direct").await?;
    let arrived = || async {
        cluster
            .get(2, "/direct/?limit=1")
            .await
            .is_ok_and(|d| d.is_some())
    };
    wait_for("a change that only its maker can have sent", arrived).await?;
    cluster.filers[0].thaw()?;
    Ok(())
}

#[tokio::test]
async fn with_durability_os_what_was_acknowledged_survives_kill_9() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let filer = cluster.add_filer_with("redb", &["--durability=os"])?;
    cluster.wait_ready(filer).await?;
    let made = futures::stream::iter(0..500)
        .map(|i| {
            let cluster = &cluster;
            async move { cluster.mkdir(filer, &format!("/os/{i}")).await }
        })
        .buffer_unordered(32);
    made.try_collect::<()>().await?;
    cluster.filers[filer].kill()?;
    cluster.filers[filer].restart()?;
    cluster.wait_ready(filer).await?;
    assert_eq!(cluster.names(filer, "/os").await?.len(), 500);
    Ok(())
}

#[tokio::test]
async fn small_contents_are_kept_in_the_entry_when_the_filer_is_told_so() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    let inlines = cluster.add_filer_with("redb", &["--inline-below=1KiB", "--collection=c"])?;
    cluster.wait_ready(inlines).await?;
    cluster.put(inlines, "/small", vec![7; 1023]).await?;
    cluster.put(inlines, "/large", vec![7; 1024]).await?;
    cluster.wait_converged().await?;
    // Whose contents are chunks cannot be read any more.
    cluster.volume.kill()?;
    for filer in [0, inlines] {
        assert_eq!(cluster.get(filer, "/small").await?, Some(vec![7; 1023]));
        ensure!(
            cluster.get(filer, "/large").await.is_err(),
            "it is no chunk"
        );
    }
    Ok(())
}
