// SPDX-License-Identifier: Apache-2.0
//! What was acknowledged is there when the store is opened again.

use std::path::Path;

use bytes::Bytes;
use dulse_store::Step;

use crate::case::{Open, suite};
use crate::make::{apply, create, delete, directory, file, front, names, rename, shown};

suite! { "reopen":
    Open everything_is_there_again,
    Open the_origin_stays,
    Open stamps_go_on_rising,
}

fn everything_is_there_again(open: &Open, dir: &Path) {
    {
        let store = open(dir).unwrap();
        let steps = vec![
            create("/d", &directory()),
            create("/d/a", &file("1")),
            create("/d/b", &file("2")),
        ];
        apply(&store, steps).unwrap();
        apply(&store, vec![rename("/d", "/e"), delete("/e/b")]).unwrap();
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        apply(&store, vec![Step::KvPut { key, value }]).unwrap();
    }
    let store = open(dir).unwrap();
    assert_eq!(names(&store, "/", &front(10)), ["e"]);
    assert_eq!(names(&store, "/e", &front(10)), ["a"]);
    assert_eq!(shown(&store, "/e/a"), Some(file("1")));
    assert_eq!(store.kv_get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

fn the_origin_stays(open: &Open, dir: &Path) {
    let first = open(dir).unwrap().origin();
    assert_eq!(open(dir).unwrap().origin(), first);
}

fn stamps_go_on_rising(open: &Open, dir: &Path) {
    let mut last = 0;
    for n in 0..4 {
        let store = open(dir).unwrap();
        let done = apply(&store, vec![create(&format!("/{n}"), &file("1"))]).unwrap();
        assert!(done.results[0].stamp.0 > last);
        last = done.results[0].stamp.0;
    }
}
