// SPDX-License-Identifier: Apache-2.0
//! S20: one very large event; one change that cannot be applied.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_proto::filer as pb;
use dulse_tests::peer::Peer;
use dulse_tests::{Cluster, PATIENCE, program, wait_for};
use dulse_types::{EntryFields, FuseAttributes, UnknownFields};
use serde_json::Value;

/// Bytes of content in the entry itself; with the entry that it replaces it makes an event of
/// twice that.
const LARGE: usize = 20 << 20;

/// More than an entry may have, and than one record of the log holds.
const TOO_LARGE: usize = 80 << 20;

/// What clients take in one message: more than is ever sent here.
const MESSAGE_BYTES: usize = 256 << 20;

/// Small writes beside one that is too large.
const SMALL: usize = 20;

/// No version of this program knows such a change.
const UNKNOWN_KIND: u8 = 99;

fn entry(name: &str, content: Bytes) -> dulse_types::Entry {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            file_size: content.len() as u64,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        content,
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default()).with_name(name)
}

/// What a filer says to a create: its error, empty when it is done.
async fn create(cluster: &Cluster, filer: usize, name: &str, size: usize) -> Result<String> {
    let filer = cluster.grpc(filer).await?;
    let mut filer = filer.max_decoding_message_size(MESSAGE_BYTES);
    let request = pb::CreateEntryRequest {
        directory: "/s20".to_owned(),
        entry: Some(entry(name, Bytes::from(vec![7; size]))),
        ..pb::CreateEntryRequest::default()
    };
    match filer.create_entry(request).await {
        Ok(answer) => Ok(answer.into_inner().error),
        Err(refused) => Ok(refused.to_string()),
    }
}

async fn update(cluster: &Cluster, filer: usize, name: &str, content: Vec<u8>) -> Result<()> {
    let filer = cluster.grpc(filer).await?;
    let mut filer = filer.max_decoding_message_size(MESSAGE_BYTES);
    let request = pb::UpdateEntryRequest {
        directory: "/s20".to_owned(),
        entry: Some(entry(name, Bytes::from(content))),
        ..pb::UpdateEntryRequest::default()
    };
    filer.update_entry(request).await?;
    Ok(())
}

/// Contents of an event's entries, in bytes.
fn contents(event: &pb::SubscribeMetadataResponse) -> Result<[usize; 2]> {
    let n = event.event_notification.clone().context("an event")?;
    let size = |entry: Option<dulse_types::Entry>| -> Result<usize> {
        Ok(entry.map_or(Ok(0), |e| e.fields().map(|f| f.content.len()))?)
    };
    Ok([size(n.old_entry)?, size(n.new_entry)?])
}

#[tokio::test(flavor = "multi_thread")]
async fn s20_one_very_large_event_reaches_every_filer_and_subscriber_in_its_place() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let mut streams = Vec::new();
    for filer in 0..3 {
        let request = pb::SubscribeMetadataRequest {
            client_name: "large".to_owned(),
            path_prefix: "/s20/".to_owned(),
            since_ns: 1,
            ..pb::SubscribeMetadataRequest::default()
        };
        let client = cluster.grpc(filer).await?;
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
        streams.push(client.subscribe_metadata(request).await?.into_inner());
    }
    for (name, size) in [("before", 1), ("large", LARGE)] {
        let said = create(&cluster, 0, name, size).await?;
        ensure!(said.is_empty(), "{name}: {said}");
    }
    // What no record of the log holds is refused in words, and nothing else with it.
    let small = (0..SMALL).map(|n| {
        let cluster = &cluster;
        async move { create(cluster, 0, &format!("small-{n:02}"), 1).await }
    });
    let too_large = create(&cluster, 0, "too-large", TOO_LARGE);
    let (said, small) = futures::join!(too_large, futures::future::join_all(small));
    println!("too large: {:?}", said);
    let said = said?;
    ensure!(said.contains("larger than"), "`{said}` tells the limit");
    for said in small {
        let said = said?;
        ensure!(said.is_empty(), "beside one that is too large: {said}");
    }
    update(&cluster, 0, "large", vec![8; LARGE]).await?;
    let said = create(&cluster, 0, "behind", 1).await?;
    ensure!(said.is_empty(), "{said}");
    let said = create(&cluster, 1, "elsewhere", 1).await?;
    ensure!(said.is_empty(), "{said}");
    for (filer, stream) in streams.iter_mut().enumerate() {
        let (mut seen, mut large) = (Vec::new(), Vec::new());
        while seen.len() < SMALL + 5 {
            let event = tokio::time::timeout(PATIENCE, stream.message()).await;
            let event = event.context("an event")??.context("the stream goes on")?;
            let new = event.event_notification.as_ref();
            // A filer that took the state from another ends that with a marker.
            let Some(new) = new.and_then(|n| n.new_entry.as_ref()) else {
                continue;
            };
            let name = new.name().into_owned();
            if name == "large" {
                large.push(contents(&event)?);
            }
            seen.push(name);
        }
        ensure!(large == [[0, LARGE], [LARGE, LARGE]], "{filer}: {large:?}");
        ensure!(seen[..2] == ["before", "large"], "filer {filer}: {seen:?}");
        ensure!(!seen.contains(&"too-large".to_owned()), "{filer}: {seen:?}");
        let rest = |name: &str| seen.iter().rposition(|n| n == name);
        ensure!(rest("large") < rest("behind"), "filer {filer}: {seen:?}");
    }
    cluster.wait_converged().await?;
    for filer in 0..3 {
        let content = cluster.get(filer, "/s20/large").await?;
        let content = content.context("the large file")?;
        ensure!(content == vec![8; LARGE], "content at filer {filer}");
    }
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

async fn value(cluster: &Cluster, filer: usize, key: &str) -> Result<String> {
    let mut filer = cluster.grpc(filer).await?;
    let key = Bytes::copy_from_slice(key.as_bytes());
    let answer = filer.kv_get(pb::KvGetRequest { key }).await?.into_inner();
    Ok(String::from_utf8(answer.value.to_vec())?)
}

/// What one filer says that `dulse status` shows: the others do not count.
fn status(cluster: &Cluster, filer: usize) -> Result<Value> {
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let mut command = Command::new(program()?);
    let output = command.args(["status", "--format=json", "--master", &master]);
    let all: Value = serde_json::from_slice(&output.output()?.stdout).context("JSON")?;
    let at = format!("127.0.0.1:{}.", cluster.filer_ports[filer]);
    let mut filers = all["filers"].as_array().into_iter().flatten();
    let shown = filers.find(|f| f["address"].as_str().is_some_and(|a| a.starts_with(&at)));
    shown
        .cloned()
        .with_context(|| format!("nobody at {at}: {all}"))
}

/// A gauge or counter without labels at a filer.
async fn metric(cluster: &Cluster, filer: usize, name: &str) -> Result<f64> {
    let answer = cluster.http.get(cluster.url(filer, "/metrics")).send();
    let text = answer.await?.text().await?;
    let prefix = format!("{name} ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    Ok(lines.next().with_context(|| name.to_owned())?.parse()?)
}

/// Waits until a filer shows that this origin waits, and why, in status and metrics.
async fn shows_stuck(cluster: &Cluster, filer: usize, origin: &str) -> Result<()> {
    let shows = || async {
        let Ok(status) = status(cluster, filer) else {
            return false;
        };
        let mut stuck = status["stuck"].as_array().into_iter().flatten();
        let is_told = stuck.any(|row| {
            let reason = row["reason"].to_string();
            let is_why = reason.contains("kind of change 99 is not known: upgrade this filer");
            row["origin"] == *origin && is_why
        });
        let mut peers = status["peers"].as_array().into_iter().flatten();
        let is_peer = peers.any(|peer| peer["origin"] == *origin && peer["state"] == "stuck");
        let gauge = metric(cluster, filer, "dulse_stuck_filers").await;
        is_told && is_peer && gauge.is_ok_and(|n| n == 1.0)
    };
    wait_for("a filer that shows what it cannot apply", shows).await
}

#[tokio::test]
async fn s20_a_change_of_an_unknown_kind_holds_up_its_origin_alone_and_is_never_skipped()
-> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let peer = Peer::join(&cluster).await?;
    peer.put("before", "1");
    for filer in 0..2 {
        let is_there = || async {
            value(&cluster, filer, "before")
                .await
                .is_ok_and(|v| v == "1")
        };
        wait_for("what the peer wrote", is_there).await?;
    }
    peer.put_of_kind(UNKNOWN_KIND, "unknown", "2");
    peer.put("behind", "3");
    let origin = peer.origin();
    for filer in 0..2 {
        shows_stuck(&cluster, filer, &origin).await?;
    }
    // The others go on.
    for i in 0..20 {
        cluster.mkdir(i % 2, &format!("/s20/{i}")).await?;
    }
    for filer in 0..2 {
        let has_all = || async {
            let names = cluster.names(filer, "/s20").await;
            names.is_ok_and(|names| names.len() == 20)
        };
        wait_for("the others' changes", has_all).await?;
    }
    // It is asked for again, from the same place.
    let (n_before, last) = (peer.pulls().len(), peer.stamp(0)?);
    let asked = || async { peer.pulls().len() >= n_before + 4 };
    wait_for("more tries", asked).await?;
    let pulls = peer.pulls();
    ensure!(
        pulls[n_before..].iter().all(|after| *after == last),
        "{pulls:?} behind {last}"
    );
    let n_stuck = metric(&cluster, 0, "dulse_replication_stuck_total").await?;
    ensure!(n_stuck >= 2.0, "{n_stuck} tries were counted");
    // So it is after a restart, and the filer serves.
    cluster.filers[1].kill()?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    shows_stuck(&cluster, 1, &origin).await?;
    for filer in 0..2 {
        for key in ["unknown", "behind"] {
            let value = value(&cluster, filer, key).await?;
            ensure!(value.is_empty(), "{key} at filer {filer}: `{value}`");
        }
    }
    // What comes then is what was missing, in its order, by itself.
    peer.mend();
    for filer in 0..2 {
        let is_there = || async {
            value(&cluster, filer, "behind")
                .await
                .is_ok_and(|v| v == "3")
        };
        wait_for("what was behind", is_there).await?;
        ensure!(value(&cluster, filer, "unknown").await? == "2", "skipped");
        let is_clear = || async {
            let gauge = metric(&cluster, filer, "dulse_stuck_filers").await;
            let status = status(&cluster, filer);
            gauge.is_ok_and(|n| n == 0.0)
                && status.is_ok_and(|s| s["stuck"] == Value::Array(vec![]))
        };
        wait_for("nothing stuck", is_clear).await?;
    }
    Ok(())
}
