// SPDX-License-Identifier: Apache-2.0
//! Many callers share one append, one sync and one engine batch; checkpoints come under load.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use dulse_replica::{Durability, ReplicaStore};
use dulse_store::EntryStore;

use crate::machine::{Machine, create, path};

fn counts(machine: &Machine) -> (u64, u64, u64) {
    let (appends, syncs) = machine.disk.n_appends_and_syncs();
    (
        appends,
        syncs,
        machine.engine.n_writes.load(Ordering::Relaxed),
    )
}

#[test]
fn many_callers_share_one_append_one_sync_and_one_batch() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.checkpoint_every_bytes = 1 << 20;
    machine.limits.segment_size_bytes = 1 << 20;
    let mut replica = machine.open();
    replica.commit(vec![create("/first")]).remove(0).unwrap();
    let store = Arc::new(ReplicaStore::start(replica).unwrap());
    // The first caller is answered on the sequencer's thread, which waits there until all
    // the others are queued.
    let (all_queued, wait) = channel::<()>();
    let (reached, first_reached) = channel::<()>();
    store.commit(
        create("/gate"),
        Box::new(move |result| {
            result.unwrap();
            reached.send(()).unwrap();
            wait.recv().unwrap();
        }),
    );
    first_reached.recv().unwrap();
    let before = counts(&machine);
    let (done, answers) = channel();
    for n in 0..100 {
        let done = done.clone();
        let answer = Box::new(move |result: Result<_, _>| done.send(result.is_ok()).unwrap());
        store.commit(create(&format!("/f{n}")), answer);
    }
    all_queued.send(()).unwrap();
    assert!((0..100).all(|_| answers.recv().unwrap()));
    let after = counts(&machine);
    let spent = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    assert_eq!(spent, (1, 1, 1), "appends, syncs, batches");
    assert!(store.find(&path("/f99")).unwrap().is_some());
}

#[test]
fn a_checkpoint_comes_by_bytes_and_by_time_though_nobody_rests() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.checkpoint_every_bytes = 1 << 20;
    let mut replica = machine.open();
    let n_checkpoints = || machine.engine.n_checkpoints.load(Ordering::Relaxed);
    let before = n_checkpoints();
    for n in 0..50 {
        replica.commit(vec![create(&format!("/a{n}"))]);
    }
    assert_eq!(n_checkpoints(), before, "neither bytes nor time");
    for n in 0..10 {
        machine.leap(Duration::from_secs(3));
        replica.commit(vec![create(&format!("/b{n}"))]);
    }
    let by_time = n_checkpoints() - before;
    assert_eq!(by_time, 5, "30 s of load, one every 5 s and a bit");
    machine.limits.checkpoint_every_bytes = 2_000;
    drop(replica);
    let mut replica = machine.open();
    let before = n_checkpoints();
    for n in 0..50 {
        replica.commit(vec![create(&format!("/c{n}"))]);
    }
    assert!(n_checkpoints() > before + 2);
}
