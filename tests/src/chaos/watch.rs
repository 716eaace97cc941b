// SPDX-License-Identifier: Apache-2.0
//! Subscribers that resume where their streams broke, and what they must have seen.

use std::collections::BTreeSet;
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
    created: BTreeSet<String>,
    n_events: u64,
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
    while let Some(event) = tokio::time::timeout(SILENCE_MAX, events.message()).await?? {
        *since_ns = (*since_ns).max(event.ts_ns);
        let Some(change) = event.event_notification else {
            continue;
        };
        let Some(entry) = change.new_entry.filter(|_| change.old_entry.is_none()) else {
            continue;
        };
        let (_, name) = entry.take_name()?;
        let mut seen = seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.n_events += 1;
        seen.created.insert(format!("{}/{name}", event.directory));
    }
    Ok(())
}

/// Every acknowledged addition was seen at every filer; gives the number of events.
pub(super) async fn judge(watchers: Vec<Watcher>, added: &BTreeSet<String>) -> Result<u64> {
    let deadline = Instant::now() + HEAR_TIME_MAX;
    let mut n_events = 0;
    for watcher in watchers {
        loop {
            let missing: Vec<String> = {
                let seen = watcher.seen.lock();
                let seen = seen.unwrap_or_else(std::sync::PoisonError::into_inner);
                added.difference(&seen.created).cloned().collect()
            };
            if missing.is_empty() {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "the subscriber at filer {} never saw {} of {} additions, such as {:?}",
                watcher.filer,
                missing.len(),
                added.len(),
                missing.first()
            );
            tokio::time::sleep(RETRY_DELAY).await;
        }
        let seen = watcher.seen.lock();
        n_events += seen
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .n_events;
    }
    Ok(n_events)
}
