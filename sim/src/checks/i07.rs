// SPDX-License-Identifier: Apache-2.0
//! I7: no live entry at any filer refers to a freed chunk, itself or through manifests, and no
//! listed conflict. Design §13.
//!
//! Its ground: what a filer holds for stable is on disk at every member that has begun. And
//! the other way round: once all is stable and the grace is over, no chunk that nothing
//! names is left on the volume servers, whichever machines were lost, and nobody waits for one
//! that is freed.

use std::collections::{BTreeMap, BTreeSet};

use dulse_merge::keys::{self, Space};
use dulse_merge::txn::decode_name;
use dulse_merge::{ConflictRow, Txn};
use dulse_replica::Garbage;
use dulse_types::{FileId, Identity, Origin};

use super::i08::is_unheard_of;
use super::{Check, Seen, is_gone};
use crate::filer::{Filer, Rows};
use crate::volumes::Chunk;
use crate::world::World;

/// What lies on the volume servers, and who names it; and whether a store was set back or
/// copied: what it had dropped since, it knows no more.
#[derive(Default)]
pub(crate) struct Chunks {
    is_any_set_back: bool,
}

impl Check for Chunks {
    fn name(&self) -> &'static str {
        "I7"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Restored(_) => self.is_any_set_back = true,
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
        // What only one that was shut out had dropped may stay: docs/semantics.md says so.
        let is_excused = self.is_any_set_back || world.counts.renewed > 0;
        let (false, Some(filer)) = (is_excused, world.filers.first()) else {
            return Ok(());
        };
        let named = named(world, filer)?;
        let chunks = world.volumes.chunks.iter();
        let left = chunks.filter(|(_, state)| !matches!(state, Chunk::Freed | Chunk::Kept));
        let leaked: Vec<_> = left.filter(|(id, _)| !named.contains_key(id)).collect();
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

/// Whoever did not free a chunk itself has heard that it is freed.
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
    let is_due = |row: &Garbage| freed.contains(&row.chunk);
    match rows.find(is_due) {
        Some(row) => Err(format!(
            "filer {f} still waits for a freed chunk: {row:?}, pinned by {:?}, dead and kept: {:?}",
            pinning(&world.filers[f], row.chunk)?,
            kept_dead(&world.filers[f], row.inode)?
        )),
        None => Ok(()),
    }
}

/// Rows of a dead inode that are not forgotten: names without hard links have its identity.
fn kept_dead(filer: &Filer, inode: Identity) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    for space in [
        Space::Graves,
        Space::Partial,
        Space::Moved,
        Space::Inodes,
        Space::Links,
    ] {
        let rows = filer.rows(space)?.into_iter();
        let of = keys::by_identity(space, inode);
        let of = rows.filter(|(key, _)| key.starts_with(&of));
        kept.extend(of.map(|(key, _)| format!("{space:?} {}", key.escape_ascii())));
    }
    Ok(kept)
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
    // Whoever takes a state from a store that was set back names them as it does.
    let is_undropped = |id: &FileId| world.volumes.undropped.contains(id);
    // Of two that write under one origin neither knows what the other one names.
    let by_two = |id: &FileId| {
        let why = world.volumes.dropped.get(id);
        let mut versions = why.into_iter().flatten();
        versions.any(|version| world.parted.contains(&version.origin))
    };
    let is_known = |id: &FileId| !is_undropped(id) && !by_two(id);
    freed.map(|(id, _)| *id).filter(is_known).collect()
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

/// Where a chunk is named.
struct Place {
    text: String,
    /// The chunk that is named there, if this one is only listed by that manifest.
    listed_by: Option<FileId>,
    /// By a listed conflict, which this one recorded.
    recorded_by: Option<Origin>,
}

/// Whether a filer joined at one that another holds for no member, beyond what that took of it:
/// itself, or the one that it joined at.
fn is_beyond_a_cut(world: &World, f: usize) -> bool {
    let Some(running) = &world.filers[f].running else {
        return false;
    };
    let (own, joins) = (running.origin(), running.shared().joins());
    let joins = joins.unwrap_or_default();
    let others = world
        .filers
        .iter()
        .filter(|other| other.was_restored.is_none());
    let mut others = others.filter_map(|other| other.running.as_ref());
    others.any(|other| {
        let (shared, membership) = (other.shared(), other.membership().unwrap_or_default());
        let is_member = membership.members.iter().any(|(member, _)| *member == own);
        let is_gone = |of: Origin| membership.gone.iter().any(|gone| gone.origin == of);
        let is_judge = !shared.is_fresh() && !is_gone(other.origin());
        let mut beyond = joins.iter().filter(|join| is_gone(join.origin));
        is_judge && !is_member && beyond.any(|join| !shared.vector().covers(*join))
    })
}

/// Whether somebody has the data that named a chunk, or dropped it: a conflict alone does not say.
fn is_known(world: &World, chunk: FileId) -> bool {
    let mut running = world.filers.iter().filter_map(|f| f.running.as_ref());
    let is_dropped = running.any(|running| {
        let rows = running.shared().garbage(None, usize::MAX);
        let mut rows = rows.unwrap_or_default().into_iter();
        rows.any(|row| row.chunk == chunk)
    });
    let of_a_file = |place: &Place| place.recorded_by.is_none();
    is_dropped
        || world.filers.iter().any(|filer| {
            let named = named(world, filer).unwrap_or_default();
            named
                .get(&chunk)
                .is_some_and(|places| places.iter().any(of_a_file))
        })
}

/// Whether a filer joined at one of two that run on copies of one store, and the other one has not
/// heard of it: what that dropped nobody told it.
fn joined_at_a_copy(world: &World, f: usize) -> bool {
    let Some(running) = &world.filers[f].running else {
        return false;
    };
    let (own, joined) = (running.origin(), running.shared().joined());
    let joined = joined.unwrap_or_default().origin;
    let others = world.filers.iter().enumerate();
    let mut of_it = others.filter(|(_, other)| {
        let running = other.running.as_ref();
        running.is_some_and(|running| running.origin() == joined && joined != own)
    });
    world.parted.contains(&joined) && of_it.any(|(o, _)| is_unheard_of(world, o, own))
}

/// A filer that takes in a state shows nobody anything yet.
fn refers_to_none(world: &World, f: usize, freed: &BTreeSet<FileId>) -> Result<(), String> {
    let filer = &world.filers[f];
    let is_begun = filer
        .running
        .as_ref()
        .is_some_and(|r| !r.shared().is_fresh());
    // One that was set back names what it named then, until it has heard the others; and one that
    // the others shut out what it named before, until it has heard that; so does who joined there.
    let origin = filer.running.as_ref().map(|running| running.origin());
    let is_out = origin.is_some_and(|origin| is_gone(world, origin) || is_beyond_a_cut(world, f))
        || joined_at_a_copy(world, f);
    if !is_begun || is_out || filer.was_restored.is_some() {
        return Ok(());
    }
    let named = named(world, filer)?;
    // One that was shut out wrote it, a client carried it to those who went on, and they dropped
    // it: who comes back cannot tell it from a chunk that only it ever named.
    let is_excused = |id: &FileId, place: &Place| {
        let renewed = &world.renewed;
        let is_renewed = place.recorded_by.is_some_and(|by| renewed.contains(&by));
        // Nor does anybody look into the manifests that only it named; or that a write named which
        // was lost with its machine, and with that of who had it and recorded what it lost.
        let recorded = place.recorded_by.and(place.listed_by);
        is_renewed && (world.volumes.carried.contains(id) || place.listed_by.is_some())
            || recorded.is_some_and(|manifest| !is_known(world, manifest))
    };
    let places = named
        .iter()
        .flat_map(|(id, places)| places.iter().map(move |place| (id, place)));
    let mut dangling = places.filter(|(id, place)| freed.contains(id) && !is_excused(id, place));
    let Some((id, place)) = dangling.next() else {
        return Ok(());
    };
    let place = &place.text;
    Err(format!(
        "filer {f} names {id:?}, which is freed, at {place}, and {} more",
        dangling.count()
    ))
}

/// The chunks of every live name, shadowed ones too, and of every listed conflict: whoever
/// restores what was lost finds its content. What their manifests list is named as well.
fn named(world: &World, filer: &Filer) -> Result<BTreeMap<FileId, Vec<Place>>, String> {
    let rows = Rows(&filer.engine);
    let txn = Txn::new(&rows);
    let mut chunks: BTreeMap<FileId, Vec<Place>> = BTreeMap::new();
    let mut add = |ids: Vec<FileId>, space: Space, key: &[u8], recorded_by: Option<Origin>| {
        let direct: BTreeSet<FileId> = ids.iter().copied().collect();
        for root in ids {
            for id in world.volumes.reach(vec![root]) {
                if id != root && direct.contains(&id) {
                    continue;
                }
                chunks.entry(id).or_default().push(Place {
                    text: format!("{space:?} {}", key.escape_ascii()),
                    listed_by: (id != root).then_some(root),
                    recorded_by,
                });
            }
        }
    };
    for space in [Space::Entries, Space::Shadows] {
        for (key, value) in filer.rows(space)? {
            let row = decode_name(space, &value, b"").map_err(|e| e.to_string())?;
            if row.is_implied {
                continue;
            }
            if !row.is_linked {
                add(row.content.data.file_ids(), space, &key, None);
                continue;
            }
            let inode = txn.inode(row.inode).map_err(|e| e.to_string())?;
            let ids = inode.map(|inode| inode.content.data.file_ids());
            add(ids.unwrap_or_default(), Space::Inodes, &key, None);
        }
    }
    for (key, value) in filer.rows(Space::Conflicts)? {
        let row = ConflictRow::decode(&value).map_err(|e| e.to_string())?;
        if row.is_open() {
            let key = [&key[..], format!(" {:?}", row.recorded).as_bytes()].concat();
            add(
                row.chunks(),
                Space::Conflicts,
                &key,
                Some(row.recorded.origin),
            );
        }
    }
    Ok(chunks)
}

/// What a filer holds for stable is on disk at every member that has begun.
fn stability(world: &World, f: usize) -> Result<(), String> {
    let Some(running) = &world.filers[f].running else {
        return Ok(());
    };
    // What one holds for stable that was set back, its members have said to another past.
    if world.filers[f].was_restored.is_some() {
        return Ok(());
    }
    let stable = running.stable()?;
    let gone = &running.membership()?.gone;
    for (n, other) in world.filers.iter().enumerate() {
        let Some(running) = &other.running else {
            continue;
        };
        let shared = running.shared();
        // What one that was shut out has on disk counts for nothing; and one that was set back
        // has less than it said it had, until it is another.
        let is_gone = gone.iter().any(|gone| gone.origin == shared.origin());
        let is_gone = is_gone || is_unheard_of(world, f, shared.origin());
        if is_gone || other.was_restored.is_some() {
            continue;
        }
        if n != f && !shared.is_fresh() && !shared.durable_vector().includes(&stable) {
            return Err(format!(
                "filer {f} holds {stable} for stable, filer {n} has {} on disk; its members are {:?}",
                shared.durable_vector(),
                world.filers[f].running.as_ref().map(|r| r.membership())
            ));
        }
    }
    Ok(())
}
