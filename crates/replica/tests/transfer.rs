// SPDX-License-Identifier: Apache-2.0
//! States that are handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Applied, Clock, Durability, ImportCursor, Limits, Replica, ReplicaOptions};
use dulse_store::{Step, Transaction};
use dulse_types::Stamp;

struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }

    fn monotonic(&self) -> std::time::Duration {
        let ns = self.0.load(Ordering::Relaxed);
        std::time::Duration::from_nanos(ns.unsigned_abs())
    }
}

fn open(random: u64, durability: Durability) -> Replica {
    open_on(
        (MemDisk::new(), MemoryEngine::new()),
        1_000_000,
        random,
        durability,
    )
}

fn open_on(
    (disk, engine): (MemDisk, MemoryEngine),
    now_ns: i64,
    random: u64,
    durability: Durability,
) -> Replica {
    Replica::open(ReplicaOptions {
        disk: Arc::new(disk),
        engine: Arc::new(engine),
        clock: Arc::new(Ticking(AtomicI64::new(now_ns))),
        random,
        durability,
        limits: Limits::STANDARD,
    })
    .unwrap()
}

fn put(replica: &mut Replica) {
    let transaction = Transaction {
        steps: vec![Step::KvPut {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
        }],
        ..Transaction::default()
    };
    replica.commit(vec![transaction]).remove(0).unwrap();
}

/// A provider handed out a state with a peer's changes that were not on disk in its log yet.
/// The changes that go with a state, for members that lack them, are read from what is on
/// disk: so the joiner's log had a hole at its end. When provider and origin were lost, a
/// member that was behind could never catch up (simulated, seed 114458 of that day).
#[test]
fn a_peers_changes_in_a_state_that_is_handed_out_are_on_disk() {
    let mut origin = open(1 << 32 | 1, Durability::Fsync);
    put(&mut origin);
    let made = origin.shared();
    let changes = made.changes_after(made.origin(), Stamp::ZERO, usize::MAX);
    let payloads: Vec<Bytes> = changes.unwrap().into_iter().map(|r| r.payload).collect();
    let mut provider = open(2 << 32 | 2, Durability::Fsync);
    let results = provider.apply_remote(&payloads).unwrap();
    assert_eq!(results, [Applied::Now]);
    let shared = provider.shared();
    let durable = shared.durable_vector();
    assert!(
        !durable.includes(&shared.vector()),
        "synced in the background"
    );
    let export = shared.export().unwrap();
    assert!(shared.durable_vector().includes(export.vector()));
    let kept = shared.changes_after(made.origin(), Stamp::ZERO, usize::MAX);
    assert_eq!(kept.unwrap().len(), payloads.len());
}

/// Under `os`, own changes are not on disk when they are answered; whoever takes in a state
/// has them for good.
#[test]
fn own_changes_in_a_state_that_is_handed_out_are_on_disk() {
    let mut replica = open(1 << 32 | 1, Durability::Os);
    put(&mut replica);
    let shared = replica.shared();
    assert!(!shared.durable_vector().includes(&shared.vector()));
    let export = shared.export().unwrap();
    assert!(shared.durable_vector().includes(export.vector()));
}

/// A provider broke off half way, was set back to an earlier state and written to again. Its new
/// log went further than what the receiver had taken in, so the transfer went on, with what the
/// new log had touched: rows of the old one stayed among those of the new (simulated, seed 5002643
/// of that day).
#[test]
fn a_transfer_goes_on_at_no_provider_whose_log_parted_from_what_was_taken_in() {
    let (disk, engine) = (MemDisk::new(), MemoryEngine::new());
    let store = (disk.clone(), engine.clone());
    let mut provider = open_on(store, 1_000_000, 1 << 32 | 1, Durability::Fsync);
    put(&mut provider);
    let copy = (disk.copied(), engine.copied());
    put(&mut provider);
    let mut export = provider.shared().export().unwrap();
    let part = export.next_part(1).unwrap();
    let cursor = |vector: &dulse_types::Vector| ImportCursor {
        vector: vector.clone(),
        newest: export.vector().clone(),
        after: part.after.clone(),
    };
    let whole = cursor(export.vector());
    put(&mut provider);
    let shared = provider.shared();
    let goes_on = shared.export().unwrap().resume(&shared, &whole);
    assert!(goes_on.unwrap(), "the same log");
    let mut set_back = open_on(copy, 9_000_000, 1 << 32 | 1, Durability::Fsync);
    let common = set_back.shared().vector();
    put(&mut set_back);
    let shared = set_back.shared();
    assert!(shared.vector().includes(export.vector()), "it goes further");
    let goes_on = shared.export().unwrap().resume(&shared, &whole);
    assert!(!goes_on.unwrap(), "it parted before what was taken in");
    // What was taken in last was newer than what it began with.
    let goes_on = shared.export().unwrap().resume(&shared, &cursor(&common));
    assert!(!goes_on.unwrap(), "it parted before the newest of it");
}
