// SPDX-License-Identifier: Apache-2.0
//! S19: filers stopped and started one after the other while clients write, of one version and
//! of two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use dulse_tests::Cluster;

/// Clients that write during the restarts.
const CLIENTS: usize = 8;

/// Tries of one write, each at the next filer: a second's pause lies between two rounds.
const TRIES: usize = 60;

/// Writes once, at whichever filer takes it. What failed with an unknown outcome may be there
/// already, so a directory that exists is a success of the retry.
async fn write(http: &reqwest::Client, urls: &[String], path: &str, first: usize) -> Result<()> {
    let mut last = String::new();
    for n in 0..TRIES {
        let url = format!("{}{path}/", urls[(first + n) % urls.len()]);
        match http.post(url).send().await {
            Ok(answer) if answer.status() == 201 => return Ok(()),
            Ok(answer) => {
                let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
                if n > 0 && status == 409 {
                    return Ok(());
                }
                last = format!("{status} {text}");
                // Everything else is an error that a retry would not cure.
                ensure!(status == 503 || status == 500, "{path}: {last}");
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    anyhow::bail!("{path} was not written after {TRIES} tries: {last}")
}

/// Stops and starts a filer: a rolling restart is one of each after the other.
async fn restart(cluster: &mut Cluster, filer: usize, how: How) -> Result<()> {
    let role = &mut cluster.filers[filer];
    match how {
        How::Stopped => role.terminate()?,
        How::Killed | How::Speaking(_) => role.kill()?,
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    match how {
        How::Speaking(protocol) => role.restart_with("test-protocol", &protocol.to_string())?,
        How::Stopped | How::Killed => role.restart()?,
    }
    cluster.wait_ready(filer).await
}

#[derive(Clone, Copy)]
enum How {
    Stopped,
    Killed,
    /// Its power cord is pulled, and another version starts.
    Speaking(u32),
}

/// Restarts all filers in rounds while clients write, and looks for every write at every filer.
async fn roll(cluster: &mut Cluster, rounds: &[How]) -> Result<()> {
    let urls: Vec<String> = (0..3).map(|n| cluster.url(n, "")).collect();
    let stop = AtomicBool::new(false);
    let http = cluster.http.clone();
    let client = |client: usize| {
        let (http, urls, stop) = (&http, &urls, &stop);
        async move {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                write(http, urls, &format!("/s19/{client}-{n}"), client).await?;
                n += 1;
            }
            anyhow::Ok(n)
        }
    };
    let restarts = async {
        for how in rounds {
            for filer in 0..3 {
                restart(cluster, filer, *how).await?;
            }
        }
        stop.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    let clients = futures::future::try_join_all((0..CLIENTS).map(client));
    let (counts, ()) = futures::future::try_join(clients, restarts).await?;
    let n_written: usize = counts.iter().sum();
    ensure!(n_written > 100, "{n_written} writes are no load");
    cluster.wait_converged().await?;
    for filer in 0..3 {
        let n_there = cluster.names(filer, "/s19").await?.len();
        assert_eq!(n_there, n_written, "at filer {filer}");
    }
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    // Some are stopped in order, some lose their power cord.
    roll(&mut cluster, &[How::Stopped, How::Killed]).await
}

/// There is no older release yet, so it is a build that speaks the protocol before: up from it
/// and back, one filer after the other.
#[tokio::test(flavor = "multi_thread")]
async fn s19_filers_of_two_versions_are_upgraded_and_downgraded_under_load() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    for engine in ["redb", "sqlite", "redb"] {
        let filer = cluster.add_filer_with(engine, &["--test-protocol=1"])?;
        cluster.wait_ready(filer).await?;
    }
    roll(&mut cluster, &[How::Speaking(2), How::Speaking(1)]).await
}
