// SPDX-License-Identifier: Apache-2.0
//! Bodies of files: large, slow, cut off, oddly framed, and with volume servers that die.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_tests::raw::{Raw, ask};
use dulse_tests::{Cluster, Whose, wait_for};
use futures::StreamExt;

/// Bytes of a chunk, as filers cut by default.
const CHUNK: usize = 4 << 20;

/// Length of the large file.
const LARGE: u64 = 2 << 30;

/// What the large file is read and written in.
const PART: usize = 1 << 20;

/// How much more memory than before a large transfer may take.
const GROWTH_MAX: u64 = 200 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

async fn started() -> Result<Cluster> {
    let cluster = Cluster::start(&["redb"]).await?;
    let put = || async { cluster.put(0, "/first", b"first".to_vec()).await.is_ok() };
    wait_for("a volume that takes writes", put).await?;
    Ok(cluster)
}

/// Chunks on the volume server that are not deleted.
async fn live_chunks(cluster: &Cluster) -> Result<i64> {
    let url = format!("http://127.0.0.1:{}/status", cluster.volume_port);
    let status: serde_json::Value = cluster.http.get(url).send().await?.json().await?;
    let volumes = status["Volumes"].as_array().context("volumes")?;
    let counts = volumes.iter().map(|v| v["FileCount"].as_i64().unwrap_or(0));
    Ok(counts.sum())
}

/// One of the parts that the large file repeats: each starts with its number.
fn part(n: u64, of: &[u8]) -> Bytes {
    let mut part = of.to_vec();
    part[..8].copy_from_slice(&n.to_be_bytes());
    part.into()
}

/// The filer holds a few chunks of what goes through it, whatever the size of the file.
#[tokio::test]
async fn two_gibibytes_pass_in_bounded_memory() -> Result<()> {
    let cluster = started().await?;
    let before = cluster.filers[0].peak_memory()?;
    let (of, n_parts) = (pattern(PART), LARGE / PART as u64);
    let sent = of.clone();
    let parts = (0..n_parts).map(move |n| Ok::<_, std::io::Error>(part(n, &sent)));
    let client = reqwest::Client::new();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    let put = client
        .put(cluster.url(0, "/large"))
        .body(body)
        .send()
        .await?;
    ensure!(put.status() == 201, "{}", put.text().await?);
    let sum = put.headers().get("content-md5").cloned();
    let got = client.get(cluster.url(0, "/large")).send().await?;
    ensure!(got.content_length() == Some(LARGE), "{:?}", got.headers());
    let (mut frames, mut rest, mut n) = (got.bytes_stream(), Vec::new(), 0);
    while let Some(frame) = frames.next().await {
        rest.extend_from_slice(&frame?);
        while rest.len() >= PART {
            ensure!(rest[..PART] == part(n, &of)[..], "part {n}");
            rest.drain(..PART);
            n += 1;
        }
    }
    ensure!(
        n == n_parts && rest.is_empty(),
        "{n} parts and {}",
        rest.len()
    );
    let head = client.head(cluster.url(0, "/large")).send().await?;
    let tag = head.headers()["etag"]
        .to_str()?
        .trim_matches('"')
        .to_owned();
    ensure!(sum.is_some() && tag.len() == 32, "{sum:?} {tag}");
    let growth = cluster.filers[0].peak_memory()?.saturating_sub(before);
    ensure!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    Ok(())
}

/// Readers that take nothing and writers that send nothing cost a few chunks each.
#[tokio::test]
async fn slow_clients_hold_little_and_stop_nobody() -> Result<()> {
    let cluster = started().await?;
    let content = pattern(6 * CHUNK);
    cluster.put(0, "/slow", content.clone()).await?;
    let before = cluster.filers[0].peak_memory()?;
    let (mut readers, mut writers) = (Vec::new(), Vec::new());
    for i in 0..8 {
        let mut reader = Raw::connect(cluster.filer_ports[0]).await?;
        reader.head("GET", "/slow", &[]).await?;
        readers.push(reader);
        let mut writer = Raw::connect(cluster.filer_ports[0]).await?;
        let length = content.len().to_string();
        let path = format!("/written-{i}");
        writer
            .head("PUT", &path, &[("Content-Length", &length)])
            .await?;
        writer.send(&content[..CHUNK + 5]).await?;
        writers.push(writer);
    }
    for i in 0..50 {
        cluster
            .put(0, &format!("/quick-{i}"), vec![1; 4096])
            .await?;
    }
    let growth = cluster.filers[0].peak_memory()?.saturating_sub(before);
    ensure!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    for reader in &mut readers {
        let answer = reader.answer(false).await?;
        ensure!(answer.body == content, "{} bytes", answer.body.len());
    }
    for writer in &mut writers {
        writer.send(&content[CHUNK + 5..]).await?;
        ensure!(writer.answer(false).await?.status == 201, "a slow writer");
    }
    ensure!(
        cluster.get(0, "/written-7").await? == Some(content),
        "written"
    );
    Ok(())
}

#[tokio::test]
async fn sizes_and_ranges_at_the_edges_of_chunks_are_exact() -> Result<()> {
    let cluster = started().await?;
    let content = pattern(3 * CHUNK + 1);
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1] {
        let path = format!("/of-{len}");
        cluster.put(0, &path, content[..len].to_vec()).await?;
        ensure!(
            cluster.get(0, &path).await?.as_deref() == Some(&content[..len]),
            "{len}"
        );
        let url = cluster.url(0, &format!("{path}?metadata=true"));
        let entry: serde_json::Value = cluster.http.get(url).send().await?.json().await?;
        let n = entry["chunks"].as_array().map_or(0, Vec::len);
        ensure!(n == len.div_ceil(CHUNK), "{len}: {n} chunks");
    }
    let path = format!("/of-{}", content.len());
    let edges: Vec<usize> = (0..=3).flat_map(|i| [i * CHUNK, i * CHUNK + 1]).collect();
    let starts = edges.iter().flat_map(|e| [e.saturating_sub(1), *e]);
    for from in starts.filter(|from| *from < content.len()) {
        for to in edges.iter().copied().filter(|to| from < *to) {
            let range = format!("bytes={from}-{}", to - 1);
            let port = cluster.filer_ports[0];
            let got = ask(port, "GET", &path, &[("Range", &range)], b"").await?;
            ensure!(got.status == 206, "{range}: {}", got.status);
            let expect = &content[from..to.min(content.len())];
            ensure!(got.body == expect, "{range}: {} bytes", got.body.len());
        }
    }
    Ok(())
}

#[tokio::test]
async fn bodies_come_in_any_framing() -> Result<()> {
    let cluster = started().await?;
    let port = cluster.filer_ports[0];
    let mut raw = Raw::connect(port).await?;
    let asks = [("Expect", "100-continue"), ("Content-Length", "5")];
    raw.head("PUT", "/expect", &asks).await?;
    ensure!(raw.answer(false).await?.status == 100, "asked for the body");
    raw.send(b"hello").await?;
    ensure!(raw.answer(false).await?.status == 201, "expect");
    // The same connection goes on.
    raw.head("PUT", "/chunked", &[("Transfer-Encoding", "chunked")])
        .await?;
    for piece in [
        "5\r\nhello\r\n",
        "1;x=y\r\n \r\n",
        "5\r\nworld\r\n",
        "0\r\n\r\n",
    ] {
        raw.send(piece.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ensure!(raw.answer(false).await?.status == 201, "chunked");
    raw.head("PUT", "/nothing", &[("Transfer-Encoding", "chunked")])
        .await?;
    raw.send(b"0\r\n\r\n").await?;
    ensure!(raw.answer(false).await?.status == 201, "nothing");
    for (path, expect) in [
        ("/expect", "hello"),
        ("/chunked", "hello world"),
        ("/nothing", ""),
    ] {
        let got = cluster.get(0, path).await?;
        ensure!(got.as_deref() == Some(expect.as_bytes()), "{path}: {got:?}");
    }
    // A refusal comes before the body is sent.
    let mut raw = Raw::connect(port).await?;
    let path = format!("/{}", "n".repeat(256));
    raw.head("PUT", &path, &asks).await?;
    ensure!(raw.answer(false).await?.status == 414, "refused at once");
    Ok(())
}

/// What an upload that breaks off had written is deleted; what was there stays.
#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() -> Result<()> {
    let cluster = started().await?;
    cluster.put(0, "/kept", b"as it was".to_vec()).await?;
    let before = live_chunks(&cluster).await?;
    for path in ["/new", "/kept"] {
        let mut raw = Raw::connect(cluster.filer_ports[0]).await?;
        let length = (10 * CHUNK).to_string();
        raw.head("PUT", path, &[("Content-Length", &length)])
            .await?;
        raw.send(&pattern(3 * CHUNK + 99)).await?;
        let written = || async { live_chunks(&cluster).await.is_ok_and(|n| n >= before + 2) };
        wait_for("chunks of the upload", written).await?;
        drop(raw);
        let freed = || async { live_chunks(&cluster).await.is_ok_and(|n| n == before) };
        wait_for("the end of the chunks", freed).await?;
    }
    ensure!(cluster.get(0, "/new").await?.is_none(), "half a file");
    ensure!(
        cluster.get(0, "/kept").await?.as_deref() == Some(b"as it was"),
        "kept"
    );
    Ok(())
}

/// A volume server that dies in the middle of an upload is left for another one; without
/// another one the upload fails and nothing of it is seen.
#[tokio::test]
async fn a_volume_server_that_dies_fails_no_upload_that_has_another() -> Result<()> {
    let mut cluster = started().await?;
    cluster.volume.kill()?;
    let content = pattern(2 * CHUNK);
    let port = cluster.filer_ports[0];
    let refused = ask(port, "PUT", "/none", &[], &content).await?;
    ensure!((500..600).contains(&refused.status), "{}", refused.status);
    ensure!(refused.text().contains("\"error\""), "{}", refused.text());
    ensure!(cluster.get(0, "/none").await?.is_none(), "half a file");
    cluster.volume.restart()?;
    let put = || async { cluster.put(0, "/again", b"again".to_vec()).await.is_ok() };
    wait_for("the volume server", put).await?;
    cluster.add_volume(Whose::Ours)?;
    let mut raw = Raw::connect(port).await?;
    let length = (4 * CHUNK).to_string();
    let content = pattern(4 * CHUNK);
    raw.head("PUT", "/both", &[("Content-Length", &length)])
        .await?;
    raw.send(&content[..2 * CHUNK]).await?;
    let url = format!("http://127.0.0.1:{}/dir/status", cluster.master_port);
    let two = || async {
        let status = cluster.http.get(&url).send().await;
        let Ok(status) = status else { return false };
        status
            .text()
            .await
            .is_ok_and(|t| t.matches("\"Url\"").count() == 2)
    };
    wait_for("two volume servers", two).await?;
    cluster.volume.kill()?;
    raw.send(&content[2 * CHUNK..]).await?;
    let answer = raw.answer(false).await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text());
    cluster.volume.restart()?;
    let whole = || async {
        let got = cluster.get(0, "/both").await;
        got.is_ok_and(|got| got.as_ref() == Some(&content))
    };
    wait_for("the file over both", whole).await?;
    Ok(())
}
