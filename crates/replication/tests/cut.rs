// SPDX-License-Identifier: Apache-2.0
//! I8, I9: who pulls behind the cut of a log is told so, never given a part or silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Clock, Durability, Limits, Replica, ReplicaOptions};
use dulse_replication::feed::{Cursor, Next};
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

fn write(replica: &mut Replica, n: u8) {
    let step = Step::KvPut {
        key: vec![n].into(),
        value: vec![n; 100].into(),
    };
    let transaction = Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    replica.commit(vec![transaction]).remove(0).unwrap();
}

#[test]
fn a_puller_behind_the_cut_is_told_where_the_log_begins() {
    let mut replica = Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(Ticking(AtomicI64::new(1_000_000))),
        random: 1 << 32 | 1,
        durability: Durability::Fsync,
        limits: Limits {
            segment_size_bytes: 1_000,
            log_budget_bytes: 0,
            ..Limits::STANDARD
        },
    })
    .unwrap();
    for n in 0..50 {
        write(&mut replica, n);
    }
    let shared = replica.shared();
    let origin = shared.origin();
    let pull = |after: Stamp| {
        let mut cursor = Cursor { origin, after };
        cursor.next(&shared, 1 << 20).unwrap()
    };
    assert!(matches!(pull(Stamp::ZERO), Next::Changes(all) if all.len() == 50));
    replica.checkpoint().unwrap();
    replica.stable(shared.vector()).unwrap();
    let first = shared.changes_after(origin, Stamp::ZERO, 1).unwrap();
    let cut = first[0].prev;
    assert!(cut > Stamp::ZERO, "the log was cut");
    assert_eq!(pull(Stamp::ZERO), Next::Cut(cut));
    assert_eq!(pull(Stamp(cut.0 - 1)), Next::Cut(cut));
    assert!(matches!(pull(cut), Next::Changes(_)));
    // Another origin's log that is gone as a whole: no silence either.
    let last = shared.vector().get(origin);
    shared.journal().forget_all().unwrap();
    assert_eq!(pull(cut), Next::Cut(last));
    assert_eq!(pull(last), Next::Idle);
}
