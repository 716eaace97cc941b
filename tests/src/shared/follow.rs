// SPDX-License-Identifier: Apache-2.0
//! Subscribers: what they are told, and where it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer as pb;
use dulse_types::Entry;
use tokio::task::JoinHandle;

use super::calls::write;
use super::{Filer, Shared};
use crate::PATIENCE;

/// The name whose creation ends a comparison.
const END: &str = "end";
/// One event: its time, the path and what is there then.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seen {
    ts_ns: i64,
    pub(super) old: Option<String>,
    pub(super) new: Option<(String, String)>,
}

/// What an event says; nothing for what is none.
pub(super) fn seen(event: &pb::SubscribeMetadataResponse) -> Option<Seen> {
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
pub(super) async fn follow(port: u16, client_id: i32, from_ns: i64) -> Result<Vec<Seen>> {
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
pub(super) async fn told_of(shared: &Shared, filer: usize, from_ns: i64, path: &str) -> Result<()> {
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

/// A subscriber at every filer.
pub(super) fn followers(shared: &Shared, from_ns: i64) -> Vec<JoinHandle<Result<Vec<Seen>>>> {
    let ports = shared.cluster.filer_ports.iter().enumerate();
    let follow = ports.map(|(i, port)| tokio::spawn(follow(*port, 100 + i as i32, from_ns)));
    follow.collect()
}

/// The clock of this machine, which is the server's, too.
pub fn now_ns() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_nanos())?)
}

/// Ends the comparison: what each follower saw, all alike, and where it leads.
pub(super) async fn compare(
    shared: &Shared,
    followers: Vec<JoinHandle<Result<Vec<Seen>>>>,
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
pub(super) fn state(events: &[Seen]) -> BTreeMap<String, String> {
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
