// SPDX-License-Identifier: Apache-2.0
//! One world: filers, links, faults, and what must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Applied, Clock, Durability, Replica, ReplicaOptions};
use dulse_store::{ListRange, Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Filers of a world.
const FILERS: usize = 3;

/// Events of a world before it heals.
const STEPS: usize = 300;

/// Rounds of deliveries after healing until all must be equal.
const HEALING_ROUNDS: usize = 20;

/// What happened.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) delivered: u64,
    pub(crate) crashes: u64,
    pub(crate) partitions: u64,
}

impl Counts {
    /// Adds another world's.
    pub(crate) fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.delivered += other.delivered;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
    }
}

/// The virtual wall clock of one filer.
struct VirtualClock(AtomicI64);

impl Clock for VirtualClock {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Filer {
    disk: MemDisk,
    engine: MemoryEngine,
    clock: Arc<VirtualClock>,
    random: u64,
    replica: Replica,
    /// The last stamp of its own that a client was told of.
    acknowledged: Stamp,
}

impl Filer {
    fn new(n: u64) -> Result<Self, String> {
        let (disk, engine) = (MemDisk::new(), MemoryEngine::new());
        let clock = Arc::new(VirtualClock(AtomicI64::new(1_000_000_000)));
        let random = (n + 1) << 32 | (n + 1);
        let replica = open(&disk, &engine, &clock, random)?;
        Ok(Self {
            disk,
            engine,
            clock,
            random,
            replica,
            acknowledged: Stamp::ZERO,
        })
    }

    /// kill -9 and power loss in one: unsynced bytes torn, later engine batches lost.
    fn crash(&mut self, rng: &mut StdRng) -> Result<(), String> {
        let kept = rng.random_range(0..200);
        self.engine.crash(|batch| batch < kept);
        self.disk.crash(|unsynced| rng.random_range(0..=unsynced));
        self.replica = open(&self.disk, &self.engine, &self.clock, self.random)?;
        let shared = self.replica.shared();
        let have = shared.vector().get(shared.origin());
        if have < self.acknowledged {
            return Err(format!(
                "I2: acknowledged up to {}, {have} after a crash",
                self.acknowledged
            ));
        }
        Ok(())
    }
}

fn open(
    disk: &MemDisk,
    engine: &MemoryEngine,
    clock: &Arc<VirtualClock>,
    random: u64,
) -> Result<Replica, String> {
    Replica::open(ReplicaOptions {
        disk: Arc::new(disk.clone()),
        engine: Arc::new(engine.clone()),
        clock: clock.clone(),
        random,
        durability: Durability::Fsync,
        checkpoint_every_bytes: 8_000,
    })
    .map_err(|e| format!("open: {e}"))
}

/// Runs one seed to its end.
///
/// # Errors
///
/// The invariant that does not hold, in words.
pub(crate) fn run(seed: u64) -> Result<Counts, String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut counts = Counts::default();
    let mut filers: Vec<Filer> = (0..FILERS as u64)
        .map(Filer::new)
        .collect::<Result<_, _>>()?;
    // `is_cut[a][b]`: nothing goes from a to b; one-way cuts happen.
    let mut is_cut = [[false; FILERS]; FILERS];
    for _ in 0..STEPS {
        for filer in &filers {
            filer
                .clock
                .0
                .fetch_add(rng.random_range(1..2_000_000), Ordering::Relaxed);
        }
        let (a, b) = (rng.random_range(0..FILERS), rng.random_range(0..FILERS));
        match rng.random_range(0..100) {
            0..=54 => write(&mut filers[a], rng, &mut counts),
            55..=89 if a != b && !is_cut[a][b] => deliver(&mut filers, a, b, rng, &mut counts)?,
            90..=91 => {
                filers[a].crash(rng)?;
                counts.crashes += 1;
            }
            92..=94 => {
                is_cut[a][b] = true;
                counts.partitions += 1;
            }
            95..=97 => is_cut = [[false; FILERS]; FILERS],
            _ => {
                let jump = rng.random_range(-500_000_000..500_000_000);
                filers[a].clock.0.fetch_add(jump, Ordering::Relaxed);
            }
        }
    }
    heal(&mut filers, rng, &mut counts)?;
    Ok(counts)
}

fn write(filer: &mut Filer, rng: &mut StdRng, counts: &mut Counts) {
    let group = (0..rng.random_range(1..4)).map(|_| step(rng)).collect();
    for commit in filer.replica.commit(group).into_iter().flatten() {
        filer.acknowledged = commit.stamp;
        counts.writes += 1;
    }
}

fn step(rng: &mut StdRng) -> Transaction {
    let names = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/hot"];
    let pick = |rng: &mut StdRng| FullPath::parse(names[rng.random_range(0..names.len())]);
    let (Ok(path), Ok(other)) = (pick(rng), pick(rng)) else {
        return Transaction::default();
    };
    let step = match rng.random_range(0..10) {
        0..=4 => Step::Create {
            path,
            entry: entry(rng),
        },
        5..=6 => Step::Delete {
            path,
            delete_chunks: true,
        },
        7..=8 => Step::Rename {
            from: path,
            to: other,
        },
        _ => Step::KvPut {
            key: Bytes::from_static(b"k"),
            value: vec![rng.random()].into(),
        },
    };
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

fn entry(rng: &mut StdRng) -> Entry {
    let mut fields = EntryFields::default();
    let is_dir = rng.random_bool(0.4);
    fields.attrs_mut().file_mode = if is_dir {
        MODE_DIRECTORY | 0o755
    } else {
        0o644
    };
    fields.attrs_mut().uid = rng.random_range(0..1000);
    fields.to_entry(&UnknownFields::default())
}

/// Hands some of what `from` has of somebody's log to `to`, as a stream or a relay would;
/// now and then twice.
fn deliver(
    filers: &mut [Filer],
    from: usize,
    to: usize,
    rng: &mut StdRng,
    counts: &mut Counts,
) -> Result<(), String> {
    let whose = filers[rng.random_range(0..FILERS)]
        .replica
        .shared()
        .origin();
    let have = filers[to].replica.shared().vector().get(whose);
    let shared = filers[from].replica.shared();
    let records = shared.changes_after(whose, have, rng.random_range(100..5_000));
    let records = records.map_err(|e| format!("read the journal: {e}"))?;
    let changes: Vec<Bytes> = records.into_iter().map(|record| record.payload).collect();
    if whose == filers[to].replica.shared().origin() && !changes.is_empty() {
        return Err("a filer lacks changes of its own that another has".to_owned());
    }
    for _ in 0..if rng.random_bool(0.1) { 2 } else { 1 } {
        let applied = filers[to].replica.apply_remote(&changes);
        let applied = applied.map_err(|e| format!("apply: {e}"))?;
        for result in applied {
            match result {
                Applied::Now => counts.delivered += 1,
                Applied::Already => {}
                other => return Err(format!("I3: a change was not applied: {other:?}")),
            }
        }
    }
    Ok(())
}

/// All links work again: everything arrives, and equal vectors mean equal trees (I1).
fn heal(filers: &mut [Filer], rng: &mut StdRng, counts: &mut Counts) -> Result<(), String> {
    for _ in 0..HEALING_ROUNDS {
        for from in 0..FILERS {
            for to in (0..FILERS).filter(|to| *to != from) {
                for _ in 0..FILERS * 4 {
                    deliver(filers, from, to, rng, counts)?;
                }
            }
        }
        let vectors: Vec<_> = filers.iter().map(|f| f.replica.shared().vector()).collect();
        if vectors.windows(2).all(|w| w[0] == w[1]) {
            return agree(filers);
        }
    }
    Err("no progress: filers did not catch up after healing".to_owned())
}

fn agree(filers: &[Filer]) -> Result<(), String> {
    let digests: Vec<_> = filers.iter().map(|f| f.replica.shared().digest()).collect();
    if digests.windows(2).any(|w| w[0] != w[1]) {
        return Err(format!("I1: equal vectors, unequal digests: {digests:?}"));
    }
    let first = dump(&filers[0])?;
    for filer in &filers[1..] {
        if dump(filer)? != first {
            return Err("I1: equal digests, unequal trees".to_owned());
        }
    }
    Ok(())
}

/// The tree as clients see it; every entry lies in a directory that is shown (I5).
fn dump(filer: &Filer) -> Result<BTreeMap<String, Entry>, String> {
    let shared = filer.replica.shared();
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: dulse_store::LIST_MAX,
        };
        let rows = shared.list(&dir, &range).map_err(|e| e.to_string())?;
        for row in rows {
            let path = FullPath::of(dir.as_str(), &row.name).map_err(|e| e.to_string())?;
            let found = shared.find(&path).map_err(|e| e.to_string())?;
            if found.map(|f| f.entry) != Some(row.entry.clone()) {
                return Err(format!("I5: {path} is listed but not found alike"));
            }
            if row.entry.is_dir() {
                open.push(path.clone());
            }
            out.insert(path.to_string(), row.entry);
        }
    }
    Ok(out)
}
