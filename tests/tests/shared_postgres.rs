// SPDX-License-Identifier: Apache-2.0
//! Filers on one PostgreSQL database, as real processes: one, two and three of them, with
//! subscribers at each, killed under load, and beside filers that do not go with them.

#[path = "../../crates/stores/postgres/tests/support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_store_postgres::{Config, Tables};
use dulse_tests::{Cluster, PATIENCE, wait_for};
use dulse_types::{Entry, EntryFields, FuseAttributes, UnknownFields};
use server::Server;
use tonic::Code;
use tonic::transport::Channel;

type Filer = SeaweedFilerClient<Channel>;

/// The name whose creation ends a comparison.
const END: &str = "end";

/// Writes the configuration of a filer on a database.
fn configure(dir: &Path, config: &Config, options: &str) -> Result<()> {
    let section = match config.tables {
        Tables::One => "postgres",
        Tables::PerBucket => "postgres2",
    };
    let text = format!(
        "{options}[{section}]\nenabled = true\nhostname = \"{}\"\nport = {}\n\
         username = \"postgres\"\npassword = \"\"\ndatabase = \"{}\"\nsslmode = \"disable\"\n",
        config.hostname, config.port, config.database
    );
    std::fs::create_dir_all(dir)?;
    Ok(std::fs::write(dir.join("filer.toml"), text)?)
}

/// A cluster whose filers are on one database.
struct Shared {
    cluster: Cluster,
    server: Server,
    config: Config,
}

impl Shared {
    async fn start(tables: Tables, n_filers: usize, flags: &[&str]) -> Result<Self> {
        let server = Server::start()?;
        let cluster = Cluster::start(&[]).await?;
        let config = server.database_of(tables, Path::new("shared"));
        let mut shared = Self {
            cluster,
            server,
            config,
        };
        for _ in 0..n_filers {
            shared.add(flags).await?;
        }
        Ok(shared)
    }

    /// One more filer on the database, ready.
    async fn add(&mut self, flags: &[&str]) -> Result<usize> {
        let dir = self.cluster.dir.path().join("config");
        configure(&dir, &self.config, "")?;
        let n = self.cluster.add_filer_on(&dir, flags)?;
        self.cluster.wait_ready(n).await?;
        Ok(n)
    }

    async fn grpc(&self, filer: usize) -> Result<Filer> {
        self.cluster.grpc(filer).await
    }

    async fn store_id(&self, filer: usize) -> Result<i32> {
        let asked = pb::GetFilerConfigurationRequest {};
        let said = self
            .grpc(filer)
            .await?
            .get_filer_configuration(asked)
            .await?;
        Ok(said.into_inner().signature)
    }
}

fn entry(name: &str, content: &str) -> Entry {
    let mut fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        content: content.as_bytes().to_vec().into(),
        ..EntryFields::default()
    };
    fields.attrs_mut().file_size = content.len() as u64;
    fields.to_entry(&UnknownFields::default()).with_name(name)
}

/// Creates an entry or writes over it; an error says whether it may be there all the same.
async fn write(filer: &mut Filer, dir: &str, name: &str, content: &str) -> Result<(), Code> {
    let request = pb::CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(entry(name, content)),
        ..pb::CreateEntryRequest::default()
    };
    match filer.create_entry(request).await {
        Ok(answer) if answer.get_ref().error.is_empty() => Ok(()),
        Ok(_) => Err(Code::Unknown),
        Err(status) => Err(status.code()),
    }
}

async fn shown(filer: &mut Filer, dir: &str, name: &str) -> Result<Option<String>> {
    let request = pb::LookupDirectoryEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
    };
    match filer.lookup_directory_entry(request).await {
        Ok(found) => {
            let entry = found.into_inner().entry.context("an entry")?;
            Ok(Some(String::from_utf8(entry.fields()?.content.to_vec())?))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => bail!("{status}"),
    }
}

/// One event: its time, the path and what is there then.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Seen {
    ts_ns: i64,
    old: Option<String>,
    new: Option<(String, String)>,
}

fn seen(event: &pb::SubscribeMetadataResponse) -> Option<Seen> {
    let n = event.event_notification.clone()?;
    let at = |dir: &str, entry: &Entry| format!("{}/{}", dir.trim_end_matches('/'), entry.name());
    let content = |entry: &Entry| {
        let content = entry
            .fields()
            .map(|fields| fields.content)
            .unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    };
    let old = n.old_entry.as_ref().map(|old| at(&event.directory, old));
    let new = n.new_entry.as_ref();
    let new = new.map(|new| (at(&n.new_parent_path, new), content(new)));
    (old.is_some() || new.is_some()).then_some(Seen {
        ts_ns: event.ts_ns,
        old,
        new,
    })
}

/// Subscribes at a port, again when it breaks off, and gives all that was told up to the end.
async fn follow(port: u16, client_id: i32, from_ns: i64) -> Result<Vec<Seen>> {
    let (mut all, mut since, mut at_since) = (Vec::new(), from_ns, BTreeSet::new());
    for client_epoch in 1.. {
        let again = || tokio::time::sleep(Duration::from_millis(50));
        let Ok(mut filer) = Filer::connect(format!("http://127.0.0.1:{}", port + 10_000)).await
        else {
            again().await;
            continue;
        };
        let request = pb::SubscribeMetadataRequest {
            client_name: "follower".to_owned(),
            client_id,
            client_epoch,
            path_prefix: "/".to_owned(),
            since_ns: since,
            ..pb::SubscribeMetadataRequest::default()
        };
        let Ok(stream) = filer.subscribe_metadata(request).await else {
            again().await;
            continue;
        };
        let mut stream = stream.into_inner();
        // Broken off now and then, too: whoever resumes must miss nothing.
        let mut n_left = 40 + all.len() % 77;
        while let Ok(Some(event)) = stream.message().await {
            let Some(seen) = seen(&event) else {
                continue;
            };
            ensure!(seen.ts_ns >= since, "{} after {since}", seen.ts_ns);
            if seen.ts_ns > since {
                (since, at_since) = (seen.ts_ns, BTreeSet::new());
            }
            if seen
                .new
                .as_ref()
                .is_some_and(|(path, _)| path == &format!("/{END}"))
            {
                return Ok(all);
            }
            // Resuming is inclusive: what is at the cursor itself may come again.
            if at_since.insert(seen.clone()) {
                all.push(seen);
            }
            n_left -= 1;
            if n_left == 0 {
                break;
            }
        }
    }
    bail!("no epoch is left")
}

/// Subscribes at a filer until it was told of a path.
async fn told_of(shared: &Shared, filer: usize, from_ns: i64, path: &str) -> Result<()> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "who waits".to_owned(),
        client_id: 77,
        path_prefix: "/".to_owned(),
        since_ns: from_ns,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut filer = shared.grpc(filer).await?;
    let mut stream = filer.subscribe_metadata(request).await?.into_inner();
    loop {
        let event = stream.message().await?.context("the stream ended")?;
        let new = seen(&event).and_then(|seen| seen.new);
        if new.is_some_and(|(new, _)| new == path) {
            return Ok(());
        }
    }
}

fn followers(shared: &Shared, from_ns: i64) -> Vec<tokio::task::JoinHandle<Result<Vec<Seen>>>> {
    let ports = shared.cluster.filer_ports.iter().enumerate();
    let follow = ports.map(|(i, port)| tokio::spawn(follow(*port, 100 + i as i32, from_ns)));
    follow.collect()
}

async fn now_ns(shared: &Shared) -> Result<i64> {
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let text = shared.server.sql(&shared.config.database, clock)?;
    Ok(text.trim().parse::<i64>()? * 1_000)
}

/// Ends the comparison: what each follower saw, all alike, and where it leads.
async fn compare(
    shared: &Shared,
    followers: Vec<tokio::task::JoinHandle<Result<Vec<Seen>>>>,
) -> Result<Vec<Seen>> {
    let mut filer = shared.grpc(0).await?;
    let ended = write(&mut filer, "/", END, "").await;
    ensure!(ended.is_ok(), "the end: {ended:?}");
    let mut all = Vec::new();
    for follower in followers {
        let followed = tokio::time::timeout(PATIENCE, follower).await;
        all.push(followed.context("the end of the events")???);
    }
    for (i, other) in all.iter().enumerate() {
        let differs = all[0].iter().zip(other).position(|(a, b)| a != b);
        ensure!(
            all[0] == *other,
            "filer {i} tells {} events and filer 0 {}; first difference {:?} {:?}",
            other.len(),
            all[0].len(),
            differs.map(|at| &all[0][at]),
            differs.map(|at| &other[at]),
        );
    }
    let unique: BTreeSet<&Seen> = all[0].iter().collect();
    ensure!(unique.len() == all[0].len(), "an event came twice");
    all.pop().context("a follower")
}

/// The contents that events lead to, by path.
fn state(events: &[Seen]) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for event in events {
        if let Some(old) = &event.old {
            state.remove(old);
        }
        if let Some((path, content)) = &event.new {
            state.insert(path.clone(), content.clone());
        }
    }
    state
}

async fn one_filer(tables: Tables) -> Result<()> {
    let mut shared = Shared::start(tables, 1, &[]).await?;
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
    let rename = pb::AtomicRenameEntryRequest {
        old_directory: "/g".to_owned(),
        old_name: "h".to_owned(),
        new_directory: "/g".to_owned(),
        new_name: "i".to_owned(),
        ..pb::AtomicRenameEntryRequest::default()
    };
    filer.atomic_rename_entry(rename).await?;
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
        text.contains("(shared, postgres@") && text.contains("converged: true"),
        "{text}"
    );
    // And all of it is there after a restart, which no subscriber is told again.
    let id = shared.store_id(0).await?;
    let from_ns = now_ns(&shared).await?;
    shared.cluster.filers[0].kill()?;
    shared.cluster.filers[0].restart()?;
    shared.cluster.wait_ready(0).await?;
    ensure!(shared.store_id(0).await? == id, "the store is the same");
    let told = followers(&shared, from_ns);
    ensure!(
        compare(&shared, told).await?.is_empty(),
        "nothing happened since"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_filer_serves_grpc_and_http_in_one_table() -> Result<()> {
    one_filer(Tables::One).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_filer_serves_grpc_and_http_with_a_table_per_bucket() -> Result<()> {
    one_filer(Tables::PerBucket).await
}

/// Writers at three filers, many on the same paths, one of them killed: all subscribers see one
/// sequence, each change once, and it leads to what every filer shows.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_at_three_filers_see_one_sequence_through_a_kill() -> Result<()> {
    let mut shared = Shared::start(Tables::One, 3, &[]).await?;
    let id = shared.store_id(0).await?;
    for n in 1..3 {
        ensure!(shared.store_id(n).await? == id, "one store has one id");
    }
    let from_ns = now_ns(&shared).await?;
    let told = followers(&shared, from_ns);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for who in 0..3 {
        let port = shared.cluster.filer_ports[who] + 10_000;
        let is_over = Arc::clone(&is_over);
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut filer = None;
            for n in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                if filer.is_none() {
                    filer = Filer::connect(format!("http://127.0.0.1:{port}"))
                        .await
                        .ok();
                }
                let Some(at) = &mut filer else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let (name, content) = match n % 3 {
                    0 => (format!("hot-{}", n % 7), format!("{who}-{n}")),
                    _ => (format!("{who}-{n}"), format!("{who}-{n}")),
                };
                match write(at, "/w", &name, &content).await {
                    Ok(()) => acknowledged.push((name, content)),
                    Err(_) => filer = None,
                }
            }
            acknowledged
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    shared.cluster.filers[2].kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    shared.cluster.filers[2].restart()?;
    shared.cluster.wait_ready(2).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_over.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await?);
    }
    ensure!(
        acknowledged.iter().all(|own| own.len() > 20),
        "there was load"
    );
    let events = compare(&shared, told).await?;
    let told: BTreeSet<_> = events
        .iter()
        .filter_map(|event| event.new.clone())
        .collect();
    for (name, content) in acknowledged.iter().flatten() {
        let path = format!("/w/{name}");
        ensure!(
            told.contains(&(path, content.clone())),
            "{name}={content} was never told"
        );
    }
    let state = state(&events);
    for n in 0..3 {
        let mut filer = shared.grpc(n).await?;
        for (path, content) in state.iter().filter(|(path, _)| path.starts_with("/w/")) {
            let name = path.trim_start_matches("/w/");
            let there = shown(&mut filer, "/w", name).await?;
            ensure!(
                there.as_deref() == Some(content),
                "{path} at {n}: {there:?}, told {content}"
            );
        }
        let names = shared.cluster.names(n, "/w").await?;
        ensure!(
            names.len() == state.len() - 1,
            "{} of {}",
            names.len(),
            state.len()
        );
    }
    Ok(())
}

/// The database is killed under load: what was acknowledged is there, errors are clear, and all
/// goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_killed_under_load_and_nothing_acknowledged_is_lost() -> Result<()> {
    let mut shared = Shared::start(Tables::One, 2, &[]).await?;
    let from_ns = now_ns(&shared).await?;
    let told = followers(&shared, from_ns);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for who in 0..4_usize {
        let port = shared.cluster.filer_ports[who % 2] + 10_000;
        let is_over = Arc::clone(&is_over);
        writers.push(tokio::spawn(async move {
            let mut filer = Filer::connect(format!("http://127.0.0.1:{port}")).await?;
            let (mut acknowledged, mut refused) = (Vec::new(), BTreeSet::new());
            for n in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("{who}-{n}");
                match write(&mut filer, "/w", &name, &name).await {
                    Ok(()) => acknowledged.push(name),
                    Err(code) => {
                        refused.insert(code.description());
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            Ok::<_, anyhow::Error>((acknowledged, refused))
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    shared.server.kill()?;
    let (mut ready, mut why) = (true, String::new());
    for _ in 0..300 {
        (ready, why) = shared.cluster.readiness(0).await;
        if !ready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(!ready && why.contains("does not answer"), "{ready} {why}");
    shared.server.start_again()?;
    shared.cluster.wait_ready(0).await?;
    shared.cluster.wait_ready(1).await?;
    let mut filer = shared.grpc(0).await?;
    let works = || {
        let mut filer = filer.clone();
        async move { write(&mut filer, "/w", "again", "again").await.is_ok() }
    };
    wait_for("a write after the database came back", works).await?;
    is_over.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        let (own, _) = writer.await??;
        acknowledged.extend(own);
    }
    ensure!(acknowledged.len() > 50, "there was load");
    for name in &acknowledged {
        let there = shown(&mut filer, "/w", name).await?;
        ensure!(
            there.as_ref() == Some(name),
            "{name} was acknowledged and is {there:?}"
        );
    }
    let events = compare(&shared, told).await?;
    let state = state(&events);
    for name in &acknowledged {
        let told = state.get(&format!("/w/{name}"));
        ensure!(told == Some(name), "{name} was told as {told:?}");
    }
    let names = shared.cluster.names(1, "/w").await?;
    let n_told = state.keys().filter(|path| path.starts_with("/w/")).count();
    ensure!(
        names.len() == n_told,
        "{} are there and {n_told} were told",
        names.len()
    );
    Ok(())
}

/// Contents that were written over or deleted at any filer are freed, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_were_dropped_are_freed_and_no_others() -> Result<()> {
    let shared = Shared::start(Tables::One, 2, &["--chunk-grace=2s"]).await?;
    let cluster = &shared.cluster;
    let content = |n: u8| vec![n; 2_000];
    for n in 0..10_u8 {
        cluster
            .put(usize::from(n % 2), &format!("/c/{n}"), content(n))
            .await?;
    }
    let mut old = Vec::new();
    for n in 0..10_u8 {
        old.extend(chunks(&mut shared.grpc(0).await?, "/c", &n.to_string()).await?);
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

async fn chunks(filer: &mut Filer, dir: &str, name: &str) -> Result<Vec<String>> {
    let request = pb::LookupDirectoryEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
    };
    let found = filer.lookup_directory_entry(request).await?.into_inner();
    let fields = found.entry.context("an entry")?.fields()?;
    let ids = fields.chunks.iter().filter_map(|chunk| chunk.id());
    Ok(ids.map(|id| id.to_string()).collect())
}

/// What has outlived its time is removed, also when the filer that wrote it is away.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_removed_from_the_database() -> Result<()> {
    let mut shared = Shared::start(Tables::One, 2, &[]).await?;
    let from_ns = now_ns(&shared).await?;
    for (at, name) in [(0, "a"), (1, "b")] {
        let url = format!("/t/{name}");
        shared.cluster.put(at, &url, b"x".to_vec()).await?;
        let mut filer = shared.grpc(at).await?;
        let mut soon = entry(&format!("{name}-soon"), "x").fields()?;
        soon.attrs_mut().ttl_sec = 2;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
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
    let rows = || {
        let sql = "SELECT count(*) FROM filemeta WHERE directory = '/t'";
        let n = shared.server.sql(&shared.config.database, sql);
        std::future::ready(n.is_ok_and(|n| n.trim() == "2"))
    };
    wait_for("rows that have expired and are gone", rows).await?;
    ensure!(shared.cluster.names(0, "/t").await? == ["a", "b"]);
    Ok(())
}

/// Rules that are changed at one filer hold at the others.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_directories_are_read_again_when_another_filer_changes_them() -> Result<()> {
    let shared = Shared::start(Tables::One, 2, &[]).await?;
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

/// A filer that would be the odd one does not start, and says why; those that run go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_filer_that_does_not_go_with_the_others_does_not_start() -> Result<()> {
    let mut shared = Shared::start(Tables::One, 1, &[]).await?;
    // Embedded, beside a shared store.
    let odd = shared.cluster.add_filer("redb")?;
    let text = refused(&mut shared.cluster, odd).await?;
    ensure!(
        text.contains("This filer is the odd one: enable the section"),
        "{text}"
    );
    // Another database.
    let other = shared.server.database_of(Tables::One, Path::new("another"));
    let dir = shared.cluster.dir.path().join("another");
    configure(&dir, &other, "")?;
    let odd = shared.cluster.add_filer_on(&dir, &[])?;
    let text = refused(&mut shared.cluster, odd).await?;
    ensure!(
        text.contains("point this filer's filer.toml at the same database"),
        "{text}"
    );
    shared.cluster.put(0, "/goes/on", b"x".to_vec()).await?;

    // Shared, beside an embedded store.
    let mut embedded = Cluster::start(&["redb"]).await?;
    let dir = embedded.dir.path().join("config");
    configure(&dir, &other, "")?;
    let odd = embedded.add_filer_on(&dir, &[])?;
    let text = refused(&mut embedded, odd).await?;
    ensure!(
        text.contains("take the section of the shared store out"),
        "{text}"
    );
    // In a group of its own it may be there.
    let fits = embedded.add_filer_on(&dir, &["--filer-group=other"])?;
    embedded.wait_ready(fits).await?;
    embedded.put(0, "/goes/on", b"x".to_vec()).await
}

/// Waits until a filer has ended by itself, and gives what it says when it is run again.
async fn refused(cluster: &mut Cluster, filer: usize) -> Result<String> {
    for _ in 0..600 {
        if cluster.filers[filer].has_ended()? {
            let output = cluster.filers[filer].run()?;
            ensure!(output.status.code() == Some(2), "{}", output.status);
            return Ok(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("it goes on")
}

/// A filer that comes later resumes at a cursor from before it, or is told the state: nothing is
/// skipped.
#[tokio::test(flavor = "multi_thread")]
async fn who_changes_to_a_filer_that_is_new_is_told_everything() -> Result<()> {
    let mut shared = Shared::start(Tables::One, 1, &[]).await?;
    let from_ns = now_ns(&shared).await?;
    let mut filer = shared.grpc(0).await?;
    for n in 0..30 {
        let written = write(&mut filer, "/w", &n.to_string(), "x").await;
        ensure!(written.is_ok(), "{written:?}");
    }
    let new = shared.add(&[]).await?;
    let mut at_new = shared.grpc(new).await?;
    let request = pb::SubscribeMetadataRequest {
        client_name: "who changes".to_owned(),
        client_id: 9,
        path_prefix: "/".to_owned(),
        since_ns: from_ns,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut stream = at_new.subscribe_metadata(request).await?.into_inner();
    let told = async {
        let mut told = BTreeSet::new();
        while told.len() < 30 {
            let event = stream.message().await?.context("the stream ended")?;
            let new = seen(&event).and_then(|seen| seen.new);
            told.extend(
                new.map(|(path, _)| path)
                    .filter(|path| path.starts_with("/w/")),
            );
        }
        Ok::<_, anyhow::Error>(told)
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .context("everything from before")??;
    // Stopped in order, it is waited for by nobody.
    let from_ns = now_ns(&shared).await?;
    shared.cluster.filers[new].terminate()?;
    let told = tokio::spawn(follow(shared.cluster.filer_ports[0], 10, from_ns));
    compare(&shared, vec![told]).await.map(drop)
}
