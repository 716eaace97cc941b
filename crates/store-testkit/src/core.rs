// SPDX-License-Identifier: Apache-2.0
//! Single entries: created, found, written over, removed.

use std::sync::Arc;

use bytes::Bytes;
use dulse_store::{EntryStore, ErrorKind};
use dulse_types::Entry;
use dulse_types::entry::MODE_SYMLINK;

use crate::case::suite;
use crate::make::{
    apply, create, delete, directory, entry, file, front, names, path, plain, refused, shown,
    update,
};

suite! { "core":
    Store a_fresh_store_shows_nothing,
    Store a_created_entry_is_found_as_it_was,
    Store an_entry_written_over_is_the_new_one,
    Store a_deleted_entry_is_gone,
    Store creating_where_something_is_shown_is_a_conflict,
    Store what_is_not_there_cannot_be_updated_or_deleted,
    Store the_token_changes_with_every_change,
    Store names_of_any_characters_are_kept_apart,
    Store every_field_survives,
    Store unknown_fields_survive,
    Store stamps_rise_and_name_the_steps,
    Store the_origin_is_never_zero,
}

fn a_fresh_store_shows_nothing(store: &Arc<dyn EntryStore>) {
    assert_eq!(shown(store, "/a"), None);
    assert_eq!(names(store, "/", &front(10)), Vec::<String>::new());
    assert_eq!(store.kv_get(b"k").unwrap(), None);
}

fn a_created_entry_is_found_as_it_was(store: &Arc<dyn EntryStore>) {
    let one = file("one");
    let done = apply(store, vec![create("/a", &one)]).unwrap();
    assert_eq!(done.results.len(), 1);
    assert_eq!(done.results[0].old_entry, None);
    assert_eq!(done.results[0].new_entry.as_ref(), Some(&one));
    let found = store.find(&path("/a")).unwrap().unwrap();
    assert_eq!((plain(&found.entry), found.n_links), (one, 1));
}

fn an_entry_written_over_is_the_new_one(store: &Arc<dyn EntryStore>) {
    let (one, two) = (file("one"), file("another, longer"));
    apply(store, vec![create("/a", &one)]).unwrap();
    let done = apply(store, vec![update("/a", &two)]).unwrap();
    assert_eq!(done.results[0].old_entry.as_ref(), Some(&one));
    assert_eq!(done.results[0].new_entry.as_ref(), Some(&two));
    assert_eq!(shown(store, "/a"), Some(two));
}

fn a_deleted_entry_is_gone(store: &Arc<dyn EntryStore>) {
    let one = file("one");
    apply(store, vec![create("/a", &one), create("/b", &one)]).unwrap();
    let done = apply(store, vec![delete("/a")]).unwrap();
    assert_eq!(done.results[0].old_entry.as_ref(), Some(&one));
    assert_eq!(done.results[0].new_entry, None);
    assert_eq!(shown(store, "/a"), None);
    assert_eq!(names(store, "/", &front(10)), ["b"]);
    apply(store, vec![create("/a", &file("again"))]).unwrap();
    assert_eq!(shown(store, "/a"), Some(file("again")));
}

fn creating_where_something_is_shown_is_a_conflict(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/a", &file("one"))]).unwrap();
    let again = apply(store, vec![create("/a", &file("two"))]);
    assert_eq!(refused(again), ErrorKind::Conflict);
    assert_eq!(shown(store, "/a"), Some(file("one")));
}

fn what_is_not_there_cannot_be_updated_or_deleted(store: &Arc<dyn EntryStore>) {
    let updated = apply(store, vec![update("/a", &file("one"))]);
    assert_eq!(refused(updated), ErrorKind::NotFound);
    let deleted = apply(store, vec![delete("/a")]);
    assert_eq!(refused(deleted), ErrorKind::NotFound);
    assert_eq!(shown(store, "/a"), None);
}

fn the_token_changes_with_every_change(store: &Arc<dyn EntryStore>) {
    let token = || store.find(&path("/a")).unwrap().unwrap().token;
    apply(store, vec![create("/a", &file("one"))]).unwrap();
    let first = token();
    assert_eq!(first, token());
    apply(store, vec![create("/b", &file("one"))]).unwrap();
    assert_eq!(first, token());
    apply(store, vec![update("/a", &file("two"))]).unwrap();
    assert_ne!(first, token());
}

fn names_of_any_characters_are_kept_apart(store: &Arc<dyn EntryStore>) {
    let all = [
        "%",
        "_",
        "\\",
        "'",
        "\"",
        "a b",
        "A",
        "a",
        "ä",
        "a\u{308}",
        "日本語",
        "🦀",
        "..x",
        "a%b",
        "a_b",
        "a\\b",
        "\n",
        "\u{10ffff}",
        "-",
        "$1",
        ";drop",
    ];
    for name in all {
        let at = format!("/{name}");
        apply(store, vec![create(&at, &file(name))]).unwrap();
    }
    for name in all {
        assert_eq!(
            shown(store, &format!("/{name}")),
            Some(file(name)),
            "{name}"
        );
    }
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    assert_eq!(names(store, "/", &front(100)), sorted);
}

fn every_field_survives(store: &Arc<dyn EntryStore>) {
    let all = entry(|fields| {
        let attributes = fields.attrs_mut();
        attributes.file_mode = MODE_SYMLINK | 0o777;
        attributes.uid = 1000;
        attributes.gid = 100;
        attributes.mime = "text/plain".to_owned();
        attributes.user_name = "who".to_owned();
        attributes.group_name = vec!["a".to_owned(), "b".to_owned()];
        attributes.symlink_target = "../x".to_owned();
        attributes.md5 = Bytes::from_static(&[0, 255, 1]);
        attributes.rdev = 7;
        attributes.inode = u64::MAX;
        attributes.mtime = -1;
        attributes.mtime_ns = 999_999_999;
        let extended = [("xattr-user.a", &b"\x00\xff"[..]), ("Seaweed-x", b"y")];
        for (key, value) in extended {
            let value = Bytes::copy_from_slice(value);
            fields.extended.insert(key.to_owned(), value);
        }
        fields.quota = 1 << 40;
        fields.worm_enforced_at_ts_ns = 5;
    });
    apply(store, vec![create("/a", &all)]).unwrap();
    let found = shown(store, "/a").unwrap();
    assert_eq!(found.fields().unwrap(), all.fields().unwrap());
}

fn unknown_fields_survive(store: &Arc<dyn EntryStore>) {
    let mut raw = file("one").raw().to_vec();
    // Field 200, length-delimited, which no version knows.
    raw.extend_from_slice(&[0xc2, 0x0c, 0x03, b'x', b'y', b'z']);
    let later = Entry::from_bytes(raw.into()).unwrap();
    apply(store, vec![create("/a", &later)]).unwrap();
    let found = shown(store, "/a").unwrap();
    assert!(!found.unknown().is_empty());
    assert_eq!(found.unknown(), later.unknown());
    assert_eq!(found.fields().unwrap(), later.fields().unwrap());
}

fn stamps_rise_and_name_the_steps(store: &Arc<dyn EntryStore>) {
    let mut last = 0;
    for n in 0..5 {
        let steps = vec![
            create(&format!("/d{n}"), &directory()),
            create(&format!("/d{n}/f"), &file("x")),
        ];
        let done = apply(store, steps).unwrap();
        for result in &done.results {
            assert!(result.stamp.0 > last, "{:?} after {last}", result.stamp);
            last = result.stamp.0;
        }
        assert!(done.stamp.0 <= last && done.stamp.0 > 0);
    }
}

fn the_origin_is_never_zero(store: &Arc<dyn EntryStore>) {
    assert_ne!(store.origin().signature(), 0);
}
