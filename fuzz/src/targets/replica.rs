// SPDX-License-Identifier: Apache-2.0
//! Recovery from any checkpoint and records, and transfers of any rows.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Checkpoint, Journal, JournalOptions, MemDisk};
use dulse_kv::MemoryEngine;
use dulse_replica::{Clock, Durability, ExportPart, Limits, Replica, ReplicaOptions};
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
