// SPDX-License-Identifier: Apache-2.0
//! Scenarios with real processes: filers frozen, killed, wiped, and equal in the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use dulse_tests::Cluster;
use futures::{StreamExt, TryStreamExt};

/// How long hot paths are written to.
const HOT_FOR: Duration = Duration::from_secs(60);

/// Changes made while a filer is frozen.
const MISSED: usize = 5_000;

#[tokio::test]
async fn a_photo_put_at_one_filer_is_read_at_another_and_survives_kill_9() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let photo: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    cluster.put(0, "/pics/photo.jpg", photo.clone()).await?;
    cluster.wait_converged().await?;
    assert_eq!(
        cluster.get(1, "/pics/photo.jpg").await?.as_deref(),
        Some(&photo[..])
    );
    cluster.filers[0].kill()?;
    assert_eq!(
        cluster.get(2, "/pics/photo.jpg").await?.as_deref(),
        Some(&photo[..])
    );
    cluster
        .put(1, "/pics/second.txt", b"while the first was down".to_vec())
        .await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    cluster.wait_converged().await?;
    let second = cluster.get(0, "/pics/second.txt").await?;
    assert_eq!(second.as_deref(), Some(&b"while the first was down"[..]));
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s23_what_a_killed_filer_acknowledged_reaches_a_frozen_one() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb"]).await?;
    cluster.filers[1].freeze()?;
    let made = futures::stream::iter(0..MISSED)
        .map(|i| {
            let cluster = &cluster;
            async move { cluster.mkdir(0, &format!("/s23/{i}")).await }
        })
        .buffer_unordered(64);
    made.try_collect::<()>().await?;
    cluster.filers[0].kill()?;
    cluster.filers[0].restart()?;
    cluster.filers[1].thaw()?;
    cluster.wait_ready(0).await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.names(1, "/s23").await?.len(), MISSED);
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s26_a_dead_filers_changes_arrive_through_the_living() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb", "sqlite"]).await?;
    cluster.filers[2].freeze()?;
    for i in 0..50 {
        cluster.mkdir(0, &format!("/s26/{i}")).await?;
    }
    // Filer 1 has them when it lists them all.
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.names(1, "/s26").await?.len() < 50 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.filers[0].kill()?;
    cluster.filers[2].thaw()?;
    let deadline = Instant::now() + Duration::from_secs(40);
    while cluster.names(2, "/s26").await?.len() < 50 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.names(2, "/s26").await?.len(), 50);
    // The two that are left are equal; the master would name the dead one, too.
    assert_eq!(cluster.verify_of(&[1, 2])?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s08_a_wiped_filer_has_everything_again_its_own_writes_included() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb"]).await?;
    for i in 0..100 {
        cluster.mkdir(i % 2, &format!("/s08/{i}")).await?;
    }
    cluster.wait_converged().await?;
    cluster.filers[0].kill()?;
    std::fs::remove_dir_all(cluster.dir.path().join("filer-0"))?;
    cluster.mkdir(1, "/s08/while-wiped").await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.names(0, "/s08").await?.len(), 101);
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s24_hot_paths_written_at_three_filers_end_equal() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let until = Instant::now() + HOT_FOR;
    let writers = (0..3).map(|filer| {
        let cluster = &cluster;
        async move {
            let mut n = 0_usize;
            while Instant::now() < until {
                let path = format!("/hot/{}", n * 7 % 10);
                let http = &cluster.http;
                let (request, expect): (_, &[u16]) = match n % 3 {
                    0 => (
                        http.post(cluster.url(filer, &format!("{path}/"))),
                        &[201, 409],
                    ),
                    1 => {
                        let query = format!("{path}-moved?mv.from={path}");
                        (http.post(cluster.url(filer, &query)), &[204, 400, 404])
                    }
                    _ => {
                        let query = format!("{path}-moved?recursive=true");
                        // What another filer makes meanwhile is kept: then it is not empty.
                        (http.delete(cluster.url(filer, &query)), &[204, 500])
                    }
                };
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                // Losing a race is an answer, too; anything else is none.
                let text = answer.text().await?;
                let is_lost = status != 500 || text.contains("non-empty");
                anyhow::ensure!(expect.contains(&status) && is_lost, "{status} {text}");
                n += 1;
            }
            Ok(n)
        }
    });
    let counts: Vec<usize> = futures::future::try_join_all(writers).await?;
    assert!(counts.iter().all(|n| *n > 10), "{counts:?}");
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s02_streams_resume_without_the_master() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb"]).await?;
    cluster.mkdir(0, "/s02/before").await?;
    cluster.wait_converged().await?;
    cluster.master.kill()?;
    cluster.filers[1].freeze()?;
    cluster.mkdir(0, "/s02/while-frozen").await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.filers[1].thaw()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while cluster.names(1, "/s02").await?.len() < 2 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.names(1, "/s02").await?, ["before", "while-frozen"]);
    Ok(())
}

#[tokio::test]
async fn every_role_stops_within_ten_seconds_and_resumes() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    cluster.put(0, "/a.txt", b"kept".to_vec()).await?;
    cluster.filers[0].terminate()?;
    cluster.volume.terminate()?;
    cluster.master.terminate()?;
    cluster.master.restart()?;
    cluster.volume.restart()?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    let kept = || async { cluster.get(0, "/a.txt").await.ok().flatten().is_some() };
    dulse_tests::wait_for("the file", kept).await?;
    assert_eq!(
        cluster.get(0, "/a.txt").await?.as_deref(),
        Some(&b"kept"[..])
    );
    Ok(())
}

#[tokio::test]
async fn a_fresh_filer_waits_for_members_that_are_down_and_founds_no_second_cluster() -> Result<()>
{
    let mut cluster = Cluster::start(&["redb"]).await?;
    cluster.mkdir(0, "/kept").await?;
    cluster.filers[0].kill()?;
    cluster.master.kill()?;
    cluster.master.restart()?;
    let fresh = cluster.add_filer("redb")?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let url = cluster.url(fresh, "/?limit=1");
    let answer = cluster.http.get(url).send().await?;
    assert_eq!(answer.status(), 503, "it began a cluster of its own");
    assert!(answer.text().await?.contains("remembers"), "it says why");
    cluster.filers[0].restart()?;
    cluster.wait_ready(fresh).await?;
    assert_eq!(cluster.names(fresh, "/").await?, ["kept"]);
    Ok(())
}
