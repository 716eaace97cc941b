// SPDX-License-Identifier: Apache-2.0
//! Opening a store: formats, origin, and replay of what the engine may lack.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Journal, JournalOptions, Record, RecordKind};
use dulse_kv::{Batch, Engine, ReadExt};
use dulse_merge::digest::{BUCKETS, Sum};
use dulse_merge::keys::{self, Space};
use dulse_merge::{Change, Txn, apply};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Identity, Origin, Stamp, Vector};
use parking_lot::{Mutex, RwLock};

use crate::clock::HybridClock;
use crate::error;
use crate::forgetting::Forgetting;
use crate::options::ReplicaOptions;
use crate::sequencer::{CHECKPOINT_VERSION, Replica, stored_origin};
use crate::shared::{EngineRows, Shared, Sums, Vectors};

/// Format of the rows as a whole.
const FORMAT: u8 = 1;

/// Bytes of journal replayed as one engine batch.
const REPLAY_BYTES: usize = 4 << 20;

/// What the checkpoint file says.
#[derive(Default)]
struct Checkpoint {
    position: Option<u64>,
    ceiling: Stamp,
    vector: Vector,
}

pub(crate) fn open(options: ReplicaOptions) -> Result<Replica, Error> {
    let origin = origin(&*options.engine, options.random)?;
    let journal_options = JournalOptions {
        store: origin.0,
        segment_size_bytes: options.limits.segment_size_bytes,
    };
    let opened = Journal::open(Arc::clone(&options.disk), journal_options);
    let (journal, recovery) = opened.map_err(|e| error::journal(Operation::Open, e))?;
    if recovery.torn_bytes > 0 {
        tracing::info!(
            bytes = recovery.torn_bytes,
            "cut a torn tail off the journal"
        );
    }
    let checkpoint = read_checkpoint(&journal)?;
    if let Some(position) = checkpoint.position.filter(|p| *p > journal.end()) {
        return Err(Error::new(Operation::Open, ErrorKind::Corrupt)
            .with("checkpoint at", position)
            .with("journal ends at", journal.end())
            .with("because", "the journal lost what the engine has"));
    }
    let shared = Arc::new(Shared {
        origin,
        engine: options.engine,
        journal,
        vectors: RwLock::default(),
        sums: Mutex::default(),
        clock: HybridClock::restart(checkpoint.ceiling),
        wall: options.clock,
    });
    let (vector, ceiling) = replay(&shared, checkpoint)?;
    load_sums(&shared)?;
    shared.clock.raise_ceiling(ceiling);
    shared.clock.synced();
    shared.clock.see(ceiling);
    for (_, stamp) in vector.iter() {
        shared.clock.see(stamp);
    }
    *shared.vectors.write() = Vectors {
        applied: vector.clone(),
        durable: vector,
    };
    let mut replica = Replica {
        shared,
        durability: options.durability,
        limits: options.limits,
        stable: Vector::new(),
        forgetting: Forgetting::default(),
        checkpointed: 0,
        is_behind_log: false,
        importing: None,
    };
    replica.checkpoint()?;
    Ok(replica)
}

/// The store's origin, made with the store.
fn origin(engine: &dyn Engine, random: u64) -> Result<Origin, Error> {
    if let Some(origin) = stored_origin(engine)? {
        let format = engine.get(&Space::Meta.key(b"format"));
        let format = format.map_err(|e| error::engine(Operation::Open, e))?;
        if format.as_deref() != Some(&[FORMAT]) {
            return Err(Error::new(Operation::Open, ErrorKind::Corrupt)
                .with("expected format", FORMAT)
                .with("found", format!("{format:?}")));
        }
        return Ok(origin);
    }
    let (high, low) = ((random >> 32) as u32, random as u32);
    let origin = Origin::new(high, low.max(1)).unwrap_or(Origin(1));
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

fn read_checkpoint(journal: &Journal) -> Result<Checkpoint, Error> {
    let content = journal
        .read_checkpoint()
        .map_err(|e| error::journal(Operation::Open, e))?;
    let Some(content) = content else {
        return Ok(Checkpoint::default());
    };
    let read = || {
        let input = &mut Reader::new(&content);
        let version = input.u8()?;
        if version != CHECKPOINT_VERSION {
            let value = u64::from(version);
            return Err(WireError::BadValue {
                what: "checkpoint version",
                value,
            });
        }
        let position = Some(input.u64_be()?);
        let ceiling = Stamp(input.i64_be()?);
        Ok(Checkpoint {
            position,
            ceiling,
            vector: Vector::read(input)?,
        })
    };
    read().map_err(|e| error::corrupt(Operation::Open, e))
}

/// Merges every record behind the checkpoint again; registers do not mind, and derived
/// rows of every directory touched are computed anew.
fn replay(shared: &Shared, checkpoint: Checkpoint) -> Result<(Vector, Stamp), Error> {
    let mut vector = checkpoint.vector;
    let mut ceiling = checkpoint.ceiling;
    let mut position = checkpoint
        .position
        .unwrap_or_else(|| shared.journal.begin());
    let end = shared.journal.end();
    let mut touched = BTreeSet::new();
    let mentioned = mentioned(shared, position, end)?;
    while position < end {
        let records = shared.journal.read(position, end, REPLAY_BYTES);
        let records = records.map_err(|e| error::journal(Operation::Open, e))?;
        let Some((_, behind)) = records.last() else {
            break;
        };
        position = *behind;
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        txn.gather_all = true;
        txn.mentioned.clone_from(&mentioned);
        for (record, _) in &records {
            merge(&mut txn, record, &mut vector, &mut ceiling)?;
        }
        let (mut writes, deltas) = txn.finish().map_err(|e| error::read(Operation::Open, e))?;
        touched.extend(deltas.into_keys());
        let mut encoded = Writer::new();
        vector.write(&mut encoded);
        writes.push((Space::Vector.key(b""), Some(encoded.into_bytes())));
        let written = shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Open, e))?;
    }
    for dir in touched {
        recount(shared, &dir)?;
    }
    Ok((vector, ceiling))
}

/// Where rows of a name may lie that a lost batch should have removed.
fn mentioned(
    shared: &Shared,
    mut position: u64,
    end: u64,
) -> Result<HashMap<Identity, Vec<Bytes>>, Error> {
    let mut paths: HashMap<Identity, Vec<Bytes>> = HashMap::new();
    while position < end {
        let records = shared.journal.read(position, end, REPLAY_BYTES);
        let records = records.map_err(|e| error::journal(Operation::Open, e))?;
        let Some((_, behind)) = records.last() else {
            break;
        };
        position = *behind;
        let changes = records
            .iter()
            .filter(|(record, _)| record.kind == RecordKind::Change);
        for change in changes.filter_map(|(record, _)| Change::decode(&record.payload).ok()) {
            for (name, path) in change.mentions() {
                let known = paths.entry(name).or_default();
                if !known.contains(path) {
                    known.push(path.clone());
                }
            }
        }
    }
    Ok(paths)
}

fn merge(
    txn: &mut Txn<'_>,
    record: &Record,
    vector: &mut Vector,
    ceiling: &mut Stamp,
) -> Result<(), Error> {
    match record.kind {
        RecordKind::Change => {
            let change = Change::decode(&record.payload).map_err(|e| {
                Error::new(Operation::Open, ErrorKind::Corrupt)
                    .with("stamp", record.stamp)
                    .source(e)
            })?;
            apply(txn, &change).map_err(|e| error::apply(Operation::Open, e))?;
            vector.raise(change.origin, change.stamp);
        }
        RecordKind::ClockCeiling => *ceiling = (*ceiling).max(record.prev),
        RecordKind::Intent | RecordKind::Kept => {}
    }
    Ok(())
}

/// Computes a directory's digest row from its rows.
fn recount(shared: &Shared, dir: &[u8]) -> Result<(), Error> {
    let is_path = dir.first() == Some(&b'/');
    if !is_path {
        return recount_others(shared, dir);
    }
    let mut sum = Sum::default();
    for (_, _, hash) in shared.directory_rows(dir)? {
        sum.add(hash);
    }
    put_sum(shared, dir, sum)
}

/// The same for contents of linked inodes, keys and conflicts.
fn recount_others(shared: &Shared, dir: &[u8]) -> Result<(), Error> {
    use dulse_merge::digest::{CONFLICTS_DIR, INODES_DIR, KV_DIR, hash};
    let scan = |space: Space| {
        let (from, to) = space.range();
        let rows = shared.engine.scan(&from, &to, usize::MAX);
        rows.map_err(|e| error::engine(Operation::Open, e))
    };
    let mut sum = Sum::default();
    if dir == KV_DIR {
        for (key, value) in scan(Space::Kv)? {
            let row = dulse_merge::KvRow::decode(&value)
                .map_err(|e| error::corrupt(Operation::Open, e))?;
            sum.add(dulse_merge::apply::kv_hash(&key[1..], &row));
        }
    } else if dir == CONFLICTS_DIR {
        for (_, value) in scan(Space::Conflicts)?
            .iter()
            .filter(|(_, v)| v.get(1) == Some(&1))
        {
            sum.add(hash(value));
        }
    } else if dir == INODES_DIR {
        for (key, value) in scan(Space::Inodes)? {
            let from = Space::Links.key(&key[1..]);
            let mut to = from.clone();
            to.extend_from_slice(&[0xff; 21]);
            let links = shared.engine.scan(&from, &to, usize::MAX);
            let links = links.map_err(|e| error::engine(Operation::Open, e))?;
            if links.iter().any(|(_, v)| v.first() == Some(&1)) {
                sum.add(hash(&value));
            }
        }
    }
    put_sum(shared, dir, sum)
}

fn put_sum(shared: &Shared, dir: &[u8], sum: Sum) -> Result<(), Error> {
    let value = (!sum.is_empty()).then(|| Bytes::from(sum.encode()));
    let written = shared.engine.write(Batch {
        writes: vec![(keys::digest(dir), value)],
    });
    written.map_err(|e| error::engine(Operation::Open, e))
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
