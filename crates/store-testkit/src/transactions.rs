// SPDX-License-Identifier: Apache-2.0
//! Whole or not at all, and under what must hold.

use std::sync::Arc;

use dulse_store::{EntryStore, ErrorKind, Expect, Token};
use dulse_types::Identity;

use crate::case::suite;
use crate::make::{
    apply, apply_if, create, delete, directory, file, front, names, path, refused, shown, update,
};

suite! { "transactions":
    Store steps_see_those_before_them,
    Store a_failing_step_leaves_nothing_of_the_others,
    Store an_empty_transaction_changes_nothing,
    Store absent_holds_only_where_nothing_is_shown,
    Store same_holds_only_for_the_state_that_was_read,
    Store directory_holds_only_for_directories,
    Store empty_holds_only_for_directories_without_entries,
    Store a_failed_expectation_leaves_nothing,
    Store a_conflict_that_nobody_has_is_not_found,
}

fn steps_see_those_before_them(store: &Arc<dyn EntryStore>) {
    let steps = vec![
        create("/a", &file("1")),
        update("/a", &file("2")),
        delete("/a"),
        create("/a", &file("3")),
        create("/d", &directory()),
        create("/d/x", &file("4")),
        delete("/d/x"),
        delete("/d"),
    ];
    let done = apply(store, steps).unwrap();
    assert_eq!(done.results[2].old_entry, Some(file("2")));
    assert_eq!(shown(store, "/a"), Some(file("3")));
    assert_eq!(names(store, "/", &front(10)), ["a"]);
}

fn a_failing_step_leaves_nothing_of_the_others(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/a", &file("1"))]).unwrap();
    let failed = apply(
        store,
        vec![
            create("/b", &file("2")),
            update("/a", &file("2")),
            delete("/none"),
        ],
    );
    assert_eq!(refused(failed), ErrorKind::NotFound);
    assert_eq!(shown(store, "/a"), Some(file("1")));
    assert_eq!(names(store, "/", &front(10)), ["a"]);
}

fn an_empty_transaction_changes_nothing(store: &Arc<dyn EntryStore>) {
    let done = apply(store, Vec::new()).unwrap();
    assert!(done.results.is_empty());
    assert!(names(store, "/", &front(10)).is_empty());
}

fn absent_holds_only_where_nothing_is_shown(store: &Arc<dyn EntryStore>) {
    let absent = || vec![Expect::Absent(path("/a"))];
    apply_if(store, absent(), create("/b", &file("1"))).unwrap();
    apply(store, vec![create("/a", &file("1"))]).unwrap();
    let failed = apply_if(store, absent(), create("/c", &file("1")));
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert_eq!(shown(store, "/c"), None);
}

fn same_holds_only_for_the_state_that_was_read(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/a", &file("1"))]).unwrap();
    let token = store.find(&path("/a")).unwrap().unwrap().token;
    let same = |token: Token| vec![Expect::Same(path("/a"), token)];
    apply_if(store, same(token), update("/a", &file("2"))).unwrap();
    let failed = apply_if(store, same(token), update("/a", &file("3")));
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert_eq!(shown(store, "/a"), Some(file("2")));
    apply(store, vec![delete("/a")]).unwrap();
    let failed = apply_if(store, same(token), create("/a", &file("3")));
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert_eq!(shown(store, "/a"), None);
}

fn directory_holds_only_for_directories(store: &Arc<dyn EntryStore>) {
    let steps = vec![create("/d", &directory()), create("/f", &file("1"))];
    apply(store, steps).unwrap();
    let at = |dir: &str, child: &str| {
        let expects = vec![Expect::Directory(path(dir))];
        apply_if(store, expects, create(child, &file("1")))
    };
    at("/d", "/d/x").unwrap();
    assert_eq!(refused(at("/f", "/f/x")), ErrorKind::Conflict);
    assert_eq!(refused(at("/none", "/none/x")), ErrorKind::Conflict);
    assert_eq!(shown(store, "/f/x"), None);
    assert_eq!(shown(store, "/none/x"), None);
}

fn empty_holds_only_for_directories_without_entries(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    let empty = || vec![Expect::Empty(path("/d"))];
    apply_if(store, empty(), create("/a", &file("1"))).unwrap();
    apply(store, vec![create("/d/x", &file("1"))]).unwrap();
    let failed = apply_if(store, empty(), create("/b", &file("1")));
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert_eq!(shown(store, "/b"), None);
}

fn a_failed_expectation_leaves_nothing(store: &Arc<dyn EntryStore>) {
    let expects = vec![Expect::Absent(path("/x")), Expect::Directory(path("/y"))];
    let failed = apply_if(store, expects, create("/a", &file("1")));
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert!(names(store, "/", &front(10)).is_empty());
}

fn a_conflict_that_nobody_has_is_not_found(store: &Arc<dyn EntryStore>) {
    let conflict = Identity {
        stamp: dulse_types::Stamp(1),
        origin: store.origin(),
        index: 0,
    };
    let failed = apply(store, vec![dulse_store::Step::Dismiss { conflict }]);
    assert_eq!(refused(failed), ErrorKind::NotFound);
}
