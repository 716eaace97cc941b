// SPDX-License-Identifier: Apache-2.0
//! S26: changes reach one other filer only, and the machine is lost. S08: a store is wiped
//! while the others go on. S23: a crash behind a frozen peer.

use super::cluster;

#[test]
fn s26_a_lost_filers_last_changes_come_through_the_living() {
    let mut world = cluster(3);
    world.net.is_cut[0][2] = true;
    world.net.is_cut[2][0] = true;
    world.create(0, "/last");
    world.pass(1);
    assert!(world.names(2, "/").is_empty(), "the link is cut");
    world.lose(0).unwrap();
    world.pass(8);
    assert_eq!(world.names(2, "/"), ["last"]);
}

/// One transfer brings all back, also what it alone had written before; the first filer's too.
#[test]
fn s08_a_wiped_store_is_filled_again_while_the_others_write() {
    for wiped in [0, 2] {
        let mut world = cluster(3);
        for f in 0..3 {
            world.create(f, &format!("/of-{f}"));
        }
        world.pass(2);
        let n_joins = world.counts.joins;
        world.lose(wiped).unwrap();
        for second in 0..10 {
            world.create(1, &format!("/later-{second}"));
            world.pass(1);
        }
        world.demand_level();
        assert_eq!(world.counts.joins, n_joins + 1, "one transfer");
        assert_eq!(world.names(wiped, "/").len(), 13);
    }
}

#[test]
fn s23_what_was_acknowledged_while_the_peer_was_frozen_reaches_it() {
    let mut world = cluster(2);
    world.filers[1].frozen_until = world.now + 20 * crate::SECOND;
    for n in 0..500 {
        world.create(0, &format!("/{n:03}"));
    }
    world.kill(0).unwrap();
    world.pass(25);
    world.demand_level();
    assert_eq!(world.names(1, "/").len(), 500);
}

/// S18: a filer gets a new address; its old one is taken by another.
#[test]
fn s18_two_filers_that_exchange_their_addresses_are_not_mixed_up() {
    let mut world = cluster(3);
    for f in [0, 1] {
        world.create(f, &format!("/by-{f}"));
        world.filers[f].stop();
        world.reset_connections(f);
    }
    let port = world.filers[0].port;
    world.filers[0].port = world.filers[1].port;
    world.filers[1].port = port;
    world.pass(3);
    for f in [0, 1] {
        world.start(f).unwrap();
    }
    world.demand_end();
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["by-0", "by-1"], "filer {f}");
    }
}
