// SPDX-License-Identifier: Apache-2.0
//! Opening a store: formats, origin, and replay of what the engine may lack.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use dulse_journal::{Checkpoint, Journal, JournalOptions, Record, RecordKind};
use dulse_kv::{Batch, Engine};
use dulse_merge::digest::BUCKETS;
use dulse_merge::keys::Space;
use dulse_merge::txn::Losses;
use dulse_merge::{Change, Txn, apply};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Origin, Stamp, Vector};
use parking_lot::{Mutex, RwLock};

use crate::apart::Apart;
use crate::clock::HybridClock;
use crate::error;
use crate::forgetting::{self, Forgetting};
use crate::guard::Guard;
use crate::judging::Judging;
use crate::options::ReplicaOptions;
use crate::room::Room;
use crate::sequencer::{Replica, stored_origin};
use crate::shared::{EngineRows, Shared, Sums, Vectors};
use crate::tail::{self, Tail};
use crate::trees::Trees;
use crate::trees::rows::{self, Replayed};
use crate::unsaid;

/// Format of the rows as a whole.
const FORMAT: u8 = 1;

/// Bytes of journal replayed as one engine batch.
const REPLAY_BYTES: usize = 4 << 20;

/// What the checkpoint file says, and where replay begins.
struct Noted {
    position: u64,
    ceiling: Stamp,
    vector: Vector,
}

pub(crate) fn open(options: ReplicaOptions) -> Result<Replica, Error> {
    // Order: what the reserve was for may be needed from here on.
    let room = Room::new(Arc::clone(&options.disk), &options.limits);
    crate::renewal::finish(&*options.disk, &*options.engine)?;
    let origin = origin(&*options.engine, options.random)?;
    let journal_options = JournalOptions {
        store: origin.0,
        segment_size_bytes: options.limits.segment_size_bytes,
    };
    let opened = Journal::open(Arc::clone(&options.disk), journal_options);
    let (journal, recovery) = opened.map_err(|e| error::journal(Operation::Open, e))?;
    let n_restored = tail::restore(&journal, &*options.engine)?;
    let noted = read_checkpoint(recovery.checkpoint, journal.begin())?;
    refuse_ahead(&journal, &*options.engine, &noted.vector)?;
    let forgotten = forgetting::load(&*options.engine)?;
    let shared = Arc::new(Shared {
        origin,
        engine: options.engine,
        journal,
        vectors: RwLock::default(),
        sums: Mutex::default(),
        conflicts: Mutex::default(),
        clock: HybridClock::restart(noted.ceiling),
        wall: options.clock,
        is_log_over: AtomicBool::new(false),
        is_behind: AtomicBool::new(false),
        are_verdicts_held: AtomicBool::new(false),
        unsaid: Mutex::default(),
        judged: Mutex::default(),
        forgotten: Mutex::new(forgotten),
        trees: Mutex::default(),
        guard: Guard::default(),
        apart: Apart::default(),
    });
    let (vector, ceiling) = replay(&shared, noted.position)?;
    tracing::info!(
        torn_bytes = recovery.torn_bytes,
        read_bytes = recovery.scanned_bytes,
        replayed_bytes = shared.journal.end() - noted.position,
        n_restored,
        "opened the log"
    );
    load_sums(&shared)?;
    shared.clock.raise_ceiling(ceiling);
    shared.clock.synced(ceiling);
    shared.clock.see(ceiling);
    for (_, stamp) in vector.iter() {
        shared.clock.see(stamp);
    }
    *shared.vectors.write() = Vectors {
        applied: vector.clone(),
        durable: vector,
    };
    let (held, unsaid) = unsaid::load(&Txn::new(&EngineRows(&*shared.engine)), origin)?;
    *shared.unsaid.lock() = unsaid;
    let mut replica = Replica {
        durability: options.durability,
        limits: options.limits,
        stable: Vector::new(),
        forgetting: Forgetting::default(),
        judging: Judging::default(),
        held,
        checkpointed: noted.position,
        checkpointed_at_ns: shared.wall.now_ns(),
        has_checkpoint_failed: false,
        is_behind_log: false,
        is_sealed: false,
        importing: None,
        tail: Tail::load(&*shared.engine)?,
        room,
        trees: Trees::of(rows::load(&*shared.engine)?, &shared),
        shared,
    };
    replica.show_trees();
    match replica.checkpoint() {
        Err(error) if error.kind() == ErrorKind::DiskFull => {
            tracing::error!(%error, "no room for a checkpoint; tried again soon");
        }
        checkpointed => checkpointed?,
    }
    Ok(replica)
}

/// ⚠ An engine with changes that neither checkpoint nor log know of would have them for itself
/// for ever: others were never sent them.
fn refuse_ahead(journal: &Journal, engine: &dyn Engine, noted: &Vector) -> Result<(), Error> {
    let mut known = journal.lasts();
    known.merge_max(noted);
    let has = engine_vector(engine)?;
    if known.includes(&has) {
        return Ok(());
    }
    Err(Error::new(Operation::Open, ErrorKind::Corrupt)
        .with("engine has", has)
        .with("log has", known)
        .with("because", "the journal lost what the engine has"))
}

/// What the engine has: written with every batch, so exact.
pub(crate) fn engine_vector(engine: &dyn Engine) -> Result<Vector, Error> {
    let value = engine.get(&Space::Vector.key(b""));
    let Some(value) = value.map_err(|e| error::engine(Operation::Open, e))? else {
        return Ok(Vector::new());
    };
    let read = Vector::read(&mut Reader::new(&value));
    read.map_err(|e| error::corrupt(Operation::Open, e))
}

/// The store's origin, made with the store.
fn origin(engine: &dyn Engine, random: u64) -> Result<Origin, Error> {
    if let Some(origin) = stored_origin(engine)? {
        let format = engine.get(&Space::Meta.key(b"format"));
        let format = format.map_err(|e| error::engine(Operation::Open, e))?;
        check_format(format.as_deref())?;
        return Ok(origin);
    }
    let origin = crate::renewal::new_origin(random);
    let writes = vec![
        (
            Space::Meta.key(b"format"),
            Some(Bytes::from_static(&[FORMAT])),
        ),
        (
            Space::Meta.key(b"origin"),
            Some(Bytes::copy_from_slice(&origin.0.to_be_bytes())),
        ),
    ];
    let made = engine
        .write(Batch { writes })
        .and_then(|()| engine.checkpoint());
    made.map_err(|e| error::engine(Operation::Open, e))?;
    Ok(origin)
}

fn check_format(found: Option<&[u8]>) -> Result<(), Error> {
    let kind = match found {
        Some(&[FORMAT]) => return Ok(()),
        // A later version's store is whole; it is this program that is too old.
        Some(&[version]) if version > FORMAT => ErrorKind::Invalid,
        _ => ErrorKind::Corrupt,
    };
    let found = found.map_or("none".to_owned(), |bytes| format!("{bytes:?}"));
    Err(Error::new(Operation::Open, kind)
        .with("format of the rows", found)
        .with("this program reads", FORMAT)
        .with("because", "the store was written by another version"))
}

fn read_checkpoint(checkpoint: Option<Checkpoint>, begin: u64) -> Result<Noted, Error> {
    let Some(checkpoint) = checkpoint else {
        return Ok(Noted {
            position: begin,
            ceiling: Stamp::ZERO,
            vector: Vector::new(),
        });
    };
    let input = &mut Reader::new(&checkpoint.content);
    let mut read = || -> Result<_, WireError> {
        let ceiling = Stamp(input.i64_be()?);
        Ok((ceiling, Vector::read(input)?))
    };
    let (ceiling, vector) = read().map_err(|e| error::corrupt(Operation::Open, e))?;
    Ok(Noted {
        position: checkpoint.position,
        ceiling,
        vector,
    })
}

/// Has the engine take in what the log has behind `position` and it lacks; gives what it has
/// then, and the greatest ceiling seen.
///
/// An engine keeps a prefix of its batches and each batch holds the vector, so what it lacks
/// is known exactly: nothing is merged twice. Cost: one read of the log from there; memory for
/// [`REPLAY_BYTES`] of it, however long it is.
pub(crate) fn replay(shared: &Shared, mut position: u64) -> Result<(Vector, Stamp), Error> {
    let operation = Operation::Open;
    let mut vector = engine_vector(&*shared.engine)?;
    let mut ceiling = Stamp::ZERO;
    let mut trees = Replayed::load(shared)?;
    let end = shared.journal.end();
    while position < end {
        let records = shared.journal.read(position, end, REPLAY_BYTES);
        let records = records.map_err(|e| error::journal(operation, e))?;
        // Marks alone are shown to nobody.
        let Some((_, behind)) = records.last() else {
            break;
        };
        position = *behind;
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        txn.applied = Some(vector.clone());
        // What is seen losing is noted as it was; what this replica said of it is in the log.
        txn.losses = Some(Losses::default());
        let mut is_new = false;
        for (record, _) in &records {
            match record.kind {
                RecordKind::Change => {
                    let is_merged = merge(&mut txn, record, &mut vector)?;
                    trees.change(record, is_merged)?;
                    is_new |= is_merged;
                }
                RecordKind::ClockCeiling => ceiling = ceiling.max(record.prev),
                RecordKind::Intent => trees.intent(record)?,
                RecordKind::Kept | RecordKind::Synced => {}
            }
        }
        is_new |= trees.write(&mut txn);
        if !is_new {
            continue;
        }
        let (mut writes, _) = txn.finish().map_err(|e| error::read(operation, e))?;
        let mut encoded = Writer::new();
        vector.write(&mut encoded);
        writes.push((Space::Vector.key(b""), Some(encoded.into_bytes())));
        crate::expiry::note(&mut writes);
        let written = shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
    }
    Ok((vector, ceiling))
}

/// Merges a change that the engine lacks. False when it has it.
fn merge(txn: &mut Txn<'_>, record: &Record, vector: &mut Vector) -> Result<bool, Error> {
    let have = vector.get(record.origin);
    if record.stamp <= have {
        return Ok(false);
    }
    let corrupt = || Error::new(Operation::Open, ErrorKind::Corrupt).with("stamp", record.stamp);
    // ⚠ The hole check, as when it was taken in.
    if record.prev != have {
        return Err(corrupt()
            .with("origin", record.origin)
            .with("follows", record.prev)
            .with("but the engine has", have));
    }
    let change = Change::decode(&record.payload).map_err(|e| corrupt().source(e))?;
    apply(txn, &change).map_err(|e| error::apply(Operation::Open, e))?;
    vector.set(change.origin, change.stamp);
    Ok(true)
}

/// Sums of the buckets, from the digest rows.
pub(crate) fn load_sums(shared: &Shared) -> Result<(), Error> {
    let mut sums = Sums::default();
    for (_, dir, sum) in shared.directory_digests(0, BUCKETS)? {
        sums.merge(&dir, sum);
    }
    *shared.sums.lock() = sums;
    Ok(())
}
