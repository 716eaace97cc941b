// SPDX-License-Identifier: Apache-2.0
//! S29: hard links created, renamed and removed on different filers.

use super::cluster;
use crate::volumes::Chunk;

#[test]
fn s29_link_counts_are_right_everywhere_and_content_is_freed_exactly_once() {
    let mut world = cluster(3);
    world.create(0, "/first");
    world.pass(2);
    world.isolate(2);
    world.link(0, "/first", "/second");
    world.link(2, "/first", "/third");
    world.rename(1, "/first", "/moved");
    world.demand_end();
    for f in 0..3 {
        assert_eq!(
            world.names(f, "/"),
            ["moved", "second", "third"],
            "filer {f}"
        );
        for name in ["/moved", "/second", "/third"] {
            assert_eq!(world.n_links(f, name), 3, "{name} at filer {f}");
        }
    }
    // One name removed here, one written through there, one renamed at the third.
    world.isolate(2);
    world.delete(0, "/moved");
    let written = world.append(2, "/second");
    world.rename(1, "/third", "/last");
    world.demand_end();
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["last", "second"], "filer {f}");
        assert_eq!(world.n_links(f, "/last"), 2, "filer {f}");
        assert_eq!(
            world.n_chunks(f, "/last"),
            crate::volumes::chunks_of(&written).len()
        );
    }
    world.delete(1, "/last");
    world.pass(1);
    assert!(
        world
            .volumes
            .chunks
            .values()
            .all(|chunk| *chunk == Chunk::Named)
    );
    world.delete(2, "/second");
    let freed_before = world.counts.freed;
    world.demand_end();
    let n_chunks = world.volumes.chunks.len() as u64;
    assert_eq!(world.counts.freed - freed_before, n_chunks, "each once");
    assert!(
        world
            .volumes
            .chunks
            .values()
            .all(|chunk| *chunk == Chunk::Freed)
    );
}

/// A link to a file that is deleted elsewhere at the same time keeps its content.
#[test]
fn s29_a_link_that_nobody_saw_keeps_the_content_of_a_deleted_file() {
    let mut world = cluster(2);
    world.create(0, "/f");
    world.pass(2);
    world.isolate(1);
    world.delete(0, "/f");
    world.link(1, "/f", "/g");
    world.demand_end();
    for f in 0..2 {
        assert_eq!(world.names(f, "/"), ["g"], "filer {f}");
        assert_eq!(world.n_links(f, "/g"), 1, "filer {f}");
    }
    assert_eq!(world.counts.freed, 0);
}
