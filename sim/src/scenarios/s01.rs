// SPDX-License-Identifier: Apache-2.0
//! S01: partition one of three filers, delete there, kill -9 it, restart, heal.

use dulse_store::Step;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cluster;
use crate::workload::make::{file, path};

#[test]
fn s01_a_delete_at_a_cut_filer_that_dies_is_a_delete_everywhere() {
    let mut world = cluster(3);
    let mut rng = StdRng::seed_from_u64(1);
    for name in ["/a", "/b"] {
        let (path, entry) = (path(name), file(&mut rng));
        world.step(1, Step::Create { path, entry }).unwrap();
    }
    world.pass(2);
    world.isolate(0);
    let delete = Step::Delete {
        path: path("/a"),
        delete_chunks: true,
    };
    world.step(0, delete).unwrap();
    world.kill(0).unwrap();
    world.pass(10);
    assert_eq!(world.names(1, "/"), ["a", "b"], "nobody heard of it");
    world.demand_level();
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["b"], "filer {f}");
    }
}
