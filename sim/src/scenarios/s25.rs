// SPDX-License-Identifier: Apache-2.0
//! S25: an update of a file races with its rename at another filer.

use super::cluster;
use crate::volumes::{Chunk, chunks_of};

#[test]
fn s25_the_update_is_in_the_file_at_its_new_name_and_its_chunks_exist() {
    let mut world = cluster(3);
    world.create(0, "/old");
    world.pass(2);
    world.isolate(1);
    let updated = world.append(1, "/old");
    world.rename(0, "/old", "/new");
    // I7's checker: no entry names a chunk that was freed, and none is left behind.
    world.demand_end();
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["new"], "filer {f}");
        let shown = world.entry(f, "/new").unwrap();
        assert_eq!(chunks_of(&shown), chunks_of(&updated), "filer {f}");
    }
}

/// Both append at once: one wins, the other's chunk is freed, once.
#[test]
fn s25_of_two_appends_at_once_one_wins_and_the_others_chunk_is_freed() {
    let mut world = cluster(3);
    world.create(0, "/f");
    world.pass(2);
    world.isolate(1);
    world.append(0, "/f");
    world.append(1, "/f");
    world.demand_level();
    for f in 0..3 {
        assert_eq!(world.n_chunks(f, "/f"), 2, "filer {f}");
    }
}

/// Who deletes an entry and keeps its chunks has taken them over; those of another file that
/// was shadowed there are nobody's: they wait as long as its conflict is listed.
#[test]
fn a_delete_that_keeps_chunks_keeps_those_of_the_entry_that_it_saw_only() {
    let mut world = cluster(2);
    world.isolate(1);
    let both = [world.create(0, "/part"), world.create(1, "/part")];
    world.demand_level();
    let shown = world.entry(0, "/part").unwrap();
    let step = dulse_store::Step::Delete {
        path: crate::workload::make::path("/part"),
        delete_chunks: false,
    };
    world.step(0, step).unwrap();
    world.demand_end();
    let shared = world.filers[0].running.as_ref().unwrap().shared();
    let rows = shared.garbage(None, 10).unwrap();
    let waiting: Vec<_> = rows.iter().map(|garbage| garbage.chunk).collect();
    for entry in both {
        let chunk = chunks_of(&entry)[0];
        let is_shown = chunks_of(&entry) == chunks_of(&shown);
        let expected = if is_shown { Chunk::Kept } else { Chunk::Named };
        assert_eq!(world.volumes.chunks[&chunk], expected, "shown: {is_shown}");
        assert_eq!(waiting.contains(&chunk), !is_shown, "shown: {is_shown}");
    }
}
