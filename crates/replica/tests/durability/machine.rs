// SPDX-License-Identifier: Apache-2.0
//! A machine in memory: disk, engine with faults, clock; and what is done on it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::{Batch, Engine, Error, ErrorKind, MemoryEngine, Order, Read, Usage, Visitor};
use dulse_replica::{Clock, Durability, Limits, Replica, ReplicaOptions};
use dulse_store::{ListRange, Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath};
use rand::Rng;
use rand::rngs::StdRng;

/// A clock that goes on a little with each look, and by leaps when told.
pub(crate) struct Ticking(pub(crate) AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }

    fn monotonic(&self) -> std::time::Duration {
        let ns = self.0.load(Ordering::Relaxed);
        std::time::Duration::from_nanos(ns.unsigned_abs())
    }
}

/// The memory engine, with faults and counts.
#[derive(Clone, Default)]
pub(crate) struct Faulty {
    pub(crate) engine: MemoryEngine,
    pub(crate) is_full: Arc<AtomicBool>,
    /// Held by whoever wants writes to wait.
    pub(crate) gate: Arc<Mutex<()>>,
    pub(crate) n_writes: Arc<AtomicU64>,
    pub(crate) n_checkpoints: Arc<AtomicU64>,
}

impl Read for Faulty {
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

impl Engine for Faulty {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Error::new("faulty", ErrorKind::DiskFull, "write"));
        }
        self.n_writes.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock().unwrap());
        self.engine.write(batch)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Error::new("faulty", ErrorKind::DiskFull, "checkpoint"));
        }
        self.n_checkpoints.fetch_add(1, Ordering::Relaxed);
        self.engine.checkpoint()
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        self.engine.snapshot()
    }

    fn usage(&self) -> Result<Usage, Error> {
        self.engine.usage()
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

/// Disk, engine and clock of one replica.
pub(crate) struct Machine {
    pub(crate) disk: MemDisk,
    pub(crate) engine: Faulty,
    pub(crate) clock: Arc<Ticking>,
    pub(crate) random: u64,
    pub(crate) durability: Durability,
    pub(crate) limits: Limits,
}

impl Machine {
    pub(crate) fn new(random: u64, durability: Durability) -> Self {
        Self {
            disk: MemDisk::new(),
            engine: Faulty::default(),
            clock: Arc::new(Ticking(AtomicI64::new(1_000_000_000))),
            random,
            durability,
            limits: Limits {
                checkpoint_every_bytes: 4_000,
                segment_size_bytes: 2_000,
                ..Limits::STANDARD
            },
        }
    }

    pub(crate) fn options(&self) -> ReplicaOptions {
        ReplicaOptions {
            disk: Arc::new(self.disk.clone()),
            engine: Arc::new(self.engine.clone()),
            clock: self.clock.clone(),
            random: self.random,
            durability: self.durability,
            limits: self.limits,
        }
    }

    pub(crate) fn open(&self) -> Replica {
        Replica::open(self.options()).unwrap()
    }

    /// Power loss: of what was not synced any blocks are lost, of the engine's batches all
    /// behind some point.
    pub(crate) fn crash(&self, rng: &mut StdRng) {
        let kept = rng.random_range(0..60);
        self.engine.engine.crash(|batch| batch < kept);
        let keeps = rng.random_range(0.0..1.0);
        self.disk.crash_blocks(64, || rng.random_bool(keeps));
    }

    pub(crate) fn leap(&self, by: std::time::Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap();
        self.clock.0.fetch_add(by, Ordering::Relaxed);
    }
}

pub(crate) fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn entry(uid: u32, is_dir: bool) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().uid = uid;
    let mode = if is_dir { MODE_DIRECTORY } else { 0 };
    fields.attrs_mut().file_mode = mode | 0o644;
    fields.to_entry(&UnknownFields::default())
}

fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

pub(crate) fn create(text: &str) -> Transaction {
    one(Step::Create {
        path: path(text),
        entry: entry(7, false),
    })
}

pub(crate) fn random_step(rng: &mut StdRng) -> Transaction {
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
pub(crate) fn dump(replica: &Replica) -> Vec<String> {
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
