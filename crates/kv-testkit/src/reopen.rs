// SPDX-License-Identifier: Apache-2.0
//! Closing and opening again.

use std::path::Path;

use crate::case::{Body, Case, Open, Suite};
use crate::model::{all, put, removes};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "reopen",
    cases: &[
        Case {
            name: "what_a_checkpoint_covered_is_there_again",
            body: Body::Open(what_a_checkpoint_covered_is_there_again),
        },
        Case {
            name: "of_later_batches_a_prefix_is_there",
            body: Body::Open(of_later_batches_a_prefix_is_there),
        },
        Case {
            name: "a_store_is_opened_again_and_again",
            body: Body::Open(a_store_is_opened_again_and_again),
        },
    ],
};

fn what_a_checkpoint_covered_is_there_again(open: &Open, dir: &Path) {
    let engine = open(dir).unwrap();
    engine.write(put(b"a", b"1")).unwrap();
    engine.write(put(b"b", b"2")).unwrap();
    engine.write(removes([&b"a"[..]])).unwrap();
    engine.checkpoint().unwrap();
    let before = all(&*engine);
    drop(engine);
    assert_eq!(all(&*open(dir).unwrap()), before);
}

fn of_later_batches_a_prefix_is_there(open: &Open, dir: &Path) {
    let engine = open(dir).unwrap();
    for n in 0..30u8 {
        engine.write(put(&[n], b"row")).unwrap();
        if n == 9 {
            engine.checkpoint().unwrap();
        }
    }
    drop(engine);
    let rows = all(&*open(dir).unwrap());
    assert!(rows.len() >= 10);
    assert!(rows.keys().map(|key| usize::from(key[0])).eq(0..rows.len()));
}

fn a_store_is_opened_again_and_again(open: &Open, dir: &Path) {
    for n in 0..8u8 {
        let engine = open(dir).unwrap();
        assert_eq!(all(&*engine).len(), usize::from(n));
        engine.write(put(&[n], &[n])).unwrap();
        engine.checkpoint().unwrap();
    }
    // Opening alone changes nothing.
    drop(open(dir).unwrap());
    assert_eq!(all(&*open(dir).unwrap()).len(), 8);
}
