// SPDX-License-Identifier: Apache-2.0
//! Upstream's real master and volume server in the places of ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, Whose, wait_for};

/// Small files written in each test.
const FILES: usize = 100;

/// A file of several chunks.
fn large() -> Vec<u8> {
    (0..20_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// The first file, written as soon as there is a volume to write to.
async fn first_put(cluster: &Cluster) -> Result<()> {
    let put = || async { cluster.put(0, "/first", b"first".to_vec()).await.is_ok() };
    wait_for("a volume that takes writes", put).await
}

/// Writes, reads, ranges, replaces and deletes over both filers.
async fn exercise(cluster: &Cluster) -> Result<()> {
    first_put(cluster).await?;
    let large = large();
    cluster.put(0, "/dir/large.bin", large.clone()).await?;
    for i in 0..FILES {
        cluster
            .put(
                i % 2,
                &format!("/dir/{i}"),
                format!("content {i}").into_bytes(),
            )
            .await?;
    }
    cluster.wait_converged().await?;
    for filer in 0..2 {
        ensure!(
            cluster.get(filer, "/dir/large.bin").await?.as_ref() == Some(&large),
            "large"
        );
        for i in 0..FILES {
            let got = cluster.get(filer, &format!("/dir/{i}")).await?;
            ensure!(
                got == Some(format!("content {i}").into_bytes()),
                "{i} at filer {filer}"
            );
        }
    }
    let request = cluster.http.get(cluster.url(1, "/dir/large.bin"));
    let part = request
        .header("range", "bytes=9999990-10000009")
        .send()
        .await?;
    ensure!(part.status() == 206, "{}", part.status());
    ensure!(
        part.bytes().await?[..] == large[9_999_990..10_000_010],
        "a range over two chunks"
    );
    let gone = cluster
        .http
        .delete(cluster.url(1, "/dir/large.bin"))
        .send()
        .await?;
    ensure!(gone.status() == 204, "{}", gone.status());
    let is_gone = || async {
        cluster
            .get(0, "/dir/large.bin")
            .await
            .is_ok_and(|got| got.is_none())
    };
    wait_for("the delete", is_gone).await?;
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

/// One uploaded chunk: written, read and deleted at a volume server itself.
async fn needle(cluster: &Cluster, replication: &str) -> Result<()> {
    let port = cluster.master_port;
    let assigned = || async {
        let url = format!("http://127.0.0.1:{port}/dir/assign?replication={replication}");
        let answer = cluster.http.get(url).send().await.ok()?;
        let answer: serde_json::Value = answer.json().await.ok()?;
        let fid = answer["fid"].as_str()?.to_owned();
        Some((fid, answer["url"].as_str()?.to_owned()))
    };
    wait_for("an assignment", || async { assigned().await.is_some() }).await?;
    let (fid, url) = assigned().await.context("assign")?;
    let at = format!("http://{url}/{fid}");
    let put = cluster.http.put(&at).body("needle").send().await?;
    ensure!(
        put.status() == 201,
        "{} {}",
        put.status(),
        put.text().await?
    );
    let looked_up = format!("http://127.0.0.1:{port}/dir/lookup?volumeId={fid}");
    let found: serde_json::Value = cluster.http.get(looked_up).send().await?.json().await?;
    let places = found["locations"].as_array().context("locations")?;
    let copies = replication
        .bytes()
        .map(|b| usize::from(b - b'0'))
        .sum::<usize>()
        + 1;
    ensure!(places.len() == copies, "{found}");
    for place in places {
        let at = format!("http://{}/{fid}", place["url"].as_str().context("url")?);
        let got = cluster.http.get(&at).send().await?.text().await?;
        ensure!(got == "needle", "{at}: {got}");
    }
    let deleted = cluster.http.delete(&at).send().await?;
    ensure!(deleted.status().is_success(), "{}", deleted.status());
    for place in places {
        let at = format!("http://{}/{fid}", place["url"].as_str().context("url")?);
        ensure!(cluster.http.get(&at).send().await?.status() == 404, "{at}");
    }
    Ok(())
}

#[tokio::test]
async fn our_filers_work_with_upstreams_master_and_volume_server() -> Result<()> {
    let cluster =
        Cluster::start_beside(&["redb", "sqlite"], Whose::Upstreams, Whose::Upstreams).await?;
    exercise(&cluster).await?;
    needle(&cluster, "000").await
}

#[tokio::test]
async fn upstreams_volume_servers_work_under_our_master() -> Result<()> {
    let mut cluster =
        Cluster::start_beside(&["redb", "redb"], Whose::Ours, Whose::Upstreams).await?;
    exercise(&cluster).await?;
    cluster.add_volume(Whose::Upstreams)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    needle(&cluster, "001").await
}

#[tokio::test]
async fn our_volume_server_works_under_upstreams_master() -> Result<()> {
    let cluster = Cluster::start_beside(&["redb", "redb"], Whose::Upstreams, Whose::Ours).await?;
    exercise(&cluster).await?;
    needle(&cluster, "000").await
}
