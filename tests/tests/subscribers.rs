// SPDX-License-Identifier: Apache-2.0
//! S04 and S15: subscribers that are slow, and a thousand that come back at once. Each costs
//! bounded memory, and hears every event or an explicit answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_tests::{Cluster, PATIENCE, Role, free_port, program, wait_for};
use dulse_types::{EntryFields, FuseAttributes, Stamp, UnknownFields};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

type Filer = SeaweedFilerClient<Channel>;

/// Bytes of an event in S04, and how many there are: together more than a log segment.
const EVENT_BYTES: usize = 64 << 10;
const EVENTS: usize = 1_600;

/// Writers at once.
const WRITERS: usize = 8;

/// Subscribers that are much slower than the writers.
const SLOW: usize = 16;

/// A slow one reads an event and then rests for this long.
const REST: Duration = Duration::from_millis(100);

/// What the slow ones may cost their filer together. All their events would be 1.6 GiB; 64 MiB
/// of changes for whoever is behind, 32 MiB of the latest ones and the connections' windows
/// are what they may take.
const SLOW_BYTES_MAX: u64 = 192 << 20;

/// Subscribers of S15, and what each misses while its filer is away.
const MANY: usize = 1_000;
const MISSED: usize = 40;

/// Bytes of these events: a thousand buffers of them would be 1.2 GiB.
const MISSED_BYTES: usize = 32 << 10;

/// What a filer with a thousand connections, a subscription on each, may take: half a MiB each.
const MANY_BYTES_MAX: u64 = 512 << 20;

/// Descriptors that a filer is started with, as services are with 1,024: too few for S15.
const FEW_DESCRIPTORS: u32 = 256;

fn name(n: usize) -> String {
    format!("{n:06}")
}

async fn create(filer: &mut Filer, dir: &str, n: usize, bytes: usize) -> Result<()> {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        content: Bytes::from(vec![7; bytes]),
        ..EntryFields::default()
    };
    let entry = fields.to_entry(&UnknownFields::default());
    let request = pb::CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(entry.with_name(&name(n))),
        ..pb::CreateEntryRequest::default()
    };
    let error = filer.create_entry(request).await?.into_inner().error;
    ensure!(error.is_empty(), "{dir}/{n}: {error}");
    Ok(())
}

fn request(dir: &str, client_id: usize, since_ns: i64) -> pb::SubscribeMetadataRequest {
    pb::SubscribeMetadataRequest {
        client_name: "watch".to_owned(),
        client_id: client_id as i32,
        path_prefix: format!("{dir}/"),
        since_ns,
        ..pb::SubscribeMetadataRequest::default()
    }
}

/// Writes all events of S04, many at once, at these filers in turn.
async fn write_all(cluster: &Cluster, dir: &str, filers: &[usize]) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut filer = cluster.grpc(filers[writer % filers.len()]).await?;
        let dir = dir.to_owned();
        writers.spawn(async move {
            for n in (writer..EVENTS).step_by(WRITERS) {
                create(&mut filer, &dir, n, EVENT_BYTES).await?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

/// A cursor that lies in every filer's log: one that is older gets the state first, which may
/// tell what happens meanwhile twice.
fn now_ns() -> Result<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_nanos())?)
}

/// The number of the file that an event made; `None` for what is no file of ours.
fn number(event: &pb::SubscribeMetadataResponse) -> Option<usize> {
    let notification = event.event_notification.as_ref()?;
    notification.new_entry.as_ref()?.name().parse().ok()
}

/// Reads slowly until the writers are done and then as fast as it can: every event once, in
/// the order of its time. Gives how many it had read when they were.
async fn read_slowly(
    mut filer: Filer,
    id: usize,
    since: i64,
    is_over: Arc<AtomicUsize>,
) -> Result<usize> {
    let mut events = filer
        .subscribe_metadata(request("/slow", id, since))
        .await?;
    let (mut seen, mut last, mut n_slowly) = (vec![false; EVENTS], 0, 0);
    for n_seen in 0..EVENTS {
        let event = tokio::time::timeout(PATIENCE, events.get_mut().message()).await;
        let event = event.context("an event")??.context("the stream goes on")?;
        let n = number(&event).context("a file")?;
        ensure!(!seen[n], "{n} came twice");
        ensure!(event.ts_ns > last, "{} behind {last}", event.ts_ns);
        (seen[n], last) = (true, event.ts_ns);
        if is_over.load(Ordering::Relaxed) == 0 {
            n_slowly = n_seen + 1;
            tokio::time::sleep(REST).await;
        }
    }
    Ok(n_slowly)
}

#[tokio::test(flavor = "multi_thread")]
async fn s04_slow_subscribers_cost_bounded_memory_and_hear_every_event_once() -> Result<()> {
    let cluster = Cluster::start(&["redb", "redb"]).await?;
    let is_over = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    let since = now_ns()?;
    for id in 1..=SLOW {
        let filer = cluster.grpc(1).await?;
        readers.spawn(read_slowly(filer, id, since, Arc::clone(&is_over)));
    }
    write_all(&cluster, "/slow", &[0, 1]).await?;
    cluster.wait_converged().await?;
    is_over.store(1, Ordering::Relaxed);
    let mut n_slowly = Vec::new();
    while let Some(read) = readers.join_next().await {
        n_slowly.push(read??);
    }
    // Both have the same changes, and were written to alike.
    let (without, with) = (
        cluster.filers[0].peak_memory()?,
        cluster.filers[1].peak_memory()?,
    );
    let most = n_slowly.iter().max().context("readers")?;
    println!(
        "{SLOW} subscribers had read at most {most} of {EVENTS} events when the writers were \
         done; peak memory {} MiB with them, {} MiB without",
        with >> 20,
        without >> 20
    );
    ensure!(*most < EVENTS / 2, "they were slow: {n_slowly:?}");
    ensure!(
        with < without + SLOW_BYTES_MAX,
        "{with} bytes with slow subscribers, {without} without"
    );
    Ok(())
}

/// What peers that take nothing may cost the filer that they ask, each: four batches of a MiB
/// that are ready, one on its way, and the connection's windows; 8 to 13 MiB were measured. All
/// that is written is several times as much.
const REST_BYTES_MAX: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_take_nothing_cost_bounded_memory_and_hold_up_nobody() -> Result<()> {
    let cluster = Cluster::start(&["redb", "redb"]).await?;
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let mut command = std::process::Command::new(program()?);
    let status = command.args(["status", "--format=json", "--master", &master]);
    let status: serde_json::Value = serde_json::from_slice(&status.output()?.stdout)?;
    let filers = status["filers"].as_array().context("filers")?;
    let at = format!("127.0.0.1:{}", cluster.filer_ports[1]);
    let is_asked = |address: &str| address.starts_with(&at);
    let mut all = filers.iter();
    let asked = all.find(|filer| filer["address"].as_str().is_some_and(is_asked));
    let has = &asked.context("the filer that is asked")?["vector"];
    let mut resting = Vec::new();
    for filer in filers {
        let origin = filer["origin"].as_str().context("an origin")?;
        // Behind what it has: it may have joined by the state, and lack the log before that.
        let after = has[origin].as_str().unwrap_or("0");
        let (origin, after) = (origin.parse()?, Stamp(after.parse()?));
        for _ in 0..SLOW / 2 {
            let peer = dulse_tests::peer::pull_and_rest(&cluster, 1, origin, after).await?;
            resting.push(peer);
        }
    }
    ensure!(resting.len() == SLOW, "two filers: {status}");
    write_all(&cluster, "/rest", &[0, 1]).await?;
    cluster.wait_converged().await?;
    let (without, with) = (
        cluster.filers[0].peak_memory()?,
        cluster.filers[1].peak_memory()?,
    );
    println!(
        "peak memory {} MiB with {SLOW} peers that take nothing, {} MiB without",
        with >> 20,
        without >> 20
    );
    let most = SLOW as u64 * REST_BYTES_MAX;
    ensure!(
        with < without + most,
        "{with} bytes with peers that take nothing, {without} without"
    );
    // They are still there: what they had not taken by then is theirs when they go on.
    for stream in &mut resting {
        // The first one said that there was nothing yet.
        let mut bytes = 0;
        while bytes == 0 {
            let batch = tokio::time::timeout(PATIENCE, stream.message()).await;
            let batch = batch.context("a batch")??.context("the stream goes on")?;
            bytes = batch.changes.iter().map(Bytes::len).sum::<usize>();
        }
    }
    Ok(())
}

/// Reads on until the file of this number, or the marker, came; gives its time, and the numbers
/// in order.
async fn read_until(
    events: &mut Streaming<pb::SubscribeMetadataResponse>,
    until: Option<usize>,
) -> Result<(i64, Vec<usize>)> {
    let (mut last, mut seen) = (0, Vec::new());
    loop {
        let event = tokio::time::timeout(PATIENCE, events.message()).await;
        let event = event.context("an event")??.context("the stream goes on")?;
        ensure!(event.ts_ns >= last, "{} behind {last}", event.ts_ns);
        last = event.ts_ns;
        seen.extend(number(&event));
        if number(&event) == until {
            return Ok((last, seen));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s04_one_that_is_too_slow_for_the_log_is_told_so_and_gets_the_state() -> Result<()> {
    let flags = ["--log-budget=1MiB", "--log-retention=1s"];
    let cluster = Cluster::start_with(&["redb"], &flags).await?;
    let mut writer = cluster.grpc(0).await?;
    for n in 0..5 {
        create(&mut writer, "/old", n, 1).await?;
    }
    let mut filer = cluster.grpc(0).await?;
    // It reads five events, and then nothing while the log goes on and is cut.
    let mut events = filer.subscribe_metadata(request("/old", 1, 1)).await?;
    let mut last = 0;
    for n in 0..5 {
        let event = tokio::time::timeout(PATIENCE, events.get_mut().message()).await;
        let event = event.context("an event")??.context("the stream goes on")?;
        ensure!(number(&event) == Some(n), "{event:?}");
        last = event.ts_ns;
    }
    for n in 5..EVENTS {
        create(&mut writer, "/old", n, EVENT_BYTES).await?;
    }
    let n_files = || {
        let log = cluster.dir.path().join("filer-0/journal");
        std::fs::read_dir(log).map(|files| files.count())
    };
    println!("{:?} files of log after {EVENTS} events", n_files());
    // What its connection held is told; then it is told that the rest is gone.
    let mut n_told = 0;
    let said = loop {
        match tokio::time::timeout(PATIENCE, events.get_mut().message()).await? {
            Ok(Some(event)) => {
                ensure!(event.ts_ns >= last, "{} behind {last}", event.ts_ns);
                ensure!(number(&event) == Some(5 + n_told), "a gap behind {n_told}");
                (last, n_told) = (event.ts_ns, n_told + 1);
            }
            Ok(None) => bail!("the stream ended without a word, {n_told} events told"),
            Err(status) => break status,
        }
        ensure!(n_told < EVENTS - 5, "the log was never cut");
    };
    println!("{n_told} events told, then: {said}");
    ensure!(said.code() == Code::OutOfRange, "{said}");
    ensure!(said.message().contains("no longer in this filer's log"));
    // Coming again with its cursor it gets the state, from its cursor on, and goes on.
    create(&mut writer, "/old", EVENTS, 1).await?;
    let mut state = filer.subscribe_metadata(request("/old", 1, last)).await?;
    let (_, mut seen) = read_until(state.get_mut(), None).await?;
    seen.sort_unstable();
    ensure!(
        seen == (0..=EVENTS).collect::<Vec<_>>(),
        "{} files of the state",
        seen.len()
    );
    let metrics = cluster.http.get(cluster.url(0, "/metrics")).send().await?;
    let metrics = metrics.text().await?;
    let counted = metrics
        .lines()
        .find(|l| l.starts_with("dulse_subscriptions_too_old_total "));
    ensure!(
        counted.is_some_and(|line| line.ends_with(" 1")),
        "{counted:?}"
    );
    create(&mut writer, "/old", EVENTS + 1, 1).await?;
    // From the first event on its cursor is in the log again.
    let (last, seen) = read_until(state.get_mut(), Some(EVENTS + 1)).await?;
    ensure!(seen == [EVENTS + 1], "{} events", seen.len());
    create(&mut writer, "/old", EVENTS + 2, 1).await?;
    let mut again = filer.subscribe_metadata(request("/old", 2, last)).await?;
    let (_, seen) = read_until(again.get_mut(), Some(EVENTS + 2)).await?;
    ensure!(
        seen == [EVENTS + 1, EVENTS + 2],
        "{} events, the one at the cursor included",
        seen.len()
    );
    Ok(())
}

/// What the thousand heard together, and how many of them reached each of two points.
#[derive(Default)]
struct Heard {
    n_events: AtomicUsize,
    n_there: [AtomicUsize; 2],
}

/// One of the thousand: it comes again at once whenever its stream breaks, and hears each
/// file once and in order; only the one at its cursor may come again.
async fn follow(port: u16, id: usize, mut since: i64, heard: &Heard) -> Result<()> {
    let (until, mut next) = (2 * MISSED, 0);
    let mut epoch = 0;
    while next < until {
        epoch += 1;
        let to = format!("http://127.0.0.1:{port}");
        let Ok(mut filer) = Filer::connect(to).await else {
            // Nobody listens there.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let mut asked = request("/many", id, since);
        asked.client_epoch = epoch;
        let Ok(events) = filer.subscribe_metadata(asked).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let mut events = events.into_inner();
        while let Ok(Some(event)) = events.message().await {
            let Some(n) = number(&event) else { continue };
            if n + 1 == next && event.ts_ns == since {
                continue;
            }
            ensure!(n == next, "subscriber {id} hears {n} instead of {next}");
            (since, next) = (event.ts_ns, next + 1);
            heard.n_events.fetch_add(1, Ordering::Relaxed);
            if next == MISSED {
                heard.n_there[0].fetch_add(1, Ordering::Relaxed);
            }
            if next == until {
                heard.n_there[1].fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
    Ok(())
}

/// Waits until all of the thousand have reached a point. On a machine under load that may take
/// any time: it fails when nobody hears anything for a minute.
async fn wait_all(followers: &mut JoinSet<Result<()>>, heard: &Heard, at: usize) -> Result<()> {
    while heard.n_there[at].load(Ordering::Relaxed) < MANY {
        let before = heard.n_events.load(Ordering::Relaxed);
        let moves = || async {
            let is_there = heard.n_there[at].load(Ordering::Relaxed) == MANY;
            is_there || heard.n_events.load(Ordering::Relaxed) > before
        };
        let waited = wait_for("a subscriber that hears something", moves).await;
        // One that heard what it should not has ended, and says why.
        while let Some(followed) = followers.try_join_next() {
            followed??;
        }
        waited?;
    }
    Ok(())
}

/// A filer that may have few descriptors unless it asks for more.
fn add_limited(cluster: &mut Cluster) -> Result<usize> {
    let (n, port) = (cluster.filers.len(), free_port()?);
    let script = format!("ulimit -Sn {FEW_DESCRIPTORS} && exec \"$0\" \"$@\"");
    let dir = cluster.dir.path();
    let mut arguments = vec!["-c".to_owned(), script, program()?.display().to_string()];
    arguments.extend([
        "filer".to_owned(),
        format!("--port={port}"),
        format!("--dir={}", dir.join(format!("filer-{n}")).display()),
        format!("--config-dir={}", dir.display()),
        "--exit-with-stdin".to_owned(),
        format!("--master=127.0.0.1:{}", cluster.master_port),
    ]);
    cluster
        .filers
        .push(Role::start_program("sh".into(), arguments)?);
    cluster.filer_ports.push(port);
    Ok(n)
}

#[tokio::test(flavor = "multi_thread")]
async fn s15_a_thousand_subscribers_that_reconnect_at_once_are_all_current() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    let filer = add_limited(&mut cluster)?;
    cluster.wait_ready(filer).await?;
    let port = cluster.filer_ports[filer] + 10_000;
    let heard: Arc<Heard> = Arc::default();
    let mut followers = JoinSet::new();
    let since = now_ns()?;
    for id in 1..=MANY {
        let heard = Arc::clone(&heard);
        followers.spawn(async move { follow(port, id, since, &heard).await });
    }
    let mut writer = cluster.grpc(0).await?;
    for n in 0..MISSED {
        create(&mut writer, "/many", n, MISSED_BYTES).await?;
    }
    wait_all(&mut followers, &heard, 0).await?;
    let peak_before = cluster.filers[filer].peak_memory()?;
    // All of them lose it at once, and miss as much again.
    cluster.filers[filer].kill()?;
    for n in MISSED..2 * MISSED {
        create(&mut writer, "/many", n, MISSED_BYTES).await?;
    }
    cluster.filers[filer].restart()?;
    let began = Instant::now();
    cluster.wait_ready(filer).await?;
    let (ready, idle) = (began.elapsed(), cluster.filers[filer].peak_memory()?);
    wait_all(&mut followers, &heard, 1).await?;
    while let Some(followed) = followers.join_next().await {
        followed??;
    }
    let peak = cluster.filers[filer].peak_memory()?;
    println!(
        "{MANY} subscribers were current {:.1} s after the start, ready {:.1} s after it; peak \
         memory {} MiB, {} MiB when ready, {} MiB before the restart",
        began.elapsed().as_secs_f64(),
        ready.as_secs_f64(),
        peak >> 20,
        idle >> 20,
        peak_before >> 20
    );
    ensure!(peak < MANY_BYTES_MAX, "{peak} bytes");
    Ok(())
}
