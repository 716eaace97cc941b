// SPDX-License-Identifier: Apache-2.0
//! S25: an update of a file races with its rename at another filer.

use super::cluster;
use crate::volumes::chunks_of;

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
