// SPDX-License-Identifier: Apache-2.0
//! S16: the clock of one filer jumps by an hour.

use dulse_store::{ErrorKind, Step};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cluster;
use crate::filer::START_NS;
use crate::workload::make::{file, path};
use crate::world::World;

const HOUR: i64 = 3_600 * 1_000_000_000;

fn create(at: &str) -> Step {
    Step::Create {
        path: path(at),
        entry: file(&mut StdRng::seed_from_u64(1)),
    }
}

fn right_time(world: &World) -> i64 {
    i64::try_from(world.now).unwrap() + START_NS
}

/// What a filer tells its subscribers comes within half a second of the right time, and not
/// beyond it.
fn is_current(world: &World, f: usize) -> bool {
    let told = world.filers[f].running.as_ref().unwrap().watermark.0;
    (right_time(world) - told).abs() < 1_500_000_000
}

/// Of two filers, and of three: local writes are refused where the clock is ahead, the others
/// go on, nothing is stamped in the future, and no subscriber waits.
#[test]
fn s16_a_clock_an_hour_ahead_refuses_writes_there_and_stalls_nobody() {
    for n in [2, 3] {
        let mut world = cluster(n);
        world.step(0, create("/before")).unwrap();
        world.pass(2);
        world.filers[0].jump(HOUR);
        let refused = world.step(0, create("/refused")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ClockSkew, "at once, of {n}");
        world.pass(60);
        let refused = world.step(0, create("/refused")).unwrap_err();
        assert!(refused.to_string().contains("leads most of the others"));
        let other = world.step(1, create("/other")).unwrap();
        assert!((other.stamp.0 - right_time(&world)).abs() < 1_500_000_000);
        world.pass(5);
        assert!(
            world.names(0, "/").contains(&"other".to_owned()),
            "never refused"
        );
        assert!((0..n).all(|f| is_current(&world, f)), "of {n}");
        world.filers[0].jump(-HOUR);
        world.step(0, create("/after")).unwrap();
        world.demand_level();
    }
}

/// It stamps above all that it has seen, and its promises follow what it sees.
#[test]
fn s16_a_clock_an_hour_behind_writes_on_top_of_all_it_has_seen() {
    for n in [2, 3] {
        let mut world = cluster(n);
        let before = world.step(1, create("/before")).unwrap();
        world.pass(2);
        world.filers[0].jump(-HOUR);
        world.pass(60);
        let late = world.step(1, create("/late")).unwrap();
        world.pass(2);
        let slow = world.step(0, create("/slow")).unwrap();
        assert!(slow.stamp > late.stamp && late.stamp > before.stamp);
        world.pass(5);
        for f in 0..n {
            let told = world.filers[f].running.as_ref().unwrap().watermark;
            assert!(told >= slow.stamp, "filer {f} of {n} tells its subscribers");
        }
        world.filers[0].jump(HOUR);
        world.pass(1);
        world.step(0, create("/right-again")).unwrap();
        world.demand_level();
    }
}

/// At a start there is no estimate: whoever is ahead of the other voices refuses.
#[test]
fn s16_a_filer_that_starts_an_hour_ahead_refuses_from_its_first_moment() {
    for n in [2, 3] {
        let mut world = cluster(n);
        world.kill(0).unwrap();
        world.filers[0].jump(HOUR);
        world.start(0).unwrap();
        for _ in 0..30 {
            let refused = world.step(0, create("/refused")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ClockSkew, "of {n}");
            world.pass(1);
        }
        assert!((0..n).all(|f| is_current(&world, f)), "of {n}");
        world.filers[0].jump(-HOUR);
        world.pass(1);
        world.step(0, create("/after")).unwrap();
        world.demand_level();
    }
}
