// SPDX-License-Identifier: Apache-2.0
//! Replicas that hear of each other's changes, are damaged, and repair themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::{Batch, Engine, MemoryEngine, ReadExt};
use dulse_merge::digest::INODES_DIR;
use dulse_merge::keys::Space;
use dulse_merge::{InodeRow, KvRow, NameRow};
use dulse_proto::repair::{
    BucketsReply, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest, KnownRequest,
    RowsReply, RowsRequest,
};
use dulse_replica::{
    Applied, Clock, Durability, Limits, Repair, Repaired, Replica, ReplicaOptions, ScrubCursor,
    Shared,
};
use dulse_replication::repair::round::{self, Local, Peer, Report, Target};
use dulse_replication::repair::serve;
use dulse_store::{Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath, Stamp, Vector};
use rand::Rng;
use rand::rngs::StdRng;

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

/// What a scrub found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Found {
    pub(crate) dirs: Vec<Bytes>,
    pub(crate) damaged: Vec<Bytes>,
    pub(crate) unsettled: Vec<Bytes>,
}

pub(crate) struct Filer {
    pub(crate) disk: MemDisk,
    pub(crate) engine: Arc<dyn Engine>,
    /// The same engine where it is one that can crash.
    memory: MemoryEngine,
    clock: Arc<Ticking>,
    random: u64,
    pub(crate) replica: Replica,
}

fn open(disk: &MemDisk, engine: &Arc<dyn Engine>, clock: &Arc<Ticking>, random: u64) -> Replica {
    Replica::open(ReplicaOptions {
        disk: Arc::new(disk.clone()),
        engine: Arc::clone(engine),
        clock: Arc::clone(clock) as _,
        random,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })
    .unwrap()
}

impl Filer {
    pub(crate) fn new(n: u64) -> Self {
        let memory = MemoryEngine::new();
        let engine = Arc::new(memory.clone());
        Self {
            memory,
            ..Self::with_engine(n, engine)
        }
    }

    /// On an engine that is not crashed.
    pub(crate) fn with_engine(n: u64, engine: Arc<dyn Engine>) -> Self {
        let disk = MemDisk::new();
        let clock = Arc::new(Ticking(AtomicI64::new(1_000_000_000)));
        let random = n << 32 | n;
        let replica = open(&disk, &engine, &clock, random);
        Self {
            disk,
            engine,
            memory: MemoryEngine::new(),
            clock,
            random,
            replica,
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.replica.shared()
    }

    /// Power loss right after what was done last; all batches up to `kept` are there.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.memory.crash(|batch| batch < kept);
        self.disk.crash(|_| 0);
        self.replica = open(&self.disk, &self.engine, &self.clock, self.random);
    }

    pub(crate) fn commit(&mut self, transaction: Transaction) -> bool {
        self.replica.commit(vec![transaction]).remove(0).is_ok()
    }

    /// Raw writes below everything: damage.
    pub(crate) fn damage(&self, writes: Vec<(Vec<u8>, Option<Bytes>)>) {
        self.engine.write(Batch { writes }).unwrap();
    }

    pub(crate) fn rows(&self, space: Space) -> Vec<(Bytes, Bytes)> {
        let (from, to) = space.range();
        self.engine.scan(&from, &to, usize::MAX).unwrap()
    }

    /// All that must be alike everywhere.
    pub(crate) fn dump(&self) -> BTreeMap<Bytes, Bytes> {
        let spaces = [
            Space::Entries,
            Space::Shadows,
            Space::Inodes,
            Space::Kv,
            Space::Conflicts,
            Space::Digest,
        ];
        let rows = spaces.iter().flat_map(|space| self.rows(*space));
        // The content of a file that is gone counts in no digest: that it was lost shows nowhere.
        let counted = self.shared().census().unwrap();
        let counted = counted.items(INODES_DIR, None, 10_000).unwrap().items;
        let is_counted = |key: &Bytes| counted.iter().any(|item| item.key == key[1..]);
        let rows = rows.filter(|(key, _)| key[0] != Space::Inodes as u8 || is_counted(key));
        // A bit that says nothing may stay flipped: what is decoded is the same.
        rows.map(|(key, value)| {
            let value = match Space::REPLICATED.iter().find(|s| **s as u8 == key[0]) {
                Some(Space::Entries | Space::Shadows) => {
                    NameRow::decode(&value, b"").unwrap().encode(false).into()
                }
                Some(Space::Kv) => KvRow::decode(&value).unwrap().encode().into(),
                Some(Space::Inodes) => InodeRow::decode(&value).unwrap().encode().into(),
                _ => value,
            };
            (key, value)
        })
        .collect()
    }

    pub(crate) fn scrub(&self) -> Found {
        let mut all = Found::default();
        let mut cursor = ScrubCursor::begin();
        loop {
            let found = self.shared().scrub(&cursor, 50).unwrap();
            all.dirs.extend(found.directories);
            all.damaged.extend(found.damaged);
            all.unsettled.extend(found.unsettled);
            match found.next {
                Some(next) => cursor = next,
                None => return all,
            }
        }
    }
}

/// The own replica of a round.
pub(crate) struct Own<'a>(pub(crate) &'a mut Filer);

impl Local for Own<'_> {
    fn shared(&self) -> Arc<Shared> {
        self.0.shared()
    }

    fn repair(&mut self, repair: Repair) -> Result<Repaired, dulse_store::Error> {
        // An engine may have to copy all it has when it writes what a snapshot still reads:
        // that made each step of a repair as dear as the whole store.
        assert_eq!(self.0.engine.usage().unwrap().n_snapshots, 0);
        self.0.replica.repair(repair)
    }
}

/// A peer in this process.
pub(crate) struct Near(pub(crate) Arc<Shared>);

fn told<T>(answer: Result<T, dulse_store::Error>) -> Result<T, String> {
    answer.map_err(|e| e.to_string())
}

impl Peer for Near {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        Ok(serve::buckets(&self.0))
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        told(serve::directories(&self.0, &request))
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        told(serve::items(&self.0, &request))
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        told(serve::rows(&self.0, &request))
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        told(serve::known(&self.0, &request))
    }
}

/// Gives every filer every change of every other one.
pub(crate) fn exchange(filers: &mut [Filer]) {
    loop {
        let mut is_still = true;
        for to in 0..filers.len() {
            for from in 0..filers.len() {
                let shared = filers[from].shared();
                let origin = shared.origin();
                let after = filers[to].shared().vector().get(origin);
                let records = shared.changes_after(origin, after, 1 << 30).unwrap();
                if from == to || records.is_empty() {
                    continue;
                }
                is_still = false;
                let changes: Vec<Bytes> = records.into_iter().map(|r| r.payload).collect();
                let applied = filers[to].replica.apply_remote(&changes).unwrap();
                assert!(applied.iter().all(|a| *a == Applied::Now), "{applied:?}");
                filers[to].replica.sync().unwrap();
            }
        }
        if is_still {
            return;
        }
    }
}

pub(crate) fn cluster(n: u64) -> Vec<Filer> {
    (1..=n).map(Filer::new).collect()
}

/// One round of `filers[at]` against `filers[with]`.
pub(crate) fn round(filers: &mut [Filer], at: usize, with: usize, target: &Target) -> Report {
    let mut peer = Near(filers[with].shared());
    let others = (0..filers.len()).filter(|n| *n != at && *n != with);
    let mut others: Vec<Near> = others.map(|n| Near(filers[n].shared())).collect();
    let mut others: Vec<&mut dyn Peer> = others.iter_mut().map(|p| p as &mut dyn Peer).collect();
    let mut local = Own(&mut filers[at]);
    round::run(&mut local, &mut peer, &mut others, target).unwrap()
}

fn restore(filers: &mut [Filer], at: usize, keys: &[Bytes]) {
    let others = (0..filers.len()).filter(|n| *n != at);
    let mut others: Vec<Near> = others.map(|n| Near(filers[n].shared())).collect();
    let mut others: Vec<&mut dyn Peer> = others.iter_mut().map(|p| p as &mut dyn Peer).collect();
    let mut local = Own(&mut filers[at]);
    round::restore(&mut local, &mut others, keys).unwrap();
}

pub(crate) fn is_healed(filers: &[Filer]) -> bool {
    let clean = filers.iter().all(|f| f.scrub() == Found::default());
    clean
        && filers
            .windows(2)
            .all(|w| w[0].shared().digest() == w[1].shared().digest())
}

/// Scrubs and repairs until all is well; how many passes that took.
pub(crate) fn heal(filers: &mut [Filer]) -> usize {
    heal_or(filers, &"")
}

/// The same; `what` is told when it fails.
pub(crate) fn heal_or(filers: &mut [Filer], what: &dyn std::fmt::Debug) -> usize {
    for filer in filers.iter_mut() {
        filer.replica.recount(0, u16::MAX).unwrap();
    }
    for pass in 0..8 {
        if is_healed(filers) {
            return pass;
        }
        for at in 0..filers.len() {
            let Found {
                dirs,
                damaged,
                unsettled,
            } = filers[at].scrub();
            let repair = Repair {
                settled: unsettled,
                ..Repair::default()
            };
            filers[at].replica.repair(repair).unwrap();
            if !damaged.is_empty() {
                restore(filers, at, &damaged);
            }
            for with in (0..filers.len()).filter(|with| *with != at) {
                if !dirs.is_empty() {
                    round(filers, at, with, &Target::Directories(dirs.clone()));
                }
                if filers[at].shared().digest() != filers[with].shared().digest() {
                    round(filers, at, with, &Target::All);
                }
            }
        }
    }
    panic!(
        "not healed: {what:?} {:?}",
        filers
            .iter()
            .map(|f| (f.scrub(), f.shared().digest()))
            .collect::<Vec<_>>()
    );
}

pub(crate) fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

pub(crate) fn entry(uid: u32, is_dir: bool) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().uid = uid;
    let mode = if is_dir { MODE_DIRECTORY } else { 0 };
    fields.attrs_mut().file_mode = mode | 0o644;
    fields.to_entry(&UnknownFields::default())
}

pub(crate) fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

pub(crate) fn create(text: &str, uid: u32) -> Transaction {
    one(Step::Create {
        path: path(text),
        entry: entry(uid, false),
    })
}

pub(crate) fn random_step(rng: &mut StdRng) -> Transaction {
    let pick = |rng: &mut StdRng| {
        let names = [
            "/a", "/b", "/a/x", "/a/y", "/b/x", "/b/x/z", "/c", "/c/p", "/c/q", "/c/r",
        ];
        path(names[rng.random_range(0..names.len())])
    };
    one(match rng.random_range(0..10) {
        0..=4 => Step::Create {
            path: pick(rng),
            entry: entry(rng.random(), rng.random_bool(0.3)),
        },
        5 => Step::Delete {
            path: pick(rng),
            delete_chunks: true,
        },
        6 => Step::Rename {
            from: pick(rng),
            to: pick(rng),
        },
        7 => Step::Link {
            from: pick(rng),
            to: pick(rng),
        },
        8 => Step::KvDelete {
            key: Bytes::from(vec![rng.random_range(0..5)]),
        },
        _ => Step::KvPut {
            key: Bytes::from(vec![rng.random_range(0..5)]),
            value: vec![rng.random::<u8>(); 3].into(),
        },
    })
}

/// Nothing of the engine is above its vector.
pub(crate) fn vector_of(filer: &Filer) -> Vector {
    let vector = filer.shared().vector();
    assert!(vector.iter().all(|(_, stamp)| stamp > Stamp::ZERO));
    vector
}
