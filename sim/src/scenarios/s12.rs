// SPDX-License-Identifier: Apache-2.0
//! S12: a recursive delete racing with creates below, at the same and at another filer.

use super::cluster;
use crate::workload::make::path;
use crate::workload::trees::remove_all;

#[test]
fn s12_what_is_created_below_a_tree_that_is_being_removed_survives_and_is_reachable() {
    let mut world = cluster(2);
    world.mkdir(0, "/t");
    world.mkdir(0, "/t/sub");
    for n in 0..12 {
        world.create(0, &format!("/t/sub/{n:02}"));
    }
    world.pass(2);
    world.isolate(1);
    world.create(1, "/t/sub/elsewhere");
    let mut parts = remove_all(&world, 0, &path("/t"));
    let last = parts.split_off(1);
    world.commit(0, parts).unwrap();
    world.create(0, "/t/sub/here");
    world.commit(0, last).unwrap();
    world.demand_end();
    for f in 0..2 {
        let names = world.names(f, "/t/sub");
        assert!(
            names.contains(&"elsewhere".to_owned()),
            "filer {f}: {names:?}"
        );
        assert!(names.contains(&"here".to_owned()), "filer {f}: {names:?}");
        assert_eq!(world.names(f, "/t"), ["sub"], "reachable from above");
    }
}
