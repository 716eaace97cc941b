// SPDX-License-Identifier: Apache-2.0
//! S02: a peer comes back while the stream to the master is down. S21: the leading master
//! is powered off.

use super::cluster;

/// Members know one another; the master is for those who know nobody.
#[test]
fn s02_streaming_resumes_without_the_master() {
    let mut world = cluster(3);
    world.create(0, "/before");
    world.pass(1);
    world.master.is_up = false;
    world.kill(2).unwrap();
    world.pass(8);
    world.create(0, "/after");
    world.pass(3);
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["after", "before"], "filer {f}");
    }
    world.demand_end();
}

#[test]
fn s21_known_peers_keep_streaming_without_a_master_and_find_new_ones_with_the_next() {
    let mut world = cluster(3);
    world.master.is_up = false;
    for n in 0..20 {
        world.create(n % 3, &format!("/{n:02}"));
        world.pass(1);
    }
    for f in 0..3 {
        assert_eq!(world.names(f, "/").len(), 20, "filer {f}");
    }
    world.demand_end();
}
