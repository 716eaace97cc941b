// SPDX-License-Identifier: Apache-2.0
//! A filer that is stopped in order under load: when it says that it stops, it has said all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer as pb;
use dulse_tests::{Cluster, wait_for};
use tokio::task::JoinHandle;

/// Stops in a row: each is a race of some milliseconds.
const STOPS: usize = 6;

/// Writers over HTTP, and as many over gRPC.
const WRITERS: usize = 6;

/// Writes what it can until told to end; gives the paths that were acknowledged.
fn writer(cluster: &Cluster, round: usize, n: usize, over: &Arc<AtomicBool>) -> Writing {
    let (http, url) = (cluster.http.clone(), cluster.url(0, ""));
    let over = Arc::clone(over);
    tokio::spawn(async move {
        let mut done = Vec::new();
        for i in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let path = format!("/stops/{round}-{n}-{i}");
            let answer = http.put(format!("{url}{path}")).body("").send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => done.push(path),
                _ => break,
            }
        }
        done
    })
}

type Writing = JoinHandle<Vec<String>>;

async fn caller(cluster: &Cluster, round: usize, n: usize) -> Result<Writing> {
    let mut filer = cluster.grpc(0).await?;
    Ok(tokio::spawn(async move {
        let mut done = Vec::new();
        for i in 0.. {
            let name = format!("{round}-{n}-{i}");
            let entry = dulse_types::Entry::default().with_name(&name);
            let request = pb::CreateEntryRequest {
                directory: "/called".to_owned(),
                entry: Some(entry),
                ..pb::CreateEntryRequest::default()
            };
            match filer.create_entry(request).await {
                Ok(answer) if answer.get_ref().error.is_empty() => {
                    done.push(format!("/called/{name}"));
                }
                _ => break,
            }
        }
        done
    }))
}

/// A metric of a filer, by its name and labels.
async fn metric(cluster: &Cluster, filer: usize, name: &str) -> Result<f64> {
    let answer = cluster.http.get(cluster.url(filer, "/metrics")).send();
    let text = answer.await?.text().await?;
    ensure!(text.contains("dulse_filer_ready"), "no metrics: {text}");
    let mut lines = text.lines();
    // A counter shows once it has counted.
    let Some(line) = lines.find(|line| line.starts_with(name)) else {
        return Ok(0.0);
    };
    Ok(line.rsplit(' ').next().context("a value")?.parse()?)
}

/// A subscriber that is told everything, as long as it lives.
async fn subscribe(cluster: &Cluster, filer: usize) -> Result<JoinHandle<()>> {
    let mut client = cluster.grpc(filer).await?;
    let request = pb::SubscribeMetadataRequest {
        client_name: "stopping".to_owned(),
        path_prefix: "/".to_owned(),
        since_ns: 1,
        client_id: 7,
        client_epoch: 1,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut events = client.subscribe_metadata(request).await?.into_inner();
    Ok(tokio::spawn(async move {
        while let Ok(Some(_)) = events.message().await {}
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_under_load_has_said_all_when_it_says_so() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let listening = subscribe(&cluster, 1).await?;
    for round in 0..STOPS {
        let over = Arc::new(AtomicBool::new(false));
        let mut writing = Vec::new();
        for n in 0..WRITERS {
            writing.push(writer(&cluster, round, n, &over));
            writing.push(caller(&cluster, round, n).await?);
        }
        // Under load by then.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cluster.filers[0].terminate()?;
        over.store(true, Ordering::Relaxed);
        let mut done = Vec::new();
        for task in writing {
            done.extend(task.await?);
        }
        ensure!(done.len() > WRITERS, "hardly a write: {}", done.len());
        // It is gone: what is still on its way comes, what was not sent does not.
        let (here, all) = (&cluster, &done);
        let handed = wait_for("all is handed over", || async move {
            missing(here, all).await.is_ok_and(|none| none.is_empty())
        });
        if let Err(error) = handed.await {
            bail!("{error}: {:?} is not", missing(&cluster, &done).await?);
        }
        cluster.filers[0].restart()?;
        cluster.wait_ready(0).await?;
        cluster.wait_converged().await?;
        // Who does not pull again by the next stop is handed nothing.
        let cluster = &cluster;
        wait_for("the other filer pulls", || async move {
            let n_pulled = metric(cluster, 1, "dulse_peers{state=\"streaming\"}").await;
            n_pulled.is_ok_and(|n| n == 1.0)
        })
        .await?;
    }
    let n_late = metric(&cluster, 1, "dulse_events_late_total").await?;
    ensure!(n_late == 0.0, "{n_late} events came late");
    listening.abort();
    Ok(())
}

/// What the other filer does not have.
async fn missing(cluster: &Cluster, paths: &[String]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for path in paths {
        let answer = cluster.http.head(cluster.url(1, path)).send().await?;
        if !answer.status().is_success() {
            missing.push(path.clone());
        }
    }
    Ok(missing)
}
