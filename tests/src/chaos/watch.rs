// SPDX-License-Identifier: Apache-2.0
//! Subscribers that resume where their streams broke, and what they must have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dulse_proto::filer::SubscribeMetadataRequest;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use tokio::task::JoinHandle;

/// How long subscribers may take to hear of the last changes.
const HEAR_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause before a broken stream is opened again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// A stream that says nothing for this long is opened anew: its filer may be frozen.
const SILENCE_MAX: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Seen {
    /// Additions, with the first `ts_ns` that each was told with.
    created: BTreeMap<String, i64>,
    n_events: u64,
    streams: Vec<Stream>,
}

/// One stream: what a subscriber that misses something is judged by.
#[derive(Debug)]
struct Stream {
    opened: Instant,
    since_ns: i64,
    /// `ts_ns` of the first and the last message.
    first_ns: i64,
    last_ns: i64,
}

/// A subscriber at one filer; it ends when dropped.
pub(super) struct Watcher {
    filer: usize,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a subscriber at each filer.
pub(super) fn start(ports: &[u16]) -> Vec<Watcher> {
    let start = |(filer, port): (usize, &u16)| {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(follow(filer, port + 10_000, Arc::clone(&seen)));
        Watcher { filer, seen, task }
    };
    ports.iter().enumerate().map(start).collect()
}

async fn follow(filer: usize, port: u16, seen: Arc<Mutex<Seen>>) {
    let mut since_ns = 1;
    for epoch in 1.. {
        // Broken: resumed from the last event, which may come again.
        let _ = stream(filer, port, epoch, &mut since_ns, &seen).await;
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn stream(
    filer: usize,
    port: u16,
    epoch: i32,
    since_ns: &mut i64,
    seen: &Mutex<Seen>,
) -> Result<()> {
    let connected = SeaweedFilerClient::connect(format!("http://127.0.0.1:{port}"));
    let mut client = tokio::time::timeout(SILENCE_MAX, connected).await??;
    let request = SubscribeMetadataRequest {
        client_name: "chaos".to_owned(),
        path_prefix: "/sets/".to_owned(),
        since_ns: *since_ns,
        client_id: 1_000 + filer as i32,
        client_epoch: epoch,
        ..SubscribeMetadataRequest::default()
    };
    let subscribed = client.subscribe_metadata(request);
    let mut events = tokio::time::timeout(SILENCE_MAX, subscribed)
        .await??
        .into_inner();
    lock(seen).streams.push(Stream {
        opened: Instant::now(),
        since_ns: *since_ns,
        first_ns: 0,
        last_ns: 0,
    });
    while let Some(event) = tokio::time::timeout(SILENCE_MAX, events.message()).await?? {
        *since_ns = (*since_ns).max(event.ts_ns);
        if let Some(stream) = lock(seen).streams.last_mut() {
            if stream.first_ns == 0 {
                stream.first_ns = event.ts_ns;
            }
            stream.last_ns = event.ts_ns;
        }
        let Some(change) = event.event_notification else {
            continue;
        };
        let Some(entry) = change.new_entry.filter(|_| change.old_entry.is_none()) else {
            continue;
        };
        let (_, name) = entry.take_name()?;
        let mut seen = lock(seen);
        seen.n_events += 1;
        let path = format!("{}/{name}", event.directory);
        seen.created.entry(path).or_insert(event.ts_ns);
    }
    Ok(())
}

/// Every acknowledged addition was seen at every filer; gives the number of events.
pub(super) async fn judge(watchers: Vec<Watcher>, added: &BTreeSet<String>) -> Result<u64> {
    let deadline = Instant::now() + HEAR_TIME_MAX;
    let mut n_events = 0;
    for watcher in &watchers {
        loop {
            let missing: Vec<String> = {
                let seen = lock(&watcher.seen);
                let is_missing = |path: &&String| !seen.created.contains_key(*path);
                added.iter().filter(is_missing).cloned().collect()
            };
            let Some(first) = missing.first() else { break };
            ensure!(
                Instant::now() < deadline,
                "the subscriber at filer {} never saw {} of {} additions: {}",
                watcher.filer,
                missing.len(),
                added.len(),
                story(watcher, &watchers, first)
            );
            tokio::time::sleep(RETRY_DELAY).await;
        }
        n_events += lock(&watcher.seen).n_events;
    }
    Ok(n_events)
}

/// When others were told of what one subscriber never saw, and its streams around that.
fn story(misses: &Watcher, watchers: &[Watcher], path: &str) -> String {
    let mut told = format!("{path}, told");
    let mut at_ns = 0;
    for watcher in watchers {
        if let Some(ts_ns) = lock(&watcher.seen).created.get(path) {
            let _ = write!(told, " at filer {} with {ts_ns};", watcher.filer);
            at_ns = *ts_ns;
        }
    }
    let seen = lock(&misses.seen);
    let Some(zero) = seen.streams.first().map(|stream| stream.opened) else {
        return told;
    };
    let around = seen.streams.partition_point(|s| s.since_ns <= at_ns);
    for stream in &seen.streams[around.saturating_sub(3)..seen.streams.len().min(around + 3)] {
        let _ = write!(
            told,
            "\n  after {:?}: since {}, told {} to {}",
            stream.opened.duration_since(zero),
            stream.since_ns,
            stream.first_ns,
            stream.last_ns
        );
    }
    told
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
