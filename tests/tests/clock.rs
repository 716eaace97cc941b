// SPDX-License-Identifier: Apache-2.0
//! S16 with real processes: the clock of one filer jumps by an hour either way.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_tests::{Cluster, wait_for};
use tonic::Code;

const HOUR_MS: i64 = 3_600_000;

/// Filers of which the first one's clock is what `offset` says.
async fn started(engines: &[&str], offset_ms: i64) -> Result<(Cluster, PathBuf)> {
    let mut cluster = Cluster::start(&[]).await?;
    let file = cluster.dir.path().join("clock-offset");
    std::fs::write(&file, offset_ms.to_string())?;
    let flag = format!("--test-clock-offset-file={}", file.display());
    for (n, engine) in engines.iter().enumerate() {
        let flags: &[&str] = if n == 0 { &[&flag] } else { &[] };
        cluster.add_filer_with(engine, flags)?;
        cluster.wait_ready(n).await?;
    }
    cluster.wait_converged().await?;
    // ⚠ A filer is the only member until it has met the next, and whoever is alone drags nobody
    // along: a clock that jumps in that moment is believed. So each one judges its own first.
    for n in 0..engines.len() {
        let is_judged = || async { lead(&cluster, n).await.is_some_and(|lead| lead != 0.0) };
        wait_for("a clock that is judged", is_judged).await?;
    }
    Ok((cluster, file))
}

/// How far the clock of a filer leads the others', in seconds; exactly 0 while nobody can tell.
async fn lead(cluster: &Cluster, filer: usize) -> Option<f64> {
    let url = cluster.url(filer, "/metrics");
    let text = cluster.http.get(url).send().await.ok()?.text().await.ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("dulse_clock_lead_seconds"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Status and text of a write at a filer.
async fn write(cluster: &Cluster, filer: usize, path: &str) -> Result<(u16, String)> {
    let url = cluster.url(filer, &format!("{path}/"));
    let answer = cluster.http.post(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Waits until a subscriber of a filer hears of a path that is made at another after it began:
/// the watermark of all filers goes on.
async fn subscriber_hears(cluster: &Cluster, at: usize, from: usize, dir: &str) -> Result<()> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "watch".to_owned(),
        path_prefix: format!("{dir}/"),
        since_ns: 1,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut filer = cluster.grpc(at).await?;
    let mut stream = filer.subscribe_metadata(request).await?.into_inner();
    cluster.mkdir(from, &format!("{dir}/x")).await?;
    let event = tokio::time::timeout(dulse_tests::PATIENCE, stream.message()).await;
    let event = event.context("an event")??.context("the stream goes on")?;
    ensure!(event.event_notification.is_some(), "{event:?}");
    Ok(())
}

async fn an_hour_ahead(engines: &[&str]) -> Result<()> {
    let (mut cluster, file) = started(engines, 0).await?;
    cluster.mkdir(0, "/before").await?;
    std::fs::write(&file, HOUR_MS.to_string())?;
    let (status, said) = write(&cluster, 0, "/refused").await?;
    ensure!(status == 503, "at once: {status} {said}");
    ensure!(said.contains("leads most of the others by 3"), "{said}");
    let mut filer = cluster.grpc(0).await?;
    let request = pb::CreateEntryRequest {
        directory: "/".to_owned(),
        entry: Some(dulse_types::Entry::default().with_name("refused")),
        ..pb::CreateEntryRequest::default()
    };
    let refused = filer.create_entry(request).await.err().context("refused")?;
    ensure!(refused.code() == Code::Unavailable, "{refused}");
    // Others go on; what they write arrives and is seen there, and by subscribers everywhere.
    subscriber_hears(&cluster, 0, 1, "/ahead-a").await?;
    subscriber_hears(&cluster, 1, 1, "/ahead-b").await?;
    cluster.wait_converged().await?;
    ensure!(cluster.names(0, "/").await?.contains(&"ahead-a".to_owned()));
    // A restart forgets the estimate, and not that the others say otherwise.
    cluster.filers[0].kill()?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    let (status, said) = write(&cluster, 0, "/refused").await?;
    ensure!(status == 503, "after a restart: {status} {said}");
    subscriber_hears(&cluster, 1, 1, "/ahead-c").await?;
    // It recovers by itself.
    std::fs::write(&file, "0")?;
    let right = || async { write(&cluster, 0, "/after").await.is_ok_and(|w| w.0 == 201) };
    wait_for("a write behind a clock that is right again", right).await?;
    cluster.wait_converged().await?;
    ensure!(!cluster.names(1, "/").await?.contains(&"refused".to_owned()));
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

#[tokio::test]
async fn s16_two_filers_one_an_hour_ahead() -> Result<()> {
    an_hour_ahead(&["redb", "redb"]).await
}

#[tokio::test]
async fn s16_three_filers_one_an_hour_ahead() -> Result<()> {
    an_hour_ahead(&["redb", "sqlite", "redb"]).await
}

#[tokio::test]
async fn s16_two_filers_one_an_hour_behind_stalls_nobody_and_loses_nothing() -> Result<()> {
    let (mut cluster, file) = started(&["redb", "redb"], 0).await?;
    let put = |filer: usize, text: &'static str| {
        let cluster = &cluster;
        async move { cluster.put(filer, "/same", text.as_bytes().to_vec()).await }
    };
    put(1, "first").await?;
    cluster.wait_converged().await?;
    std::fs::write(&file, (-HOUR_MS).to_string())?;
    // Its clock says that this is older; what it has seen says that it is newer.
    put(0, "second").await?;
    cluster.wait_converged().await?;
    ensure!(
        cluster.get(1, "/same").await?.as_deref() == Some(b"second"),
        "newer by what was seen"
    );
    subscriber_hears(&cluster, 0, 1, "/behind-a").await?;
    subscriber_hears(&cluster, 1, 0, "/behind-b").await?;
    cluster.filers[0].kill()?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    cluster.mkdir(0, "/after-a-restart").await?;
    subscriber_hears(&cluster, 1, 1, "/behind-c").await?;
    cluster.wait_converged().await?;
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}
