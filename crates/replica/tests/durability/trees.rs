// SPDX-License-Identifier: Apache-2.0
//! Trees in parts: between others' commits, through crashes at every write, through a full
//! disk. Each entry is at its old or at its new path, at one of them only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use dulse_replica::{Applied, Durability, Replica, ReplicaStore, TreeBegun, TreeOver, TreeState};
use dulse_store::{
    EntryStore, ErrorKind, ListRange, Step, Transaction, TreeChange, TreeCommit, TreeWork, Trees,
};
use dulse_types::FullPath;
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::machine::{Machine, create, dump, path};

/// Names of the planted tree, its top included.
const N_PLANTED: usize = 41;

fn machine(durability: Durability) -> Machine {
    let mut machine = Machine::new(1 << 32 | 1, durability);
    machine.limits.tree_names_max = 10;
    machine.limits.tree_part_names = 4;
    machine
}

fn mkdir(text: &str) -> Transaction {
    let mut fields = dulse_types::EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    Transaction {
        steps: vec![Step::Create {
            path: path(text),
            entry: fields.to_entry(&UnknownFields::default()),
        }],
        ..Transaction::default()
    }
}

/// `/t` with directories `d0` to `d3`, each with nine files.
fn plant(replica: &mut Replica) {
    let dirs = (0..4).map(|d| mkdir(&format!("/t/d{d}")));
    let files = (0..4).flat_map(|d| (0..9).map(move |f| create(&format!("/t/d{d}/f{f}"))));
    for step in [mkdir("/t")].into_iter().chain(dirs).chain(files) {
        replica.commit(vec![step]).remove(0).unwrap();
    }
}

fn moved() -> TreeChange {
    TreeChange {
        before: Transaction::default(),
        path: path("/t"),
        work: TreeWork::Move { to: path("/u") },
    }
}

fn removed() -> TreeChange {
    TreeChange {
        work: TreeWork::Delete {
            delete_chunks: true,
        },
        ..moved()
    }
}

/// Every path below a top that is listed, without the top. ⚠ Those that only imply others do
/// not count: they have no entry of their own.
fn below(replica: &Replica, top: &str) -> BTreeSet<String> {
    let shared = replica.shared();
    let mut dirs = vec![path(top)];
    let mut out = BTreeSet::new();
    while let Some(dir) = dirs.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: 1_000,
        };
        for row in shared.list(&dir, &range).unwrap() {
            let child = FullPath::of(dir.as_str(), &row.name).unwrap();
            assert!(shared.find(&child).unwrap().is_some(), "{child} is listed");
            if row.entry.is_dir() {
                dirs.push(child);
            } else {
                out.insert(child.as_str()[top.len()..].to_owned());
            }
        }
    }
    out
}

/// Each planted file at exactly one of the two tops.
fn check_places(replica: &Replica, what: &str) -> (usize, usize) {
    let (old, new) = (below(replica, "/t"), below(replica, "/u"));
    assert!(old.is_disjoint(&new), "{what}: at both places");
    assert_eq!(old.len() + new.len(), 36, "{what}: at neither place");
    (old.len(), new.len())
}

fn open(replica: &mut Replica, change: TreeChange) {
    let begun = replica.begin_tree(change).unwrap();
    assert!(matches!(begun, TreeBegun::Open(_)), "{begun:?}");
}

/// Goes on until one is over.
fn finish(replica: &mut Replica, machine: &Machine) -> TreeOver {
    for _ in 0..1_000 {
        if let Some(over) = replica.step_tree() {
            return over;
        }
        if !replica.has_tree_work() {
            machine.leap(Duration::from_secs(1));
        }
    }
    panic!("it does not end: {:?}", replica.shared().trees());
}

fn commit_of(over: TreeOver) -> TreeCommit {
    over.result.unwrap()
}

/// Another replica that takes all of its log ends alike.
fn check_log(replica: &mut Replica) {
    replica.sync().unwrap();
    let shared = replica.shared();
    let log = shared.changes_after(shared.origin(), dulse_types::Stamp::ZERO, usize::MAX);
    let changes: Vec<_> = log.unwrap().into_iter().map(|r| r.payload).collect();
    let peer = Machine::new(9 << 32 | 9, Durability::Fsync);
    let mut peer = peer.open();
    let applied = peer.apply_remote(&changes).unwrap();
    assert!(applied.iter().all(|a| *a == Applied::Now));
    assert_eq!(dump(&peer), dump(replica));
}

#[test]
fn between_the_parts_others_commit_and_what_is_moved_is_locked() {
    let machine = machine(Durability::Fsync);
    let mut replica = machine.open();
    plant(&mut replica);
    open(&mut replica, moved());
    let mut n_parts = 0;
    let over = loop {
        check_places(&replica, "between parts");
        let made = replica.commit(vec![create(&format!("/else-{n_parts}"))]);
        assert!(made[0].is_ok(), "others go on");
        for inside in ["/t/d0/new", "/t", "/u/x", "/u"] {
            let error = replica.commit(vec![create(inside)]).remove(0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{inside}");
            assert!(error.to_string().contains("being moved to `/u`"), "{error}");
        }
        let error = replica.begin_tree(removed()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        n_parts += 1;
        if let Some(over) = replica.step_tree() {
            break over;
        }
    };
    assert!(n_parts >= N_PLANTED / 4, "{n_parts} parts");
    let commit = commit_of(over);
    assert_eq!((commit.n_names, commit.n_left), (N_PLANTED as u64, 0));
    assert_eq!(check_places(&replica, "in the end"), (0, 36));
    assert!(replica.shared().find(&path("/t")).unwrap().is_none());
    assert!(replica.shared().trees().is_empty());
    assert!(replica.commit(vec![create("/u/d0/new")])[0].is_ok());
    check_log(&mut replica);
}

#[test]
fn what_one_change_holds_goes_in_one() {
    let mut machine = machine(Durability::Fsync);
    machine.limits.tree_names_max = N_PLANTED;
    let mut replica = machine.open();
    plant(&mut replica);
    let before = machine.disk.n_appends_and_syncs().0;
    let begun = replica.begin_tree(moved()).unwrap();
    let TreeBegun::Done(commit) = begun else {
        panic!("{begun:?}");
    };
    assert_eq!(machine.disk.n_appends_and_syncs().0 - before, 1);
    assert_eq!(commit.intent, None);
    assert!(commit.top.unwrap().old_entry.unwrap().is_dir());
    let delete = TreeChange {
        path: path("/u"),
        ..removed()
    };
    assert!(matches!(
        replica.begin_tree(delete).unwrap(),
        TreeBegun::Done(_)
    ));
    assert!(replica.shared().find(&path("/u")).unwrap().is_none());
    check_log(&mut replica);
}

/// A crash at the n-th write or sync, for every n: what was begun is found, locked, and
/// resumed to the end.
fn crash_everywhere(change: &TreeChange, durability: Durability) -> (usize, usize) {
    let is_move = matches!(change.work, TreeWork::Move { .. });
    let (mut n_resumed, mut n_crashes) = (0, 0);
    for n in 1.. {
        let what = format!("write {n} {durability:?}");
        let rng = &mut StdRng::seed_from_u64(n);
        let machine = machine(durability);
        let mut replica = machine.open();
        plant(&mut replica);
        replica.sync().unwrap();
        machine.disk.fail_at(n);
        let begun = replica.begin_tree(change.clone());
        let mut is_answered = false;
        for round in 0..30 {
            if let Some(over) = replica.step_tree() {
                is_answered = over.result.is_ok();
                break;
            }
            // Others' commits in between, until the disk fails.
            if replica.commit(vec![create(&format!("/x{round}"))])[0].is_err() {
                break;
            }
            // As the thread beside the sequencer does.
            if replica.sync().is_err() {
                break;
            }
        }
        drop(replica);
        machine.crash(rng);
        let mut replica = machine.open();
        let open = replica.shared().trees();
        n_crashes += 1;
        if open.is_empty() {
            let is_old = below(&replica, "/t").len() == 36;
            let is_done = below(&replica, "/t").is_empty();
            assert!(is_old || is_done, "{what}: half way and forgotten");
            assert!(!is_answered || is_done, "{what}: answered and undone");
            if begun.is_ok() {
                assert!(is_done, "{what}: begun and forgotten");
            }
        } else {
            n_resumed += 1;
            assert_eq!(open[0].state, TreeState::Held, "{what}");
            if is_move {
                check_places(&replica, &what);
            }
            assert!(!replica.has_tree_work(), "{what}: goes on before it may");
            let inside = replica.commit(vec![create("/t/d0/new")]).remove(0);
            assert_eq!(inside.unwrap_err().kind(), ErrorKind::Unavailable);
            replica.resume_trees();
            let commit = commit_of(finish(&mut replica, &machine));
            assert_eq!(commit.n_left, 0, "{what}");
        }
        if is_move && below(&replica, "/t").is_empty() {
            assert_eq!(check_places(&replica, &what), (0, 36));
        }
        if !is_move {
            let n_left = below(&replica, "/t").len();
            assert!([0, 36].contains(&n_left), "{what}: {n_left} left");
        }
        assert!(replica.shared().trees().is_empty());
        check_log(&mut replica);
        // Nothing is left of it after another restart.
        drop(replica);
        assert!(machine.open().shared().trees().is_empty(), "{what}");
        if is_answered {
            return (n_resumed, n_crashes);
        }
    }
    (n_resumed, n_crashes)
}

#[test]
fn s11_a_move_that_a_crash_interrupts_at_any_write_is_resumed_to_its_end() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (n_resumed, n_crashes) = crash_everywhere(&moved(), durability);
        assert!(n_resumed > 10, "{n_resumed} of {n_crashes} resumed");
    }
}

#[test]
fn a_delete_that_a_crash_interrupts_at_any_write_is_resumed_to_its_end() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (n_resumed, n_crashes) = crash_everywhere(&removed(), durability);
        assert!(n_resumed > 10, "{n_resumed} of {n_crashes} resumed");
    }
}

#[test]
fn a_full_disk_holds_it_up_and_room_lets_it_go_on() {
    let machine = machine(Durability::Fsync);
    let mut replica = machine.open();
    plant(&mut replica);
    open(&mut replica, moved());
    assert!(replica.step_tree().is_none());
    machine.disk.set_full(true);
    assert!(replica.step_tree().is_none());
    let open = &replica.shared().trees()[0];
    assert!(
        matches!(&open.state, TreeState::Waiting(why) if why.contains("disk is full")),
        "{open:?}"
    );
    assert!(!replica.has_tree_work(), "not at once");
    check_places(&replica, "full");
    machine.disk.set_full(false);
    let commit = commit_of(finish(&mut replica, &machine));
    assert_eq!(commit.n_names, N_PLANTED as u64);
    assert_eq!(check_places(&replica, "in the end"), (0, 36));
    check_log(&mut replica);
}

/// The last part is in the log and the engine did not take it: the log is what counts.
#[test]
fn a_part_that_was_journaled_and_not_applied_is_not_done_twice() {
    for n_done in 0..12 {
        let machine = machine(Durability::Fsync);
        let mut replica = machine.open();
        plant(&mut replica);
        open(&mut replica, moved());
        for _ in 0..n_done.min(10) {
            assert!(replica.step_tree().is_none(), "{n_done}");
        }
        machine.engine.is_full.store(true, Ordering::Relaxed);
        assert!(replica.step_tree().is_none());
        machine.engine.is_full.store(false, Ordering::Relaxed);
        let commit = commit_of(finish(&mut replica, &machine));
        assert_eq!(check_places(&replica, "in the end"), (0, 36));
        let shared = replica.shared();
        assert_eq!(commit.stamp, shared.vector().get(shared.origin()));
        check_log(&mut replica);
        drop(replica);
        assert!(machine.open().shared().trees().is_empty(), "{n_done}");
    }
}

/// The intent is in a part of the log that is dropped while the tree change waits.
#[test]
fn an_open_tree_change_outlives_the_log_it_was_journaled_in() {
    let mut machine = machine(Durability::Fsync);
    machine.limits.log_budget_bytes = 0;
    let mut replica = machine.open();
    plant(&mut replica);
    open(&mut replica, moved());
    assert!(replica.step_tree().is_none());
    let intent_at = replica.shared().journal().end();
    for n in 0..60 {
        replica.commit(vec![create(&format!("/x{n}"))])[0]
            .as_ref()
            .unwrap();
    }
    replica.checkpoint().unwrap();
    replica.stable(replica.shared().vector()).unwrap();
    assert!(replica.shared().journal().begin() > intent_at, "dropped");
    drop(replica);
    machine.crash(&mut StdRng::seed_from_u64(1));
    let mut replica = machine.open();
    assert_eq!(replica.shared().trees().len(), 1);
    assert_eq!(replica.shared().trees()[0].n_names, 4);
    replica.resume_trees();
    finish(&mut replica, &machine);
    assert_eq!(check_places(&replica, "in the end"), (0, 36));
}

/// ⚠ What another filer put there and this one had not seen when it began is spared.
#[test]
fn s12_what_a_peer_made_below_after_it_began_survives_whatever_its_clock() {
    for change in [moved(), removed()] {
        let (mine, other) = (
            machine(Durability::Fsync),
            Machine::new(2 << 32 | 2, Durability::Fsync),
        );
        let (mut replica, mut peer) = (mine.open(), other.open());
        plant(&mut replica);
        // The peer's clock is far behind: its stamps are below the intent's.
        mine.leap(Duration::from_secs(100));
        for made in ["/t/d0/new", "/t/d3/new"] {
            peer.commit(vec![create(made)]).remove(0).unwrap();
        }
        let shared = peer.shared();
        let log = shared.changes_after(shared.origin(), dulse_types::Stamp::ZERO, usize::MAX);
        let log: Vec<_> = log.unwrap().into_iter().map(|r| r.payload).collect();
        open(&mut replica, change.clone());
        assert!(replica.step_tree().is_none());
        assert!(replica.step_tree().is_none());
        replica.apply_remote(&log).unwrap();
        let commit = commit_of(finish(&mut replica, &mine));
        let left: Vec<_> = below(&replica, "/t").into_iter().collect();
        assert_eq!(left, ["/d0/new", "/d3/new"], "{change:?}");
        let is_delete = matches!(change.work, TreeWork::Delete { .. });
        if is_delete {
            assert!(commit.n_left >= 1, "the caller hears of it");
        } else {
            assert_eq!(below(&replica, "/u").len(), 36);
        }
    }
}

/// Until the sequencer has taken what was asked, and waits at the gate.
fn until_taken(store: &ReplicaStore) {
    while store.n_waiting() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_write_below_waits_for_the_end_and_is_done_then() {
    let machine = machine(Durability::Fsync);
    let mut replica = machine.open();
    plant(&mut replica);
    let store = Arc::new(ReplicaStore::start(replica).unwrap());
    // Nothing goes on behind the gate, so that all below is queued before the second part.
    let gate = machine.engine.gate.lock().unwrap();
    let (told, order) = channel();
    let (over, opened) = (told.clone(), told.clone());
    store.change_tree(
        moved(),
        Box::new(move |_| opened.send(("opened", true)).unwrap()),
        Box::new(move |result| over.send(("tree", result.is_ok())).unwrap()),
    );
    until_taken(&store);
    for (name, at) in [("inside", "/u/d0/new"), ("outside", "/v")] {
        let told = told.clone();
        let done = Box::new(move |result: Result<_, _>| told.send((name, result.is_ok())).unwrap());
        store.commit(create(at), done);
    }
    drop(gate);
    let order: Vec<_> = (0..4).map(|_| order.recv().unwrap()).collect();
    assert_eq!(
        order,
        [
            ("opened", true),
            ("outside", true),
            ("tree", true),
            ("inside", true)
        ],
        "what is elsewhere does not wait, what is inside does"
    );
    assert!(store.find(&path("/u/d0/new")).unwrap().is_some());
}

#[test]
fn a_store_that_stops_says_that_the_outcome_is_open_and_goes_on_when_it_runs_again() {
    let machine = machine(Durability::Fsync);
    let mut replica = machine.open();
    plant(&mut replica);
    let store = ReplicaStore::start(replica).unwrap();
    let gate = machine.engine.gate.lock().unwrap();
    let (told, answers) = channel();
    let (over, inside) = (told.clone(), told);
    store.change_tree(
        moved(),
        Box::new(|_| {}),
        Box::new(move |result| over.send(result.err()).unwrap()),
    );
    until_taken(&store);
    let done = Box::new(move |result: Result<_, _>| inside.send(result.err()).unwrap());
    store.commit(create("/u/d0/new"), done);
    std::thread::scope(|scope| {
        scope.spawn(|| store.stop());
        while store.n_waiting() < 2 {
            std::thread::yield_now();
        }
        drop(gate);
    });
    let errors: Vec<_> = (0..2).map(|_| answers.recv().unwrap().unwrap()).collect();
    assert!(errors.iter().all(|e| e.kind() == ErrorKind::Unavailable));
    let unknown = errors
        .iter()
        .filter(|e| e.outcome() == dulse_store::Outcome::Unknown);
    assert_eq!(unknown.count(), 1, "{errors:?}");
    drop(store);
    let mut replica = machine.open();
    assert_eq!(replica.shared().trees().len(), 1);
    replica.resume_trees();
    finish(&mut replica, &machine);
    assert_eq!(check_places(&replica, "in the end"), (0, 36));
}

#[test]
fn a_sealed_store_writes_nothing_more_of_its_own() {
    let machine = machine(Durability::Fsync);
    let mut replica = machine.open();
    plant(&mut replica);
    let store = ReplicaStore::start(replica).unwrap();
    let gate = machine.engine.gate.lock().unwrap();
    let (told, answers) = channel();
    let before = told.clone();
    store.change_tree(
        moved(),
        Box::new(|_| {}),
        Box::new(move |result| told.send(result.unwrap_err().outcome()).unwrap()),
    );
    until_taken(&store);
    store.commit(
        create("/queued"),
        Box::new(move |result| drop((before, result.unwrap()))),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| store.seal());
        while store.n_waiting() < 2 {
            std::thread::yield_now();
        }
        drop(gate);
    });
    // What was queued before is done; the tree rests, and is done at the next start.
    assert_eq!(answers.recv().unwrap(), dulse_store::Outcome::Unknown);
    assert!(store.find(&path("/queued")).unwrap().is_some());
    let own = store.shared().origin();
    let sealed = store.shared().vector().get(own);
    for n in 0..20 {
        let (told, answer) = channel();
        let done = Box::new(move |result: Result<_, _>| told.send(result.err()).unwrap());
        store.commit(create(&format!("/late-{n}")), done);
        let refused = answer.recv().unwrap().expect("it is sealed");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_ne!(refused.outcome(), dulse_store::Outcome::Unknown);
    }
    assert_eq!(store.shared().vector().get(own), sealed);
    store.stop();
    drop(store);
    let mut replica = machine.open();
    assert_eq!(replica.shared().trees().len(), 1);
    replica.resume_trees();
    finish(&mut replica, &machine);
    assert_eq!(check_places(&replica, "in the end"), (0, 36));
}
