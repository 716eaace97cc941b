// SPDX-License-Identifier: Apache-2.0
//! Files with chunks: written, overwritten, appended to, truncated, deleted, renamed and
//! hard-linked, by clients that may have read the file a while ago and elsewhere.
//!
//! A client that writes back what it read makes sure that the path still shows the same
//! file: a list of chunks written to another file would name chunks that go with the first.

use dulse_store::{Expect, Step, Transaction};
use dulse_types::entry::{FileChunk, UnknownFields};
use dulse_types::{Entry, FullPath};
use rand::Rng;

use super::Workload;
use super::make::{any_path, file, one};
use crate::SECOND;
use crate::world::World;

const PATHS: [&str; 6] = ["/f", "/g", "/h", "/d/f", "/d/g", "/e/f"];

/// How long a client works with what it has read.
pub(super) const STALE_MAX: u64 = SECOND;

pub(crate) struct Files;

/// What a client has read, and when.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(super) path: FullPath,
    pub(super) entry: Entry,
    pub(super) at: u64,
}

impl Workload for Files {
    fn weight(&self) -> u32 {
        10
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        // One by one: each looks at what the one before left.
        transaction(world, filer).into_iter().collect()
    }
}

fn transaction(world: &mut World, f: usize) -> Option<Transaction> {
    let at = any_path(&PATHS, &mut world.rng);
    let kind = world.rng.random_range(0..20);
    Some(match kind {
        0..=4 => {
            let entry = born(world);
            let entry = with_chunk(world, &entry);
            one(Step::Create { path: at, entry })
        }
        5..=6 => {
            let entry = emptied(&read(world, f, &at)?.entry);
            let entry = with_chunk(world, &entry);
            update(at, entry)
        }
        7..=10 => append(world, f, at)?,
        11..=12 => open(world, f, at)?,
        13..=15 => append_stale(world, f)?,
        16 => {
            let entry = emptied(&read(world, f, &at)?.entry);
            update(at, entry)
        }
        17 => one(Step::Delete {
            path: at,
            delete_chunks: world.rng.random_bool(0.9),
        }),
        18 => one(Step::Rename {
            from: at,
            to: any_path(&PATHS, &mut world.rng),
        }),
        _ => one(Step::Link {
            from: at,
            to: any_path(&PATHS, &mut world.rng),
        }),
    })
}

pub(super) fn update(path: FullPath, entry: Entry) -> Transaction {
    one(Step::Update {
        path,
        entry,
        delete_chunks: true,
    })
}

/// A new file; its time of birth tells it from all others.
pub(super) fn born(world: &mut World) -> Entry {
    let entry = file(&mut world.rng);
    let Ok(mut fields) = entry.fields() else {
        return entry;
    };
    fields.attrs_mut().crtime = world.volumes.chunks.len() as i64 + 1;
    fields.to_entry(&UnknownFields::default())
}

pub(super) fn birth(entry: &Entry) -> i64 {
    entry.fields().map_or(0, |fields| fields.attrs().crtime)
}

/// The same file without content.
pub(super) fn emptied(entry: &Entry) -> Entry {
    let Ok(mut fields) = entry.fields() else {
        return entry.clone();
    };
    fields.chunks.clear();
    fields.to_entry(&UnknownFields::default())
}

/// The same file with a chunk more.
pub(super) fn with_chunk(world: &mut World, entry: &Entry) -> Entry {
    let Ok(mut fields) = entry.fields() else {
        return entry.clone();
    };
    let mut chunk = FileChunk {
        offset: fields.chunks.len() as i64 * 10,
        size: 10,
        ..FileChunk::default()
    };
    chunk.set_id(world.volumes.write());
    fields.chunks.push(chunk);
    fields.to_entry(&UnknownFields::default())
}

pub(super) fn read(world: &World, f: usize, at: &FullPath) -> Option<dulse_store::Found> {
    let running = world.filers[f].running.as_ref()?;
    let found = running.shared().find(at).ok()??;
    (!found.entry.is_dir()).then_some(found)
}

/// Appends to what is there now; half of the clients make sure that nobody was faster.
fn append(world: &mut World, f: usize, at: FullPath) -> Option<Transaction> {
    let found = read(world, f, &at)?;
    let entry = with_chunk(world, &found.entry);
    let mut transaction = update(at.clone(), entry);
    if world.rng.random_bool(0.5) {
        transaction.expects.push(Expect::Same(at, found.token));
    }
    Some(transaction)
}

/// A client opens a file and goes on later.
fn open(world: &mut World, f: usize, at: FullPath) -> Option<Transaction> {
    let found = read(world, f, &at)?;
    let now = world.now;
    world.clients.opened = Some(Opened {
        path: at,
        entry: found.entry,
        at: now,
    });
    None
}

/// It appends to what it had read, here or at another filer, whatever happened meanwhile.
fn append_stale(world: &mut World, f: usize) -> Option<Transaction> {
    let opened = world.clients.opened.take()?;
    if world.now - opened.at > STALE_MAX {
        return None;
    }
    let there = read(world, f, &opened.path)?;
    if birth(&there.entry) != birth(&opened.entry) {
        return None;
    }
    let entry = with_chunk(world, &opened.entry);
    Some(update(opened.path, entry))
}
