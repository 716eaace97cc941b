// SPDX-License-Identifier: Apache-2.0
//! Subscriptions and sessions with three real filers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_tests::{Cluster, PATIENCE, wait_for};
use dulse_types::{EntryFields, FuseAttributes, UnknownFields};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;
use tonic::{Code, Request};

type Filer = SeaweedFilerClient<Channel>;

/// Operations of each writer.
const WRITES: usize = 150;

/// The directory whose creation ends a comparison.
const END: &str = "end";

fn entry(name: &str, link: &str) -> dulse_types::Entry {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        hard_link_id: Bytes::copy_from_slice(link.as_bytes()),
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default()).with_name(name)
}

async fn create(filer: &mut Filer, dir: &str, name: &str, link: &str) -> Result<Option<String>> {
    let request = pb::CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(entry(name, link)),
        ..pb::CreateEntryRequest::default()
    };
    let answer = filer.create_entry(request).await?;
    let token = answer.metadata().get("dulse-token");
    let token = token.and_then(|t| t.to_str().ok()).map(str::to_owned);
    let error = answer.into_inner().error;
    ensure!(error.is_empty(), "{dir}/{name}: {error}");
    Ok(token)
}

/// Has a writer rest, and says that it does: its last request was answered.
#[derive(Default)]
struct Pause {
    is_wanted: AtomicBool,
    is_resting: AtomicBool,
}

/// Creates, links, renames and deletes names of its own; some of a directory that all use.
async fn write(mut filer: Filer, who: usize, pause: Arc<Pause>) -> Result<()> {
    for i in 0..WRITES {
        while pause.is_wanted.load(Ordering::Relaxed) {
            pause.is_resting.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let name = format!("{who}-{i}");
        let link = if i % 10 == 0 {
            format!("link-{who}-{i:09}")
        } else {
            String::new()
        };
        create(&mut filer, "/w", &name, &link).await?;
        match i % 5 {
            0 if !link.is_empty() => {
                create(&mut filer, "/w", &format!("{name}-linked"), &link).await?;
            }
            1 => {
                let request = pb::AtomicRenameEntryRequest {
                    old_directory: "/w".to_owned(),
                    old_name: name,
                    new_directory: format!("/w/{who}"),
                    new_name: "moved".to_owned(),
                    ..pb::AtomicRenameEntryRequest::default()
                };
                filer.atomic_rename_entry(request).await?;
            }
            2 => {
                let request = pb::DeleteEntryRequest {
                    directory: "/w".to_owned(),
                    name,
                    is_delete_data: true,
                    ..pb::DeleteEntryRequest::default()
                };
                filer.delete_entry(request).await?;
            }
            3 => {
                let key = Bytes::from(format!("key-{who}"));
                let value = Bytes::from(i.to_string());
                filer.kv_put(pb::KvPutRequest { key, value }).await?;
            }
            _ => drop(create(&mut filer, "/w/hot", "same", "").await?),
        }
    }
    pause.is_resting.store(true, Ordering::Relaxed);
    Ok(())
}

fn shown(event: &pb::SubscribeMetadataResponse) -> String {
    let n = event.event_notification.clone().unwrap_or_default();
    let name = |e: &Option<dulse_types::Entry>| {
        e.as_ref()
            .map_or_else(|| "-".to_owned(), |e| e.name().into_owned())
    };
    format!(
        "{} {}/{} -> {}/{}",
        event.ts_ns,
        event.directory,
        name(&n.old_entry),
        n.new_parent_path,
        name(&n.new_entry)
    )
}

/// Subscribes at a port again and again, each time for a few events, and gives what it saw
/// up to the end: every event once.
async fn follow(port: u16, seed: u64, from_ns: i64) -> Result<Vec<String>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut all, mut since, mut at_since) = (Vec::new(), from_ns, BTreeSet::new());
    for client_epoch in 1.. {
        let mut n_left: u32 = rng.random_range(1..60);
        let Ok(mut filer) = Filer::connect(format!("http://127.0.0.1:{port}")).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let request = pb::SubscribeMetadataRequest {
            client_name: "follower".to_owned(),
            client_id: 77,
            client_epoch,
            path_prefix: "/".to_owned(),
            since_ns: since,
            client_supports_batching: rng.random(),
            ..pb::SubscribeMetadataRequest::default()
        };
        let Ok(stream) = filer.subscribe_metadata(request).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(mut message)) = stream.message().await {
            let more = std::mem::take(&mut message.events);
            for event in std::iter::once(message).chain(more) {
                ensure!(event.ts_ns >= since, "{} after {since}", event.ts_ns);
                if event.ts_ns > since {
                    (since, at_since) = (event.ts_ns, BTreeSet::new());
                }
                let line = shown(&event);
                if line.contains(&format!("/{END}")) {
                    return Ok(all);
                }
                // Resuming is inclusive: what is at the cursor itself may come again.
                if at_since.insert(line.clone()) {
                    all.push(line);
                }
                n_left = n_left.saturating_sub(1);
            }
            if n_left == 0 {
                break;
            }
        }
    }
    bail!("no epoch is left")
}

#[tokio::test]
async fn subscribers_at_three_filers_see_one_sequence_through_a_kill() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let ports: Vec<u16> = cluster.filer_ports.iter().map(|p| p + 10_000).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let from_ns = i64::try_from(now.as_nanos())?;
    let followers: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(i, port)| tokio::spawn(follow(*port, i as u64, from_ns)))
        .collect();
    let pause: Arc<Pause> = Arc::default();
    let mut writers = Vec::new();
    for who in 0..3 {
        let filer = cluster.grpc(who).await?;
        let pause = if who == 2 {
            Arc::clone(&pause)
        } else {
            Arc::default()
        };
        writers.push(tokio::spawn(write(filer, who, pause)));
    }
    // Filer 2 is killed while its own writer rests, and others write on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    pause.is_wanted.store(true, Ordering::Relaxed);
    let rests = || async { pause.is_resting.load(Ordering::Relaxed) };
    wait_for("a writer that rests", rests).await?;
    cluster.filers[2].kill()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.filers[2].restart()?;
    cluster.wait_ready(2).await?;
    pause.is_wanted.store(false, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    cluster.wait_converged().await?;
    cluster.mkdir(0, &format!("/{END}")).await?;
    let mut seen = Vec::new();
    for follower in followers {
        let followed = tokio::time::timeout(PATIENCE, follower).await;
        seen.push(followed.context("the end of the events")???);
    }
    for (i, other) in seen.iter().enumerate() {
        let differs = seen[0].iter().zip(other).position(|(a, b)| a != b);
        ensure!(
            seen[0] == *other,
            "filer {i} tells {} events and filer 0 {}; first difference {differs:?}: {:?} {:?}",
            other.len(),
            seen[0].len(),
            differs.map(|at| &seen[0][at]),
            differs.map(|at| &other[at]),
        );
    }
    let unique: BTreeSet<&String> = seen[0].iter().collect();
    ensure!(unique.len() == seen[0].len(), "an event came twice");
    for who in 0..3 {
        for i in 0..WRITES {
            let created = format!("-> /w/{who}-{i}");
            let n = seen[0]
                .iter()
                .filter(|line| line.ends_with(&created))
                .count();
            ensure!(n == 1, "{created} came {n} times");
        }
    }
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

#[tokio::test]
async fn a_cursor_older_than_the_log_gets_the_state_and_a_marker() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    for i in 0..600 {
        let mut filer = cluster.grpc(0).await?;
        create(&mut filer, &format!("/old/{}", i % 7), &i.to_string(), "").await?;
        drop(filer);
    }
    // What a fresh filer takes over it has as state, not as log.
    let fresh = cluster.add_filer("redb")?;
    cluster.wait_ready(fresh).await?;
    let mut filer = cluster.grpc(fresh).await?;
    let request = pb::SubscribeMetadataRequest {
        client_name: "late".to_owned(),
        client_id: 5,
        path_prefix: "/old/".to_owned(),
        since_ns: 1_000,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut stream = filer.subscribe_metadata(request).await?.into_inner();
    let (mut names, mut last) = (BTreeSet::new(), 1_000);
    let marker = loop {
        let event = stream.message().await?.context("an event")?;
        let n = event
            .event_notification
            .clone()
            .context("no heartbeat was asked for")?;
        ensure!(event.ts_ns > last, "{} after {last}", event.ts_ns);
        last = event.ts_ns;
        match n.new_entry {
            Some(new) => drop(names.insert(format!("{}/{}", n.new_parent_path, new.name()))),
            None => break event,
        }
    };
    ensure!(names.len() >= 600, "{} names", names.len());
    ensure!(marker.ts_ns > 1_000 + 600, "{}", marker.ts_ns);
    let mut first = cluster.grpc(0).await?;
    create(&mut first, "/old", "after", "").await?;
    let live = stream.message().await?.context("an event")?;
    ensure!(shown(&live).ends_with("-> /old/after"), "{}", shown(&live));
    Ok(())
}

#[tokio::test]
async fn a_newer_subscription_of_a_client_ends_the_older_and_lists_say_who_is_there() -> Result<()>
{
    let cluster = Cluster::start(&["redb"]).await?;
    let mut filer = cluster.grpc(0).await?;
    let request = |client_epoch| pb::SubscribeMetadataRequest {
        client_name: "mount".to_owned(),
        client_id: 9,
        client_epoch,
        path_prefix: "/x/".to_owned(),
        since_ns: i64::MAX / 2,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut first = filer.subscribe_metadata(request(1)).await?.into_inner();
    let again = filer.subscribe_metadata(request(1)).await;
    let refused = match again {
        Err(status) => status,
        Ok(stream) => stream
            .into_inner()
            .message()
            .await
            .err()
            .context("refused")?,
    };
    ensure!(
        refused
            .message()
            .starts_with("duplicated subscription detected for client mount@"),
        "{refused}"
    );
    let _second = filer.subscribe_metadata(request(2)).await?.into_inner();
    let ended = tokio::time::timeout(PATIENCE, first.message()).await?;
    ensure!(matches!(ended, Ok(None)), "{ended:?}");
    let list = |client_types: Vec<String>| {
        let mut filer = filer.clone();
        async move {
            let request = pb::ListMetadataSubscribersRequest { client_types };
            let answer = filer.list_metadata_subscribers(request).await;
            answer.map(|answer| answer.into_inner().subscribers)
        }
    };
    let rows = list(Vec::new()).await?;
    ensure!(rows.len() == 1, "{rows:?}");
    ensure!(
        rows[0].client_epoch == 2 && rows[0].path_prefix == "/x/",
        "{rows:?}"
    );
    ensure!(
        rows[0].client_name.starts_with("mount@127.0.0.1:"),
        "{rows:?}"
    );
    ensure!(
        list(vec!["s3".to_owned()]).await?.is_empty(),
        "of another type"
    );
    drop((first, _second));
    let gone = || async { list(Vec::new()).await.is_ok_and(|rows| rows.is_empty()) };
    wait_for("the place of a subscriber that left", gone).await
}

#[tokio::test]
async fn a_read_with_a_token_sees_the_write_at_any_filer() -> Result<()> {
    let cluster = Cluster::start(&["redb", "redb"]).await?;
    let (mut writer, mut reader) = (cluster.grpc(0).await?, cluster.grpc(1).await?);
    for i in 0..60 {
        let (dir, name) = (format!("/s/{i}"), "f".to_owned());
        let token = create(&mut writer, &dir, &name, "").await?;
        let token = token.context("a token")?;
        let with = |token: &str| token.parse().context("a metadata value");
        match i % 4 {
            0 => {
                let mut r = Request::new(pb::LookupDirectoryEntryRequest {
                    directory: dir,
                    name,
                });
                r.metadata_mut().insert("dulse-token", with(&token)?);
                reader.lookup_directory_entry(r).await?;
            }
            1 => {
                let mut r = Request::new(pb::ListEntriesRequest {
                    directory: dir,
                    limit: 10,
                    ..pb::ListEntriesRequest::default()
                });
                r.metadata_mut().insert("dulse-token", with(&token)?);
                let mut rows = reader.list_entries(r).await?.into_inner();
                ensure!(rows.message().await?.is_some(), "listing {i}");
            }
            2 => {
                let mut r = Request::new(pb::TraverseBfsMetadataRequest {
                    directory: dir,
                    ..pb::TraverseBfsMetadataRequest::default()
                });
                r.metadata_mut().insert("dulse-token", with(&token)?);
                let mut rows = reader.traverse_bfs_metadata(r).await?.into_inner();
                let _top = rows.message().await?;
                ensure!(rows.message().await?.is_some(), "walk {i}");
            }
            _ => {
                let (key, value) = (Bytes::from(dir), Bytes::from_static(b"v"));
                let put = pb::KvPutRequest {
                    key: key.clone(),
                    value,
                };
                let put = writer.kv_put(put).await?;
                let token = put.metadata().get("dulse-token").context("a token")?;
                let mut r = Request::new(pb::KvGetRequest { key });
                r.metadata_mut().insert("dulse-token", token.clone());
                let value = reader.kv_get(r).await?.into_inner().value;
                ensure!(value == "v", "key {i}: {value:?}");
            }
        }
    }
    for (token, code) in [
        ("nonsense".to_owned(), Code::InvalidArgument),
        (format!("0000000100000001:{}", i64::MAX), Code::Unavailable),
    ] {
        let mut r = Request::new(pb::KvGetRequest {
            key: Bytes::from_static(b"k"),
        });
        r.metadata_mut().insert("dulse-token", token.parse()?);
        let refused = reader.kv_get(r).await.err().context("refused")?;
        ensure!(refused.code() == code, "{token}: {refused}");
    }
    Ok(())
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let field = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(field.context("VmRSS")?.parse()?)
}

#[tokio::test]
async fn a_thousand_subscribers_hear_every_change_and_cost_no_buffer_each() -> Result<()> {
    const SUBSCRIBERS: i32 = 1_000;
    const CHANGES: usize = 300;
    let cluster = Cluster::start(&["redb"]).await?;
    let mut streams = Vec::new();
    // One connection carries a bounded number of streams.
    for part in 0..4 {
        let mut filer = cluster.grpc(0).await?;
        for id in 1..=SUBSCRIBERS / 4 {
            let request = pb::SubscribeMetadataRequest {
                client_name: "many".to_owned(),
                client_id: part * SUBSCRIBERS + id,
                path_prefix: "/many/".to_owned(),
                since_ns: 1,
                ..pb::SubscribeMetadataRequest::default()
            };
            streams.push(filer.subscribe_metadata(request).await?.into_inner());
        }
    }
    let pid = cluster.filers[0].pid();
    let before = resident_kib(pid)?;
    let mut filer = cluster.grpc(0).await?;
    for i in 0..CHANGES {
        // Some 8 KiB each: a buffer per subscriber would be 2.4 GB in all.
        let name = format!("{i:04}");
        let mut fields = entry(&name, "").fields()?;
        fields.content = Bytes::from(vec![7; 8 << 10]);
        let request = pb::CreateEntryRequest {
            directory: "/many".to_owned(),
            entry: Some(fields.to_entry(&UnknownFields::default())),
            ..pb::CreateEntryRequest::default()
        };
        filer.create_entry(request).await?;
    }
    // Nobody has read anything so far, and what waits is in the log.
    let waiting = resident_kib(pid)?;
    // All at once: those that do not read hold up the others of their connection.
    let drains = streams.iter_mut().map(|stream| async move {
        for i in 0..CHANGES {
            let event = tokio::time::timeout(PATIENCE, stream.message()).await;
            let event = event.context("an event")??.context("the stream goes on")?;
            let line = shown(&event);
            ensure!(line.ends_with(&format!("/many/{i:04}")), "{i}: {line}");
        }
        Ok(())
    });
    futures::future::try_join_all(drains).await?;
    let grown_mib = waiting.saturating_sub(before) >> 10;
    println!("{grown_mib} MiB for {SUBSCRIBERS} subscribers that do not read");
    ensure!(grown_mib < 1_024, "{grown_mib} MiB");
    Ok(())
}
