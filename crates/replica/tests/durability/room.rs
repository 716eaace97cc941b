// SPDX-License-Identifier: Apache-2.0
//! A full disk refuses writes, loses nothing, and is over when there is room.

use std::sync::atomic::Ordering;

use dulse_journal::{Disk, Space};
use dulse_replica::{Durability, Replica};
use dulse_store::{ErrorKind, Outcome};

use crate::machine::{Machine, create, dump, path};

fn room(free_bytes: u64) -> Option<Space> {
    Some(Space {
        free_bytes,
        total_bytes: 1 << 40,
    })
}

fn has(replica: &Replica, text: &str) -> bool {
    replica.shared().find(&path(text)).unwrap().is_some()
}

#[test]
fn writes_are_refused_before_the_disk_is_full_and_resume_by_themselves() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.reserve_bytes = 1 << 20;
    machine.disk.set_space(room(100 << 20));
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    let is_reserved = || machine.disk.list().unwrap().contains(&"reserve".to_owned());
    assert!(is_reserved());
    machine.disk.set_space(room(400_000));
    let n_checkpoints = machine.engine.n_checkpoints.load(Ordering::Relaxed);
    let error = replica.commit(vec![create("/b")]).remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.to_string().contains("free bytes `400000`"), "{error}");
    assert!(!is_reserved(), "released for what must go on");
    let checkpointed = machine.engine.n_checkpoints.load(Ordering::Relaxed);
    assert_eq!(checkpointed, n_checkpoints + 1, "and used at once");
    assert!(has(&replica, "/a") && !has(&replica, "/b"), "reads go on");
    let refused = replica.apply_remote(&[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    // The released half alone is not room: no to and fro.
    machine.disk.set_space(room(400_000 + (1 << 19)));
    assert!(replica.commit(vec![create("/b")])[0].is_err());
    machine.disk.set_space(room(50 << 20));
    replica.commit(vec![create("/b")]).remove(0).unwrap();
    assert!(is_reserved());
}

#[test]
fn a_store_on_a_full_disk_opens_for_reading_and_resumes() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.disk.set_space(room(1 << 30));
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    let before = dump(&replica);
    drop(replica);
    machine.disk.set_space(room(0));
    let mut replica = machine.open();
    assert_eq!(dump(&replica), before);
    assert!(replica.commit(vec![create("/b")])[0].is_err());
    machine.disk.set_space(room(1 << 30));
    replica.commit(vec![create("/b")]).remove(0).unwrap();
}

/// The batch failed after its records were journaled: the outcome was unknown, and is
/// "applied" as soon as the engine takes writes again, without a restart.
#[test]
fn an_engine_that_lacked_room_catches_up_from_the_log() {
    for durability in [Durability::Fsync, Durability::Os] {
        let machine = Machine::new(1 << 32 | 1, durability);
        let mut replica = machine.open();
        replica.commit(vec![create("/a")]).remove(0).unwrap();
        machine.engine.is_full.store(true, Ordering::Relaxed);
        let error = replica.commit(vec![create("/b")]).remove(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert_eq!(error.outcome(), Outcome::Unknown);
        let error = replica.commit(vec![create("/c")]).remove(0).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert!(has(&replica, "/a") && !has(&replica, "/b"), "reads go on");
        machine.engine.is_full.store(false, Ordering::Relaxed);
        replica.commit(vec![create("/d")]).remove(0).unwrap();
        assert!(has(&replica, "/b") && has(&replica, "/d") && !has(&replica, "/c"));
        // As if it had never failed: digest, log and state agree after a restart as well.
        let before = dump(&replica);
        drop(replica);
        machine.engine.engine.crash(|_| false);
        assert_eq!(dump(&machine.open()), before);
    }
}

#[test]
fn after_a_failed_sync_reads_go_on_and_a_restart_is_asked_for() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    machine.disk.fail_next("sync");
    let error = replica.commit(vec![create("/b")]).remove(0).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let error = replica.commit(vec![create("/c")]).remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(has(&replica, "/a"));
    drop(replica);
    let mut replica = machine.open();
    assert!(has(&replica, "/a") && !has(&replica, "/c"));
    replica.commit(vec![create("/d")]).remove(0).unwrap();
}
