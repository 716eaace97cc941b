// SPDX-License-Identifier: Apache-2.0
//! Freeing what dropped manifests list.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use dulse_blobs::{Error, Retries};
use dulse_merge::holders::{Listing, Resolving, Verdict};
use dulse_replica::Garbage;
use dulse_types::{FileChunk, FileId, Vector};

use super::{Counts, judge};
use crate::state::{Embedded, FilerState};

/// Chunks of manifests kept in memory, some 200 bytes each: what a file still has is read
/// once for all that it dropped.
const CACHED_MAX: usize = 100_000;

/// Ids deleted by one call.
const DELETE_MAX: usize = 10_000;

/// What manifests list, as read before. Manifests never change.
#[derive(Default)]
pub(super) struct Manifests {
    known: HashMap<FileId, Vec<FileChunk>>,
    n_chunks: usize,
    /// Volumes that answered a read or a delete since they were last looked at.
    worked: BTreeSet<u32>,
}

impl Manifests {
    /// Frees what may go of an inode's dropped chunks, and what its dropped manifests list;
    /// returns the rows that are to be forgotten. What cannot be read or deleted is kept and
    /// tried again.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub(super) async fn free(
        &mut self,
        state: &FilerState,
        own: &Embedded,
        mut rows: Vec<Garbage>,
        aged: &Vector,
        retries: &mut Retries,
        counts: &mut Counts,
    ) -> Result<Vec<Garbage>, dulse_store::Error> {
        let mut done = Vec::new();
        // Each look takes some manifests of those that are due.
        while !rows.is_empty() {
            let mut resolving = own.store.shared().resolving(&rows, aged)?;
            self.worked.clear();
            if !self.resolve(state, own, &mut resolving, retries).await? {
                counts.unreadable += 1;
                self.forget_worked(retries);
                break;
            }
            let verdict = resolving.finish();
            let gone = delete_all(state, &verdict, retries, counts).await;
            self.worked.extend(gone.iter().map(|id| id.volume_id));
            self.forget_worked(retries);
            let n_before = rows.len();
            let is_decided = |row: &Garbage| {
                let all = [&verdict.free, &verdict.manifests, &verdict.held];
                all.iter().any(|ids| ids.contains(&row.chunk))
            };
            let is_gone = |row: &&Garbage| gone.contains(&row.chunk);
            done.extend(rows.iter().filter(is_gone).copied());
            rows.retain(|row| !is_decided(row));
            if rows.len() == n_before {
                break;
            }
        }
        Ok(done)
    }

    /// Volumes of which nothing failed just now work again; of one that answers reads and
    /// refuses deletes the pauses go on growing.
    fn forget_worked(&mut self, retries: &mut Retries) {
        let now = Instant::now();
        for volume in std::mem::take(&mut self.worked) {
            if retries.is_due(volume, now) {
                retries.forget(volume);
            }
        }
    }

    /// Reads every manifest that is asked for. False when one may be there and cannot be read.
    async fn resolve(
        &mut self,
        state: &FilerState,
        own: &Embedded,
        resolving: &mut Resolving,
        retries: &mut Retries,
    ) -> Result<bool, dulse_store::Error> {
        while let Some(chunk) = resolving.wanted().cloned() {
            let now = Instant::now();
            let volume = chunk.id().map_or(0, |id| id.volume_id);
            let is_known = chunk.id().is_some_and(|id| self.known.contains_key(&id));
            if !is_known && !retries.is_due(volume, now) {
                return Ok(false);
            }
            let listing = match self.read(state, &chunk).await {
                Ok(listing) => listing,
                Err(Error::NoVolume { .. }) if retries.said_missing(volume, now) => Listing::Gone,
                Err(error) => {
                    if !matches!(error, Error::NoVolume { .. }) {
                        retries.failed(volume, now);
                    }
                    tracing::warn!(manifest = chunk.file_id, %error,
                        "a manifest was not read; what its file dropped is kept meanwhile");
                    return Ok(false);
                }
            };
            if listing == Listing::Gone {
                tracing::warn!(
                    manifest = chunk.file_id,
                    "a manifest is gone, so what it listed is not known"
                );
            }
            if !own.store.shared().listed(resolving, listing)? {
                tracing::warn!(
                    manifest = chunk.file_id,
                    "a manifest tells too little or too much; what its file dropped is kept"
                );
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read(&mut self, state: &FilerState, chunk: &FileChunk) -> Result<Listing, Error> {
        let Some(id) = chunk.id() else {
            return Ok(Listing::Gone);
        };
        if let Some(known) = self.known.get(&id) {
            return Ok(Listing::Chunks(known.clone()));
        }
        let listed = state.blobs.listed_in(chunk).await?;
        self.worked.insert(id.volume_id);
        let Some(listed) = listed else {
            return Ok(Listing::Gone);
        };
        if self.n_chunks + listed.len() > CACHED_MAX {
            self.known.clear();
            self.n_chunks = 0;
        }
        self.n_chunks += listed.len();
        self.known.insert(id, listed.clone());
        Ok(Listing::Chunks(listed))
    }
}

/// Deletes in the order of a verdict; returns the chunks with rows that are gone, or held by
/// something else.
async fn delete_all(
    state: &FilerState,
    verdict: &Verdict,
    retries: &mut Retries,
    counts: &mut Counts,
) -> BTreeSet<FileId> {
    counts.gone += verdict.n_gone as u64;
    let mut gone: BTreeSet<FileId> = verdict.held.iter().copied().collect();
    gone.extend(delete(state, &verdict.free, retries, counts).await);
    for part in &verdict.listed {
        // Order: a manifest stays until all that it lists is gone, for a crash.
        if delete(state, part, retries, counts).await.len() < part.len() {
            return gone;
        }
    }
    gone.extend(delete(state, &verdict.manifests, retries, counts).await);
    gone
}

/// Deletes chunks; returns those that are gone.
async fn delete(
    state: &FilerState,
    ids: &[FileId],
    retries: &mut Retries,
    counts: &mut Counts,
) -> Vec<FileId> {
    let mut gone = Vec::with_capacity(ids.len());
    for ids in ids.chunks(DELETE_MAX) {
        let now = Instant::now();
        let due = ids.iter().filter(|id| retries.is_due(id.volume_id, now));
        let due: Vec<FileId> = due.copied().collect();
        let deleted = state.blobs.delete(&due).await;
        let missing = judge(&deleted, retries, now);
        let is_gone = |id: &&FileId| deleted.is_done(**id) || missing.contains(&id.volume_id);
        let n_before = gone.len();
        gone.extend(due.iter().filter(is_gone));
        let n_gone = (gone.len() - n_before) as u64;
        counts.freed += n_gone;
        counts.failed += ids.len() as u64 - n_gone;
    }
    gone
}
