// SPDX-License-Identifier: Apache-2.0
//! After a crash at any write or sync the replica is a prefix of what was done, with all
//! that anybody was told is durable, and its engine has nothing that its log lacks.

use bytes::Bytes;
use dulse_replica::{Applied, Durability, Replica};
use dulse_types::{Stamp, Vector};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::machine::{Machine, create, dump, path, random_step};

/// What was seen of one replica after each step.
struct History(Vec<(Vector, Vec<String>)>);

impl History {
    fn note(&mut self, replica: &Replica) {
        self.0.push((replica.shared().vector(), dump(replica)));
    }
}

/// Changes of a peer, in order.
fn of_peer(peer: &Replica, after: Stamp) -> Vec<Bytes> {
    let shared = peer.shared();
    let records = shared.changes_after(shared.origin(), after, usize::MAX);
    records.unwrap().into_iter().map(|r| r.payload).collect()
}

/// One local change, some of a peer's, or a sync. False when the disk failed.
fn step(replica: &mut Replica, peer: &mut Replica, rng: &mut StdRng) -> bool {
    match rng.random_range(0..8) {
        0..=3 => {
            let result = replica.commit(vec![random_step(rng)]).remove(0);
            !result.is_err_and(|e| e.kind() == dulse_store::ErrorKind::Io)
        }
        4..=6 => {
            for _ in 0..rng.random_range(1..4) {
                peer.commit(vec![random_step(rng)]);
            }
            let after = replica.shared().vector().get(peer.shared().origin());
            let mut changes = of_peer(peer, after);
            changes.truncate(rng.random_range(1..6));
            match replica.apply_remote(&changes) {
                Ok(applied) => {
                    assert!(applied.iter().all(|a| *a == Applied::Now), "{applied:?}");
                    true
                }
                Err(_) => false,
            }
        }
        _ => replica.sync().is_ok(),
    }
}

/// Every origin's log reaches exactly as far as the state does, without a hole.
fn check_log(replica: &Replica, what: &str) {
    let shared = replica.shared();
    let (vector, journal) = (shared.vector(), shared.journal());
    assert_eq!(journal.synced(), journal.end(), "{what}: not on disk");
    for (origin, last) in vector.iter() {
        let records = shared
            .changes_after(origin, Stamp::ZERO, usize::MAX)
            .unwrap();
        let mut at = Stamp::ZERO;
        for record in records {
            assert_eq!(record.prev, at, "{what}: a hole in {origin}");
            at = record.stamp;
        }
        assert_eq!(at, last, "{what}: log and state of {origin}");
    }
}

fn run(seed: u64, durability: Durability) -> (usize, usize) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let machine = Machine::new(seed << 32 | 5, durability);
    let other = Machine::new(seed << 32 | 9, Durability::Fsync);
    let mut peer = other.open();
    let mut replica = machine.open();
    let mut history = History(Vec::new());
    history.note(&replica);
    let (mut n_lost, mut n_unknown) = (0, 0);
    for round in 0..5 {
        let what = format!("seed {seed} round {round} {durability:?}");
        if rng.random_bool(0.6) {
            machine.disk.fail_at(rng.random_range(1..40));
        }
        let (mut durable, mut acknowledged) = (Vector::new(), Vector::new());
        let mut is_well = true;
        for _ in 0..rng.random_range(1..30) {
            is_well = step(&mut replica, &mut peer, rng);
            if !is_well {
                break;
            }
            history.note(&replica);
            durable = replica.shared().durable_vector();
            if durability == Durability::Fsync {
                let own = replica.shared().origin();
                acknowledged.set(own, replica.shared().vector().get(own));
            }
        }
        drop(replica);
        machine.crash(rng);
        replica = machine.open();
        let now = replica.shared().vector();
        assert!(
            now.includes(&durable),
            "{what}: {durable} was durable, now {now}"
        );
        assert!(now.includes(&acknowledged), "{what}: {acknowledged} lost");
        check_log(&replica, &what);
        match history.0.iter().rposition(|(vector, _)| *vector == now) {
            Some(at) => {
                assert_eq!(dump(&replica), history.0[at].1, "{what}");
                n_lost += history.0.len() - 1 - at;
                history.0.truncate(at + 1);
            }
            None => {
                // The step that failed may be there as a whole or, of a peer's changes, in part.
                let last = &history.0.last().unwrap().0;
                assert!(now.includes(last) || !is_well, "{what}: no prefix: {now}");
                history.note(&replica);
                n_unknown += 1;
            }
        }
    }
    // What survived is what peers see: another replica that takes it all ends alike.
    let third = Machine::new(seed << 32 | 13, Durability::Fsync);
    let mut third = third.open();
    for (origin, _) in replica.shared().vector().iter() {
        let records = replica
            .shared()
            .changes_after(origin, Stamp::ZERO, usize::MAX);
        let changes: Vec<Bytes> = records.unwrap().into_iter().map(|r| r.payload).collect();
        third.apply_remote(&changes).unwrap();
    }
    assert_eq!(dump(&third), dump(&replica), "seed {seed}");
    (n_lost, n_unknown)
}

#[test]
fn os_a_crash_leaves_a_prefix_and_all_that_was_called_durable() {
    let totals = (0..80).map(|seed| run(seed, Durability::Os));
    let (n_lost, _) = totals.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(n_lost > 100, "the crashes lost next to nothing: {n_lost}");
}

#[test]
fn fsync_a_crash_leaves_a_prefix_and_all_that_was_acknowledged() {
    let totals = (0..80).map(|seed| run(seed, Durability::Fsync));
    let (n_lost, n_unknown) = totals.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(n_lost > 20 && n_unknown > 0, "{n_lost} {n_unknown}");
}

/// The engine may reach the disk before the journal does. ⚠ Its batch carries the records, so
/// the log gets them back; else peers would never hear of them.
#[test]
fn what_only_the_engine_kept_is_in_the_log_again() {
    let machine = Machine::new(1 << 32 | 1, Durability::Os);
    let mut replica = machine.open();
    for name in ["/a", "/b", "/c"] {
        replica.commit(vec![create(name)]).remove(0).unwrap();
    }
    let before = dump(&replica);
    let own = replica.shared().origin();
    assert!(
        of_peer(&replica, Stamp::ZERO).is_empty(),
        "nothing is sent yet"
    );
    assert_eq!(replica.shared().durable_vector().get(own), Stamp::ZERO);
    drop(replica);
    machine.engine.engine.crash(|_| true);
    machine.disk.crash(|_| 0);
    let replica = machine.open();
    assert_eq!(dump(&replica), before);
    assert_eq!(of_peer(&replica, Stamp::ZERO).len(), 3);
    check_log(&replica, "restored");
}

#[test]
fn peers_changes_count_at_once_and_are_durable_after_a_sync() {
    let (a, b) = (
        Machine::new(1 << 32 | 1, Durability::Fsync),
        Machine::new(2 << 32 | 2, Durability::Fsync),
    );
    let (mut peer, mut replica) = (a.open(), b.open());
    peer.commit(vec![create("/a"), create("/b")]);
    let (changes, origin) = (of_peer(&peer, Stamp::ZERO), peer.shared().origin());
    let before = b.disk.n_appends_and_syncs();
    replica.apply_remote(&changes).unwrap();
    let after = b.disk.n_appends_and_syncs();
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 0));
    let shared = replica.shared();
    assert!(shared.find(&path("/a")).unwrap().is_some());
    assert!(shared.vector().get(origin) > Stamp::ZERO);
    assert_eq!(shared.durable_vector().get(origin), Stamp::ZERO);
    replica.sync().unwrap();
    assert_eq!(shared.durable_vector(), shared.vector());
}

#[test]
fn an_engine_ahead_of_the_log_is_refused() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]);
    drop(replica);
    // Another directory's engine, or a log restored from a backup.
    let other = Machine {
        engine: machine.engine.clone(),
        ..Machine::new(1 << 32 | 1, Durability::Fsync)
    };
    let error = Replica::open(other.options()).map(drop).unwrap_err();
    assert_eq!(error.kind(), dulse_store::ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(
        text.contains("the journal lost what the engine has"),
        "{text}"
    );
}
