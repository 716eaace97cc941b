// SPDX-License-Identifier: Apache-2.0
//! S19: filers stopped and started one after the other while clients write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let urls: Vec<String> = (0..3).map(|n| cluster.url(n, "")).collect();
    let stop = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    let http = cluster.http.clone();
    let client = |client: usize| {
        let (http, urls, stop, written) = (&http, &urls, &stop, &written);
        async move {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                write(http, urls, &format!("/s19/{client}-{n}"), client).await?;
                n += 1;
                written.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(n)
        }
    };
    let restarts = async {
        for round in 0..2 {
            for filer in 0..3 {
                // Some are stopped in order, some lose their power cord.
                if round == 0 {
                    cluster.filers[filer].terminate()?;
                } else {
                    cluster.filers[filer].kill()?;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                cluster.filers[filer].restart()?;
                cluster.wait_ready(filer).await?;
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
