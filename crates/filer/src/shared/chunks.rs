// SPDX-License-Identifier: Apache-2.0
//! Freeing the chunks that this filer's changes dropped.
//!
//! Whoever announces that an entry lost chunks frees them, a grace later, if nothing names them
//! then: not the entry at that path or where it was moved to, not what its hard links share, not
//! the manifests that took their place, and no entry that any filer announced since. Upstream's
//! filers free what they drop themselves. What is pending is not stored: it is read again from the
//! journal at a start, from where a small file says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use dulse_blobs::Retries;
use dulse_shared::Announcement;
use dulse_store::Error;
use dulse_types::{Entry, FileChunk, FileId, FullPath, Stamp};

use super::events::Cursor;
use super::notes::parse_freed;
use super::{OnShared, total};
use crate::garbage::{judge, look_every};
use crate::metrics;
use crate::state::FilerState;

/// Chunks that wait, at most: while there are more, no further announcements are looked at.
const PENDING_MAX: usize = 500_000;

/// Chunks that one manifest may lead to, at most; one that lists more is left alone.
const LISTED_MAX: usize = 1_000_000;

/// Chunks deleted at once.
const PART_MAX: usize = 1_000;

/// Name of the file that says up to where all that was dropped is freed.
const FREED: &str = "freed";

/// A chunk that a change of this filer dropped.
#[derive(Clone, Debug)]
struct Dropped {
    chunk: FileChunk,
    /// Where the entry is now, as far as was announced.
    path: FullPath,
    /// Upstream's id of what its hard links share; empty without any.
    link: Bytes,
    /// Manifests of what took its place: they may list it.
    beside: Vec<FileChunk>,
    /// Stamp of the change.
    at: Stamp,
}

/// What waits.
struct Pending {
    chunks: BTreeMap<FileId, Dropped>,
    by_path: BTreeMap<FullPath, BTreeSet<FileId>>,
    cursor: Cursor,
    file: PathBuf,
}

/// Runs until the filer stops.
pub(crate) async fn collect(state: Arc<FilerState>, on: Arc<OnShared>) {
    let mut pending = Pending::new(&on);
    let mut retries = Retries::default();
    let grace = state.options.chunk_grace;
    let grace_ns = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    loop {
        tokio::time::sleep(look_every(grace)).await;
        if state.not_ready().is_some() {
            continue;
        }
        let reading = Arc::clone(&on);
        let noted = tokio::task::spawn_blocking(move || {
            let noted = pending.note_news(&reading);
            (pending, noted)
        });
        let Ok((same, noted)) = noted.await else {
            return;
        };
        pending = same;
        if let Err(error) = noted {
            tracing::warn!(%error, "announcements cannot be read; dropped chunks wait");
            continue;
        }
        let until = Stamp(on.promise_now().0.saturating_sub(grace_ns));
        pending.free(&state, &on, until, &mut retries).await;
        let (n_dropped, n_failing) = (pending.chunks.len() as u64, retries.n_failing() as u64);
        on.n_dropped.store(n_dropped, Ordering::Relaxed);
        on.n_failing.store(n_failing, Ordering::Relaxed);
        // The default store's collector counts all.
        if state.is_default(&on) {
            let n_dropped = total(state.all_shared(), |on| &on.n_dropped);
            let n_failing = total(state.all_shared(), |on| &on.n_failing);
            metrics::GARBAGE_WAITING.set(n_dropped as f64);
            metrics::VOLUMES_FAILING.set(n_failing as f64);
        }
        if let Err(error) = pending.remember(&on) {
            tracing::warn!(%error, "what was freed is looked at again after a restart");
        }
    }
}

impl Pending {
    fn new(on: &OnShared) -> Self {
        let file = on.settings.dir.join(FREED);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        // Without it everything is looked at again, which frees nothing that is named.
        let freed = parse_freed(&text).unwrap_or(Stamp::ZERO);
        on.freed.store(freed.0, Ordering::Relaxed);
        Self {
            chunks: BTreeMap::new(),
            by_path: BTreeMap::new(),
            cursor: Cursor::behind(freed),
            file,
        }
    }

    /// Reads on in what was announced, own changes first.
    fn note_news(&mut self, on: &OnShared) -> Result<(), Error> {
        while self.chunks.len() < PENDING_MAX {
            let page = self.cursor.next(on)?;
            if page.is_empty() {
                break;
            }
            for (origin, announcement) in page {
                self.note(&announcement, origin == on.origin());
            }
        }
        Ok(())
    }

    fn note(&mut self, announcement: &Announcement, is_own: bool) {
        for (n, event) in announcement.announced.events.iter().enumerate() {
            let stamp = announcement.stamp_of(n);
            let new = event.new.as_ref().map(|(_, entry)| chunks_of(entry));
            let new = new.unwrap_or_default();
            for id in new.iter().filter_map(FileChunk::id) {
                // It is named again.
                if self.chunks.get(&id).is_some_and(|drop| drop.at <= stamp) {
                    self.forget(id);
                }
            }
            if let (Some((from, _)), Some((to, _))) = (&event.old, &event.new)
                && from != to
            {
                self.moved(from, to);
            }
            let Some((path, old)) = event.old.as_ref().filter(|_| is_own && event.delete_chunks)
            else {
                continue;
            };
            let kept: BTreeSet<_> = new.iter().filter_map(FileChunk::id).collect();
            let beside: Vec<_> = new.into_iter().filter(|c| c.is_chunk_manifest).collect();
            let path = event.new.as_ref().map_or(path, |(to, _)| to);
            let link = old.fields().map(|f| f.hard_link_id).unwrap_or_default();
            for chunk in chunks_of(old) {
                let Some(id) = chunk.id().filter(|id| !kept.contains(id)) else {
                    continue;
                };
                let dropped = Dropped {
                    chunk,
                    path: path.clone(),
                    link: link.clone(),
                    beside: beside.clone(),
                    at: stamp,
                };
                self.chunks.insert(id, dropped);
                self.by_path.entry(path.clone()).or_default().insert(id);
            }
        }
    }

    fn moved(&mut self, from: &FullPath, to: &FullPath) {
        let Some(ids) = self.by_path.remove(from) else {
            return;
        };
        for id in &ids {
            if let Some(dropped) = self.chunks.get_mut(id) {
                dropped.path = to.clone();
            }
        }
        self.by_path.entry(to.clone()).or_default().extend(ids);
    }

    fn forget(&mut self, id: FileId) {
        let Some(dropped) = self.chunks.remove(&id) else {
            return;
        };
        if let Some(ids) = self.by_path.get_mut(&dropped.path) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_path.remove(&dropped.path);
            }
        }
    }

    /// Frees what was dropped at or before a stamp and is named by nothing.
    async fn free(
        &mut self,
        state: &FilerState,
        on: &Arc<OnShared>,
        until: Stamp,
        retries: &mut Retries,
    ) {
        let is_due = |id: &&FileId| self.chunks.get(*id).is_some_and(|drop| drop.at <= until);
        let due = self.by_path.iter().map(|(path, ids)| {
            let ids: Vec<_> = ids.iter().filter(is_due).copied().collect();
            (path.clone(), ids)
        });
        let due: Vec<_> = due.filter(|(_, ids)| !ids.is_empty()).collect();
        for (path, ids) in due {
            let drops: Vec<_> = ids.iter().filter_map(|id| self.chunks.get(id)).collect();
            let now = Instant::now();
            let is_waiting = |drop: &&Dropped| {
                let volume = drop.chunk.id().map_or(0, |id| id.volume_id);
                !retries.is_due(volume, now)
            };
            if drops.iter().all(is_waiting) {
                continue;
            }
            let named = match named(state, on, &path, &drops).await {
                Ok(named) => named,
                Err(error) => {
                    tracing::debug!(%path, error, "whether dropped chunks are named is not known");
                    metrics::GARBAGE_FAILED.add(ids.len() as u64);
                    continue;
                }
            };
            for id in ids {
                if named.contains(&id) || self.delete(state, id, &named, retries).await {
                    self.forget(id);
                }
            }
        }
    }

    /// Deletes a chunk, and before it what it lists; whether it is gone.
    async fn delete(
        &self,
        state: &FilerState,
        id: FileId,
        named: &BTreeSet<FileId>,
        retries: &mut Retries,
    ) -> bool {
        let Some(dropped) = self.chunks.get(&id) else {
            return true;
        };
        if !retries.is_due(id.volume_id, Instant::now()) {
            return false;
        }
        let mut order = vec![id];
        if dropped.chunk.is_chunk_manifest {
            order = match listed(state, &dropped.chunk).await {
                Ok(order) => order,
                Err(error) => {
                    tracing::debug!(%id, error, "a dropped manifest cannot be read");
                    retries.failed(id.volume_id, Instant::now());
                    return false;
                }
            };
        }
        order.retain(|id| !named.contains(id));
        for part in order.chunks(PART_MAX) {
            let now = Instant::now();
            let deleted = state.blobs.delete(part).await;
            let gone = judge(&deleted, retries, now);
            let is_gone = |id: &FileId| deleted.is_done(*id) || gone.contains(&id.volume_id);
            let n_gone = part.iter().filter(|id| is_gone(id)).count();
            metrics::GARBAGE_FREED.add(n_gone as u64);
            metrics::GARBAGE_FAILED.add((part.len() - n_gone) as u64);
            if n_gone < part.len() {
                return false;
            }
            for id in part {
                retries.forget(id.volume_id);
            }
        }
        true
    }

    /// Notes up to where everything that was dropped is freed.
    fn remember(&self, on: &OnShared) -> std::io::Result<()> {
        let oldest = self.chunks.values().map(|drop| drop.at).min();
        let read = self.cursor.at(on.origin());
        let freed = oldest.map_or(read, |oldest| Stamp(oldest.0 - 1).min(read));
        if on.freed.swap(freed.0, Ordering::Relaxed) == freed.0 {
            return Ok(());
        }
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, freed.0.to_string())?;
        std::fs::rename(&beside, &self.file)
    }
}

fn chunks_of(entry: &Entry) -> Vec<FileChunk> {
    entry
        .fields()
        .map(|fields| fields.chunks)
        .unwrap_or_default()
}

/// The chunks that the entry at a path names now, what its hard links share, and what the
/// manifests that took the place of dropped chunks list.
async fn named(
    state: &FilerState,
    on: &Arc<OnShared>,
    path: &FullPath,
    drops: &[&Dropped],
) -> Result<BTreeSet<FileId>, String> {
    let mut chunks = Vec::new();
    let (store, at) = (Arc::clone(&on.store), path.clone());
    let links: BTreeSet<Bytes> = drops.iter().map(|drop| drop.link.clone()).collect();
    let read = tokio::task::spawn_blocking(move || {
        let mut entries = Vec::new();
        entries.extend(store.find(&at)?.map(|found| found.entry));
        for link in links.into_iter().filter(|link| !link.is_empty()) {
            if let Some(row) = store.kv_get(&link)? {
                entries.push(dulse_shared::value::decode(row)?);
            }
        }
        Ok::<_, Error>(entries)
    });
    let entries = read.await.map_err(|e| e.to_string())?;
    for entry in entries.map_err(|e| e.to_string())? {
        chunks.extend(entry.fields().map_err(|e| e.to_string())?.chunks);
    }
    let beside = drops.iter().flat_map(|drop| drop.beside.iter().cloned());
    let mut seen = BTreeSet::new();
    chunks.extend(beside.filter(|chunk| seen.insert(chunk.id())));
    let mut ids = BTreeSet::new();
    for chunk in chunks {
        match chunk.is_chunk_manifest {
            true => ids.extend(listed(state, &chunk).await?),
            false => ids.extend(chunk.id()),
        }
    }
    Ok(ids)
}

/// What a manifest leads to, in the order in which it may be deleted: itself last. One that is
/// gone leads to nothing.
async fn listed(state: &FilerState, manifest: &FileChunk) -> Result<Vec<FileId>, String> {
    let (mut data, mut manifests) = (Vec::new(), Vec::new());
    let mut open = vec![manifest.clone()];
    while let Some(chunk) = open.pop() {
        manifests.extend(chunk.id());
        let inside = state.blobs.listed_in(&chunk).await;
        for chunk in inside.map_err(|e| e.to_string())?.unwrap_or_default() {
            match chunk.is_chunk_manifest {
                true => open.push(chunk),
                false => data.extend(chunk.id()),
            }
        }
        if data.len() + open.len() > LISTED_MAX {
            return Err(format!("it lists more than {LISTED_MAX} chunks"));
        }
    }
    manifests.reverse();
    data.extend(manifests);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use dulse_shared::{Announced, Event};
    use dulse_types::{EntryFields, FileChunk};

    use super::*;

    fn entry(keys: &[u64]) -> Entry {
        let fields = EntryFields {
            chunks: keys.iter().map(|key| chunk(*key)).collect(),
            ..EntryFields::default()
        };
        fields.to_entry(&Default::default())
    }

    fn chunk(key: u64) -> FileChunk {
        FileChunk {
            file_id: id(key).to_string(),
            size: 1,
            ..FileChunk::default()
        }
    }

    fn id(key: u64) -> FileId {
        FileId {
            volume_id: 1,
            key,
            cookie: 1,
        }
    }

    fn event(stamp: i64, old: Option<(&str, &[u64])>, new: Option<(&str, &[u64])>) -> Announcement {
        let at = |one: (&str, &[u64])| (FullPath::parse(one.0).unwrap(), entry(one.1));
        Announcement {
            stamp: Stamp(stamp),
            prev: Stamp(0),
            announced: Announced {
                events: vec![Event {
                    old: old.map(at),
                    new: new.map(at),
                    delete_chunks: true,
                }],
                ..Announced::default()
            },
        }
    }

    fn pending() -> Pending {
        Pending {
            chunks: BTreeMap::new(),
            by_path: BTreeMap::new(),
            cursor: Cursor::behind(Stamp::ZERO),
            file: PathBuf::new(),
        }
    }

    #[test]
    fn what_an_own_change_dropped_waits_unless_somebody_names_it_again() {
        let mut waits = pending();
        waits.note(
            &event(5, Some(("/a", &[1, 2, 3])), Some(("/a", &[3, 4]))),
            true,
        );
        let ids = |waits: &Pending| waits.chunks.keys().map(|id| id.key).collect::<Vec<_>>();
        assert_eq!(ids(&waits), [1, 2]);
        // Another filer's change is its own business, and an older one says nothing.
        waits.note(&event(6, Some(("/a", &[3, 4])), None), false);
        waits.note(&event(4, None, Some(("/b", &[1]))), false);
        assert_eq!(ids(&waits), [1, 2]);
        // The entry moves: what was dropped of it is looked for there.
        waits.note(
            &event(7, Some(("/a", &[3, 4])), Some(("/z", &[3, 4]))),
            false,
        );
        assert_eq!(waits.chunks[&id(1)].path.as_str(), "/z");
        waits.note(&event(8, None, Some(("/b", &[2]))), false);
        assert_eq!(ids(&waits), [1]);
        assert_eq!(waits.by_path.len(), 1);
        waits.forget(id(1));
        assert!(waits.by_path.is_empty());
    }
}
