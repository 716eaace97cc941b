// SPDX-License-Identifier: Apache-2.0
//! Readers never wait for the sequencer. A reader that did would hang these tests.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use dulse_replica::{Durability, ReplicaStore};
use dulse_store::{EntryStore, ListRange};
use dulse_types::{FullPath, Stamp};

use crate::machine::{Machine, create, path};

#[test]
fn lookups_listings_and_pulls_go_on_while_a_write_is_under_way() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    let store = ReplicaStore::start(replica).unwrap();
    let gate = machine.engine.gate.lock().unwrap();
    let before = machine.engine.n_writes.load(Ordering::Relaxed);
    let (done, answered) = channel();
    let answer = Box::new(move |result: Result<_, _>| done.send(result.is_ok()).unwrap());
    store.commit(create("/b"), answer);
    while machine.engine.n_writes.load(Ordering::Relaxed) == before {
        std::thread::yield_now();
    }
    // The sequencer stands in the engine, its group journaled and synced.
    assert!(store.find(&path("/a")).unwrap().is_some());
    assert!(store.find(&path("/b")).unwrap().is_none());
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: true,
        limit: 10,
    };
    assert_eq!(store.list(&FullPath::root(), &range).unwrap().len(), 1);
    assert!(store.kv_get(b"none").unwrap().is_none());
    let shared = store.shared();
    let (vector, _) = shared.digest();
    assert_eq!(vector, shared.durable_vector());
    assert!(shared.promise() > Stamp::ZERO);
    let own = shared.origin();
    let pulled = shared.changes_after(own, Stamp::ZERO, usize::MAX);
    assert_eq!(pulled.unwrap().len(), 2, "durable, so peers may have it");
    drop(gate);
    assert!(answered.recv().unwrap());
    assert!(store.find(&path("/b")).unwrap().is_some());
}
