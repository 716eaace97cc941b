// SPDX-License-Identifier: Apache-2.0
//! S27: one directory made at three filers at once. S28: a file here, a directory there.

use super::cluster;

#[test]
fn s27_a_directory_made_at_three_filers_is_one_with_all_children() {
    let mut world = cluster(3);
    for f in 0..3 {
        world.isolate(f);
    }
    for f in 0..3 {
        world.mkdir(f, "/d");
        world.create(f, &format!("/d/{f}"));
    }
    world.demand_end();
    for f in 0..3 {
        assert_eq!(world.names(f, "/"), ["d"], "filer {f}");
        assert_eq!(world.names(f, "/d"), ["0", "1", "2"], "filer {f}");
    }
}

/// That the file is kept, with its content, is the conflicts' part.
#[test]
fn s28_a_file_here_and_something_below_it_there_is_a_directory_everywhere() {
    let mut world = cluster(2);
    world.mkdir(0, "/a");
    world.pass(1);
    world.isolate(1);
    world.create(0, "/a/b");
    world.mkdir(1, "/a/b");
    world.create(1, "/a/b/c");
    world.demand_level();
    for f in 0..2 {
        assert!(world.entry(f, "/a/b").unwrap().is_dir(), "filer {f}");
        assert_eq!(world.names(f, "/a/b"), ["c"], "filer {f}");
    }
}
