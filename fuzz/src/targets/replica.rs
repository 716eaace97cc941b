// SPDX-License-Identifier: Apache-2.0
//! Recovery from any checkpoint and records, transfers of any rows, stores with any rows.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Checkpoint, Journal, JournalOptions, MemDisk};
use dulse_kv::{Batch, Engine, MemoryEngine};
use dulse_merge::keys::Space;
use dulse_replica::reissue::item::Item;
use dulse_replica::{Clock, Durability, ExportPart, Limits, Replica, ReplicaOptions, ScrubCursor};
use dulse_store::ListRange;
use dulse_types::{FullPath, Origin, Stamp, Vector};

use super::merge::parts;
use crate::seeds;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now_ns(&self) -> i64 {
        1_700_000_000_000_000_000
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

fn open(disk: MemDisk, engine: MemoryEngine) -> Option<Replica> {
    let opened = Replica::open(ReplicaOptions {
        disk: Arc::new(disk),
        engine: Arc::new(engine),
        clock: Arc::new(Still),
        random: 0x0a0a_0a0a_0000_0001,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    });
    opened.ok()
}

/// A small replica with a directory, files, a link, a move, a conflict, keys and graves; `more`
/// makes it another state.
pub(crate) fn filled(more: u32) -> Replica {
    filled_on(MemoryEngine::new(), more)
}

pub(crate) fn filled_on(engine: MemoryEngine, more: u32) -> Replica {
    filled_at(MemDisk::new(), engine, more)
}

fn filled_at(disk: MemDisk, engine: MemoryEngine, more: u32) -> Replica {
    let mut replica = open(disk, engine).expect("a fresh replica opens");
    for transaction in seeds::transactions(more) {
        // What was not there is not deleted.
        let _ = replica.commit(vec![transaction]);
    }
    replica
}

/// Reads all there is, and writes over it.
pub(crate) fn look_through(replica: &mut Replica) {
    look(replica);
    let shared = replica.shared();
    let mut cursor = Some(ScrubCursor::begin());
    let mut n_steps = 0;
    while let Some(at) = cursor.take() {
        cursor = shared.scrub(&at, 100).ok().and_then(|found| found.next);
        n_steps += 1;
        assert!(n_steps < 10_000, "the scrub goes round in circles");
    }
    let _ = (shared.conflicts(b"/", None, 100), shared.n_conflicts());
    let _ = shared.silences();
    let _ = (shared.due(i64::MAX, None, 100), shared.has_reissue());
    for transaction in seeds::transactions(2) {
        let _ = replica.commit(vec![transaction]);
    }
    let vector = shared.vector();
    let _ = (replica.stable(vector), replica.checkpoint());
    let _ = (replica.forget(), replica.reissue(&[]));
    look(replica);
}

/// Keys and values in turn, which lie in a small store when it is opened again.
pub(crate) fn store(input: &[u8]) {
    if let Some(mut replica) = reopened(input) {
        look_through(&mut replica);
    }
}

/// The store with these rows; `None` when it is refused.
pub(crate) fn reopened(input: &[u8]) -> Option<Replica> {
    let (disk, engine) = (MemDisk::new(), MemoryEngine::new());
    // Of the two small stores the one with the longer log: it has what either has.
    drop(filled_at(disk.clone(), engine.clone(), 1));
    let all: Vec<&[u8]> = parts(input).take(256).collect();
    let writes = all
        .chunks_exact(2)
        .map(|pair| (pair[0].to_vec(), Some(Bytes::copy_from_slice(pair[1]))));
    let batch = Batch {
        writes: writes.collect(),
    };
    engine.write(batch).expect("write to memory");
    open(disk, engine)
}

/// Bytes as what is to be made anew, and made anew.
pub(crate) fn reissue(input: &[u8]) {
    let Ok(item) = Item::decode(input) else {
        return;
    };
    let written = item.encode();
    assert_eq!(Item::decode(&written), Ok(item), "an item changes");
    let engine = MemoryEngine::new();
    let mut replica = filled_on(engine.clone(), 1);
    let writes = vec![(Space::Reissue.key(b"\x01item"), Some(written))];
    engine.write(Batch { writes }).expect("write to memory");
    for _ in 0..3 {
        let _ = replica.reissue(&[]);
    }
    look_through(&mut replica);
}

fn look(replica: &Replica) {
    let shared = replica.shared();
    let _ = (shared.members(), shared.directory_digests(0, u16::MAX));
    let range = ListRange {
        start: String::new(),
        inclusive: true,
        prefix: String::new(),
        limit: 100,
    };
    let _ = shared.list(&FullPath::root(), &range);
    let _ = (shared.garbage(None, 100), shared.kv_get(b"key"));
    if let Ok(path) = FullPath::parse("/a/b") {
        let _ = shared.find(&path);
    }
}

/// A checkpoint and records whose framing is right and whose contents are anything.
pub(crate) fn recovery(input: &[u8]) {
    let (disk, engine) = (MemDisk::new(), MemoryEngine::new());
    let mut contents = parts(input).take(16);
    let checkpoint = contents.next().unwrap_or_default();
    {
        let Some(replica) = open(disk.clone(), engine.clone()) else {
            return;
        };
        drop(replica);
        let options = JournalOptions {
            store: 0x0a0a_0a0a_0000_0001,
            segment_size_bytes: Limits::STANDARD.segment_size_bytes,
        };
        let Ok((journal, _)) = Journal::open(Arc::new(disk.clone()), options) else {
            return;
        };
        for (n, payload) in (1..).zip(contents) {
            let record = seeds::record(n, payload.to_vec());
            journal
                .append(&[record])
                .expect("append to an open journal");
        }
        journal.sync().expect("sync an open journal");
        if let Some((position, content)) = checkpoint.split_first_chunk() {
            let written = journal.write_checkpoint(&Checkpoint {
                position: u64::from_be_bytes(*position),
                content: content.to_vec(),
            });
            written.expect("write a checkpoint");
        }
    }
    if let Some(replica) = open(disk, engine) {
        look(&replica);
    }
}

/// Rows from a peer: keys and values in turn, after two bounds of what they replace.
pub(crate) fn transfer(input: &[u8]) {
    let Some(mut replica) = open(MemDisk::new(), MemoryEngine::new()) else {
        return;
    };
    let vector = Vector::from_iter([(Origin(7), Stamp(9))]);
    replica
        .begin_import(vector)
        .expect("a fresh replica takes in a state");
    let parts: Vec<_> = parts(input).map(Bytes::copy_from_slice).take(64).collect();
    let mut pairs = parts
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()));
    let replaced = pairs.next().into_iter().collect();
    let rows: Vec<_> = pairs.collect();
    let after = rows.last().map(|(key, _)| key.clone()).unwrap_or_default();
    let part = ExportPart {
        replaced,
        rows,
        after,
    };
    if replica.import(part).is_ok() && replica.finish_import().is_ok() {
        look(&replica);
    }
}
