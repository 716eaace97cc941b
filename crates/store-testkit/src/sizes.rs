// SPDX-License-Identifier: Apache-2.0
//! Long names, deep paths, large entries, many chunks.

use std::sync::Arc;

use bytes::Bytes;
use dulse_store::EntryStore;
use dulse_types::FileId;
use dulse_types::entry::FileChunk;

use crate::case::suite;
use crate::make::{apply, create, directory, entry, file, front, names, rename, shown, update};

suite! { "sizes":
    Store names_of_255_bytes_are_kept_apart,
    Store deep_paths_are_found_and_listed,
    Store an_entry_of_ten_mebibytes_is_read_back,
    Store chunks_are_read_back_in_any_number,
    Store an_entry_without_any_field_is_one,
    Store what_expires_is_stored_like_any_other,
}

fn names_of_255_bytes_are_kept_apart(store: &Arc<dyn EntryStore>) {
    let long = [
        "x".repeat(255),
        format!("{}y", "x".repeat(254)),
        "é".repeat(127),
        "🦀".repeat(63),
    ];
    let mut sorted: Vec<String> = long.to_vec();
    sorted.sort_unstable();
    for name in &long {
        apply(store, vec![create(&format!("/{name}"), &file(name))]).unwrap();
    }
    for name in &long {
        assert_eq!(shown(store, &format!("/{name}")), Some(file(name)));
    }
    assert_eq!(names(store, "/", &front(10)), sorted);
}

fn deep_paths_are_found_and_listed(store: &Arc<dyn EntryStore>) {
    let (mut at, mut steps) = (String::new(), Vec::new());
    let name = "n".repeat(250);
    for _ in 0..15 {
        at = format!("{at}/{name}");
        steps.push(create(&at, &directory()));
    }
    let last = format!("{at}/f");
    steps.push(create(&last, &file("deep")));
    apply(store, steps).unwrap();
    assert_eq!(shown(store, &last), Some(file("deep")));
    assert_eq!(names(store, &at, &front(10)), ["f"]);
    apply(store, vec![rename(&format!("/{name}"), "/m")]).unwrap();
    let moved = format!("/m{}", &last[1 + name.len()..]);
    assert_eq!(shown(store, &moved), Some(file("deep")));
    assert_eq!(shown(store, &last), None);
}

fn an_entry_of_ten_mebibytes_is_read_back(store: &Arc<dyn EntryStore>) {
    let bytes = |seed: u32| -> Bytes {
        let next = |x: &mut u32| {
            *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*x >> 24) as u8)
        };
        let mut state = seed;
        std::iter::from_fn(|| next(&mut state))
            .take(10 << 20)
            .collect()
    };
    let large = |seed| entry(|fields| fields.content = bytes(seed));
    let (one, two) = (large(1), large(2));
    apply(store, vec![create("/large", &one)]).unwrap();
    assert!(
        shown(store, "/large") == Some(one),
        "what was created is read back"
    );
    apply(store, vec![update("/large", &two)]).unwrap();
    assert!(
        shown(store, "/large") == Some(two.clone()),
        "what was written over it is read back"
    );
    apply(store, vec![rename("/large", "/moved")]).unwrap();
    assert!(shown(store, "/moved") == Some(two), "it moves whole");
}

fn chunks_are_read_back_in_any_number(store: &Arc<dyn EntryStore>) {
    // Upstream's stores compress entries with more than 50.
    for n in [1_u64, 50, 51, 1_000] {
        let chunked = entry(|fields| {
            fields.chunks = (0..n).map(chunk).collect();
            fields.attrs_mut().file_size = n * 100;
        });
        let at = format!("/c{n}");
        apply(store, vec![create(&at, &chunked)]).unwrap();
        let found = shown(store, &at).unwrap();
        assert_eq!(
            found.fields().unwrap(),
            chunked.fields().unwrap(),
            "{n} chunks"
        );
    }
}

fn chunk(n: u64) -> FileChunk {
    let id: FileId = format!("{},{:x}0badcafe", n % 7 + 1, n + 1)
        .parse()
        .unwrap();
    let mut chunk = FileChunk {
        offset: i64::try_from(n).unwrap() * 100,
        size: 100,
        modified_ts_ns: 1_700_000_000_000_000_000 + i64::try_from(n).unwrap(),
        e_tag: format!("tag{n}"),
        ..FileChunk::default()
    };
    chunk.set_id(id);
    chunk
}

fn an_entry_without_any_field_is_one(store: &Arc<dyn EntryStore>) {
    let bare = dulse_types::Entry::default();
    apply(store, vec![create("/bare", &bare)]).unwrap();
    assert_eq!(
        shown(store, "/bare").map(|e| e.fields().unwrap()),
        Some(bare.fields().unwrap())
    );
    assert_eq!(names(store, "/", &front(10)), ["bare"]);
}

fn what_expires_is_stored_like_any_other(store: &Arc<dyn EntryStore>) {
    // Hiding is its readers' matter; the store shows what it has.
    let old = entry(|fields| {
        fields.attrs_mut().crtime = 1_000;
        fields.attrs_mut().ttl_sec = 1;
    });
    apply(store, vec![create("/old", &old)]).unwrap();
    let found = shown(store, "/old").unwrap();
    assert!(found.is_expired(1_002));
    assert_eq!(names(store, "/", &front(10)), ["old"]);
}
