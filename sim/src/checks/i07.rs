// SPDX-License-Identifier: Apache-2.0
//! I7: no live entry at any filer refers to a freed chunk, and no listed conflict. Design §13.
//!
//! Its ground: what a filer holds for stable is on disk at every member that has begun. And
//! the other way round: once all is stable and the grace is over, no chunk that nothing
//! names is left on the volume servers, whichever machines were lost, and nobody waits for one
//! that is freed.

use std::collections::BTreeSet;

use dulse_merge::apply::NEVER;
use dulse_merge::keys::Space;
use dulse_merge::txn::decode_name;
use dulse_merge::{ConflictRow, Txn};
use dulse_replica::Garbage;
use dulse_types::FileId;

use super::{Check, Seen};
use crate::filer::{Filer, Rows};
use crate::volumes::Chunk;
use crate::world::World;

/// What lies on the volume servers, and who names it.
pub(crate) struct Chunks;

impl Check for Chunks {
    fn name(&self) -> &'static str {
        "I7"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Turned(f) => stability(world, *f)?,
            Seen::Freed(chunks) => {
                let freed: BTreeSet<FileId> = chunks.iter().copied().collect();
                for f in 0..world.filers.len() {
                    refers_to_none(world, f, &freed)?;
                }
            }
            Seen::Started(f) if !world.volumes.chunks.is_empty() => {
                refers_to_none(world, *f, &freed(world))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        let freed = freed(world);
        (0..world.filers.len()).try_for_each(|f| refers_to_none(world, f, &freed))
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        self.at_rest(world)?;
        let Some(filer) = world.filers.first() else {
            return Ok(());
        };
        let named = named(filer)?;
        let chunks = world.volumes.chunks.iter();
        let left = chunks.filter(|(_, state)| !matches!(state, Chunk::Freed | Chunk::Kept));
        let leaked: Vec<_> = left.filter(|(id, _)| !named.contains(id)).collect();
        if !leaked.is_empty() {
            let held = world.filers.iter().map(waiting);
            let held: Result<Vec<_>, String> = held.collect();
            return Err(format!(
                "chunks that nothing names are left: {leaked:?}, waiting at each filer: {:?}",
                held?
            ));
        }
        let gone = freed(world);
        (0..world.filers.len()).try_for_each(|f| keeps_none_of_the_freed(world, f, &gone))
    }
}

/// Whoever did not free a chunk itself has heard that it is freed. Rows of a dead inode that
/// is not forgotten there ask nobody: not demanded of them (`FAULTS.md`, known gaps).
fn keeps_none_of_the_freed(
    world: &World,
    f: usize,
    freed: &BTreeSet<FileId>,
) -> Result<(), String> {
    let Some(running) = &world.filers[f].running else {
        return Ok(());
    };
    let rows = running.shared().garbage(None, usize::MAX);
    let mut rows = rows.map_err(|e| e.to_string())?.into_iter();
    let is_due = |row: &Garbage| row.winner != NEVER && freed.contains(&row.chunk);
    match rows.find(is_due) {
        Some(row) => Err(format!(
            "filer {f} still waits for a freed chunk: {row:?}, pinned by {:?}",
            pinning(&world.filers[f], row.chunk)?
        )),
        None => Ok(()),
    }
}

/// The conflicts that pin a chunk.
fn pinning(filer: &Filer, chunk: FileId) -> Result<Vec<ConflictRow>, String> {
    let rows = filer.rows(Space::Conflicts)?.into_iter();
    let rows = rows.map(|(_, value)| ConflictRow::decode(&value).map_err(|e| e.to_string()));
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let pinning = rows.into_iter().filter(|row| row.chunks().contains(&chunk));
    Ok(pinning.collect())
}

fn freed(world: &World) -> BTreeSet<FileId> {
    let chunks = world.volumes.chunks.iter();
    let freed = chunks.filter(|(_, state)| **state == Chunk::Freed);
    freed.map(|(id, _)| *id).collect()
}

/// The dropped chunks that a filer knows of, and what it holds for stable.
fn waiting(filer: &Filer) -> Result<String, String> {
    let Some(running) = &filer.running else {
        return Ok(String::new());
    };
    let rows = running.shared().garbage(None, 5);
    let rows = rows.map_err(|e| e.to_string())?;
    Ok(format!("{rows:?}, stable {}", running.stable()?))
}

/// A filer that takes in a state shows nobody anything yet.
fn refers_to_none(world: &World, f: usize, freed: &BTreeSet<FileId>) -> Result<(), String> {
    let filer = &world.filers[f];
    let is_begun = filer
        .running
        .as_ref()
        .is_some_and(|r| !r.shared().is_fresh());
    if !is_begun {
        return Ok(());
    }
    let dangling: Vec<FileId> = named(filer)?.intersection(freed).copied().collect();
    if dangling.is_empty() {
        return Ok(());
    }
    Err(format!(
        "filer {f} shows entries whose chunks are freed: {dangling:?}"
    ))
}

/// The chunks of every live name, shadowed ones too, and of every listed conflict: whoever
/// restores what was lost finds its content.
fn named(filer: &Filer) -> Result<BTreeSet<FileId>, String> {
    let rows = Rows(&filer.engine);
    let txn = Txn::new(&rows);
    let mut chunks = BTreeSet::new();
    for space in [Space::Entries, Space::Shadows] {
        for (_, value) in filer.rows(space)? {
            let row = decode_name(space, &value, b"").map_err(|e| e.to_string())?;
            if row.is_implied {
                continue;
            }
            if !row.is_linked {
                chunks.extend(row.content.data.file_ids());
                continue;
            }
            let inode = txn.inode(row.inode).map_err(|e| e.to_string())?;
            chunks.extend(inode.iter().flat_map(|inode| inode.content.data.file_ids()));
        }
    }
    for (_, value) in filer.rows(Space::Conflicts)? {
        let row = ConflictRow::decode(&value).map_err(|e| e.to_string())?;
        if row.is_open() {
            chunks.extend(row.chunks());
        }
    }
    Ok(chunks)
}

/// What a filer holds for stable is on disk at every member that has begun.
fn stability(world: &World, f: usize) -> Result<(), String> {
    let Some(running) = &world.filers[f].running else {
        return Ok(());
    };
    let stable = running.stable()?;
    let gone = &running.membership()?.gone;
    for (n, other) in world.filers.iter().enumerate() {
        let Some(running) = &other.running else {
            continue;
        };
        let shared = running.shared();
        // What one that was shut out has on disk counts for nothing.
        if gone.iter().any(|gone| gone.origin == shared.origin()) {
            continue;
        }
        if n != f && !shared.is_fresh() && !shared.durable_vector().includes(&stable) {
            return Err(format!(
                "filer {f} holds {stable} for stable, filer {n} has {} on disk",
                shared.durable_vector()
            ));
        }
    }
    Ok(())
}
