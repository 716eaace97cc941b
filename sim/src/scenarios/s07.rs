// SPDX-License-Identifier: Apache-2.0
//! S07: a filer restarts; old events of its peer arrive again over newer local writes.

use dulse_store::Step;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cluster;
use crate::workload::make::{file, path};

/// What was pulled and not on disk is lost with the power and comes again: newer stays.
#[test]
fn s07_old_events_arrive_again_over_newer_local_writes() {
    let mut world = cluster(2);
    let mut rng = StdRng::seed_from_u64(1);
    let old = file(&mut rng);
    let at = path("/f");
    world
        .step(
            0,
            Step::Create {
                path: at.clone(),
                entry: old,
            },
        )
        .unwrap();
    world.pass(2);
    let new = file(&mut rng);
    let update = Step::Update {
        path: at,
        entry: new.clone(),
        delete_chunks: true,
    };
    world.step(1, update).unwrap();
    world.kill(1).unwrap();
    world.pass(10);
    world.demand_level();
    for f in 0..2 {
        assert_eq!(world.entry(f, "/f"), Some(new.clone()), "filer {f}");
    }
}
