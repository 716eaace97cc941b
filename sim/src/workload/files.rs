// SPDX-License-Identifier: Apache-2.0
//! Files with chunks: written, overwritten, appended to, truncated, deleted, renamed and
//! hard-linked, by clients that may have read the file a while ago and elsewhere.

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
const STALE_MAX: u64 = SECOND;

pub(crate) struct Files;

/// What a client has read, and when.
#[derive(Clone)]
pub(crate) struct Opened {
    path: FullPath,
    entry: Entry,
    at: u64,
}

impl Workload for Files {
    fn weight(&self) -> u32 {
        10
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        let n = world.rng.random_range(1..3);
        (0..n).filter_map(|_| transaction(world, filer)).collect()
    }
}

fn transaction(world: &mut World, f: usize) -> Option<Transaction> {
    let at = any_path(&PATHS, &mut world.rng);
    let kind = world.rng.random_range(0..20);
    Some(match kind {
        0..=4 => one(Step::Create {
            path: at,
            entry: with_chunks(world, None),
        }),
        5..=6 => one(Step::Update {
            path: at,
            entry: with_chunks(world, None),
            delete_chunks: true,
        }),
        7..=10 => append(world, f, at)?,
        11..=12 => open(world, f, at)?,
        13..=15 => append_stale(world)?,
        16 => one(Step::Update {
            path: at,
            entry: file(&mut world.rng),
            delete_chunks: true,
        }),
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

/// The entry, or a new one, with a chunk more.
fn with_chunks(world: &mut World, before: Option<&Entry>) -> Entry {
    let entry = match before {
        Some(entry) => entry.clone(),
        None => file(&mut world.rng),
    };
    let Ok(mut fields) = entry.fields() else {
        return entry;
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

fn read(world: &World, f: usize, at: &FullPath) -> Option<dulse_store::Found> {
    let running = world.filers[f].running.as_ref()?;
    let found = running.shared().find(at).ok()??;
    (!found.entry.is_dir()).then_some(found)
}

/// Appends to what is there now; half of the clients make sure that nobody was faster.
fn append(world: &mut World, f: usize, at: FullPath) -> Option<Transaction> {
    let found = read(world, f, &at)?;
    let entry = with_chunks(world, Some(&found.entry));
    let mut transaction = one(Step::Update {
        path: at.clone(),
        entry,
        delete_chunks: true,
    });
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
fn append_stale(world: &mut World) -> Option<Transaction> {
    let opened = world.clients.opened.take()?;
    if world.now - opened.at > STALE_MAX {
        return None;
    }
    let entry = with_chunks(world, Some(&opened.entry));
    Some(one(Step::Update {
        path: opened.path,
        entry,
        delete_chunks: true,
    }))
}
