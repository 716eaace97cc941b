// SPDX-License-Identifier: Apache-2.0
//! Scenarios of the catalogue with real processes: moves, many writers, subscribers.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use dulse_proto::filer::{SubscribeMetadataRequest, SubscribeMetadataResponse};
use dulse_tests::{Cluster, free_port};

/// Writers at once in S22, and files of each.
const WRITERS: usize = 200;
const FILES_OF_EACH: usize = 3;

/// A subscriber's events until `count` paths below `prefix` were created or none came for ten
/// seconds.
async fn creates(
    cluster: &Cluster,
    filer: usize,
    since_ns: i64,
    prefix: &str,
    count: usize,
    is_local: bool,
) -> Result<Vec<SubscribeMetadataResponse>> {
    let request = SubscribeMetadataRequest {
        client_name: "test".to_owned(),
        path_prefix: prefix.to_owned(),
        since_ns,
        client_id: rand::random_range(1..i32::MAX),
        client_epoch: 1,
        ..SubscribeMetadataRequest::default()
    };
    let mut client = cluster.grpc(filer).await?;
    let mut events = if is_local {
        client.subscribe_local_metadata(request).await?.into_inner()
    } else {
        client.subscribe_metadata(request).await?.into_inner()
    };
    let mut out = Vec::new();
    while out.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(10), events.message()).await;
        let Ok(event) = next else { break };
        let mut event = event?.context("the stream ended")?;
        // Whoever serves an event adds its signature, as upstream; here it is whose it is.
        if let Some(notification) = &mut event.event_notification {
            notification.signatures.truncate(1);
        }
        let new = event.event_notification.as_ref();
        if new.is_some_and(|n| n.old_entry.is_none() && n.new_entry.is_some()) {
            out.push(event);
        }
    }
    Ok(out)
}

/// The path an event created.
fn path(event: &SubscribeMetadataResponse) -> String {
    let notification = event.event_notification.as_ref();
    let entry = notification.and_then(|n| n.new_entry.as_ref());
    let name = entry.and_then(|e| e.take_name().ok()).map(|(_, name)| name);
    format!("{}/{}", event.directory, name.unwrap_or_default())
}

#[tokio::test]
async fn s05_a_subscriber_from_before_any_peer_sees_the_later_peers_events() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    let later = {
        let subscribed = creates(&cluster, 0, 1, "/s05/peer", 1, false);
        tokio::pin!(subscribed);
        // The subscription runs while the peer is started and written to.
        let early = tokio::time::timeout(Duration::from_secs(1), &mut subscribed).await;
        ensure!(early.is_err(), "an event before there was one");
        subscribed.await?
    };
    ensure!(later.is_empty(), "nothing was written yet");
    let request = SubscribeMetadataRequest {
        client_name: "early".to_owned(),
        path_prefix: "/s05".to_owned(),
        since_ns: 1,
        client_id: 7,
        client_epoch: 1,
        ..SubscribeMetadataRequest::default()
    };
    let mut client = cluster.grpc(0).await?;
    let mut events = client.subscribe_metadata(request).await?.into_inner();
    let peer = cluster.add_filer("sqlite")?;
    cluster.wait_ready(peer).await?;
    cluster.mkdir(peer, "/s05/made-at-the-peer").await?;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), events.message()).await??;
        if path(&event.context("the stream ended")?) == "/s05/made-at-the-peer" {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn subscribers_see_every_filers_changes_once_and_resume_anywhere() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let start = i64::try_from(start.as_nanos())?;
    for i in 0..40 {
        cluster.mkdir(i % 2, &format!("/watch/{i}")).await?;
    }
    let all = creates(&cluster, 0, start, "/watch/", 40, false).await?;
    let paths: BTreeSet<String> = all.iter().map(path).collect();
    ensure!(all.len() == 40 && paths.len() == 40, "{paths:?}");
    ensure!(all.windows(2).all(|w| w[0].ts_ns <= w[1].ts_ns), "order");
    // From any event on, at any filer: exactly the rest, the event itself included.
    for at in [0, 1, 17, 39] {
        for filer in 0..2 {
            let rest = creates(&cluster, filer, all[at].ts_ns, "/watch/", 40 - at, false).await?;
            ensure!(rest == all[at..], "since event {at} at filer {filer}");
        }
    }
    cluster.filers[0].kill()?;
    cluster.mkdir(1, "/watch/while-away").await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    let rest = creates(&cluster, 0, all[20].ts_ns, "/watch/", 21, false).await?;
    ensure!(rest[..20] == all[20..], "after kill -9");
    ensure!(path(&rest[20]) == "/watch/while-away", "after kill -9");
    let own = creates(&cluster, 1, 1, "/watch/", 21, true).await?;
    let expect =
        |p: &String| p == "/watch/while-away" || p[7..].parse().is_ok_and(|i: u32| i % 2 == 1);
    ensure!(
        own.len() == 21 && own.iter().map(path).all(|p| expect(&p)),
        "local"
    );
    Ok(())
}

#[tokio::test]
async fn a_cursor_older_than_the_log_gets_the_state_and_a_marker() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    for i in 0..20 {
        cluster.mkdir(0, &format!("/old/{i}")).await?;
    }
    // It takes the state, not the log.
    let late = cluster.add_filer("redb")?;
    cluster.wait_ready(late).await?;
    let all = creates(&cluster, late, 1, "/old/", 20, false).await?;
    let paths: BTreeSet<String> = all.iter().map(path).collect();
    ensure!(paths.len() == 20, "{paths:?}");
    ensure!(all[0].ts_ns < 1_000_000, "counting up from the cursor");
    Ok(())
}

/// For the one that goes on, the others and the master are gone: they stand still.
#[tokio::test]
async fn s01_a_delete_while_all_others_stand_still_outlives_kill_9_and_is_everywhere() -> Result<()>
{
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    for name in ["a", "b"] {
        cluster.mkdir(1, &format!("/s01/{name}")).await?;
    }
    cluster.wait_converged().await?;
    cluster.filers[1].freeze()?;
    cluster.filers[2].freeze()?;
    cluster.master.freeze()?;
    let url = cluster.url(0, "/s01/a?recursive=true");
    let deleted = cluster.http.delete(url).send().await?;
    ensure!(deleted.status() == 204, "{}", deleted.status());
    cluster.filers[0].kill()?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    ensure!(cluster.names(0, "/s01").await? == ["b"], "after kill -9");
    cluster.filers[1].thaw()?;
    cluster.filers[2].thaw()?;
    cluster.master.thaw()?;
    cluster.mkdir(1, "/s01/c").await?;
    cluster.wait_converged().await?;
    for filer in 0..3 {
        let names = cluster.names(filer, "/s01").await?;
        ensure!(names == ["b", "c"], "filer {filer}: {names:?}");
    }
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

#[tokio::test]
async fn s07_newer_writes_stay_when_a_restarted_filer_takes_old_ones_again() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.put(0, "/s07/f", b"old".to_vec()).await?;
    cluster.wait_converged().await?;
    cluster.filers[1].freeze()?;
    cluster
        .put(0, "/s07/f", b"older than it looks".to_vec())
        .await?;
    cluster.filers[0].freeze()?;
    cluster.filers[1].thaw()?;
    cluster.put(1, "/s07/f", b"newer".to_vec()).await?;
    cluster.filers[1].kill()?;
    cluster.filers[0].thaw()?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    cluster.wait_converged().await?;
    for filer in 0..2 {
        let content = cluster.get(filer, "/s07/f").await?;
        ensure!(
            content.as_deref() == Some(b"newer"),
            "filer {filer}: {content:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn s18_a_filer_moves_and_another_takes_its_old_address() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb", "sqlite"]).await?;
    for filer in 0..3 {
        cluster
            .mkdir(filer, &format!("/s18/before-{filer}"))
            .await?;
    }
    cluster.wait_converged().await?;
    cluster.filers[1].kill()?;
    cluster.filers[2].kill()?;
    let (old, new) = (cluster.filer_ports[1], free_port()?);
    cluster.filers[1].restart_with("port", &new.to_string())?;
    cluster.filers[2].restart_with("port", &old.to_string())?;
    cluster.filer_ports[1] = new;
    cluster.filer_ports[2] = old;
    for filer in 1..3 {
        cluster.wait_ready(filer).await?;
    }
    for filer in 0..3 {
        cluster.mkdir(filer, &format!("/s18/after-{filer}")).await?;
    }
    cluster.wait_converged().await?;
    for filer in 0..3 {
        ensure!(
            cluster.names(filer, "/s18").await?.len() == 6,
            "filer {filer}"
        );
    }
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

#[tokio::test]
async fn s22_hundreds_of_writers_and_no_file_empty_or_missing_anywhere() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let content = |w: usize, n: usize| format!("writer {w}, file {n}").into_bytes();
    let writers = (0..WRITERS).map(|w| {
        let cluster = &cluster;
        async move {
            for n in 0..FILES_OF_EACH {
                let path = format!("/s22/{}/{w}-{n}", w % 7);
                cluster.put((w + n) % 3, &path, content(w, n)).await?;
            }
            Ok::<(), anyhow::Error>(())
        }
    });
    for written in futures::future::join_all(writers).await {
        written?;
    }
    cluster.wait_converged().await?;
    for filer in 0..3 {
        for w in 0..WRITERS {
            for n in 0..FILES_OF_EACH {
                let got = cluster
                    .get(filer, &format!("/s22/{}/{w}-{n}", w % 7))
                    .await?;
                ensure!(
                    got == Some(content(w, n)),
                    "filer {filer}, {w}-{n}: {got:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn s27_one_directory_made_at_three_filers_at_once_has_all_children() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    for round in 0..10 {
        let made = (0..3).map(|filer| {
            let cluster = &cluster;
            async move {
                // Another filer's may be here already: that is refused, and is the same one.
                if let Err(refused) = cluster.mkdir(filer, &format!("/s27/{round}")).await {
                    let text = refused.to_string();
                    ensure!(text.contains("already exists"), "{text}");
                }
                cluster
                    .mkdir(filer, &format!("/s27/{round}/child-{filer}"))
                    .await
            }
        });
        for made in futures::future::join_all(made).await {
            made?;
        }
    }
    cluster.wait_converged().await?;
    for filer in 0..3 {
        ensure!(
            cluster.names(filer, "/s27").await?.len() == 10,
            "filer {filer}"
        );
        for round in 0..10 {
            let names = cluster.names(filer, &format!("/s27/{round}")).await?;
            ensure!(
                names == ["child-0", "child-1", "child-2"],
                "filer {filer}: {names:?}"
            );
        }
    }
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}
