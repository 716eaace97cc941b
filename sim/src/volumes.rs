// SPDX-License-Identifier: Apache-2.0
//! The volume servers, as far as chunks go: which were written, named and freed, and what the
//! manifests among them list.

use std::collections::{BTreeMap, BTreeSet};

use dulse_merge::holders::Listing;
use dulse_store::{Commit, Error, Outcome, Step, Transaction};
use dulse_types::entry::split;
use dulse_types::{Entry, FileChunk, FileId, Vector, Version};

/// How far a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chunk {
    /// A client wrote it; no entry names it yet.
    Written,
    /// An entry named it.
    Named,
    /// A deleter wanted it kept: it is nobody's, and stays.
    Kept,
    /// It is no longer there.
    Freed,
}

/// Volume servers, of one volume each.
pub(crate) const SERVERS: usize = 2;

/// All of them.
#[derive(Default)]
pub(crate) struct Volumes {
    pub(crate) chunks: BTreeMap<FileId, Chunk>,
    /// What manifests list: it never changes, and is remembered of freed ones, too.
    manifests: BTreeMap<FileId, Vec<FileChunk>>,
    /// Which servers do not answer.
    pub(crate) is_away: [bool; SERVERS],
    /// Those that a client read at one filer and wrote at another that had not heard of them.
    pub(crate) carried: BTreeSet<FileId>,
    /// Of those that were freed: what dropped them, and the data that lacks them.
    pub(crate) dropped: BTreeMap<FileId, [Version; 2]>,
    /// Freed ones of which no disk knows any more that they were dropped.
    pub(crate) undropped: BTreeSet<FileId>,
}

impl Volumes {
    /// A disk went, or was put back as it was: what no disk has of the drops nobody knows.
    pub(crate) fn forget_drops(&mut self, held: &Vector) {
        let is_lost = |why: &[Version; 2]| why.iter().any(|version| !held.covers(*version));
        let lost = self.dropped.iter().filter(|(_, why)| is_lost(why));
        self.undropped.extend(lost.map(|(id, _)| *id));
    }

    /// A client writes a chunk.
    pub(crate) fn write(&mut self) -> FileId {
        let key = self.chunks.len() as u64 + 1;
        let id = FileId {
            volume_id: (key % SERVERS as u64) as u32 + 1,
            key,
            cookie: 7,
        };
        self.chunks.insert(id, Chunk::Written);
        id
    }

    /// A client writes a manifest that lists these.
    pub(crate) fn write_manifest(&mut self, listed: Vec<FileChunk>) -> FileChunk {
        let id = self.write();
        let mut manifest = FileChunk {
            offset: listed.iter().map(|chunk| chunk.offset).min().unwrap_or(0),
            size: 10 * listed.len() as u64,
            is_chunk_manifest: true,
            ..FileChunk::default()
        };
        manifest.set_id(id);
        self.manifests.insert(id, listed);
        manifest
    }

    fn does_answer(&self, id: FileId) -> bool {
        !self.is_away[id.volume_id as usize % SERVERS]
    }

    /// What a manifest lists; `None` when its server does not answer.
    pub(crate) fn read(&self, manifest: &FileChunk) -> Option<Listing> {
        let Some(id) = manifest.id() else {
            return Some(Listing::Gone);
        };
        if !self.does_answer(id) {
            return None;
        }
        let is_freed = self.chunks.get(&id) == Some(&Chunk::Freed);
        let listed = self.manifests.get(&id).filter(|_| !is_freed);
        Some(listed.map_or(Listing::Gone, |listed| Listing::Chunks(listed.clone())))
    }

    /// Deletes what it can; returns what is gone.
    pub(crate) fn delete(&mut self, ids: &[FileId]) -> Vec<FileId> {
        let ids = ids.iter().copied();
        let gone: Vec<FileId> = ids.filter(|id| self.does_answer(*id)).collect();
        for id in &gone {
            self.chunks.insert(*id, Chunk::Freed);
        }
        gone
    }

    /// These chunks, and what they list if they are manifests.
    pub(crate) fn reach(&self, ids: Vec<FileId>) -> Vec<FileId> {
        let (mut open, mut found) = (ids, Vec::new());
        while let Some(id) = open.pop() {
            let listed = self.manifests.get(&id).into_iter().flatten();
            open.extend(listed.filter_map(FileChunk::id));
            found.push(id);
        }
        found
    }

    /// Who deletes without deleting chunks takes them over.
    fn keep(&mut self, transaction: &Transaction, result: &Result<Commit, Error>) {
        let results = result.iter().flat_map(|commit| &commit.results);
        for (step, result) in transaction.steps.iter().zip(results) {
            let (
                Step::Delete {
                    delete_chunks: false,
                    ..
                },
                Some(entry),
            ) = (step, &result.old_entry)
            else {
                continue;
            };
            for id in self.reach(chunks_of(entry)) {
                self.chunks.insert(id, Chunk::Kept);
            }
        }
    }

    fn note_carried(&mut self, transaction: &Transaction, result: &Result<Commit, Error>) {
        let results = result.iter().flat_map(|commit| &commit.results);
        for (step, result) in transaction.steps.iter().zip(results) {
            let (Step::Update { entry, .. }, Some(old)) = (step, &result.old_entry) else {
                continue;
            };
            let had = self.reach(chunks_of(old));
            let named = self.reach(chunks_of(entry)).into_iter();
            let is_old = |id: &FileId| self.chunks.get(id) != Some(&Chunk::Written);
            let carried: Vec<_> = named.filter(|id| !had.contains(id) && is_old(id)).collect();
            self.carried.extend(carried);
        }
    }

    /// What came of a group of transactions: chunks of those that certainly failed are
    /// deleted by whoever wrote them.
    pub(crate) fn answered(&mut self, group: &[Transaction], results: &[Result<Commit, Error>]) {
        for (transaction, result) in group.iter().zip(results) {
            let is_named = match result {
                Ok(_) => true,
                Err(error) => error.outcome() == Outcome::Unknown,
            };
            self.keep(transaction, result);
            self.note_carried(transaction, result);
            let entries = transaction.steps.iter().filter_map(|step| match step {
                Step::Create { entry, .. } | Step::Update { entry, .. } => Some(entry),
                _ => None,
            });
            let named: Vec<FileId> = entries.flat_map(chunks_of).collect();
            for id in self.reach(named) {
                if let Some(chunk) = self.chunks.get_mut(&id)
                    && *chunk == Chunk::Written
                {
                    *chunk = if is_named { Chunk::Named } else { Chunk::Freed };
                }
            }
        }
    }
}

/// The chunks that an entry names.
pub(crate) fn chunks_of(entry: &Entry) -> Vec<FileId> {
    split(entry).data.file_ids()
}
