// SPDX-License-Identifier: Apache-2.0
//! Writes that are acknowledged when other filers have them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dulse_replica::{Durability, LevelBelow, Levels, ReplicaStore};
use dulse_store::{Commit, EntryStore, Error, ErrorKind, Outcome};
use dulse_types::Stamp;

use crate::machine::{Machine, create, path};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn store(default: Durability, below: &[&str], wait: Duration) -> (Machine, ReplicaStore) {
    let machine = Machine::new(1 << 32 | 1, default);
    let below: Vec<LevelBelow> = below.iter().map(|text| text.parse().unwrap()).collect();
    let levels = Levels::new(default, &below).unwrap();
    let store = ReplicaStore::start_with(machine.open(), levels, wait).unwrap();
    (machine, store)
}

fn write(store: &ReplicaStore, at: &str) -> Receiver<Result<Commit, Error>> {
    let (done, answered) = channel();
    let answer = Box::new(move |result| drop(done.send(result)));
    store.commit(create(at), answer);
    answered
}

/// Position of what `at` was made by: it is there, though not acknowledged.
fn written(store: &ReplicaStore, at: &str) -> Stamp {
    while store.find(&path(at)).unwrap().is_none() {
        std::thread::yield_now();
    }
    store.shared().vector().get(store.shared().origin())
}

#[test]
fn an_answer_waits_for_a_peers_disk_and_the_sequencer_for_nobody() {
    let (_machine, store) = store(Durability::Peers(1), &["/fast=fsync"], LONG);
    store.peers_hold(vec![Stamp::ZERO]);
    let first = write(&store, "/first");
    let stamp = written(&store, "/first");
    assert!(store.is_awaited() && store.n_awaited() == 1);
    // Others are served while it waits, in the same log behind it.
    let other = write(&store, "/fast/other").recv().unwrap().unwrap();
    assert!(other.stamp > stamp);
    assert!(first.try_recv().is_err(), "nobody else has it");
    store.peers_hold(vec![Stamp(stamp.0 - 1)]);
    assert!(first.try_recv().is_err(), "nobody else has it on disk");
    store.peers_hold(vec![stamp]);
    assert_eq!(first.recv().unwrap().unwrap().stamp, stamp);
    assert!(!store.is_awaited());
}

#[test]
fn without_enough_connected_filers_a_write_is_refused_before_it_is_made() {
    let (_machine, store) = store(Durability::Peers(2), &[], Duration::from_millis(1));
    store.peers_hold(vec![Stamp::ZERO]);
    let refused = write(&store, "/refused").recv().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(refused.outcome(), Outcome::NotApplied);
    assert!(refused.is_retryable());
    let said = refused.to_string();
    assert!(
        said.contains("needs 2 connected filers") && said.contains("there are 1"),
        "{said}"
    );
    assert!(store.find(&path("/refused")).unwrap().is_none());
    assert!(!store.is_awaited());
}

#[test]
fn after_the_bound_the_outcome_is_told_as_unknown_and_the_write_is_there() {
    let (_machine, store) = store(Durability::Peers(1), &[], Duration::from_millis(1));
    store.peers_hold(vec![Stamp::ZERO]);
    let unknown = write(&store, "/x").recv().unwrap().unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unacknowledged);
    assert_eq!(unknown.outcome(), Outcome::Unknown);
    assert!(!unknown.is_retryable());
    let said = unknown.to_string();
    assert!(
        said.contains("outcome unknown") && said.contains("0 of 1"),
        "{said}"
    );
    assert!(store.find(&path("/x")).unwrap().is_some());
}

#[test]
fn a_stop_answers_those_who_wait() {
    let (_machine, store) = store(Durability::Peers(1), &[], LONG);
    store.peers_hold(vec![Stamp::ZERO]);
    let waiting = write(&store, "/x");
    written(&store, "/x");
    store.stop();
    let error = waiting.recv().unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[test]
fn below_a_directory_with_a_lesser_level_nobody_pays_for_a_sync() {
    let (machine, store) = store(Durability::Fsync, &["/tmp=os"], LONG);
    write(&store, "/kept").recv().unwrap().unwrap();
    let journal = |store: &ReplicaStore| {
        let journal = store.shared().journal();
        journal.end() - journal.synced()
    };
    assert_eq!(journal(&store), 0, "on disk when it is acknowledged");
    drop(store);
    // Nothing but the sequencer syncs a bare replica.
    let mut replica = machine.open();
    let result = replica.commit_as(vec![create("/tmp/x")], Durability::Os);
    result.into_iter().for_each(|r| drop(r.unwrap()));
    let shared = replica.shared();
    assert!(shared.journal().end() > shared.journal().synced());
}
