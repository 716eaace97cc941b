// SPDX-License-Identifier: Apache-2.0
//! What peers have of this filer while its engine takes its time.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::{Batch, Engine, Error as KvError, MemoryEngine, Order, Read, Usage, Visitor};
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};
use dulse_store::{Step, Transaction};
use parking_lot::Mutex;

use super::guards::says;
use super::*;

/// An engine that takes a change only once it is let.
struct Slow(MemoryEngine, Arc<Mutex<()>>);

impl Read for Slow {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.0.get(key)
    }

    fn visit(
        &self,
        range: std::ops::Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), KvError> {
        self.0.visit(range, order, visitor)
    }
}

impl Engine for Slow {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        drop(self.1.lock());
        self.0.write(batch)
    }

    fn checkpoint(&self) -> Result<(), KvError> {
        self.0.checkpoint()
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, KvError> {
        self.0.snapshot()
    }

    fn usage(&self) -> Result<Usage, KvError> {
        self.0.usage()
    }

    fn name(&self) -> &'static str {
        "slow"
    }
}

/// A peer pulls a change from the log and applies it before the engine here has: it has more
/// then than is applied here, and nothing was set back.
#[test]
fn who_has_what_a_slow_engine_has_not_taken_yet_does_not_set_this_store_back() {
    let gate = Arc::new(Mutex::new(()));
    let mut replica = Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(Slow(MemoryEngine::new(), Arc::clone(&gate))),
        clock: Arc::new(SystemClock),
        random: 1 << 32 | 1,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })
    .unwrap();
    let shared = replica.shared();
    let own = shared.origin();
    let held = gate.lock();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let step = Step::KvPut {
                key: Bytes::from_static(b"k"),
                value: Bytes::from_static(b"v"),
            };
            let transaction = Transaction {
                steps: vec![step],
                ..Transaction::default()
            };
            replica.commit(vec![transaction]).remove(0).unwrap();
        });
        let sent = loop {
            let sent = shared.changes_after(own, Stamp::ZERO, 1 << 20).unwrap();
            if let Some(last) = sent.last() {
                break last.stamp;
            }
            std::thread::yield_now();
        };
        let applied = shared.vector().get(own);
        let mut has = Vector::new();
        has.set(own, sent);
        let mut said = says(origin(2), 2, has);
        said.compare(&shared).unwrap();
        drop(held);
        assert!(applied < sent, "the engine has not taken it yet");
        assert!(said.own >= sent, "nobody has more than the log here");
    });
}
