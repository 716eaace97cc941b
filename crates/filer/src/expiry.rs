// SPDX-License-Identifier: Apache-2.0
//! Removing what has expired: by one filer, with an ordinary change.
//!
//! Readers hide what has expired at once; this takes it away, for all filers. Whose turn it
//! is follows from the data: its origin's, else the smallest live origin's. Looked at again
//! and again, so a filer that was away or has gone for ever leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_merge::MemberRow;
use dulse_namespace::{Error, Namespace};
use dulse_replica::{ReplicaStore, removes_expired};
use dulse_types::{FullPath, Origin};

use crate::state::FilerState;

/// How often the hints that are due are followed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Hints read at once, and entries removed by one change.
const PART_MAX: usize = 500;

/// Hints followed in one round: the rest waits for the next, so that a backlog costs a bounded
/// share of the machine.
const ROUND_MAX: usize = 50_000;

/// Nanoseconds of one second.
const SECOND_NS: i64 = 1_000_000_000;

/// Runs until the filer stops.
pub(crate) async fn sweep(state: Arc<FilerState>, store: Arc<ReplicaStore>) {
    let mut after = None;
    // What it hides below directories with stores of their own goes as well.
    let namespace = match state.located.is_empty() {
        true => state.namespace.clone(),
        false => Namespace::new(store.clone(), state.namespace.options().clone()),
    };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if state.not_ready().is_some() {
            continue;
        }
        let now_s = store.shared().now_ns() / SECOND_NS;
        match round(&store, &namespace, now_s, after.take()).await {
            Ok(next) => after = next,
            Err(error) => tracing::warn!(%error, "expiry failed; trying again"),
        }
    }
}

/// Follows the hints that are due behind `after`; gives where the next round goes on.
///
/// # Errors
///
/// The store's.
pub async fn round(
    store: &ReplicaStore,
    namespace: &Namespace,
    now_s: i64,
    mut after: Option<Bytes>,
) -> Result<Option<Bytes>, Error> {
    let judges = Judges::read(store)?;
    for _ in 0..ROUND_MAX / PART_MAX {
        let due = store.shared().due(now_s, after.as_ref(), PART_MAX)?;
        let is_end = due.len() < PART_MAX;
        after = due.last().map(|last| last.hint.clone());
        let (mut stale, mut paths): (Vec<Bytes>, Vec<FullPath>) = (Vec::new(), Vec::new());
        for one in due {
            if one.is_stale {
                stale.push(one.hint);
            } else if judges.is_ours(one.judge) {
                paths.extend(one.paths);
            }
        }
        paths.sort_unstable();
        paths.dedup();
        if !paths.is_empty() {
            let n_expired = namespace.expire(&paths).await?;
            crate::metrics::ENTRIES_EXPIRED.add(n_expired as u64);
        }
        // What was removed now is stale in the next round, when that is on disk.
        if !stale.is_empty() {
            store.hints_followed(stale).await?;
        }
        if is_end {
            return Ok(None);
        }
    }
    Ok(after)
}

/// Who removes whose expired data.
struct Judges {
    own: Origin,
    live: Vec<Origin>,
}

impl Judges {
    fn read(store: &ReplicaStore) -> Result<Self, dulse_store::Error> {
        let members = store.shared().members()?.into_iter();
        let live = members.filter(|(_, row)| row.state == MemberRow::MEMBER);
        Ok(Self {
            own: store.shared().origin(),
            live: live.map(|(origin, _)| origin).collect(),
        })
    }

    fn is_ours(&self, judge: Origin) -> bool {
        removes_expired(self.own, judge, &self.live)
    }
}
