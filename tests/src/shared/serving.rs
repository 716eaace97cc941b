// SPDX-License-Identifier: Apache-2.0
//! What filers serve from a store, alone and in twos.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_types::UnknownFields;

use super::calls::{chunks_of, delete, entry, rename, shown, store_id, write};
use super::follow::{compare, followers, now_ns, state, told_of};
use super::{Database, Shared};
use crate::{PATIENCE, wait_for};

/// One filer: HTTP and gRPC, and all of it is there after a kill.
pub(super) async fn one_filer<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 1, &[]).await?;
    let cluster = &shared.cluster;
    // HTTP, contents on the volume server.
    let content = vec![7_u8; 5 << 20];
    cluster
        .put(0, "/buckets/bucket/pic.jpg", content.clone())
        .await?;
    ensure!(cluster.get(0, "/buckets/bucket/pic.jpg").await? == Some(content));
    cluster.put(0, "/d/text", b"one".to_vec()).await?;
    cluster.put(0, "/d/text", b"two".to_vec()).await?;
    ensure!(cluster.get(0, "/d/text").await? == Some(b"two".to_vec()));
    let moved = cluster.url(0, "/e/moved?mv.from=/d/text");
    ensure!(cluster.http.post(moved).send().await?.status().is_success());
    ensure!(cluster.get(0, "/d/text").await?.is_none());
    ensure!(cluster.names(0, "/e").await? == ["moved"]);
    let gone = cluster
        .http
        .delete(cluster.url(0, "/e/moved"))
        .send()
        .await?;
    ensure!(gone.status().is_success() && cluster.names(0, "/e").await?.is_empty());
    // gRPC.
    let mut filer = shared.grpc(0).await?;
    ensure!(write(&mut filer, "/g/h", "x", "inline").await.is_ok());
    ensure!(shown(&mut filer, "/g/h", "x").await?.as_deref() == Some("inline"));
    rename(&mut filer, ("/g", "h"), ("/g", "i")).await?;
    ensure!(
        shown(&mut filer, "/g/i", "x").await?.is_some(),
        "what is below moves with it"
    );
    let (key, value) = (b"k".to_vec().into(), b"v".to_vec().into());
    filer.kv_put(pb::KvPutRequest { key, value }).await?;
    let key = b"k".to_vec().into();
    ensure!(
        filer
            .kv_get(pb::KvGetRequest { key })
            .await?
            .into_inner()
            .value[..]
            == b"v"[..]
    );
    // What only replicas have says so.
    let text = shared.cluster.dulse(&["conflicts", "list"], 0)?;
    ensure!(text.contains("is on a shared store"), "{text}");
    let text = shared.cluster.dulse(&["status"], 0)?;
    ensure!(
        text.contains(&format!("{section} (shared, {})", shared.place.shown))
            && text.contains("converged: true"),
        "{text}"
    );
    // And all of it is there after a restart, which no subscriber is told again.
    let id = store_id(&shared, 0).await?;
    let from_ns = now_ns()?;
    shared.cluster.filers[0].kill()?;
    // It says at its start what it is; without input it stops at once.
    let started = shared.cluster.filers[0].run()?;
    let text = String::from_utf8_lossy(&started.stderr);
    let own_id = format!("store_id={id}");
    let of_store = format!("store=\"{section}\"");
    for says in [
        "shared store is open",
        "kind=\"shared\"",
        "peers=",
        &own_id,
        &of_store,
    ] {
        ensure!(text.contains(says), "{says} is not in {text}");
    }
    shared.cluster.filers[0].restart()?;
    shared.cluster.wait_ready(0).await?;
    ensure!(store_id(&shared, 0).await? == id, "the store is the same");
    let told = followers(&shared, from_ns);
    ensure!(
        compare(&shared, told).await?.is_empty(),
        "nothing happened since"
    );
    Ok(())
}

/// Two filers: each shows at once what the other wrote, moved or removed, and subscribers of both
/// are told all of it.
pub(super) async fn two_filers<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let shared = Shared::start(server, section, 2, &[]).await?;
    ensure!(store_id(&shared, 0).await? == store_id(&shared, 1).await?);
    let told = followers(&shared, now_ns()?);
    let mut filers = [shared.grpc(0).await?, shared.grpc(1).await?];
    let mut expected = BTreeMap::new();
    for n in 0..30_usize {
        let (at, name) = (n % 2, format!("{n:02}"));
        let written = write(&mut filers[at], "/s/d", &name, "first").await;
        ensure!(written.is_ok(), "{name} at {at}: {written:?}");
        let there = shown(&mut filers[1 - at], "/s/d", &name).await?;
        ensure!(there.as_deref() == Some("first"), "{name}: {there:?}");
        // Written over where it was not made.
        let written = write(&mut filers[1 - at], "/s/d", &name, &name).await;
        ensure!(written.is_ok(), "{name} again: {written:?}");
        let there = shown(&mut filers[at], "/s/d", &name).await?;
        ensure!(there.as_ref() == Some(&name), "{name} again: {there:?}");
        expected.insert(name.clone(), name);
    }
    // Moved and removed where it was not made, shown where it was.
    for n in 0..6_usize {
        let (at, name, to) = (1 - n % 2, format!("{n:02}"), format!("moved-{n}"));
        rename(&mut filers[at], ("/s/d", &name), ("/s/d", &to)).await?;
        let content = expected.remove(&name).context("it was written")?;
        ensure!(shown(&mut filers[1 - at], "/s/d", &name).await?.is_none());
        let there = shown(&mut filers[1 - at], "/s/d", &to).await?;
        ensure!(there.as_ref() == Some(&content), "{to}: {there:?}");
        expected.insert(to, content);
    }
    for n in 6..12_usize {
        let (at, name) = (1 - n % 2, format!("{n:02}"));
        delete(&mut filers[at], "/s/d", &name).await?;
        ensure!(shown(&mut filers[1 - at], "/s/d", &name).await?.is_none());
        expected.remove(&name);
    }
    // The directory itself, and contents on the volume server.
    rename(&mut filers[1], ("/s", "d"), ("/s", "e")).await?;
    for at in 0..2 {
        let names = shared.cluster.names(at, "/s/e").await?;
        ensure!(names.iter().eq(expected.keys()), "at {at}: {names:?}");
        ensure!(shared.cluster.names(at, "/s").await? == ["e"], "at {at}");
    }
    for at in 0..2 {
        let content = vec![at as u8; 2 << 20];
        let path = format!("/s/big-{at}");
        shared.cluster.put(at, &path, content.clone()).await?;
        ensure!(shared.cluster.get(1 - at, &path).await? == Some(content));
    }
    let told = compare(&shared, told).await?;
    let below = |(path, content): (String, String)| {
        let name = path.strip_prefix("/s/e/")?.to_owned();
        Some((name, content))
    };
    let told: BTreeMap<_, _> = state(&told).into_iter().filter_map(below).collect();
    ensure!(told == expected, "told {told:?}, expected {expected:?}");
    Ok(())
}

/// Contents that were written over or deleted at any filer are freed, and nothing else is.
pub(super) async fn chunks<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let shared = Shared::start(server, section, 2, &["--chunk-grace=2s"]).await?;
    let cluster = &shared.cluster;
    let content = |n: u8| vec![n; 2_000];
    for n in 0..10_u8 {
        cluster
            .put(usize::from(n % 2), &format!("/c/{n}"), content(n))
            .await?;
    }
    let mut old = Vec::new();
    for n in 0..10_u8 {
        old.extend(chunks_of(&mut shared.grpc(0).await?, "/c", &n.to_string()).await?);
    }
    // Written over at the other filer, moved, deleted, and left alone.
    for n in 0..4_u8 {
        let at = usize::from(1 - n % 2);
        cluster
            .put(at, &format!("/c/{n}"), content(n + 100))
            .await?;
    }
    for n in 4..6_u8 {
        let moved = cluster.url(0, &format!("/m/{n}?mv.from=/c/{n}"));
        ensure!(cluster.http.post(moved).send().await?.status().is_success());
    }
    for n in 6..8_u8 {
        let url = cluster.url(usize::from(n % 2), &format!("/c/{n}"));
        ensure!(cluster.http.delete(url).send().await?.status().is_success());
    }
    let dropped: Vec<_> = [&old[..4], &old[6..8]].concat();
    let freed = || async {
        for id in &dropped {
            let url = format!("http://127.0.0.1:{}/{id}", cluster.volume_port);
            match cluster.http.get(url).send().await {
                Ok(answer) if answer.status() == 404 => {}
                _ => return false,
            }
        }
        true
    };
    wait_for("dropped chunks that are freed", freed).await?;
    for n in 0..4_u8 {
        ensure!(cluster.get(1, &format!("/c/{n}")).await? == Some(content(n + 100)));
    }
    for n in 4..6_u8 {
        ensure!(cluster.get(1, &format!("/m/{n}")).await? == Some(content(n)));
    }
    for n in 8..10_u8 {
        ensure!(cluster.get(0, &format!("/c/{n}")).await? == Some(content(n)));
    }
    Ok(())
}

/// What has outlived its time is removed, also when the filer that wrote it is away.
pub(super) async fn expiry<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 2, &[]).await?;
    let from_ns = now_ns()?;
    for (at, name) in [(0, "a"), (1, "b")] {
        let url = format!("/t/{name}");
        shared.cluster.put(at, &url, b"x".to_vec()).await?;
        let mut filer = shared.grpc(at).await?;
        let mut soon = entry(&format!("{name}-soon"), "x").fields()?;
        soon.attrs_mut().ttl_sec = 2;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        soon.attrs_mut().crtime = since.as_secs().cast_signed();
        soon.attrs_mut().mtime = soon.attrs_mut().crtime;
        let soon = soon.to_entry(&UnknownFields::default());
        let request = pb::CreateEntryRequest {
            directory: "/t".to_owned(),
            entry: Some(soon.with_name(&format!("{name}-soon"))),
            ..pb::CreateEntryRequest::default()
        };
        ensure!(
            filer
                .create_entry(request)
                .await?
                .into_inner()
                .error
                .is_empty()
        );
    }
    // What dies with a filer before another heard it is found by the walk only.
    let heard = told_of(&shared, 0, from_ns, "/t/b-soon");
    tokio::time::timeout(PATIENCE, heard)
        .await
        .context("the other's entry")??;
    shared.cluster.filers[1].kill()?;
    let are_gone = || {
        let is_gone = |name| {
            let has = server.has_row(&shared.place, "/t", name);
            has.is_ok_and(|has| !has)
        };
        std::future::ready(["a-soon", "b-soon"].into_iter().all(is_gone))
    };
    wait_for("rows that have expired and are gone", are_gone).await?;
    for name in ["a", "b"] {
        let has = server.has_row(&shared.place, "/t", name)?;
        ensure!(has, "{name} has no row: none is looked for");
    }
    ensure!(shared.cluster.names(0, "/t").await? == ["a", "b"]);
    Ok(())
}

/// Rules that are changed at one filer hold at the others.
pub(super) async fn rules<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let shared = Shared::start(server, section, 2, &[]).await?;
    let cluster = &shared.cluster;
    cluster.put(1, "/locked/before", b"x".to_vec()).await?;
    let rules = br#"{"locations":[{"locationPrefix":"/locked/","readOnly":true}]}"#;
    cluster
        .put(0, "/etc/seaweedfs/filer.conf", rules.to_vec())
        .await?;
    let refused = || async { cluster.put(1, "/locked/x", b"x".to_vec()).await.is_err() };
    wait_for("the rule at the other filer", refused).await?;
    cluster.put(1, "/free/x", b"x".to_vec()).await
}
