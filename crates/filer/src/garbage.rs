// SPDX-License-Identifier: Apache-2.0
//! Freeing chunks that no live data names any more.
//!
//! A chunk goes when the change that dropped it and the data that lacks it are stable,
//! a grace has passed, and this filer is the inode's birth origin. What fails is tried
//! again for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dulse_replica::Garbage;

use crate::grpc::now_ns;
use crate::state::FilerState;

/// How long a dropped chunk stays after it was dropped, in nanoseconds.
const GRACE_NS: i64 = 3_600_000_000_000;

/// How often the dropped chunks are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Chunks deleted at once.
const PART_MAX: usize = 1_000;

/// Runs until the filer stops.
pub(crate) async fn collect(state: Arc<FilerState>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = round(&state).await {
            tracing::warn!(%error, "freeing chunks failed; trying again");
        }
    }
}

async fn round(state: &FilerState) -> Result<(), dulse_store::Error> {
    let stable = state.replicator.stable()?;
    let own = state.namespace.origin();
    let mut after = None;
    let mut n_waiting = 0_u64;
    loop {
        let rows = state.store.shared().garbage(after, PART_MAX)?;
        after = rows.last().copied();
        let is_end = rows.len() < PART_MAX;
        let is_over = |g: &Garbage| now_ns() - g.cause.stamp.0 > GRACE_NS;
        let is_stable = |g: &Garbage| stable.covers(g.cause) && stable.covers(g.winner);
        n_waiting += rows.len() as u64;
        let due: Vec<Garbage> = rows
            .into_iter()
            .filter(|g| is_over(g) && is_stable(g))
            .collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = due
            .into_iter()
            .partition(|g| g.inode.origin == own && !g.is_moved);
        let ids: Vec<_> = ours.iter().map(|g| g.chunk).collect();
        let failed: BTreeSet<_> = if ids.is_empty() {
            BTreeSet::new()
        } else {
            state.blobs.delete(&ids).await.into_iter().collect()
        };
        let mut freed: Vec<Garbage> = ours
            .into_iter()
            .filter(|g| !failed.contains(&g.chunk))
            .collect();
        metrics::counter!("dulse_chunks_freed_total").increment(freed.len() as u64);
        n_waiting -= freed.len() as u64;
        // The birth origin frees those of others, the inode they moved to those that moved; their rows are no use here any longer.
        freed.extend(theirs);
        if !freed.is_empty() {
            state.store.garbage_freed(freed).await?;
        }
        if is_end {
            break;
        }
    }
    metrics::gauge!("dulse_chunks_waiting").set(n_waiting as f64);
    Ok(())
}
