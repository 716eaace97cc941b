// SPDX-License-Identifier: Apache-2.0
//! Directories with what is below them: moved and removed.

use std::sync::Arc;

use dulse_store::{EntryStore, ErrorKind, ListRange};

use crate::case::suite;
use crate::make::{apply, create, delete, directory, file, front, names, refused, rename, shown};

suite! { "trees":
    Store a_renamed_file_is_at_its_new_name_only,
    Store a_renamed_directory_takes_everything_along,
    Store a_rename_over_a_file_replaces_it,
    Store a_rename_over_what_was_deleted_before_it_replaces_it,
    Store a_rename_of_nothing_is_not_found,
    Store a_directory_with_entries_is_not_deleted,
    Store a_tree_goes_deepest_first_in_one_transaction,
    Store a_thousand_names_move_at_once,
    Store trees_in_buckets_move_inside_their_bucket,
    Store a_deleted_bucket_is_gone_and_may_come_again,
}

fn a_renamed_file_is_at_its_new_name_only(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/a", &file("1"))]).unwrap();
    let done = apply(store, vec![rename("/a", "/b")]).unwrap();
    assert_eq!(done.results[0].old_entry, Some(file("1")));
    assert_eq!(done.results[0].new_entry, Some(file("1")));
    assert_eq!(names(store, "/", &front(10)), ["b"]);
    assert_eq!(shown(store, "/b"), Some(file("1")));
}

fn tree(store: &Arc<dyn EntryStore>, top: &str) {
    let steps = vec![
        create(top, &directory()),
        create(&format!("{top}/a"), &file("1")),
        create(&format!("{top}/d"), &directory()),
        create(&format!("{top}/d/b"), &file("2")),
        create(&format!("{top}/d/e"), &directory()),
        create(&format!("{top}/d/e/c"), &file("3")),
    ];
    apply(store, steps).unwrap();
}

fn is_tree(store: &Arc<dyn EntryStore>, top: &str) {
    assert_eq!(names(store, top, &front(10)), ["a", "d"]);
    assert_eq!(names(store, &format!("{top}/d"), &front(10)), ["b", "e"]);
    assert_eq!(names(store, &format!("{top}/d/e"), &front(10)), ["c"]);
    assert_eq!(shown(store, &format!("{top}/d/e/c")), Some(file("3")));
    assert_eq!(shown(store, &format!("{top}/d/e")), Some(directory()));
}

fn is_gone(store: &Arc<dyn EntryStore>, top: &str) {
    for below in ["", "/a", "/d", "/d/b", "/d/e", "/d/e/c"] {
        assert_eq!(shown(store, &format!("{top}{below}")), None, "{top}{below}");
    }
    assert!(names(store, &format!("{top}/d"), &front(10)).is_empty());
}

fn a_renamed_directory_takes_everything_along(store: &Arc<dyn EntryStore>) {
    tree(store, "/t");
    apply(store, vec![create("/tx", &file("beside"))]).unwrap();
    apply(store, vec![rename("/t", "/u")]).unwrap();
    is_tree(store, "/u");
    is_gone(store, "/t");
    assert_eq!(shown(store, "/tx"), Some(file("beside")));
}

fn a_rename_over_a_file_replaces_it(store: &Arc<dyn EntryStore>) {
    let steps = vec![create("/a", &file("1")), create("/b", &file("2"))];
    apply(store, steps).unwrap();
    apply(store, vec![rename("/a", "/b")]).unwrap();
    assert_eq!(names(store, "/", &front(10)), ["b"]);
    assert_eq!(shown(store, "/b"), Some(file("1")));
}

fn a_rename_over_what_was_deleted_before_it_replaces_it(store: &Arc<dyn EntryStore>) {
    tree(store, "/t");
    apply(store, vec![create("/u", &directory())]).unwrap();
    apply(store, vec![delete("/u"), rename("/t", "/u")]).unwrap();
    is_tree(store, "/u");
    is_gone(store, "/t");
}

fn a_rename_of_nothing_is_not_found(store: &Arc<dyn EntryStore>) {
    let failed = apply(store, vec![rename("/a", "/b")]);
    assert_eq!(refused(failed), ErrorKind::NotFound);
}

fn a_directory_with_entries_is_not_deleted(store: &Arc<dyn EntryStore>) {
    tree(store, "/t");
    let failed = apply(store, vec![delete("/t")]);
    assert_eq!(refused(failed), ErrorKind::NotEmpty);
    is_tree(store, "/t");
}

fn a_tree_goes_deepest_first_in_one_transaction(store: &Arc<dyn EntryStore>) {
    tree(store, "/t");
    let all = ["/t/d/e/c", "/t/d/e", "/t/d/b", "/t/d", "/t/a", "/t"];
    apply(store, all.iter().map(|at| delete(at)).collect()).unwrap();
    is_gone(store, "/t");
}

fn a_thousand_names_move_at_once(store: &Arc<dyn EntryStore>) {
    let mut steps = vec![create("/t", &directory())];
    steps.extend((0..1_000).map(|n| create(&format!("/t/{n:04}"), &file("x"))));
    apply(store, steps).unwrap();
    apply(store, vec![rename("/t", "/u")]).unwrap();
    assert!(names(store, "/t", &front(10)).is_empty());
    let all = names(store, "/u", &front(2_000));
    assert_eq!(all.len(), 1_000);
    assert_eq!((all[0].as_str(), all[999].as_str()), ("0000", "0999"));
}

fn trees_in_buckets_move_inside_their_bucket(store: &Arc<dyn EntryStore>) {
    let steps = vec![
        create("/buckets", &directory()),
        create("/buckets/one", &directory()),
        create("/buckets/two", &directory()),
        create("/buckets/.hidden", &directory()),
    ];
    apply(store, steps).unwrap();
    for bucket in ["one", "two", ".hidden"] {
        tree(store, &format!("/buckets/{bucket}/t"));
        let (from, to) = (
            format!("/buckets/{bucket}/t"),
            format!("/buckets/{bucket}/u"),
        );
        apply(store, vec![rename(&from, &to)]).unwrap();
        is_tree(store, &to);
        is_gone(store, &from);
        assert_eq!(
            names(store, &format!("/buckets/{bucket}"), &front(10)),
            ["u"]
        );
    }
    assert_eq!(
        names(store, "/buckets", &front(10)),
        [".hidden", "one", "two"]
    );
    let range = ListRange {
        prefix: "u".to_owned(),
        ..front(10)
    };
    assert_eq!(names(store, "/buckets/one", &range), ["u"]);
}

fn a_deleted_bucket_is_gone_and_may_come_again(store: &Arc<dyn EntryStore>) {
    let make = || {
        vec![
            create("/buckets/one", &directory()),
            create("/buckets/one/x", &file("1")),
        ]
    };
    apply(store, vec![create("/buckets", &directory())]).unwrap();
    apply(store, make()).unwrap();
    let failed = apply(store, vec![delete("/buckets/one")]);
    assert_eq!(refused(failed), ErrorKind::NotEmpty);
    apply(
        store,
        vec![delete("/buckets/one/x"), delete("/buckets/one")],
    )
    .unwrap();
    assert_eq!(shown(store, "/buckets/one"), None);
    assert!(names(store, "/buckets/one", &front(10)).is_empty());
    apply(store, make()).unwrap();
    assert_eq!(names(store, "/buckets/one", &front(10)), ["x"]);
}
