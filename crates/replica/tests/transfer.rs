// SPDX-License-Identifier: Apache-2.0
//! States that are handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Applied, Clock, Durability, Limits, Replica, ReplicaOptions};
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
    Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(Ticking(AtomicI64::new(1_000_000))),
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
