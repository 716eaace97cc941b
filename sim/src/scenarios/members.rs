// SPDX-License-Identifier: Apache-2.0
//! Members that are shut out: what others have of them counts, what comes later does not, and
//! nobody waits for them.

use dulse_merge::MemberStep;
use dulse_store::Step;
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

/// Has `by` shut out `whom`.
fn remove(world: &mut World, by: usize, whom: Origin) {
    let replica = &mut world.filers[by].running.as_mut().unwrap().replica;
    let cut = replica.shared().vector().get(whom);
    let step = MemberStep::Remove { member: whom, cut };
    replica.member(step).unwrap();
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
    remove(&mut world, 0, lost);
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
    remove(&mut world, 0, removed);
    create(&mut world, 2, "/too-late");
    world.pass(5);
    world.net.heal();
    world.pass(5);
    for f in 0..2 {
        assert!(world.names(f, "/").is_empty(), "filer {f}");
    }
}
