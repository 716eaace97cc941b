// SPDX-License-Identifier: Apache-2.0
//! S13: one directory renamed to two names on two filers at once; A into B on one and B into
//! A on the other.

use super::cluster;

#[test]
fn s13_a_directory_that_is_renamed_twice_at_once_has_one_place() {
    let mut world = cluster(3);
    world.mkdir(0, "/d");
    world.create(0, "/d/f");
    world.pass(2);
    world.isolate(1);
    world.rename(0, "/d", "/here");
    world.pass(1);
    world.rename(1, "/d", "/there");
    world.demand_end();
    for f in 0..3 {
        assert_eq!(
            world.names(f, "/"),
            ["there"],
            "the later rename wins at filer {f}"
        );
        assert_eq!(world.names(f, "/there"), ["f"], "filer {f}");
    }
}

#[test]
fn s13_a_into_b_and_b_into_a_lose_nothing_and_make_no_cycle() {
    let mut world = cluster(3);
    for dir in ["/a", "/b"] {
        world.mkdir(0, dir);
        world.create(0, &format!("{dir}/file"));
    }
    world.pass(2);
    world.isolate(1);
    world.rename(0, "/a", "/b/a");
    world.rename(1, "/b", "/a/b");
    world.demand_end();
    // Walks from the root: what lies in a cycle would not be found.
    let mut n_files = Vec::new();
    for f in 0..3 {
        let mut open = vec!["/".to_owned()];
        let mut n = 0;
        while let Some(dir) = open.pop() {
            for name in world.names(f, &dir) {
                let at = format!("{}/{name}", dir.trim_end_matches('/'));
                if world.entry(f, &at).unwrap().is_dir() {
                    open.push(at);
                } else {
                    n += 1;
                }
            }
        }
        n_files.push(n);
    }
    assert_eq!(n_files, [2, 2, 2], "both files are there, once, everywhere");
}
