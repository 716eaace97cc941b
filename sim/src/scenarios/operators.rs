// SPDX-License-Identifier: Apache-2.0
//! What seeds found where operators put back disks, take members away and have them leave.

use dulse_types::Origin;

use super::cluster;
use crate::world::World;

fn origin(world: &World, f: usize) -> Origin {
    world.filers[f].running.as_ref().unwrap().origin()
}

fn cut(world: &mut World, a: usize, b: usize) {
    world.net.is_cut[a][b] = true;
    world.net.is_cut[b][a] = true;
}

/// A filer left when the only one that had acknowledged everything was gone for good, and took
/// the last copy with it: what a member had once said counted, whether it answered or not.
#[test]
fn what_a_member_acknowledged_that_answers_no_more_is_no_reason_to_leave() {
    let mut world = cluster(2);
    world.create(0, "/file");
    world.pass(2);
    world.lose(1).unwrap();
    world.isolate(1);
    let own = origin(&world, 0);
    world.pass(12);
    world.leave(0, true);
    world.pass(15);
    assert_eq!(
        origin(&world, 0),
        own,
        "it stayed a member, so its disk is still there"
    );
    assert_eq!(world.names(0, "/"), ["file"]);
}

/// A filer joined at one that the others had removed by then. They knew it for no member, took
/// its changes, and forgot what it had never acknowledged.
#[test]
fn a_filer_that_joins_at_a_removed_one_comes_to_the_others_with_what_it_wrote() {
    let mut world = cluster(2);
    // One number cannot tell a subscriber of one side what the other did before it.
    world.checks.retain(|check| check.name() != "I8");
    world.create(0, "/before");
    world.pass(2);
    world.add_filer();
    cut(&mut world, 0, 1);
    cut(&mut world, 0, 2);
    let removed = origin(&world, 1);
    world.shut_out(0, removed, true).unwrap();
    world.start(2).unwrap();
    world.at(0, crate::queue::Event::Listed(2));
    world.pass(5);
    let joiner = origin(&world, 2);
    world.create(2, "/joiner");
    world.create(1, "/removed");
    world.create(0, "/rest");
    world.pass(2);
    world.net.heal();
    world.demand_level();
    for f in 0..3 {
        let names = ["before", "joiner", "removed", "rest"];
        assert_eq!(world.names(f, "/"), names, "filer {f}");
        assert_ne!(origin(&world, f), joiner, "it came back as another");
        let running = world.filers[f].running.as_ref().unwrap();
        let membership = running.membership().unwrap();
        for other in 0..3 {
            let of = origin(&world, other);
            let is_member = membership.members.iter().any(|(member, _)| *member == of);
            assert!(is_member, "filer {f} does not know filer {other}");
        }
    }
}

/// A store was put back behind what the logs of the others still had, and had made nothing since:
/// nobody had more of its own log, so it kept asking for changes that nobody keeps, for ever, and
/// served what it had.
#[test]
fn s10_a_store_set_back_behind_what_the_others_keep_takes_in_the_state() {
    let mut world = cluster(3);
    world.create(0, "/before");
    world.pass(2);
    let backup = world.filers[2].copy().unwrap();
    for n in 0..400 {
        world.create(n % 2, &format!("/after{n}"));
    }
    world.pass(5);
    let old = origin(&world, 2);
    world.filers[2].stop();
    world.reset_connections(2);
    world.put_back(2, &backup).unwrap();
    world.start(2).unwrap();
    world.pass(2);
    assert!(!world.filers[2].is_ready(), "it lacks what nobody brings");
    world.pass(10);
    world.demand_level();
    assert_ne!(origin(&world, 2), old);
    assert_eq!(world.names(2, "/").len(), 401);
}

/// A store was put back to before a rename that all had acknowledged, and made nothing since. The
/// others had forgotten where the file had been, so a delete at its new place came to the store
/// and found nothing there; the rename came behind it, and the file lived on (seed 400006015).
#[test]
fn s10_a_store_that_lacks_what_the_others_have_forgotten_takes_in_the_state() {
    let mut world = cluster(3);
    world.create(2, "/file");
    world.pass(2);
    let backup = world.filers[1].copy().unwrap();
    world.rename(0, "/file", "/moved");
    world.pass(5);
    let old = origin(&world, 1);
    world.filers[1].stop();
    world.reset_connections(1);
    world.put_back(1, &backup).unwrap();
    cut(&mut world, 0, 1);
    world.start(1).unwrap();
    world.pass(1);
    world.delete(2, "/moved");
    world.pass(2);
    world.net.heal();
    world.pass(10);
    world.demand_level();
    assert_ne!(origin(&world, 1), old);
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), [""; 0], "filer {f}");
    }
}

/// A store was put back to when its filer was the only one: alone by its own list it served at
/// once, and nobody told it later that the others have more of it.
#[test]
fn s10_a_store_set_back_to_when_it_was_alone_hears_that_it_was_though_it_serves_already() {
    let mut world = cluster(1);
    world.create(0, "/before");
    world.pass(2);
    let backup = world.filers[0].copy().unwrap();
    world.add_filer();
    world.start(1).unwrap();
    world.at(0, crate::queue::Event::Listed(1));
    world.pass(5);
    world.create(0, "/after");
    world.create(1, "/other");
    world.pass(2);
    let old = origin(&world, 0);
    world.filers[0].stop();
    world.reset_connections(0);
    world.put_back(0, &backup).unwrap();
    world.isolate(0);
    world.start(0).unwrap();
    world.pass(3);
    assert!(world.filers[0].is_ready(), "it is alone by its own list");
    world.net.heal();
    world.pass(10);
    world.demand_level();
    assert_ne!(origin(&world, 0), old);
    for f in 0..2 {
        assert_eq!(
            world.names(f, "/"),
            ["after", "before", "other"],
            "filer {f}"
        );
    }
}

/// A copy of a store was started elsewhere while the original could not be reached. The others
/// took it for the original that had moved: what it acknowledged was stable, and was forgotten,
/// though the original lacked it and went on with what it had.
#[test]
fn a_copy_that_the_others_took_for_its_original_is_not_joined_by_it() {
    let mut world = cluster(3);
    world.create(0, "/old");
    world.pass(2);
    let copy = world.filers[2].copy().unwrap();
    world.add_filer();
    world.isolate(2);
    world.put_back(3, &copy).unwrap();
    world.start(3).unwrap();
    world.at(0, crate::queue::Event::Listed(3));
    world.pass(15);
    let shared = origin(&world, 2);
    assert_eq!(origin(&world, 3), shared, "nobody knows of the original");
    world.delete(0, "/old");
    world.create(1, "/new");
    world.pass(15);
    let running = world.filers[0].running.as_ref().unwrap();
    let stable = running.stable().unwrap();
    assert!(stable.includes(&running.shared().vector()), "{stable}");
    world.rename(2, "/old", "/older");
    world.create(2, "/alone");
    world.net.heal();
    world.demand_level();
    assert_ne!(origin(&world, 2), shared);
    for f in 0..4 {
        assert_eq!(world.names(f, "/"), ["alone", "new"], "filer {f}");
    }
}

#[test]
fn of_two_that_leave_one_after_the_other_somebody_keeps_the_data() {
    let mut world = cluster(2);
    world.create(0, "/file");
    world.pass(2);
    world.leave(0, true);
    world.pass(1);
    world.leave(1, true);
    world.pass(30);
    world.demand_level();
    for f in 0..2 {
        assert_eq!(world.names(f, "/"), ["file"], "filer {f}");
    }
}

/// Each handed over to the other and left: nobody was a member any more, and both waited for
/// one to join at.
#[test]
fn of_two_that_begin_to_leave_at_one_moment_none_leaves() {
    let mut world = cluster(2);
    world.create(0, "/file");
    world.pass(2);
    let own = [origin(&world, 0), origin(&world, 1)];
    world.leave(0, true);
    world.leave(1, true);
    world.pass(30);
    world.demand_level();
    assert_eq!([origin(&world, 0), origin(&world, 1)], own);
}
