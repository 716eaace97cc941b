// SPDX-License-Identifier: Apache-2.0
//! The key-value space.

use std::sync::Arc;

use bytes::Bytes;
use dulse_store::{EntryStore, ErrorKind, Step};

use crate::case::suite;
use crate::make::{apply, create, file, front, names, refused};

suite! { "kv":
    Store a_key_is_set_read_and_removed,
    Store keys_of_any_bytes_are_kept_apart,
    Store keys_and_entries_do_not_meet,
    Store a_value_of_a_mebibyte_is_read_back,
    Store removing_a_key_that_is_not_there_is_fine,
    Store the_store_id_may_not_be_written,
    Store keys_are_part_of_the_transaction,
}

fn put(key: &[u8], value: &[u8]) -> Step {
    Step::KvPut {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
    }
}

fn remove(key: &[u8]) -> Step {
    let key = Bytes::copy_from_slice(key);
    Step::KvDelete { key }
}

fn get(store: &Arc<dyn EntryStore>, key: &[u8]) -> Option<Bytes> {
    store.kv_get(key).unwrap()
}

fn a_key_is_set_read_and_removed(store: &Arc<dyn EntryStore>) {
    apply(store, vec![put(b"some key", b"one")]).unwrap();
    assert_eq!(get(store, b"some key").as_deref(), Some(&b"one"[..]));
    apply(store, vec![put(b"some key", b"two")]).unwrap();
    assert_eq!(get(store, b"some key").as_deref(), Some(&b"two"[..]));
    apply(store, vec![remove(b"some key")]).unwrap();
    assert_eq!(get(store, b"some key"), None);
}

fn keys_of_any_bytes_are_kept_apart(store: &Arc<dyn EntryStore>) {
    // Keys below eight bytes end in other bytes than zero: SQL layouts pad them with zeros.
    // Above 574 bytes, a key does not fit the column of upstream's tables in MySQL.
    let long = [b'k'; 574];
    let keys: [&[u8]; 9] = [
        b"a",
        b"ab",
        b"a\x01",
        b"\xff\xfe\xfd",
        b"sync.\x80\x00\x00\x01",
        b"12345678",
        b"123456789",
        b"12345678\x00",
        &long,
    ];
    for key in keys {
        apply(store, vec![put(key, key)]).unwrap();
    }
    for key in keys {
        assert_eq!(get(store, key).as_deref(), Some(key));
    }
    apply(store, vec![remove(b"ab")]).unwrap();
    assert_eq!(get(store, b"ab"), None);
    assert_eq!(get(store, b"a").as_deref(), Some(&b"a"[..]));
}

fn keys_and_entries_do_not_meet(store: &Arc<dyn EntryStore>) {
    let steps = vec![
        create("/some", &file("1")),
        put(b"/some", b"kv"),
        put(b"/\x00some", b"kv"),
    ];
    apply(store, steps).unwrap();
    assert_eq!(names(store, "/", &front(10)), ["some"]);
    assert_eq!(get(store, b"/some").as_deref(), Some(&b"kv"[..]));
    apply(store, vec![remove(b"/some")]).unwrap();
    assert_eq!(names(store, "/", &front(10)), ["some"]);
}

fn a_value_of_a_mebibyte_is_read_back(store: &Arc<dyn EntryStore>) {
    let value: Vec<u8> = (0..1 << 20).map(|n: u32| (n >> 3) as u8).collect();
    apply(store, vec![put(b"large", &value)]).unwrap();
    assert!(get(store, b"large").as_deref() == Some(&value[..]));
}

fn removing_a_key_that_is_not_there_is_fine(store: &Arc<dyn EntryStore>) {
    apply(store, vec![remove(b"none")]).unwrap();
}

fn the_store_id_may_not_be_written(store: &Arc<dyn EntryStore>) {
    let set = apply(store, vec![put(b"filer.store.id", b"abcd")]);
    assert_eq!(refused(set), ErrorKind::Invalid);
    let removed = apply(store, vec![remove(b"filer.store.id")]);
    assert_eq!(refused(removed), ErrorKind::Invalid);
}

fn keys_are_part_of_the_transaction(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/a", &file("1"))]).unwrap();
    let failed = apply(store, vec![put(b"k", b"v"), create("/a", &file("2"))]);
    assert_eq!(refused(failed), ErrorKind::Conflict);
    assert_eq!(get(store, b"k"), None);
}
