// SPDX-License-Identifier: Apache-2.0
//! Single rows: written, read back, written over, removed.

use bytes::Bytes;
use dulse_kv::{Batch, Engine, ReadExt};

use crate::case::{Body, Case, Suite};
use crate::model::{END, all, put, puts, removes};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "core",
    cases: &[
        Case {
            name: "a_fresh_store_is_empty",
            body: Body::Engine(a_fresh_store_is_empty),
        },
        Case {
            name: "what_was_written_last_is_read",
            body: Body::Engine(what_was_written_last_is_read),
        },
        Case {
            name: "a_removed_key_is_gone",
            body: Body::Engine(a_removed_key_is_gone),
        },
        Case {
            name: "an_empty_value_is_a_value",
            body: Body::Engine(an_empty_value_is_a_value),
        },
        Case {
            name: "keys_of_any_bytes_are_kept_apart",
            body: Body::Engine(keys_of_any_bytes_are_kept_apart),
        },
        Case {
            name: "long_keys_are_kept_apart",
            body: Body::Engine(long_keys_are_kept_apart),
        },
        Case {
            name: "a_value_of_ten_mebibytes_is_read_back",
            body: Body::Engine(a_value_of_ten_mebibytes_is_read_back),
        },
        Case {
            name: "an_empty_batch_changes_nothing",
            body: Body::Engine(an_empty_batch_changes_nothing),
        },
    ],
};

fn a_fresh_store_is_empty(engine: &dyn Engine) {
    assert_eq!(engine.get(b"a").unwrap(), None);
    assert!(all(engine).is_empty());
    assert_eq!(engine.usage().unwrap().n_snapshots, 0);
    assert!(!engine.name().is_empty());
}

fn what_was_written_last_is_read(engine: &dyn Engine) {
    engine.write(put(b"a", b"one")).unwrap();
    assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(&b"one"[..]));
    engine.write(put(b"a", b"another, longer")).unwrap();
    engine.write(put(b"b", b"2")).unwrap();
    let value = engine.get(b"a").unwrap();
    assert_eq!(value.as_deref(), Some(&b"another, longer"[..]));
    assert_eq!(engine.get(b"aa").unwrap(), None);
    assert_eq!(engine.get(b"").unwrap(), None);
}

fn a_removed_key_is_gone(engine: &dyn Engine) {
    engine
        .write(puts([(&b"a"[..], &b"1"[..]), (b"b", b"2")]))
        .unwrap();
    engine.write(removes([&b"a"[..], b"never there"])).unwrap();
    assert_eq!(engine.get(b"a").unwrap(), None);
    assert_eq!(engine.scan(b"", END, 9).unwrap().len(), 1);
    engine.write(put(b"a", b"3")).unwrap();
    assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(&b"3"[..]));
}

fn an_empty_value_is_a_value(engine: &dyn Engine) {
    engine.write(put(b"a", b"")).unwrap();
    assert_eq!(engine.get(b"a").unwrap(), Some(Bytes::new()));
    let rows = engine.scan(b"", END, 9).unwrap();
    assert_eq!(rows, [(Bytes::from_static(b"a"), Bytes::new())]);
}

fn keys_of_any_bytes_are_kept_apart(engine: &dyn Engine) {
    let mut keys: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0],
        b"a".to_vec(),
        b"a\0".to_vec(),
        b"a\0b".to_vec(),
        b"A".to_vec(),
        "ä".as_bytes().to_vec(),
        vec![0xff],
        vec![0xff, 0],
        vec![0xff; 30],
    ];
    keys.extend((0..=u8::MAX).map(|byte| vec![b'x', byte]));
    for key in &keys {
        engine.write(put(key, key)).unwrap();
    }
    for key in &keys {
        assert_eq!(
            engine.get(key).unwrap().as_deref(),
            Some(&key[..]),
            "{key:?}"
        );
    }
    assert_eq!(all(engine).len(), keys.len());
}

/// A path may have 4 KiB, and a name stands behind it.
fn long_keys_are_kept_apart(engine: &dyn Engine) {
    let key = |last: u8| {
        let mut key = vec![b'p'; 5000];
        key.push(last);
        key
    };
    for last in 0..20 {
        engine.write(put(&key(last), &[last])).unwrap();
    }
    for last in 0..20 {
        assert_eq!(
            engine.get(&key(last)).unwrap().as_deref(),
            Some(&[last][..])
        );
    }
    let rows = engine.scan(&key(5), &key(9), 99).unwrap();
    assert_eq!(rows.len(), 4);
}

fn a_value_of_ten_mebibytes_is_read_back(engine: &dyn Engine) {
    let value = |seed: u32| -> Bytes {
        let words = (0..10 << 18).flat_map(|at: u32| (at ^ seed).to_le_bytes());
        words.collect()
    };
    let writes = (0..2u8)
        .map(|at| (vec![at], Some(value(u32::from(at) * 77))))
        .collect();
    engine.write(Batch { writes }).unwrap();
    engine.checkpoint().unwrap();
    for at in 0..2u8 {
        assert!(
            engine.get(&[at]).unwrap() == Some(value(u32::from(at) * 77)),
            "value {at}"
        );
    }
    let rows = engine.scan(b"", END, 2).unwrap();
    assert!(rows[1].1 == value(77));
}

fn an_empty_batch_changes_nothing(engine: &dyn Engine) {
    engine.write(put(b"a", b"1")).unwrap();
    engine.write(Batch::default()).unwrap();
    engine.checkpoint().unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(all(engine).len(), 1);
}
