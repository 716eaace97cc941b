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
use crate::workload::make::{file, path};
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
    world.filers[2].running = None;
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
    world.filers[2].running = None;
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
