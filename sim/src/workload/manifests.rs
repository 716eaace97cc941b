// SPDX-License-Identifier: Apache-2.0
//! Files with manifests: their chunks folded into manifests, manifests into manifests and taken
//! apart again, cut off, overwritten, deleted, renamed and linked, by clients that may have read
//! the file a while ago and elsewhere.

use dulse_merge::holders::Listing;
use dulse_store::{Expect, Step, Transaction};
use dulse_types::entry::UnknownFields;
use dulse_types::{Entry, FileChunk, FullPath};
use rand::Rng;

use super::Workload;
use super::files::{self, Opened, STALE_MAX, birth, born, emptied, read, update, with_chunk};
use super::make::{any_path, one};
use crate::world::World;

/// Some of them are the other files' as well.
const PATHS: [&str; 5] = ["/m", "/n", "/d/m", "/f", "/d/f"];

/// How deep manifests nest here: the product keeps what lies deeper than six.
const DEPTH_MAX: usize = 4;

pub(crate) struct Manifests;

impl Workload for Manifests {
    fn weight(&self) -> u32 {
        12
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        // One by one: each looks at what the one before left.
        transaction(world, filer).into_iter().collect()
    }
}

fn transaction(world: &mut World, f: usize) -> Option<Transaction> {
    let at = any_path(&PATHS, &mut world.rng);
    Some(match world.rng.random_range(0..24) {
        0..=2 => {
            let entry = born(world);
            let entry = with_chunk(world, &entry);
            let entry = with_chunk(world, &entry);
            let is_folded = world.rng.random_bool(0.3);
            let entry = match is_folded {
                true => folded(world, &entry, |_| true)?,
                false => entry,
            };
            one(Step::Create { path: at, entry })
        }
        3..=12 => rewrite(world, f, at)?,
        13..=14 => open(world, f, at)?,
        15..=18 => rewrite_stale(world, f)?,
        19..=20 => one(Step::Delete {
            path: at,
            delete_chunks: world.rng.random_bool(0.9),
        }),
        21..=22 => one(Step::Rename {
            from: at,
            to: any_path(&PATHS, &mut world.rng),
        }),
        _ => one(Step::Link {
            from: at,
            to: any_path(&PATHS, &mut world.rng),
        }),
    })
}

/// Writes to what is there now; half of the clients make sure that nobody was faster.
fn rewrite(world: &mut World, f: usize, at: FullPath) -> Option<Transaction> {
    let found = read(world, f, &at)?;
    let entry = rewritten(world, &found.entry)?;
    let mut transaction = update(at.clone(), entry);
    if world.rng.random_bool(0.5) {
        transaction.expects.push(Expect::Same(at, found.token));
    }
    Some(transaction)
}

/// A client opens a file and goes on later.
fn open(world: &mut World, f: usize, path: FullPath) -> Option<Transaction> {
    let entry = files::read(world, f, &path)?.entry;
    let at = world.now;
    world.clients.opened_whole = Some(Opened { path, entry, at });
    None
}

/// It writes to what it had read, here or at another filer, whatever happened meanwhile.
fn rewrite_stale(world: &mut World, f: usize) -> Option<Transaction> {
    let opened = world.clients.opened_whole.take()?;
    if world.now - opened.at > STALE_MAX {
        return None;
    }
    let there = read(world, f, &opened.path)?;
    if birth(&there.entry) != birth(&opened.entry) {
        return None;
    }
    let entry = rewritten(world, &opened.entry)?;
    Some(update(opened.path, entry))
}

/// What a client makes of a file; `None` when it cannot read its manifests.
fn rewritten(world: &mut World, entry: &Entry) -> Option<Entry> {
    match world.rng.random_range(0..16) {
        0..=2 => Some(with_chunk(world, entry)),
        3..=5 => {
            let entry = with_chunk(world, entry);
            folded(world, &entry, |chunk| !chunk.is_chunk_manifest)
        }
        6..=7 => folded(world, entry, |chunk| !chunk.is_chunk_manifest),
        8 => folded(world, entry, |_| true),
        9..=10 => unfolded(world, entry),
        11..=13 => cut(world, entry),
        14 => {
            let entry = emptied(entry);
            Some(with_chunk(world, &entry))
        }
        _ => Some(emptied(entry)),
    }
}

/// Some of its chunks go into a new manifest, as those above a limit do.
fn folded(world: &mut World, entry: &Entry, is_in: fn(&FileChunk) -> bool) -> Option<Entry> {
    with_chunks(entry, |chunks| {
        let (listed, mut kept): (Vec<_>, Vec<_>) = chunks.into_iter().partition(is_in);
        let depth = listed.iter().map(|chunk| depth(world, chunk)).max()?;
        if depth >= DEPTH_MAX {
            return None;
        }
        kept.insert(0, world.volumes.write_manifest(listed));
        Some(kept)
    })
}

/// How deep manifests nest below a chunk; the dead are as deep as none may be.
fn depth(world: &World, chunk: &FileChunk) -> usize {
    if !chunk.is_chunk_manifest {
        return 0;
    }
    match world.volumes.read(chunk) {
        Some(Listing::Chunks(listed)) => {
            let below = listed.iter().map(|chunk| depth(world, chunk));
            below.max().unwrap_or(0) + 1
        }
        _ => DEPTH_MAX,
    }
}

/// A manifest is taken apart.
fn unfolded(world: &mut World, entry: &Entry) -> Option<Entry> {
    with_chunks(entry, |mut chunks| {
        let at = chunks.iter().position(|chunk| chunk.is_chunk_manifest)?;
        let Some(Listing::Chunks(listed)) = world.volumes.read(&chunks[at]) else {
            return None;
        };
        chunks.splice(at..=at, listed);
        Some(chunks)
    })
}

/// The file is cut off: some chunks go, and of a manifest what lies behind the end.
fn cut(world: &mut World, entry: &Entry) -> Option<Entry> {
    with_chunks(entry, |mut chunks| {
        if chunks.is_empty() {
            return None;
        }
        let at = world.rng.random_range(0..chunks.len());
        let cut = chunks.swap_remove(at);
        if !cut.is_chunk_manifest || world.rng.random_bool(0.3) {
            return Some(chunks);
        }
        let Some(Listing::Chunks(mut listed)) = world.volumes.read(&cut) else {
            return None;
        };
        listed.truncate(world.rng.random_range(0..=listed.len()));
        match world.rng.random_bool(0.5) {
            true => chunks.extend(listed),
            false => chunks.push(world.volumes.write_manifest(listed)),
        }
        Some(chunks)
    })
}

/// The same file with other chunks.
fn with_chunks(
    entry: &Entry,
    change: impl FnOnce(Vec<FileChunk>) -> Option<Vec<FileChunk>>,
) -> Option<Entry> {
    let mut fields = entry.fields().ok()?;
    fields.chunks = change(std::mem::take(&mut fields.chunks))?;
    Some(fields.to_entry(&UnknownFields::default()))
}
