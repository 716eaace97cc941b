// SPDX-License-Identifier: Apache-2.0
//! S24: hot paths at three filers at full speed, then quiet.

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::queue::Event;
use crate::shape::Shape;
use crate::world::World;
use crate::{MS, Options, SECOND, checks, workload};

/// 60 s of clients on the same paths: equal digests within 5 s of quiet.
#[test]
fn s24_hot_paths_at_three_filers_are_level_within_five_seconds() {
    let mut shape = Shape::quiet(3);
    shape.write_pause_max = 20 * MS;
    shape.workloads = vec![0; workload::ALL.len()];
    shape.workloads[0] = 1;
    let mut world = World::new(shape, StdRng::seed_from_u64(24), Options::default());
    for f in 0..3 {
        world.start(f).unwrap();
        world.at(f as u64 * MS, Event::Listed(f));
        world.at(SECOND, Event::Write(f));
    }
    world.pass(60);
    world.shape.write_pause_max = 0;
    world.pass(5);
    assert!(
        checks::is_level(&world.filers),
        "{}",
        checks::why_not_level(&world.filers)
    );
    world.demand_end();
    assert!(world.counts.writes > 1_000, "{}", world.counts);
}
