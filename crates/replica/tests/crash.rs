// SPDX-License-Identifier: Apache-2.0
//! I2: what was acknowledged is there after a crash, log and state equal, however many
//! of its later batches the engine kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Applied, Clock, Durability, Limits, Replica, ReplicaOptions};
use dulse_store::{Expect, ListRange, Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

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

struct Machine {
    disk: MemDisk,
    engine: MemoryEngine,
    clock: Arc<Ticking>,
    random: u64,
}

impl Machine {
    fn new(random: u64) -> Self {
        let clock = Arc::new(Ticking(AtomicI64::new(1_000_000)));
        Self {
            disk: MemDisk::new(),
            engine: MemoryEngine::new(),
            clock,
            random,
        }
    }

    fn open(&self) -> Replica {
        Replica::open(ReplicaOptions {
            disk: Arc::new(self.disk.clone()),
            engine: Arc::new(self.engine.clone()),
            clock: self.clock.clone(),
            random: self.random,
            durability: Durability::Fsync,
            limits: Limits {
                checkpoint_every_bytes: 4_000,
                ..Limits::STANDARD
            },
        })
        .unwrap()
    }
}

fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn entry(uid: u32, is_dir: bool) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().uid = uid;
    fields.attrs_mut().file_mode = if is_dir {
        MODE_DIRECTORY | 0o755
    } else {
        0o644
    };
    fields.to_entry(&UnknownFields::default())
}

fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

fn create(text: &str, uid: u32) -> Transaction {
    one(Step::Create {
        path: path(text),
        entry: entry(uid, false),
    })
}

fn random_step(rng: &mut StdRng) -> Transaction {
    let pick = |rng: &mut StdRng| {
        let names = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/b/x/z"];
        path(names[rng.random_range(0..names.len())])
    };
    one(match rng.random_range(0..6) {
        0..=2 => Step::Create {
            path: pick(rng),
            entry: entry(rng.random(), rng.random_bool(0.5)),
        },
        3 => Step::Delete {
            path: pick(rng),
            delete_chunks: true,
        },
        4 => Step::Rename {
            from: pick(rng),
            to: pick(rng),
        },
        _ => Step::KvPut {
            key: Bytes::from(vec![rng.random_range(0..3)]),
            value: "v".into(),
        },
    })
}

/// Everything an observer can see.
fn dump(replica: &Replica) -> Vec<String> {
    let shared = replica.shared();
    let range = || ListRange {
        prefix: "".into(),
        start: "".into(),
        inclusive: true,
        limit: 1000,
    };
    let mut out = vec![format!("{:?}", shared.digest())];
    let mut dirs = vec![FullPath::root()];
    while let Some(dir) = dirs.pop() {
        for row in shared.list(&dir, &range()).unwrap() {
            let child = FullPath::of(dir.as_str(), &row.name).unwrap();
            out.push(format!("{child} {:?}", row.entry));
            if row.entry.is_dir() {
                dirs.push(child);
            }
        }
    }
    out
}

#[test]
fn a_crash_at_any_moment_keeps_every_acknowledged_change() {
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let machine = Machine::new(seed << 32 | 5);
        let mut replica = machine.open();
        for round in 0..4 {
            for _ in 0..rng.random_range(1..40) {
                let group = (0..rng.random_range(1..5))
                    .map(|_| random_step(&mut rng))
                    .collect();
                replica.commit(group);
            }
            let before = dump(&replica);
            drop(replica);
            let kept = rng.random_range(0..100);
            machine.engine.crash(|batch| batch < kept);
            machine
                .disk
                .crash(|unsynced| rng.random_range(0..=unsynced));
            replica = machine.open();
            assert_eq!(dump(&replica), before, "seed {seed} round {round}");
        }
    }
}

#[test]
fn two_replicas_end_alike_and_duplicates_and_holes_are_told() {
    let machines = [Machine::new(1 << 32 | 1), Machine::new(2 << 32 | 2)];
    let mut replicas: Vec<Replica> = machines.iter().map(Machine::open).collect();
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..60 {
        for replica in &mut replicas {
            replica.commit(vec![random_step(&mut rng)]);
        }
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let shared = replicas[from].shared();
        let records = shared
            .changes_after(shared.origin(), Stamp::ZERO, usize::MAX)
            .unwrap();
        let changes: Vec<Bytes> = records.into_iter().map(|r| r.payload).collect();
        let hole = replicas[to].apply_remote(&changes[1..2]).unwrap();
        assert!(matches!(hole[0], Applied::Hole { .. }));
        let applied = replicas[to].apply_remote(&changes).unwrap();
        assert!(applied.iter().all(|a| *a == Applied::Now));
        let again = replicas[to].apply_remote(&changes).unwrap();
        assert!(again.iter().all(|a| *a == Applied::Already));
    }
    assert_eq!(dump(&replicas[0]), dump(&replicas[1]));
}

#[test]
fn an_unknown_kind_of_change_is_told_and_not_skipped() {
    let (a, b) = (Machine::new(1 << 32 | 1), Machine::new(2 << 32 | 2));
    let (mut from, mut to) = (a.open(), b.open());
    from.commit(vec![create("/a", 1)]);
    let shared = from.shared();
    let record = &shared
        .changes_after(shared.origin(), Stamp::ZERO, usize::MAX)
        .unwrap()[0];
    let mut unknown = record.payload.to_vec();
    unknown[0] = 99;
    let applied = to.apply_remote(&[unknown.into()]).unwrap();
    assert!(matches!(applied[0], Applied::Undecodable(_)));
    assert!(to.shared().vector().is_empty());
}

#[test]
fn expectations_that_fail_change_nothing() {
    let machine = Machine::new(9 << 32 | 9);
    let mut replica = machine.open();
    replica.commit(vec![create("/a", 1)]);
    let before = dump(&replica);
    let mut second = create("/b", 1);
    second.expects = vec![Expect::Absent(path("/a"))];
    let mut third = create("/c", 1);
    third.steps.push(Step::Delete {
        path: path("/nothing"),
        delete_chunks: true,
    });
    let results = replica.commit(vec![second, third]);
    assert!(results.iter().all(Result::is_err));
    assert_eq!(dump(&replica), before);
    let found = replica.shared().find(&path("/a")).unwrap().unwrap();
    let mut update = one(Step::Update {
        path: path("/a"),
        entry: entry(2, false),
        delete_chunks: true,
    });
    update.expects = vec![Expect::Same(path("/a"), found.token)];
    assert!(replica.commit(vec![update.clone()])[0].is_ok());
    assert!(
        replica.commit(vec![update])[0].is_err(),
        "the token is spent"
    );
}

#[test]
fn a_full_disk_refuses_writes_and_resumes() {
    let machine = Machine::new(4 << 32 | 4);
    let mut replica = machine.open();
    replica.commit(vec![create("/a", 1)]);
    machine.disk.set_full(true);
    let error = replica.commit(vec![create("/b", 1)]).remove(0).unwrap_err();
    assert_eq!(error.kind(), dulse_store::ErrorKind::DiskFull);
    assert!(replica.shared().find(&path("/a")).unwrap().is_some());
    machine.disk.set_full(false);
    assert!(replica.commit(vec![create("/b", 1)])[0].is_ok());
}

#[test]
fn a_fresh_replica_takes_in_the_state_and_goes_on() {
    let (a, b) = (Machine::new(1 << 32 | 1), Machine::new(2 << 32 | 2));
    let (mut from, mut to) = (a.open(), b.open());
    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..100 {
        from.commit(vec![random_step(&mut rng)]);
    }
    let mut export = from.shared().export().unwrap();
    to.begin_import(export.vector().clone()).unwrap();
    loop {
        let part = export.next_part(10).unwrap();
        if part.is_empty() {
            break;
        }
        to.import(part).unwrap();
    }
    to.finish_import().unwrap();
    from.commit(vec![create("/later", 1)]);
    let shared = from.shared();
    let after = to.shared().vector().get(shared.origin());
    let records = shared
        .changes_after(shared.origin(), after, usize::MAX)
        .unwrap();
    let changes: Vec<Bytes> = records.into_iter().map(|r| r.payload).collect();
    assert_eq!(to.apply_remote(&changes).unwrap(), [Applied::Now]);
    assert_eq!(dump(&from), dump(&to));
}

#[test]
fn an_interrupted_transfer_goes_on_with_a_newer_state() {
    for seed in 0..40 {
        let (a, b) = (Machine::new(1 << 32 | 1), Machine::new(2 << 32 | 2));
        let (mut from, mut to) = (a.open(), b.open());
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..60 {
            from.commit(vec![random_step(&mut rng)]);
        }
        let mut export = from.shared().export().unwrap();
        to.begin_import(export.vector().clone()).unwrap();
        for _ in 0..rng.random_range(1..8) {
            to.import(export.next_part(2).unwrap()).unwrap();
        }
        for _ in 0..20 {
            from.commit(vec![random_step(&mut rng)]);
        }
        // Killed in between: what the engine kept says how far it came.
        drop(to);
        let mut to = b.open();
        assert!(to.shared().is_fresh());
        let cursor = to.shared().import_cursor().unwrap().unwrap();
        let mut export = from.shared().export().unwrap();
        assert!(export.resume(&from.shared(), &cursor).unwrap());
        to.resume_import(export.vector().clone()).unwrap();
        loop {
            let part = export.next_part(3).unwrap();
            if part.is_empty() {
                break;
            }
            to.import(part).unwrap();
        }
        to.finish_import().unwrap();
        assert!(to.shared().import_cursor().unwrap().is_none());
        assert_eq!(dump(&from), dump(&to), "seed {seed}");
        assert_eq!(from.shared().digest(), to.shared().digest(), "seed {seed}");
    }
}

#[test]
fn a_transfer_does_not_go_on_at_a_provider_that_lacks_what_was_taken() {
    let (a, b, c) = (
        Machine::new(1 << 32 | 1),
        Machine::new(2 << 32 | 2),
        Machine::new(3 << 32 | 3),
    );
    let (mut from, mut to, mut other) = (a.open(), b.open(), c.open());
    from.commit(vec![create("/a", 1)]);
    other.commit(vec![create("/a", 1)]);
    let mut export = from.shared().export().unwrap();
    to.begin_import(export.vector().clone()).unwrap();
    to.import(export.next_part(1).unwrap()).unwrap();
    let cursor = to.shared().import_cursor().unwrap().unwrap();
    let mut export = other.shared().export().unwrap();
    assert!(!export.resume(&other.shared(), &cursor).unwrap());
}
