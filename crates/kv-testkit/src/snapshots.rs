// SPDX-License-Identifier: Apache-2.0
//! Snapshots: one state, whatever happens meanwhile, and the room they hold.

use std::time::Duration;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Read, ReadExt};

use crate::case::{Body, Case, Suite};
use crate::model::{END, all, put, puts, removes};

/// How often, and how long each time, compaction in the background is waited for: one minute in
/// all, of which an idle machine needs moments.
const COMPACTION_TRIES_MAX: u32 = 600;
const COMPACTION_PAUSE: Duration = Duration::from_millis(100);

/// The suite.
pub const SUITE: Suite = Suite {
    name: "snapshots",
    cases: &[
        Case {
            name: "a_snapshot_is_stable_while_writers_go_on",
            body: Body::Engine(a_snapshot_is_stable_while_writers_go_on),
        },
        Case {
            name: "a_snapshot_is_taken_when_asked_for_not_when_first_read",
            body: Body::Engine(a_snapshot_is_taken_when_asked_for_not_when_first_read),
        },
        Case {
            name: "snapshots_of_different_ages_live_side_by_side",
            body: Body::Engine(snapshots_of_different_ages_live_side_by_side),
        },
        Case {
            name: "snapshots_are_counted_until_they_are_dropped",
            body: Body::Engine(snapshots_are_counted_until_they_are_dropped),
        },
        Case {
            name: "what_a_snapshot_held_is_used_again",
            body: Body::Engine(what_a_snapshot_held_is_used_again),
        },
        Case {
            name: "a_snapshot_is_read_by_many_threads",
            body: Body::Engine(a_snapshot_is_read_by_many_threads),
        },
    ],
};

fn a_snapshot_is_stable_while_writers_go_on(engine: &dyn Engine) {
    engine
        .write(puts([(&b"a"[..], &b"1"[..]), (b"b", b"2"), (b"c", b"3")]))
        .unwrap();
    engine.checkpoint().unwrap();
    engine.write(put(b"d", b"4")).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let before = all(&*snapshot);
    assert_eq!(before.len(), 4);
    for round in 0..20u8 {
        engine
            .write(puts([
                (&b"a"[..], &[round; 5000][..]),
                (&[round, 9][..], b"new"),
            ]))
            .unwrap();
        engine.write(removes([&b"b"[..], b"d"])).unwrap();
        if round % 5 == 0 {
            engine.checkpoint().unwrap();
        }
        assert_eq!(all(&*snapshot), before);
        assert_eq!(snapshot.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(snapshot.scan_back(b"", END, 1).unwrap()[0].0, b"d"[..]);
    }
    drop(snapshot);
    assert_eq!(all(engine).len(), 2 + 20);
}

fn a_snapshot_is_taken_when_asked_for_not_when_first_read(engine: &dyn Engine) {
    let empty = engine.snapshot().unwrap();
    engine.write(put(b"a", b"1")).unwrap();
    let one = engine.snapshot().unwrap();
    engine.write(put(b"a", b"2")).unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(one.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(empty.get(b"a").unwrap(), None);
}

fn snapshots_of_different_ages_live_side_by_side(engine: &dyn Engine) {
    let mut snapshots = Vec::new();
    for n in 0..40u8 {
        engine.write(put(&[n], &[n])).unwrap();
        if n % 9 == 0 {
            engine.checkpoint().unwrap();
        }
        snapshots.push((usize::from(n) + 1, engine.snapshot().unwrap()));
    }
    // Dropped from the middle on, so that neither the oldest nor the newest goes first.
    while !snapshots.is_empty() {
        for (n, snapshot) in &snapshots {
            assert_eq!(all(&**snapshot).len(), *n);
        }
        snapshots.remove(snapshots.len() / 2);
    }
}

fn snapshots_are_counted_until_they_are_dropped(engine: &dyn Engine) {
    let count = || engine.usage().unwrap().n_snapshots;
    let first = engine.snapshot().unwrap();
    let second = engine.snapshot().unwrap();
    assert_eq!(count(), 2);
    drop(first);
    assert_eq!(count(), 1);
    engine.get(b"a").unwrap();
    drop(second);
    assert_eq!(count(), 0);
}

/// Writes the same rows over and over, about 4 MiB each time.
fn churn(engine: &dyn Engine, rounds: u8) {
    for round in 0..rounds {
        let row = |n: u32| {
            (
                n.to_be_bytes().to_vec(),
                Some(Bytes::from(vec![round; 4000])),
            )
        };
        for part in 0..4 {
            let writes = (part * 256..(part + 1) * 256).map(row).collect();
            engine.write(Batch { writes }).unwrap();
        }
        engine.checkpoint().unwrap();
    }
}

fn what_a_snapshot_held_is_used_again(engine: &dyn Engine) {
    churn(engine, 2);
    let snapshot = engine.snapshot().unwrap();
    churn(engine, 6);
    let held = engine.usage().unwrap();
    assert_eq!(held.n_snapshots, 1);
    drop(snapshot);
    churn(engine, 12);
    // Held rooms are used again: twice as many rounds without it take hardly more.
    let bound = held.disk_bytes + held.disk_bytes / 2 + (8 << 20);
    let mut after = engine.usage().unwrap();
    // Engines that compact do that in the background, when their turn comes.
    for _ in 0..COMPACTION_TRIES_MAX {
        if after.disk_bytes <= bound {
            return;
        }
        std::thread::sleep(COMPACTION_PAUSE);
        after = engine.usage().unwrap();
    }
    panic!("{after:?} after {held:?}");
}

fn a_snapshot_is_read_by_many_threads(engine: &dyn Engine) {
    for n in 0..100u8 {
        engine.write(put(&[n], &[n])).unwrap();
    }
    let snapshot = engine.snapshot().unwrap();
    let snapshot: &dyn Read = &*snapshot;
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            scope.spawn(move || {
                for n in 0..100u8 {
                    let value = snapshot.get(&[n]).unwrap();
                    assert_eq!(value.as_deref(), Some(&[n][..]), "thread {thread}");
                }
                assert_eq!(all(snapshot).len(), 100);
            });
        }
        for n in 0..100u8 {
            engine.write(removes([&[n][..]])).unwrap();
        }
    });
}
