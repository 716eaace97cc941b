// SPDX-License-Identifier: Apache-2.0
//! Directories: order, paging, prefixes.

use std::sync::Arc;

use dulse_store::{EntryStore, LIST_MAX, ListRange};

use crate::case::suite;
use crate::make::{apply, create, delete, directory, file, front, list, names};

suite! { "listing":
    Store names_come_in_byte_order,
    Store pages_follow_one_another_without_loss,
    Store a_page_resumes_after_a_removed_name,
    Store an_inclusive_start_may_appear_itself,
    Store only_names_with_the_prefix_appear,
    Store a_prefix_and_a_start_hold_together,
    Store a_missing_directory_and_a_file_are_empty_lists,
    Store only_children_appear_and_no_grandchildren,
    Store siblings_with_similar_names_are_kept_apart,
    Store a_directory_above_the_longest_page_is_paged,
}

const NAMES: [&str; 12] = [
    "!", "0", "10", "9", "A", "B", "_", "a", "aa", "b", "é", "日",
];

fn fill(store: &Arc<dyn EntryStore>, dir: &str, names: &[&str]) {
    let steps = names
        .iter()
        .rev()
        .map(|name| create(&format!("{dir}/{name}"), &file(name)));
    apply(store, steps.collect()).unwrap();
}

fn names_come_in_byte_order(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &NAMES);
    assert_eq!(names(store, "/d", &front(100)), NAMES);
    for row in list(store, "/d", &front(100)) {
        assert_eq!(row.entry, file(&row.name));
    }
}

fn pages_follow_one_another_without_loss(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &NAMES);
    for limit in [1, 2, 5, 11, 12, 13] {
        let (mut all, mut start) = (Vec::new(), String::new());
        loop {
            let range = ListRange {
                start: start.clone(),
                ..front(limit)
            };
            let page = names(store, "/d", &range);
            assert!(page.len() <= limit);
            let is_end = page.len() < limit;
            start = page.last().cloned().unwrap_or_default();
            all.extend(page);
            if is_end {
                break;
            }
        }
        assert_eq!(all, NAMES, "pages of {limit}");
    }
}

fn a_page_resumes_after_a_removed_name(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &["a", "b", "c"]);
    apply(store, vec![delete("/d/b")]).unwrap();
    for inclusive in [false, true] {
        let range = ListRange {
            start: "b".to_owned(),
            inclusive,
            ..front(10)
        };
        assert_eq!(names(store, "/d", &range), ["c"]);
    }
}

fn an_inclusive_start_may_appear_itself(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &["a", "b", "c"]);
    let mut range = ListRange {
        start: "b".to_owned(),
        inclusive: true,
        ..front(10)
    };
    assert_eq!(names(store, "/d", &range), ["b", "c"]);
    range.inclusive = false;
    assert_eq!(names(store, "/d", &range), ["c"]);
}

fn only_names_with_the_prefix_appear(store: &Arc<dyn EntryStore>) {
    let all = [
        "a",
        "a%",
        "a%b",
        "a_",
        "ab",
        "aé",
        "aéx",
        "aê",
        "a\u{10ffff}",
        "a\u{10ffff}z",
        "b",
    ];
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &all);
    for prefix in [
        "",
        "a",
        "a%",
        "a_",
        "aé",
        "a\u{10ffff}",
        "b",
        "zz",
        "\\",
        "A",
    ] {
        let range = ListRange {
            prefix: prefix.to_owned(),
            ..front(100)
        };
        let mut expected: Vec<&str> = all
            .iter()
            .copied()
            .filter(|n| n.starts_with(prefix))
            .collect();
        expected.sort_unstable();
        assert_eq!(names(store, "/d", &range), expected, "prefix {prefix}");
    }
}

fn a_prefix_and_a_start_hold_together(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    fill(store, "/d", &["a1", "a2", "a3", "b1"]);
    let of = |start: &str, inclusive, limit| {
        let range = ListRange {
            prefix: "a".to_owned(),
            start: start.to_owned(),
            inclusive,
            limit,
        };
        names(store, "/d", &range)
    };
    assert_eq!(of("a1", false, 10), ["a2", "a3"]);
    assert_eq!(of("a1", true, 2), ["a1", "a2"]);
    assert_eq!(of("0", false, 10), ["a1", "a2", "a3"]);
    assert_eq!(of("b", false, 10), Vec::<String>::new());
}

fn a_missing_directory_and_a_file_are_empty_lists(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/f", &file("x"))]).unwrap();
    assert!(names(store, "/f", &front(10)).is_empty());
    assert!(names(store, "/none", &front(10)).is_empty());
    assert!(names(store, "/buckets/none/x", &front(10)).is_empty());
}

fn only_children_appear_and_no_grandchildren(store: &Arc<dyn EntryStore>) {
    let steps = vec![
        create("/d", &directory()),
        create("/d/e", &directory()),
        create("/d/e/f", &file("x")),
    ];
    apply(store, steps).unwrap();
    assert_eq!(names(store, "/", &front(10)), ["d"]);
    assert_eq!(names(store, "/d", &front(10)), ["e"]);
    assert_eq!(names(store, "/d/e", &front(10)), ["f"]);
}

fn siblings_with_similar_names_are_kept_apart(store: &Arc<dyn EntryStore>) {
    let steps = vec![
        create("/d", &directory()),
        create("/d!", &directory()),
        create("/d0", &directory()),
        create("/d/x", &file("1")),
        create("/d!/x", &file("2")),
        create("/d0/x", &file("3")),
    ];
    apply(store, steps).unwrap();
    for dir in ["/d", "/d!", "/d0"] {
        assert_eq!(names(store, dir, &front(10)), ["x"]);
    }
}

fn a_directory_above_the_longest_page_is_paged(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    let all: Vec<String> = (0..LIST_MAX + 500).map(|n| format!("{n:06}")).collect();
    for part in all.chunks(1_000) {
        let steps = part
            .iter()
            .map(|name| create(&format!("/d/{name}"), &file("")));
        apply(store, steps.collect()).unwrap();
    }
    let mut page = names(store, "/d", &front(LIST_MAX));
    assert_eq!(page.len(), LIST_MAX);
    let range = ListRange {
        start: page.last().unwrap().clone(),
        ..front(LIST_MAX)
    };
    page.extend(names(store, "/d", &range));
    assert!(page == all, "two pages hold every name once, in order");
}
