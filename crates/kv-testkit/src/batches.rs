// SPDX-License-Identifier: Apache-2.0
//! Batches: whole or absent, also for those who read while they are written.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dulse_kv::{Batch, Engine, ReadExt};

use crate::case::{Body, Case, Suite};
use crate::model::{END, all, put};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "batches",
    cases: &[
        Case {
            name: "a_batch_writes_and_removes_at_once",
            body: Body::Engine(a_batch_writes_and_removes_at_once),
        },
        Case {
            name: "a_batch_of_ten_thousand_rows_is_written",
            body: Body::Engine(a_batch_of_ten_thousand_rows_is_written),
        },
        Case {
            name: "no_reader_sees_half_a_batch",
            body: Body::Engine(no_reader_sees_half_a_batch),
        },
        Case {
            name: "no_snapshot_holds_half_a_batch",
            body: Body::Engine(no_snapshot_holds_half_a_batch),
        },
    ],
};

/// Rows that each round writes anew.
const N_ROWS: u32 = 60;

/// Rounds of a case with readers beside it.
const N_ROUNDS: u32 = 300;

fn a_batch_writes_and_removes_at_once(engine: &dyn Engine) {
    engine.write(put(b"old", b"1")).unwrap();
    let new = Some(Bytes::from_static(b"2"));
    let writes = vec![(b"new".to_vec(), new), (b"old".to_vec(), None)];
    engine.write(Batch { writes }).unwrap();
    assert_eq!(all(engine).keys().collect::<Vec<_>>(), [b"new"]);
}

fn a_batch_of_ten_thousand_rows_is_written(engine: &dyn Engine) {
    let row = |n: u32| {
        (
            n.to_be_bytes().to_vec(),
            Some(Bytes::from(vec![n as u8; 200])),
        )
    };
    let writes = (0..10_000).map(row).collect();
    engine.write(Batch { writes }).unwrap();
    assert_eq!(all(engine).len(), 10_000);
    let writes = (0..10_000).map(|n| (row(n).0, None)).collect();
    engine.write(Batch { writes }).unwrap();
    assert!(all(engine).is_empty());
}

/// Round `n` makes every row `n`, and moves one row to another place.
fn round(n: u32) -> Batch {
    let value = Bytes::copy_from_slice(&n.to_be_bytes());
    let mut writes: Vec<_> = (0..N_ROWS)
        .map(|row| (row.to_be_bytes().to_vec(), Some(value.clone())))
        .collect();
    let place = |n: u32| [&[1][..], &(n % 7).to_be_bytes()].concat();
    if n > 0 {
        writes.push((place(n - 1), None));
    }
    writes.push((place(n), Some(value)));
    Batch { writes }
}

/// Checks that all is of one round, and says which.
fn round_of(rows: &[(Bytes, Bytes)]) -> u32 {
    assert_eq!(rows.len() as u32, N_ROWS + 1, "rows of one round");
    assert!(
        rows.iter().all(|(_, value)| *value == rows[0].1),
        "values of one round"
    );
    u32::from_be_bytes(rows[0].1[..].try_into().unwrap())
}

fn while_writing(engine: &dyn Engine, check: impl Fn() -> u32 + Sync) {
    engine.write(round(0)).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let seen = check();
                    assert!(seen >= last, "round {seen} after round {last}");
                    last = seen;
                }
            });
        }
        for n in 1..=N_ROUNDS {
            engine.write(round(n)).unwrap();
            if n % 50 == 0 {
                engine.checkpoint().unwrap();
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(check(), N_ROUNDS);
}

fn no_reader_sees_half_a_batch(engine: &dyn Engine) {
    while_writing(engine, || {
        let forward = round_of(&engine.scan(b"", END, 99).unwrap());
        let backward = round_of(&engine.scan_back(b"", END, 99).unwrap());
        assert!(forward <= backward);
        backward
    });
}

fn no_snapshot_holds_half_a_batch(engine: &dyn Engine) {
    while_writing(engine, || {
        let snapshot = engine.snapshot().unwrap();
        let seen = round_of(&snapshot.scan(b"", END, 99).unwrap());
        let again = snapshot.get(&3u32.to_be_bytes()).unwrap().unwrap();
        assert_eq!(&again[..], seen.to_be_bytes());
        seen
    });
}
