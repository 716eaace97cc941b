// SPDX-License-Identifier: Apache-2.0
//! S03: two filers are 70 s late while a subscriber reads the third.

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::Options;
use crate::shape::Shape;
use crate::world::World;

/// The watermark waits for members that were heard within two minutes: nothing is told that
/// something else could still come before.
#[test]
fn s03_nothing_is_missing_and_nothing_comes_twice_when_two_filers_are_70_s_late() {
    let (rng, options) = (StdRng::seed_from_u64(3), Options::default());
    let mut world = World::new(Shape::quiet(3), rng, options);
    for filer in &mut world.filers {
        // Else who is silent for a minute is shut out because too much log is kept for it.
        filer.log_budget_bytes = 1 << 30;
    }
    world.begin();
    world.isolate(2);
    let mut n_created = 0;
    for second in 0..70 {
        for f in 0..3 {
            world.create(f, &format!("/{f}-{second:02}"));
            n_created += 1;
        }
        world.pass(1);
    }
    let told = &world.subscribers[2].scalar.told;
    assert!(
        told.len() < n_created / 3,
        "what is late may come before it: {}",
        told.len()
    );
    // Levels, then each event exactly once and in order: I8's checker.
    world.demand_end();
    for subscriber in &world.subscribers {
        assert_eq!(subscriber.scalar.told.len(), n_created);
    }
    assert_eq!(world.counts.too_old, 0, "nobody was told to begin anew");
}

/// S05: a subscriber that was there before any peer was known sees the later peers' events.
#[test]
fn s05_a_subscriber_sees_the_events_of_peers_that_come_later() {
    let mut world = super::cluster(1);
    world.create(0, "/first");
    world.pass(1);
    world.add_filer();
    world.start(1).unwrap();
    world.demand_level();
    world.create(1, "/second");
    world.demand_end();
    assert_eq!(world.subscribers[0].scalar.told.len(), 2);
}
