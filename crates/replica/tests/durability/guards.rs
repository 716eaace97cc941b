// SPDX-License-Identifier: Apache-2.0
//! Guards of `GUARDS.md` that no history reaches by chance: each by the case it is for.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dulse_journal::{Journal, JournalOptions, Record};
use dulse_kv::{Batch, Engine, Error, MemoryEngine, Order, Read, Usage, Visitor};
use dulse_merge::keys::{self, Space};
use dulse_replica::{Durability, Export, Replica, ReplicaOptions};
use dulse_store::{ErrorKind, Step};
use dulse_types::Stamp;
use dulse_types::wire::Writer;

use crate::machine::{Machine, create, dump, path};

fn records(replica: &Replica) -> Vec<Record> {
    let shared = replica.shared();
    let records = shared.changes_after(shared.origin(), Stamp::ZERO, usize::MAX);
    records.unwrap()
}

fn payloads(replica: &Replica) -> Vec<Bytes> {
    records(replica).into_iter().map(|r| r.payload).collect()
}

fn stamp_of_commit(replica: &mut Replica, name: &str) -> Stamp {
    replica.commit(vec![create(name)]).remove(0).unwrap().stamp
}

#[test]
fn a_log_with_a_hole_is_refused() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    for name in ["/a", "/b", "/c"] {
        stamp_of_commit(&mut replica, name);
    }
    let mut with_hole = records(&replica);
    with_hole.remove(1);
    let other = Machine::new(1 << 32 | 1, Durability::Fsync);
    let options = JournalOptions {
        store: replica.shared().origin().0,
        segment_size_bytes: 1 << 20,
    };
    let (journal, _) = Journal::open(Arc::new(other.disk.clone()), options).unwrap();
    journal.append(&with_hole).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let error = Replica::open(other.options()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_restart_stamps_above_every_promise_though_the_clock_was_set_back() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    stamp_of_commit(&mut replica, "/a");
    // The log behind the checkpoint says nothing of the ceiling.
    replica.checkpoint().unwrap();
    let half_a_second = Duration::from_millis(500);
    machine.leap(half_a_second);
    let promise = replica.shared().promise();
    drop(replica);
    let back = i64::try_from(half_a_second.as_nanos()).unwrap();
    machine.clock.0.fetch_sub(back, Ordering::Relaxed);
    let stamp = stamp_of_commit(&mut machine.open(), "/b");
    assert!(
        stamp > promise,
        "{stamp} was promised not to come: {promise}"
    );
}

/// The ceiling below which it was promised lies in the log behind the checkpoint.
#[test]
fn a_restart_stamps_above_every_promise_that_the_log_alone_knows_the_ceiling_of() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.checkpoint_every = Duration::MAX;
    machine.limits.checkpoint_every_bytes = u64::MAX;
    let mut replica = machine.open();
    let n_checkpoints = machine.engine.n_checkpoints.load(Ordering::Relaxed);
    stamp_of_commit(&mut replica, "/a");
    let half_a_second = Duration::from_millis(500);
    machine.leap(half_a_second);
    let promise = replica.shared().promise();
    drop(replica);
    let since = machine.engine.n_checkpoints.load(Ordering::Relaxed) - n_checkpoints;
    assert_eq!(since, 0, "the log alone knows it");
    let back = i64::try_from(half_a_second.as_nanos()).unwrap();
    machine.clock.0.fetch_sub(back, Ordering::Relaxed);
    let stamp = stamp_of_commit(&mut machine.open(), "/b");
    assert!(
        stamp > promise,
        "{stamp} was promised not to come: {promise}"
    );
}

/// A client was told of it, under `os` before it was on disk: it waits for that stamp, and must
/// not take another change for its own.
#[test]
fn a_stamp_that_a_crash_lost_is_not_given_out_again() {
    let machine = Machine::new(1 << 32 | 1, Durability::Os);
    let mut replica = machine.open();
    stamp_of_commit(&mut replica, "/a");
    replica.sync().unwrap();
    let half_a_second = Duration::from_millis(500);
    machine.leap(half_a_second);
    let lost = stamp_of_commit(&mut replica, "/b");
    drop(replica);
    machine.engine.engine.crash(|_| false);
    machine.disk.crash_blocks(64, || false);
    let back = i64::try_from(half_a_second.as_nanos()).unwrap();
    machine.clock.0.fetch_sub(back, Ordering::Relaxed);
    let mut replica = machine.open();
    let now = replica.shared().vector();
    assert!(!now.is_empty() && now.get(replica.shared().origin()) < lost);
    let stamp = stamp_of_commit(&mut replica, "/c");
    assert!(stamp > lost, "{stamp} may be taken for {lost}");
}

#[test]
fn no_promise_reaches_what_is_in_the_log_and_not_applied() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    stamp_of_commit(&mut replica, "/a");
    machine.engine.is_full.store(true, Ordering::Relaxed);
    assert!(replica.commit(vec![create("/b")])[0].is_err());
    machine.leap(Duration::from_millis(50));
    let promise = replica.shared().promise();
    machine.engine.is_full.store(false, Ordering::Relaxed);
    stamp_of_commit(&mut replica, "/c");
    let coming = records(&replica)[1].stamp;
    assert!(
        promise < coming,
        "{coming} came after the promise {promise}"
    );
}

#[test]
fn a_stamp_is_above_all_that_was_seen() {
    let (a, b) = (
        Machine::new(1 << 32 | 1, Durability::Fsync),
        Machine::new(2 << 32 | 2, Durability::Fsync),
    );
    a.leap(Duration::from_secs(3_600));
    let (mut ahead, mut behind) = (a.open(), b.open());
    let seen = stamp_of_commit(&mut ahead, "/a");
    behind.apply_remote(&payloads(&ahead)).unwrap();
    let own = stamp_of_commit(&mut behind, "/b");
    assert!(own > seen, "{own} was made on top of {seen}");
}

#[test]
fn a_transaction_that_fails_half_way_changes_nothing_for_the_next() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    let mut half = create("/half");
    half.steps.push(Step::Delete {
        path: path("/nothing"),
        delete_chunks: true,
    });
    let results = replica.commit(vec![half, create("/whole")]);
    assert!(results[0].is_err() && results[1].is_ok());
    let found = |name| replica.shared().find(&path(name)).unwrap().is_some();
    assert!(!found("/half") && found("/whole"));
}

#[test]
fn a_checkpoint_covers_only_what_is_on_disk() {
    let (a, b) = (
        Machine::new(1 << 32 | 1, Durability::Fsync),
        Machine::new(2 << 32 | 2, Durability::Fsync),
    );
    let (mut peer, mut replica) = (a.open(), b.open());
    stamp_of_commit(&mut peer, "/a");
    replica.apply_remote(&payloads(&peer)).unwrap();
    replica.checkpoint().unwrap();
    let before = dump(&replica);
    drop(replica);
    b.engine.engine.crash(|_| false);
    b.disk.crash(|_| 0);
    assert_eq!(dump(&b.open()), before);
}

/// Told at each checkpoint whether a power loss now takes the vector; says whether it succeeds.
type Watch = Box<dyn FnMut(bool) -> bool + Send>;

/// An engine whose checkpoints are watched, and to which something is written right after a
/// snapshot was taken.
#[derive(Default)]
struct Watched {
    engine: MemoryEngine,
    is_vector_unsynced: AtomicBool,
    watch: Mutex<Option<Watch>>,
    behind_snapshot: Mutex<Option<Batch>>,
}

impl Read for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.engine.get(key)
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        self.engine.visit(range, order, visitor)
    }
}

impl Engine for Watched {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let row = Space::Vector.key(b"");
        if batch.writes.iter().any(|(key, _)| *key == row) {
            self.is_vector_unsynced.store(true, Ordering::Relaxed);
        }
        self.engine.write(batch)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        if let Some(watch) = &mut *self.watch.lock().unwrap()
            && !watch(self.is_vector_unsynced.load(Ordering::Relaxed))
        {
            let full = dulse_kv::ErrorKind::DiskFull;
            return Err(Error::new("watched", full, "checkpoint"));
        }
        self.is_vector_unsynced.store(false, Ordering::Relaxed);
        self.engine.checkpoint()
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        let snapshot = self.engine.snapshot()?;
        if let Some(batch) = self.behind_snapshot.lock().unwrap().take() {
            self.engine.write(batch)?;
        }
        Ok(snapshot)
    }

    fn usage(&self) -> Result<Usage, Error> {
        self.engine.usage()
    }

    fn name(&self) -> &'static str {
        "watched"
    }
}

fn keys_of(export: &mut Export) -> Vec<Bytes> {
    let mut keys = Vec::new();
    loop {
        let part = export.next_part(1).unwrap();
        if part.is_empty() {
            return keys;
        }
        keys.extend(part.rows.into_iter().map(|(key, _)| key));
    }
}

#[test]
fn a_transfers_vector_is_of_its_snapshot() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let engine = Arc::new(Watched::default());
    let mut replica = Replica::open(ReplicaOptions {
        engine: engine.clone(),
        ..machine.options()
    })
    .unwrap();
    stamp_of_commit(&mut replica, "/a");
    let vector = replica.shared().vector();
    // As a commit that comes between the snapshot and the look at its vector.
    let mut later = vector.clone();
    later.set(replica.shared().origin(), Stamp(i64::MAX));
    let mut encoded = Writer::new();
    later.write(&mut encoded);
    *engine.behind_snapshot.lock().unwrap() = Some(Batch {
        writes: vec![(Space::Vector.key(b""), Some(encoded.into_bytes()))],
    });
    let mut export = replica.shared().export().unwrap();
    assert_eq!(*export.vector(), vector);
    // And one while the rows are on their way.
    stamp_of_commit(&mut replica, "/later");
    let keys = keys_of(&mut export);
    assert!(keys.iter().any(|key| **key == keys::entry(b"/a")));
    assert!(!keys.iter().any(|key| **key == keys::entry(b"/later")));
}

#[test]
fn a_crash_at_the_end_of_a_transfer_leaves_a_store_that_opens() {
    let from = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut provider = from.open();
    for name in ["/a", "/b", "/c"] {
        stamp_of_commit(&mut provider, name);
    }
    let (mut n_fresh, mut n_whole) = (0, 0);
    for fault in 1..30 {
        let machine = Machine::new(2 << 32 | 2, Durability::Fsync);
        let mut joiner = machine.open();
        let mut export = provider.shared().export().unwrap();
        joiner.begin_import(export.vector().clone()).unwrap();
        loop {
            let part = export.next_part(2).unwrap();
            if part.is_empty() {
                break;
            }
            joiner.import(part).unwrap();
        }
        machine.disk.fail_at(fault);
        // It fails, or the fault comes too late.
        let _ = joiner.finish_import();
        drop(joiner);
        machine.engine.engine.crash(|_| true);
        machine.disk.crash(|_| 0);
        machine.disk.fail_at(u64::MAX / 2);
        let opened = Replica::open(machine.options());
        let opened = opened.unwrap_or_else(|e| panic!("fault {fault}: {e}"));
        if opened.shared().is_fresh() {
            n_fresh += 1;
        } else {
            assert_eq!(dump(&opened), dump(&provider), "fault {fault}");
            n_whole += 1;
        }
    }
    assert!(n_fresh > 0 && n_whole > 0, "{n_fresh} {n_whole}");
}

#[test]
fn a_replica_with_a_history_takes_in_no_state() {
    let (a, b) = (
        Machine::new(1 << 32 | 1, Durability::Fsync),
        Machine::new(2 << 32 | 2, Durability::Fsync),
    );
    let (mut from, mut to) = (a.open(), b.open());
    stamp_of_commit(&mut from, "/a");
    stamp_of_commit(&mut to, "/mine");
    let before = dump(&to);
    let export = from.shared().export().unwrap();
    let error = to.begin_import(export.vector().clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(dump(&to), before);
}

/// One that has taken in all rows of a state, and not ended that.
fn taken_in(provider: &Replica, machine: &Machine, engine: &Arc<Watched>) -> Replica {
    let mut joiner = Replica::open(ReplicaOptions {
        engine: engine.clone(),
        ..machine.options()
    })
    .unwrap();
    take_in(provider, &mut joiner);
    joiner
}

fn take_in(provider: &Replica, joiner: &mut Replica) {
    let mut export = provider.shared().export().unwrap();
    joiner.begin_import(export.vector().clone()).unwrap();
    loop {
        let part = export.next_part(2).unwrap();
        if part.is_empty() {
            break;
        }
        joiner.import(part).unwrap();
    }
}

/// Whoever took in a state acknowledges it as soon as it is published, and others count that.
#[test]
fn a_state_that_was_taken_in_is_acknowledged_once_a_crash_leaves_it() {
    let from = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut provider = from.open();
    for name in ["/a", "/b", "/c"] {
        stamp_of_commit(&mut provider, name);
    }
    let machine = Machine::new(2 << 32 | 2, Durability::Fsync);
    let engine = Arc::new(Watched::default());
    let mut joiner = taken_in(&provider, &machine, &engine);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (shared, looks) = (joiner.shared(), seen.clone());
    *engine.watch.lock().unwrap() = Some(Box::new(move |is_lost| {
        let is_said = !shared.acknowledged_vector().is_empty();
        looks.lock().unwrap().push((is_lost, is_said));
        true
    }));
    joiner.finish_import().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(is_lost, _)| *is_lost), "{seen:?}");
    assert!(!seen.contains(&(true, true)), "{seen:?}");
    assert!(!joiner.shared().acknowledged_vector().is_empty());
    assert_eq!(dump(&joiner), dump(&provider));
}

/// What comes after an end that failed.
#[derive(Clone, Copy)]
enum Then {
    Ends,
    BreaksOff,
    Rests,
}

/// A checkpoint that fails at the end of a transfer leaves a replica that begins anew, and a store
/// that opens.
#[test]
fn a_transfer_whose_end_cannot_be_made_durable_says_nothing_and_begins_anew() {
    let from = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut provider = from.open();
    for name in ["/a", "/b", "/c"] {
        stamp_of_commit(&mut provider, name);
    }
    let mut n_failed = 0;
    for fault in 1..6 {
        for then in [Then::Ends, Then::BreaksOff, Then::Rests] {
            let machine = Machine::new(2 << 32 | 2, Durability::Fsync);
            let engine = Arc::new(Watched::default());
            let mut joiner = taken_in(&provider, &machine, &engine);
            let mut n = 0;
            *engine.watch.lock().unwrap() = Some(Box::new(move |_| {
                n += 1;
                n != fault
            }));
            let failed = joiner.finish_import().is_err();
            *engine.watch.lock().unwrap() = None;
            let said = joiner.shared().acknowledged_vector();
            if failed && said.is_empty() {
                n_failed += 1;
                match then {
                    Then::Ends => {
                        take_in(&provider, &mut joiner);
                        joiner.finish_import().unwrap();
                    }
                    Then::BreaksOff => {
                        let vector = provider.shared().vector();
                        joiner.begin_import(vector).unwrap();
                    }
                    Then::Rests => joiner.checkpoint().unwrap(),
                }
            }
            drop(joiner);
            engine.engine.crash(|_| false);
            machine.disk.crash(|_| 0);
            let opened = Replica::open(ReplicaOptions {
                engine: engine.clone(),
                ..machine.options()
            });
            let opened = opened.unwrap_or_else(|e| panic!("fault {fault}: {e}"));
            assert!(opened.shared().vector().includes(&said), "fault {fault}");
            if !opened.shared().is_fresh() {
                assert_eq!(dump(&opened), dump(&provider), "fault {fault}");
            }
        }
    }
    assert!(n_failed > 2, "{n_failed}");
}
