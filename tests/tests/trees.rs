// SPDX-License-Identifier: Apache-2.0
//! Scenarios S11 to S13 with real processes: big trees moved and removed in parts, through
//! kill -9, beside other writers, and at two filers at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::filer::{
    AtomicRenameEntryRequest, CreateEntryRequest, DeleteEntryRequest, ListEntriesRequest,
    LookupDirectoryEntryRequest, StreamRenameEntryRequest,
};
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_proto::status::{StatusReply, StatusRequest, TreeChange};
use dulse_tests::{Cluster, wait_for};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields};
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;

/// Entries of the tree of S11, unless the variable says otherwise.
const S11_ENTRIES: usize = 100_000;
const S11_ENTRIES_VARIABLE: &str = "DULSE_S11_ENTRIES";

/// Entries of the other trees: more than one change holds.
const ENTRIES: usize = 15_000;

/// Files of one directory.
const FILES_OF_EACH: usize = 1_000;

/// Calls in flight while a tree is made.
const AT_ONCE: usize = 128;

fn n_entries(usual: usize) -> Result<usize> {
    match std::env::var(S11_ENTRIES_VARIABLE) {
        Ok(text) => text.parse().context(S11_ENTRIES_VARIABLE),
        Err(_) => Ok(usual),
    }
}

type Client = SeaweedFilerClient<Channel>;

fn entry(name: &str, is_dir: bool) -> Entry {
    let mut fields = EntryFields::default();
    let mode = if is_dir { MODE_DIRECTORY } else { 0 };
    fields.attrs_mut().file_mode = mode | 0o755;
    fields.to_entry(&UnknownFields::default()).with_name(name)
}

fn split(path: &str) -> (String, String) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let dir = if dir.is_empty() { "/" } else { dir };
    (dir.to_owned(), name.to_owned())
}

/// Creates a file or directory; `Ok` when it was acknowledged.
async fn create(client: &Client, path: &str, is_dir: bool) -> Result<()> {
    let (directory, name) = split(path);
    let request = CreateEntryRequest {
        directory,
        entry: Some(entry(&name, is_dir)),
        ..CreateEntryRequest::default()
    };
    let answer = client.clone().create_entry(request).await?.into_inner();
    ensure!(answer.error.is_empty(), "{path}: {}", answer.error);
    Ok(())
}

async fn rename(client: &Client, from: &str, to: &str) -> Result<(), tonic::Status> {
    let ((old_directory, old_name), (new_directory, new_name)) = (split(from), split(to));
    let request = AtomicRenameEntryRequest {
        old_directory,
        old_name,
        new_directory,
        new_name,
        ..AtomicRenameEntryRequest::default()
    };
    client.clone().atomic_rename_entry(request).await.map(drop)
}

/// Makes a tree: its top, directories, and files in them. Gives every file's path below it.
async fn plant(client: &Client, top: &str, n_entries: usize) -> Result<BTreeSet<String>> {
    create(client, top, true).await?;
    let n_dirs = n_entries.div_ceil(FILES_OF_EACH);
    for d in 0..n_dirs {
        create(client, &format!("{top}/d{d}"), true).await?;
    }
    let files: BTreeSet<String> = (0..n_entries - n_dirs)
        .map(|f| format!("/d{}/f{f}", f % n_dirs))
        .collect();
    futures::stream::iter(&files)
        .map(|file| async move { create(client, &format!("{top}{file}"), false).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(files)
}

/// Every file that is listed below a directory, by its path below it. A file that is listed
/// twice is an error.
async fn files(client: &Client, top: &str) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    let mut dirs = vec![top.to_owned()];
    while let Some(directory) = dirs.pop() {
        let request = ListEntriesRequest {
            directory: directory.clone(),
            limit: u32::MAX,
            ..ListEntriesRequest::default()
        };
        let mut rows = client.clone().list_entries(request).await?.into_inner();
        while let Some(row) = rows.message().await? {
            let (entry, name) = row.entry.context("no entry")?.take_name()?;
            let path = format!("{directory}/{name}");
            if entry.is_dir() {
                dirs.push(path);
            } else {
                ensure!(out.insert(path[top.len()..].to_owned()), "{path} twice");
            }
        }
    }
    Ok(out)
}

async fn is_found(client: &Client, path: &str) -> bool {
    let (directory, name) = split(path);
    let request = LookupDirectoryEntryRequest { directory, name };
    client.clone().lookup_directory_entry(request).await.is_ok()
}

/// What `dulse status` asks a filer.
async fn status(cluster: &Cluster, filer: usize) -> Result<StatusReply> {
    let port = cluster.filer_ports[filer] + 10_000;
    let mut client = FilerStatusClient::connect(format!("http://127.0.0.1:{port}")).await?;
    Ok(client.status(StatusRequest {}).await?.into_inner())
}

async fn tree_changes(cluster: &Cluster, filer: usize) -> Result<Vec<TreeChange>> {
    Ok(status(cluster, filer).await?.tree_changes)
}

/// What a filer has applied.
async fn vector(cluster: &Cluster, filer: usize) -> Result<BTreeMap<u64, i64>> {
    let vector = status(cluster, filer).await?.vector.into_iter();
    Ok(vector.map(|c| (c.origin, c.stamp)).collect())
}

/// Waits until a tree change has done so many names; tells what was shown.
async fn until_names(cluster: &Cluster, filer: usize, n_names: u64) -> Result<TreeChange> {
    for _ in 0..6_000 + n_names / 20 {
        if let Some(change) = tree_changes(cluster, filer).await?.pop()
            && change.names >= n_names
        {
            return Ok(change);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("no tree change came to {n_names} names")
}

/// Waits for as long as it moves on: a million names take as long as they take.
async fn until_none(cluster: &Cluster, filer: usize) -> Result<()> {
    loop {
        let Some(before) = tree_changes(cluster, filer).await?.pop() else {
            return Ok(());
        };
        wait_for("a tree change that moves on", || async {
            let now = tree_changes(cluster, filer).await;
            now.is_ok_and(|mut now| now.pop().is_none_or(|now| now.names > before.names))
        })
        .await?;
    }
}

#[tokio::test]
async fn s11_a_rename_that_kill_9_interrupts_is_resumed_to_its_end() -> Result<()> {
    let n_entries = n_entries(S11_ENTRIES)?;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(&["redb", "redb"]).await?;
    let (doer, peer) = (cluster.grpc(0).await?, cluster.grpc(1).await?);
    create(&doer, "/s11", true).await?;
    let planted = plant(&doer, "/s11/t", n_entries).await?;
    cluster.wait_converged().await?;

    let renaming = {
        let doer = doer.clone();
        tokio::spawn(async move { rename(&doer, "/s11/t", "/s11/u").await })
    };
    let until = rng.random_range(0..n_entries as u64 * 8 / 10);
    let shown = until_names(&cluster, 0, until).await?;
    println!("killed at {} of {n_entries} names", shown.names);
    ensure!((shown.path.as_str(), shown.to.as_str()) == ("/s11/t", "/s11/u"));
    // The peer has not seen the intent: what it makes there came after it.
    create(&peer, "/s11/t/d0/new", false).await?;
    // At the doer it waits for the end, which does not come.
    let inside = {
        let doer = doer.clone();
        tokio::spawn(async move { create(&doer, "/s11/u/d0/waits", false).await })
    };
    cluster.filers[0].kill()?;
    ensure!(renaming.await?.is_err(), "the outcome is not known");
    ensure!(inside.await?.is_err());

    // Each entry is at its old or at its new path, and at one of them, in whatever state the
    // peer is, as long as that is one state.
    let (old, new) = loop {
        let before = vector(&cluster, 1).await?;
        let listed = (files(&peer, "/s11/t").await?, files(&peer, "/s11/u").await?);
        if vector(&cluster, 1).await? == before {
            break listed;
        }
    };
    println!("at the peer: {} old, {} new", old.len(), new.len());
    ensure!(old.is_disjoint(&new), "doubled at the peer");
    let both: BTreeSet<_> = old
        .union(&new)
        .filter(|f| *f != "/d0/new")
        .cloned()
        .collect();
    ensure!(both == planted, "lost at the peer");

    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    until_none(&cluster, 0).await?;
    cluster.wait_converged().await?;
    let doer = cluster.grpc(0).await?;
    for client in [&doer, &peer] {
        ensure!(
            files(client, "/s11/u").await? == planted,
            "not all has moved"
        );
        let old = files(client, "/s11/t").await?;
        ensure!(old.iter().eq(["/d0/new"]), "{} stay", old.len());
        ensure!(is_found(client, "/s11/t/d0/new").await);
        ensure!(!is_found(client, "/s11/t/d1").await, "an empty shell stays");
    }
    ensure!(cluster.verify()? == Some(0));
    Ok(())
}

#[tokio::test]
async fn s11_a_big_rename_is_seen_by_mounts_entry_by_entry_and_goes_on_without_its_caller()
-> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    let client = cluster.grpc(0).await?;
    let planted = plant(&client, "/t", n_entries(ENTRIES)?).await?;
    let rename = |from: &str, to: &str| StreamRenameEntryRequest {
        old_directory: "/".to_owned(),
        old_name: from.to_owned(),
        new_directory: "/".to_owned(),
        new_name: to.to_owned(),
        ..StreamRenameEntryRequest::default()
    };
    let (begun, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    // Others are served between the parts.
    let others = tokio::spawn({
        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
        async move {
            let mut took = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                create(&client, &format!("/else/{}", took.len()), false).await?;
                took.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(took)
        }
    });
    let notes = client.clone().stream_rename_entry(rename("t", "u")).await?;
    let mut notes = notes.into_inner();
    let mut first = notes.message().await?;
    ensure!(first.is_some(), "no note");
    ensure!(
        !tree_changes(&cluster, 0).await?.is_empty(),
        "nothing is told before all has moved"
    );
    let (mut moved, mut gone) = (BTreeMap::new(), Vec::new());
    let mut open: Vec<String> = Vec::new();
    loop {
        let note = match first.take() {
            Some(note) => note,
            None => match notes.message().await? {
                Some(note) => note,
                None => break,
            },
        };
        let event = note.event_notification.context("no event")?;
        let (_, old) = event.old_entry.context("no old name")?.take_name()?;
        let path = format!("{}/{old}", note.directory.trim_end_matches('/'));
        match event.new_entry {
            Some(new) => {
                let (_, new) = new.take_name()?;
                let to = format!("{}/{new}", event.new_parent_path.trim_end_matches('/'));
                ensure!(moved.insert(path.clone(), to).is_none(), "{path} twice");
                open.push(path);
            }
            None => {
                ensure!(
                    open.pop().as_ref() == Some(&path),
                    "{path} is closed too early"
                );
                gone.push(path);
            }
        }
    }
    println!("{} names moved in {:?}", planted.len(), begun.elapsed());
    is_over.store(true, Ordering::Relaxed);
    let mut took = others.await??;
    took.sort_unstable();
    let (median, most) = (took.get(took.len() / 2), took.last());
    println!(
        "{} creates beside it, half in {median:?}, all in {most:?}",
        took.len()
    );
    ensure!(
        took.len() >= planted.len() / 2_000,
        "others wait for all of it"
    );
    ensure!(moved.len() == gone.len(), "as many are gone as have moved");
    ensure!(moved.len() > planted.len(), "directories, too");
    for file in &planted {
        let to = moved.get(&format!("/t{file}"));
        ensure!(to == Some(&format!("/u{file}")), "{file}: {to:?}");
    }
    // A caller that goes away does not stop it.
    let asked = client.clone();
    let calling = tokio::spawn(async move {
        let request = AtomicRenameEntryRequest {
            old_directory: "/".to_owned(),
            old_name: "u".to_owned(),
            new_directory: "/".to_owned(),
            new_name: "v".to_owned(),
            ..AtomicRenameEntryRequest::default()
        };
        asked.clone().atomic_rename_entry(request).await
    });
    until_names(&cluster, 0, 1).await?;
    calling.abort();
    until_none(&cluster, 0).await?;
    ensure!(files(&client, "/v").await? == planted);
    Ok(())
}

#[tokio::test]
async fn s12_creates_below_a_tree_that_is_being_removed_survive_at_both_filers() -> Result<()> {
    /// Creates at each filer.
    const CREATES: usize = 100;
    let cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let (doer, peer) = (cluster.grpc(0).await?, cluster.grpc(1).await?);
    create(&doer, "/s12", true).await?;
    plant(&doer, "/s12/t", 3 * ENTRIES).await?;
    cluster.wait_converged().await?;
    let deleting = {
        let request = DeleteEntryRequest {
            directory: "/s12".to_owned(),
            name: "t".to_owned(),
            is_recursive: true,
            is_delete_data: true,
            ..DeleteEntryRequest::default()
        };
        let mut doer = doer.clone();
        tokio::spawn(async move { doer.delete_entry(request).await })
    };
    until_names(&cluster, 0, 1).await?;
    // From here on all came after it began.
    let mut made: Vec<String> = Vec::new();
    let at_both = (0..CREATES).flat_map(|n| {
        let path = move |filer: usize| format!("/s12/t/d{}/by-{filer}-{n}", n % 40);
        [(&doer, path(0)), (&peer, path(1))]
    });
    let mut acknowledged = futures::stream::iter(at_both)
        .map(|(client, path)| async move { create(client, &path, false).await.map(|()| path) })
        .buffer_unordered(AT_ONCE);
    while let Some(path) = acknowledged.next().await {
        // Nobody has to wait for longer than a filer has patience here.
        made.push(path?);
    }
    let answer = deleting.await??.into_inner();
    println!("the delete says `{}`", answer.error);
    until_none(&cluster, 0).await?;
    cluster.wait_converged().await?;
    ensure!(made.len() == 2 * CREATES);
    let below: BTreeSet<_> = made
        .iter()
        .map(|path| path["/s12".len()..].to_owned())
        .collect();
    for client in [&doer, &peer] {
        for path in &made {
            ensure!(is_found(client, path).await, "{path} is lost");
        }
        // What is reachable is listed, all the way down.
        ensure!(files(client, "/s12").await? == below, "not what was made");
    }
    ensure!(cluster.verify()? == Some(0));
    Ok(())
}

#[tokio::test]
async fn s13_one_directory_moved_to_two_places_and_two_into_one_another_at_two_filers() -> Result<()>
{
    let cluster = Cluster::start(&["redb", "redb"]).await?;
    let (one, two) = (cluster.grpc(0).await?, cluster.grpc(1).await?);
    create(&one, "/s13", true).await?;
    let planted = plant(&one, "/s13/t", ENTRIES).await?;
    let small = plant(&one, "/s13/a", 20).await?;
    plant(&one, "/s13/b", 20).await?;
    cluster.wait_converged().await?;

    let (left, right) = tokio::join!(
        rename(&one, "/s13/t", "/s13/u"),
        rename(&two, "/s13/t", "/s13/v")
    );
    ensure!(left.is_ok() && right.is_ok(), "{left:?} {right:?}");
    let (left, right) = tokio::join!(
        rename(&one, "/s13/a", "/s13/b/a"),
        rename(&two, "/s13/b", "/s13/a/b")
    );
    // The later one may have seen the first and be refused; then there is no race.
    println!("a into b: {left:?}, b into a: {right:?}");
    cluster.wait_converged().await?;
    let mut seen = Vec::new();
    for client in [&one, &two] {
        let (u, v) = (
            files(client, "/s13/u").await?,
            files(client, "/s13/v").await?,
        );
        ensure!(files(client, "/s13/t").await?.is_empty(), "some stay");
        ensure!(u.is_disjoint(&v), "two places");
        let both: BTreeSet<_> = u.union(&v).cloned().collect();
        ensure!(
            both == planted,
            "not all is there: {} and {}",
            u.len(),
            v.len()
        );
        println!("{} at u, {} at v", u.len(), v.len());
        let all = files(client, "/s13").await?;
        ensure!(
            all.len() == planted.len() + 2 * small.len(),
            "{}",
            all.len()
        );
        seen.push(all);
    }
    ensure!(seen[0] == seen[1], "the two differ");
    ensure!(cluster.verify()? == Some(0));
    Ok(())
}
