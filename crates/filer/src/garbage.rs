// SPDX-License-Identifier: Apache-2.0
//! Freeing chunks that no live data names any more.
//!
//! A chunk goes when the change that dropped it and the data that lacks it have been stable
//! for a grace, and this filer is the inode's birth origin, or the smallest live one when that
//! is no member any more ([`dulse_replica::share`]). What fails is tried again for ever, at
//! growing distances; a volume that masters deny for a day is gone. Of what others free, rows
//! are kept until they say that it is freed. Manifests are read before they are deleted, and what
//! they list goes with them ([`dulse_merge::holders`]).

mod asking;
mod manifests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_blobs::{Deleted, Retries};
use dulse_merge::MemberRow;
use dulse_replica::{Garbage, Grace, share};
use dulse_types::{Origin, Vector};

use crate::metrics;
use crate::shared::total;
use crate::state::{Embedded, FilerState};
use asking::Asking;
use manifests::Manifests;

/// How long a dropped chunk stays after every member is known to have dropped it, unless told
/// otherwise.
pub const CHUNK_GRACE: Duration = Duration::from_secs(3_600);

/// How often the dropped chunks are looked through: often within the grace, and seldom at all.
pub(crate) fn look_every(grace: Duration) -> Duration {
    (grace / 8).clamp(Duration::from_millis(500), Duration::from_secs(30))
}

/// Chunks deleted at once.
const PART_MAX: usize = 1_000;

/// Runs until the filer stops.
pub(crate) async fn collect(state: Arc<FilerState>, own: Embedded) {
    let (mut retries, mut asking) = (Retries::default(), Asking::default());
    let mut manifests = Manifests::default();
    let chunk_grace = state.options.chunk_grace;
    let (began, mut grace) = (Instant::now(), Grace::new(chunk_grace));
    loop {
        tokio::time::sleep(look_every(chunk_grace)).await;
        let aged = own.replicator.judged();
        let aged = aged.map(|judged| grace.pass(began.elapsed(), judged));
        let done = match aged {
            Ok(aged) => {
                let with = With {
                    retries: &mut retries,
                    asking: &mut asking,
                    manifests: &mut manifests,
                };
                round(&state, &own, &aged, with).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "freeing chunks failed; trying again");
        }
    }
}

/// What a round keeps in mind from the ones before.
struct With<'a> {
    retries: &'a mut Retries,
    asking: &'a mut Asking,
    manifests: &'a mut Manifests,
}

/// What a round counted.
#[derive(Default)]
struct Counts {
    waiting: u64,
    freed: u64,
    failed: u64,
    told: u64,
    /// Files whose manifests could not be read.
    unreadable: u64,
    gone: u64,
}

async fn round(
    state: &FilerState,
    own: &Embedded,
    aged: &Vector,
    with: With<'_>,
) -> Result<(), dulse_store::Error> {
    let With {
        retries,
        asking,
        manifests,
    } = with;
    let members = own.store.shared().members()?.into_iter();
    let live = members.filter(|(_, row)| row.state == MemberRow::MEMBER);
    let live: Vec<Origin> = live.map(|(origin, _)| origin).collect();
    let mut counts = Counts::default();
    let mut after = None;
    asking.begin();
    loop {
        let rows = own.store.shared().garbage(after, PART_MAX)?;
        after = rows.last().copied();
        let is_end = rows.len() < PART_MAX;
        counts.waiting += rows.len() as u64;
        let shares = share(rows, aged, state.namespace.origin(), &live);
        let mut done = shares.forget;
        done.extend(free(state, shares.free, retries, &mut counts).await);
        for rows in shares.resolve.into_values() {
            let freed = manifests
                .free(state, own, rows, aged, retries, &mut counts)
                .await;
            done.extend(freed?);
        }
        let told = asking.ask(&own.replicator, aged, shares.asked).await;
        counts.told += told.len() as u64;
        done.extend(told);
        if !done.is_empty() {
            counts.waiting -= done.len() as u64;
            own.store.garbage_freed(done).await?;
        }
        if is_end {
            break;
        }
    }
    metrics::GARBAGE_FREED.add(counts.freed);
    metrics::GARBAGE_TOLD.add(counts.told);
    metrics::GARBAGE_FAILED.add(counts.failed);
    counts.waiting += total(&state.located, |on| &on.n_dropped);
    metrics::GARBAGE_WAITING.set(counts.waiting as f64);
    metrics::MANIFESTS_UNREADABLE.set(counts.unreadable as f64);
    metrics::MANIFESTS_GONE.add(counts.gone);
    let n_failing = retries.n_failing() as u64 + total(&state.located, |on| &on.n_failing);
    metrics::VOLUMES_FAILING.set(n_failing as f64);
    Ok(())
}

/// Frees chunks; returns the rows of those that are gone.
async fn free(
    state: &FilerState,
    rows: Vec<Garbage>,
    retries: &mut Retries,
    counts: &mut Counts,
) -> Vec<Garbage> {
    let now = Instant::now();
    let tried = rows.into_iter();
    let tried: Vec<Garbage> = tried
        .filter(|g| retries.is_due(g.chunk.volume_id, now))
        .collect();
    if tried.is_empty() {
        return tried;
    }
    let ids: Vec<_> = tried.iter().map(|g| g.chunk).collect();
    let deleted = state.blobs.delete(&ids).await;
    let gone = judge(&deleted, retries, now);
    let is_freed = |g: &Garbage| deleted.is_done(g.chunk) || gone.contains(&g.chunk.volume_id);
    let (freed, failed): (Vec<_>, Vec<_>) = tried.into_iter().partition(is_freed);
    counts.freed += freed.len() as u64;
    counts.failed += failed.len() as u64;
    for volume in volumes(&freed).difference(&volumes(&failed)) {
        retries.forget(*volume);
    }
    freed
}

/// Notes what failed; the volumes that are gone for good.
pub(crate) fn judge(deleted: &Deleted, retries: &mut Retries, now: Instant) -> BTreeSet<u32> {
    let failed = deleted.failed.iter().map(|id| id.volume_id);
    for volume in failed.collect::<BTreeSet<_>>() {
        retries.failed(volume, now);
    }
    let missing = deleted.missing.keys().copied();
    missing.filter(|v| retries.said_missing(*v, now)).collect()
}

fn volumes(rows: &[Garbage]) -> BTreeSet<u32> {
    rows.iter().map(|g| g.chunk.volume_id).collect()
}

#[cfg(test)]
mod tests {
    use dulse_blobs::GONE_AFTER;
    use dulse_types::FileId;

    use super::*;

    #[test]
    fn a_denied_volume_counts_as_gone_after_a_day_and_a_failing_one_never() {
        let id = |volume_id| FileId {
            volume_id,
            key: 1,
            cookie: 1,
        };
        let deleted = Deleted {
            failed: [id(1)].into(),
            missing: [(2, vec![id(2)])].into(),
        };
        let (mut retries, start) = (Retries::default(), Instant::now());
        assert!(judge(&deleted, &mut retries, start).is_empty());
        assert!(!retries.is_due(1, start) && !retries.is_due(2, start));
        assert_eq!(
            judge(&deleted, &mut retries, start + GONE_AFTER),
            [2].into()
        );
        assert!(!deleted.is_done(id(1)) && !deleted.is_done(id(2)) && deleted.is_done(id(3)));
    }
}
