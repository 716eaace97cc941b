// SPDX-License-Identifier: Apache-2.0
//! Writes that are acknowledged when other filers have them: the machine may be lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_tests::{Cluster, wait_for};
use tonic::Code;

/// Writes in flight at once.
const WRITERS: usize = 16;

/// Acknowledged writes after which the machine is lost.
const ENOUGH: usize = 300;

/// Makes directories until the filer is gone; those that were acknowledged.
async fn write_until_gone(
    cluster: &Cluster,
    who: usize,
    n_acked: &std::sync::atomic::AtomicUsize,
    is_over: &AtomicBool,
) -> Vec<String> {
    let mut acked = Vec::new();
    for i in 0.. {
        let name = format!("{who}-{i}");
        match cluster.mkdir(0, &format!("/s26/{name}")).await {
            Ok(()) => {
                acked.push(name);
                n_acked.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) if is_over.load(Ordering::Relaxed) => return acked,
            // A peer was not connected for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    acked
}

#[tokio::test]
async fn s26_with_peers_1_a_machine_lost_for_good_loses_no_acknowledged_write() -> Result<()> {
    let flags = ["--durability=peers(1)"];
    let mut cluster = Cluster::start_with(&["redb", "sqlite", "redb"], &flags).await?;
    // The third hears of nothing before the first is gone: one other copy is all there is.
    cluster.filers[2].freeze()?;
    let (n_acked, is_over) = (
        std::sync::atomic::AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let pid = rustix::process::Pid::from_raw(cluster.filers[0].pid().cast_signed());
    let pid = pid.context("a process id")?;
    let writers = (0..WRITERS).map(|who| write_until_gone(&cluster, who, &n_acked, &is_over));
    let killer = async {
        while n_acked.load(Ordering::Relaxed) < ENOUGH {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
    };
    let (acked, killed) = futures::join!(futures::future::join_all(writers), killer);
    killed?;
    cluster.filers[0].kill()?;
    std::fs::remove_dir_all(cluster.dir.path().join("filer-0"))?;
    let acked: Vec<String> = acked.into_iter().flatten().collect();
    ensure!(acked.len() >= ENOUGH, "{}", acked.len());
    cluster.filers[2].thaw()?;
    for filer in [1, 2] {
        let has_all = || async {
            let names = cluster.names(filer, "/s26").await.unwrap_or_default();
            acked.iter().all(|name| names.contains(name))
        };
        wait_for(
            "every acknowledged write at the filers that are left",
            has_all,
        )
        .await?;
    }
    println!(
        "{} acknowledged writes, all at both filers that are left",
        acked.len()
    );
    Ok(())
}

#[tokio::test]
async fn too_few_peers_refuse_and_a_silent_one_makes_the_outcome_unknown() -> Result<()> {
    let flags = [
        "--durability-below=/bank=peers(1),/bank/cache=os",
        "--peers-wait=2s",
    ];
    let mut cluster = Cluster::start_with(&["redb"], &flags).await?;
    // Alone: refused before it is made, with what is missing; elsewhere nothing changes.
    let answer = cluster
        .http
        .put(cluster.url(0, "/bank/a"))
        .body("a")
        .send()
        .await?;
    let (status, again) = (
        answer.status(),
        answer.headers().get("retry-after").cloned(),
    );
    let said = answer.text().await?;
    ensure!(status == 503 && again.is_some(), "{status} {said}");
    ensure!(said.contains("needs 1 connected filers"), "{said}");
    ensure!(
        cluster.get(0, "/bank/a").await?.is_none(),
        "it was not made"
    );
    cluster.mkdir(0, "/elsewhere").await?;
    let mut filer = cluster.grpc(0).await?;
    let request = |name: &str| pb::CreateEntryRequest {
        directory: "/bank".to_owned(),
        entry: Some(dulse_types::Entry::default().with_name(name)),
        ..pb::CreateEntryRequest::default()
    };
    let refused = filer
        .create_entry(request("b"))
        .await
        .err()
        .context("refused")?;
    ensure!(refused.code() == Code::Unavailable, "{refused}");

    let second = cluster.add_filer_with("redb", &flags)?;
    cluster.wait_ready(second).await?;
    let acked = || async { cluster.mkdir(0, "/bank/acked").await.is_ok() };
    wait_for("a write that the second filer acknowledges", acked).await?;
    cluster.mkdir(0, "/bank/cache/x").await?;
    // It is silent, and for some seconds nobody can know: the outcome is unknown, and said so.
    cluster.filers[1].freeze()?;
    let answer = cluster
        .http
        .post(cluster.url(0, "/bank/unknown/"))
        .send()
        .await?;
    let (status, said) = (answer.status(), answer.text().await?);
    ensure!(status == 504, "{status} {said}");
    ensure!(
        said.contains("outcome unknown") && said.contains("0 of 1"),
        "{said}"
    );
    let unknown = filer
        .create_entry(request("c"))
        .await
        .err()
        .context("unknown")?;
    ensure!(
        matches!(unknown.code(), Code::DeadlineExceeded | Code::Unavailable),
        "{unknown}"
    );
    // Readers of this filer see what was not acknowledged, and other writes are not held up.
    ensure!(
        cluster
            .names(0, "/bank")
            .await?
            .contains(&"unknown".to_owned())
    );
    cluster.mkdir(0, "/elsewhere/at-once").await?;
    cluster.mkdir(0, "/bank/cache/at-once").await?;
    // Silent for longer, it does not count any more: refused early again.
    let refused = || async {
        let url = cluster.url(0, &format!("/bank/late-{}/", rand::random::<u32>()));
        let asked = cluster.http.post(url).send().await;
        asked.is_ok_and(|answer| answer.status() == 503)
    };
    wait_for("a refusal", refused).await?;
    cluster.filers[1].thaw()?;
    cluster.wait_converged().await?;
    ensure!(
        cluster
            .names(1, "/bank")
            .await?
            .contains(&"unknown".to_owned())
    );
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

/// What a level costs is printed, not judged.
#[tokio::test]
async fn what_each_level_costs() -> Result<()> {
    const WRITES: usize = 200;
    let flags = ["--durability-below=/os=os,/fsync=fsync,/peers=peers(1)"];
    let cluster = Cluster::start_with(&["redb", "redb", "redb"], &flags).await?;
    cluster.wait_converged().await?;
    for level in ["os", "fsync", "peers"] {
        let mut times = Vec::new();
        for i in 0..WRITES {
            let began = Instant::now();
            cluster.mkdir(0, &format!("/{level}/{i}")).await?;
            times.push(began.elapsed());
        }
        times.sort();
        println!(
            "{level}: one write after the other, p50 {:?}, p99 {:?}",
            times[WRITES / 2],
            times[WRITES * 99 / 100]
        );
    }
    Ok(())
}
