// SPDX-License-Identifier: Apache-2.0
//! Members that are shut out: what others have of them counts, what comes later does not, and
//! nobody waits for them.

use dulse_replication::core::End;
use dulse_store::Step;
use std::time::Duration;

use dulse_types::{Origin, Stamp};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cluster;
use crate::workload::make::{file, numbered, path};
use crate::world::World;

/// A file made at a filer.
fn create(world: &mut World, f: usize, name: &str) {
    let entry = file(&mut StdRng::seed_from_u64(1));
    let path = path(name);
    world.step(f, Step::Create { path, entry }).unwrap();
}

fn origin(world: &World, f: usize) -> Origin {
    world.filers[f].running.as_ref().unwrap().origin()
}

fn has(world: &World, f: usize, of: Origin) -> Stamp {
    world.filers[f]
        .running
        .as_ref()
        .unwrap()
        .shared()
        .vector()
        .get(of)
}

/// One member had more of it than whoever shut it out: that counts, everywhere.
#[test]
fn what_a_member_had_of_a_removed_one_beyond_the_said_cut_is_kept() {
    let mut world = cluster(3);
    let lost = origin(&world, 2);
    // Filer 0 hears nothing of it any more, filer 1 does.
    world.net.is_cut[0][2] = true;
    world.net.is_cut[2][0] = true;
    world.net.is_cut[0][1] = true;
    world.net.is_cut[1][0] = true;
    create(&mut world, 2, "/late");
    world.pass(1);
    assert!(has(&world, 1, lost) > has(&world, 0, lost));
    world.shut_out(0, lost, true).unwrap();
    world.filers[2].stop();
    world.reset_connections(2);
    world.net.heal();
    world.pass(15);
    for f in 0..2 {
        assert_eq!(world.names(f, "/"), ["late"], "filer {f}");
    }
    assert_eq!(has(&world, 0, lost), has(&world, 1, lost));
    // And nobody waits for it: what is made now becomes stable.
    create(&mut world, 0, "/new");
    world.pass(5);
    let made = has(&world, 0, origin(&world, 0));
    for f in 0..2 {
        let stable = world.filers[f].running.as_ref().unwrap().stable().unwrap();
        assert_eq!(stable.get(origin(&world, 0)), made, "filer {f}");
    }
}

/// What it makes after all have shut it out arrives nowhere.
#[test]
fn what_a_removed_one_makes_later_arrives_nowhere() {
    let mut world = cluster(3);
    let removed = origin(&world, 2);
    world.isolate(2);
    world.shut_out(0, removed, true).unwrap();
    create(&mut world, 2, "/too-late");
    world.pass(5);
    world.net.heal();
    world.pass(5);
    for f in 0..2 {
        assert!(world.names(f, "/").is_empty(), "filer {f}");
    }
}

/// The one that is silent for too long is shut out by one filer, and the log is cut again.
#[test]
fn s09_a_filer_that_is_away_for_too_long_is_fenced_by_the_smallest_and_holds_back_nothing() {
    let mut world = cluster(3);
    let lost = origin(&world, 2);
    world.filers[2].stop();
    world.reset_connections(2);
    for f in 0..2 {
        let running = world.filers[f].running.as_mut().unwrap();
        running.core.silent_before(lost, Duration::from_secs(1));
    }
    // Its log is over the budget soon, and cannot be cut.
    for n in 0..400 {
        create(&mut world, n % 2, &format!("/{n}"));
    }
    world.pass(50);
    let size = |world: &World, f: usize| {
        let running = world.filers[f].running.as_ref().unwrap();
        running.shared().journal().size_bytes()
    };
    assert!(
        size(&world, 0) > 20_000,
        "nothing was cut: {}",
        size(&world, 0)
    );
    world.pass(40);
    for f in 0..2 {
        let running = world.filers[f].running.as_ref().unwrap();
        let gone = &running.membership().unwrap().gone;
        assert_eq!(gone.len(), 1, "filer {f}");
        assert_eq!((gone[0].origin, gone[0].how), (lost, End::Fenced));
        let smallest = origin(&world, 0).min(origin(&world, 1));
        assert_eq!(gone[0].end.origin, smallest);
        assert!(size(&world, f) < 20_000, "filer {f}: {}", size(&world, f));
    }
}

/// A step that changes a file's content at a filer.
fn update(world: &mut World, f: usize, name: &str, number: u32) {
    let entry = numbered(number, &mut StdRng::seed_from_u64(1));
    let step = Step::Update {
        path: path(name),
        entry,
        delete_chunks: true,
    };
    world.step(f, step).unwrap();
}

fn delete(world: &mut World, f: usize, name: &str) {
    let step = Step::Delete {
        path: path(name),
        delete_chunks: true,
    };
    world.step(f, step).unwrap();
}

/// Stops a filer's process in order of nothing.
fn stop(world: &mut World, f: usize) {
    world.filers[f].stop();
    world.reset_connections(f);
}

/// All its changes are there under its next origin, none twice, and nobody waits for the old.
#[test]
fn s09_a_fenced_filer_comes_back_with_what_only_it_had() {
    let mut world = cluster(3);
    for name in ["/changed", "/deleted", "/moved", "/both"] {
        create(&mut world, 0, name);
    }
    world.pass(2);
    let lost = origin(&world, 2);
    world.isolate(2);
    create(&mut world, 2, "/mine");
    update(&mut world, 2, "/changed", 7);
    update(&mut world, 2, "/both", 8);
    delete(&mut world, 2, "/deleted");
    let rename = Step::Rename {
        from: path("/moved"),
        to: path("/moved-away"),
    };
    world.step(2, rename).unwrap();
    let mine = world.entry(2, "/changed");
    world.shut_out(0, lost, false).unwrap();
    update(&mut world, 1, "/both", 9);
    let theirs = world.entry(1, "/both");
    create(&mut world, 1, "/theirs");
    world.pass(5);
    world.demand_level();
    for f in 0..3 {
        let names = ["both", "changed", "mine", "moved-away", "theirs"];
        assert_eq!(world.names(f, "/"), names, "filer {f}");
        assert_eq!(world.entry(f, "/changed"), mine, "filer {f}");
        assert_eq!(world.entry(f, "/both"), theirs, "filer {f}");
        assert_eq!(conflicts(&world, f), 1, "filer {f}");
    }
    assert_ne!(origin(&world, 2), lost);
}

fn conflicts(world: &World, f: usize) -> usize {
    let shared = world.filers[f].running.as_ref().unwrap().shared();
    shared.n_conflicts().unwrap()
}

/// A store that is restored from an old backup fetches what it lost and writes as another.
#[test]
fn s10_a_store_restored_from_an_old_backup_takes_a_new_origin_and_loses_nothing() {
    let mut world = cluster(3);
    create(&mut world, 2, "/before");
    world.pass(2);
    let old = origin(&world, 2);
    let backup = world.filers[2].copy().unwrap();
    create(&mut world, 2, "/after");
    world.pass(2);
    stop(&mut world, 2);
    world.put_back(2, &backup).unwrap();
    world.start(2).unwrap();
    world.pass(20);
    create(&mut world, 2, "/again");
    world.demand_level();
    for f in 0..3 {
        assert_eq!(
            world.names(f, "/"),
            ["after", "again", "before"],
            "filer {f}"
        );
    }
    assert_ne!(origin(&world, 2), old);
}

/// A store directory that was copied to a new filer: the new one steps aside.
#[test]
fn s10_a_copied_store_takes_a_new_origin_beside_the_one_it_was_copied_from() {
    let mut world = cluster(3);
    create(&mut world, 1, "/before");
    world.pass(2);
    let (original, replaced) = (origin(&world, 1), origin(&world, 2));
    let copy = world.filers[1].copy().unwrap();
    create(&mut world, 1, "/meanwhile");
    stop(&mut world, 2);
    world.shut_out(0, replaced, true).unwrap();
    world.put_back(2, &copy).unwrap();
    world.start(2).unwrap();
    world.pass(20);
    create(&mut world, 1, "/original");
    create(&mut world, 2, "/copy");
    world.demand_level();
    for f in 0..3 {
        let names = ["before", "copy", "meanwhile", "original"];
        assert_eq!(world.names(f, "/"), names, "filer {f}");
    }
    assert_eq!(origin(&world, 1), original);
    assert_ne!(origin(&world, 2), original);
}

/// Two sides that shut each other out: the smaller one comes back to the larger, with all
/// that it had alone.
#[test]
fn of_two_sides_that_shut_each_other_out_the_smaller_one_yields() {
    let mut world = cluster(5);
    // One number cannot tell a subscriber of the small side what the large one did before it.
    world.checks.retain(|check| check.name() != "I8");
    let all: Vec<Origin> = (0..5).map(|f| origin(&world, f)).collect();
    for a in 0..2 {
        for b in 2..5 {
            world.net.is_cut[a][b] = true;
            world.net.is_cut[b][a] = true;
        }
    }
    for large in &all[2..] {
        world.shut_out(0, *large, false).unwrap();
    }
    for small in &all[..2] {
        world.shut_out(2, *small, false).unwrap();
    }
    world.pass(3);
    create(&mut world, 0, "/small-0");
    create(&mut world, 1, "/small-1");
    create(&mut world, 4, "/large");
    world.pass(3);
    world.demand_level();
    for f in 0..5 {
        assert_eq!(
            world.names(f, "/"),
            ["large", "small-0", "small-1"],
            "filer {f}"
        );
    }
    for (f, before) in all.iter().enumerate().skip(2) {
        assert_eq!(origin(&world, f), *before, "filer {f}");
    }
}
