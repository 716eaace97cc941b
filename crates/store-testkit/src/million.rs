// SPDX-License-Identifier: Apache-2.0
//! A directory of a million entries.

use std::sync::Arc;

use dulse_store::{EntryStore, LIST_MAX, ListRange};

use crate::case::suite;
use crate::make::{apply, create, delete, directory, file, front, list, names, shown};

suite! { "million":
    Store a_directory_of_a_million_entries_is_listed_and_changed_anywhere,
}

const ENTRIES: u64 = 1_000_000;

/// Entries of one transaction.
const AT_ONCE: u64 = 1_000;

/// Prime to [`ENTRIES`], so that multiples of it meet every entry once, in no order.
const STRIDE: u64 = 611_953;

fn name(n: u64) -> String {
    format!("{:07}", n * STRIDE % ENTRIES)
}

fn a_directory_of_a_million_entries_is_listed_and_changed_anywhere(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    for first in (0..ENTRIES).step_by(AT_ONCE as usize) {
        let part = (first..first + AT_ONCE).map(name);
        let steps = part.map(|name| create(&format!("/d/{name}"), &file(&name)));
        apply(store, steps.collect()).unwrap();
    }
    let (mut next, mut start) = (0, String::new());
    loop {
        let range = ListRange {
            start,
            ..front(LIST_MAX)
        };
        let page = names(store, "/d", &range);
        for found in &page {
            assert_eq!(*found, format!("{next:07}"), "each once, in order");
            next += 1;
        }
        let Some(last) = page.last() else { break };
        start = last.clone();
    }
    assert_eq!(next, ENTRIES);
    let range = ListRange {
        prefix: "04999".to_owned(),
        start: "0499949".to_owned(),
        ..front(LIST_MAX)
    };
    let rows = list(store, "/d", &range);
    let expected: Vec<String> = (499_950..500_000).map(|n| format!("{n:07}")).collect();
    assert!(rows.iter().map(|row| &row.name).eq(&expected));
    assert!(rows.iter().all(|row| row.entry == file(&row.name)));
    for n in (0..ENTRIES).step_by(9_973) {
        let at = format!("/d/{n:07}");
        assert_eq!(shown(store, &at), Some(file(&format!("{n:07}"))));
        apply(store, vec![delete(&at)]).unwrap();
        assert_eq!(shown(store, &at), None);
        let range = ListRange {
            start: format!("{n:07}"),
            inclusive: true,
            ..front(1)
        };
        let behind = (n + 1 < ENTRIES).then(|| format!("{:07}", n + 1));
        assert_eq!(names(store, "/d", &range).into_iter().next(), behind);
    }
}
