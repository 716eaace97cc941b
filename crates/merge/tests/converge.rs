// SPDX-License-Identifier: Apache-2.0
//! Whatever order changes arrive in, replicas end alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_merge::digest::Sum;
use dulse_merge::keys::{self, Space};
use dulse_merge::local::{Builder, LocalError};
use dulse_merge::txn::RowsError;
use dulse_merge::{Change, NameRow, Rows, Txn, apply};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Origin, Stamp, Vector};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

#[derive(Default, Clone)]
struct Memory(BTreeMap<Vec<u8>, Bytes>);

impl Rows for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        let range = self.0.range(from.to_vec()..to.to_vec());
        Ok(range
            .take(limit)
            .map(|(k, v)| (Bytes::from(k.clone()), v.clone()))
            .collect())
    }
}

/// A replica without disk or network.
#[derive(Clone)]
struct Replica {
    origin: Origin,
    rows: Memory,
    vector: Vector,
    log: Vec<Change>,
    clock: i64,
}

impl Replica {
    fn new(id: u32) -> Self {
        let origin = Origin::new(id, id).unwrap();
        Self {
            origin,
            rows: Memory::default(),
            vector: Vector::new(),
            log: vec![],
            clock: 0,
        }
    }

    fn write(&mut self, writes: Vec<(Vec<u8>, Option<Bytes>)>) {
        for (key, value) in writes {
            match value {
                Some(value) => self.rows.0.insert(key, value),
                None => self.rows.0.remove(&key),
            };
        }
    }

    fn local(&mut self, op: &Op, rng: &mut StdRng) -> Result<(), LocalError> {
        let rows = self.rows.clone();
        let mut txn = Txn::new(&rows);
        let first = Stamp(self.clock + 1 + i64::from(rng.random_range(0..3u8)));
        let prev = self.vector.get(self.origin);
        let mut builder = Builder::new(&mut txn, self.origin, first, prev);
        match op {
            Op::Create(path, entry) => builder.create(path, entry)?,
            Op::Update(path, entry) => builder.update(path, entry, true)?,
            Op::Delete(path) => builder.delete(path, true)?,
            Op::Rename(from, to) => builder.rename(from, to)?,
            Op::Link(from, to) => builder.link(from, to)?,
            Op::Kv(key, value) => builder.kv(key, value.clone())?,
        };
        let change = builder.finish();
        assert_eq!(Change::decode(&change.encode()).unwrap(), change);
        self.clock = change.stamp.0;
        self.vector.set(self.origin, change.stamp);
        let (writes, _) = txn.finish().unwrap();
        self.write(writes);
        self.log.push(change);
        self.check();
        Ok(())
    }

    fn receive(&mut self, change: &Change) {
        if change.stamp <= self.vector.get(change.origin) {
            return;
        }
        assert_eq!(change.prev, self.vector.get(change.origin));
        let rows = self.rows.clone();
        let mut txn = Txn::new(&rows);
        apply(&mut txn, change).unwrap();
        let (writes, _) = txn.finish().unwrap();
        self.write(writes);
        self.vector.set(change.origin, change.stamp);
        self.clock = self.clock.max(change.stamp.0);
        self.check();
    }

    /// The digest rows equal what the rows say; the tree is a tree.
    fn check(&self) {
        let mut sums: BTreeMap<Vec<u8>, Sum> = BTreeMap::new();
        let txn = Txn::new(&self.rows);
        for space in [Space::Entries, Space::Shadows] {
            let (from, to) = space.range();
            for (key, value) in self.rows.scan(&from, &to, usize::MAX).unwrap() {
                let path = keys::path_of(&key).unwrap();
                let row = NameRow::decode(&value, &path).unwrap();
                let (dir, _) = keys::split_path(&path);
                if !row.is_implied {
                    assert!(row.is_live() && row.is_born);
                    let hash = dulse_merge::digest::hash(&row.canonical());
                    sums.entry(dir.to_vec()).or_default().add(hash);
                }
                if dir != b"/" {
                    let parent = txn.shown(dir).unwrap();
                    assert!(
                        parent.is_some_and(|p| dulse_merge::view::is_dir(&p)),
                        "{} has no directory",
                        String::from_utf8_lossy(&path)
                    );
                }
                if row.is_implied {
                    let (from, to) = keys::children(Space::Entries, &path);
                    assert!(txn.has_any(&from, &to).unwrap(), "implied without children");
                }
            }
        }
        for (dir, sum) in &sums {
            let stored = self
                .rows
                .get(&keys::digest(dir))
                .unwrap()
                .expect("a digest row");
            assert_eq!(
                Sum::decode(&stored).unwrap(),
                *sum,
                "{}",
                String::from_utf8_lossy(dir)
            );
        }
    }

    fn state(&self, with_garbage: bool) -> BTreeMap<Vec<u8>, Bytes> {
        let kept = [
            Space::Entries,
            Space::Shadows,
            Space::Inodes,
            Space::Kv,
            Space::KvGraves,
            Space::Digest,
            if with_garbage {
                Space::Garbage
            } else {
                Space::Entries
            },
        ];
        let rows = self.rows.0.iter();
        let kept = rows.filter(|(key, _)| kept.iter().any(|s| *s as u8 == key[0]));
        // A garbage row says which change dropped the chunk here; that may differ.
        let is_garbage = |key: &[u8]| key[0] == Space::Garbage as u8;
        kept.map(|(k, v)| {
            (
                k.clone(),
                if is_garbage(k) {
                    Bytes::new()
                } else {
                    v.clone()
                },
            )
        })
        .collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create(Bytes, Entry),
    Update(Bytes, Entry),
    Delete(Bytes),
    Rename(Bytes, Bytes),
    Link(Bytes, Bytes),
    Kv(Bytes, Option<Bytes>),
}

const PATHS: &[&str] = &["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/b/x/1"];

fn path(rng: &mut StdRng) -> Bytes {
    Bytes::from_static(PATHS.choose(rng).unwrap().as_bytes())
}

fn entry(rng: &mut StdRng) -> Entry {
    let mut fields = EntryFields::default();
    let is_dir = rng.random_bool(0.4);
    fields.attrs_mut().file_mode = if is_dir {
        MODE_DIRECTORY | 0o755
    } else {
        0o644
    };
    fields.attrs_mut().uid = rng.random_range(0..3);
    if !is_dir {
        let key = rng.random_range(1..1000u64);
        let mut chunk = FileChunk {
            size: 1,
            ..FileChunk::default()
        };
        chunk.set_id(FileId {
            volume_id: 1,
            key,
            cookie: 1,
        });
        fields.chunks.push(chunk);
        fields.attrs_mut().mtime = rng.random_range(0..100);
    }
    fields.to_entry(&UnknownFields::default())
}

fn op(rng: &mut StdRng, with_links: bool) -> Op {
    match rng.random_range(0..if with_links { 12 } else { 11 }) {
        0..=3 => Op::Create(path(rng), entry(rng)),
        4..=5 => Op::Update(path(rng), entry(rng)),
        6..=7 => Op::Delete(path(rng)),
        8..=9 => Op::Rename(path(rng), path(rng)),
        10 => {
            let value = rng
                .random_bool(0.7)
                .then(|| Bytes::from(vec![rng.random()]));
            Op::Kv(Bytes::from(vec![rng.random_range(0..2)]), value)
        }
        _ => Op::Link(path(rng), path(rng)),
    }
}

/// Makes a history at `n` origins that see one another's changes now and then.
fn history(rng: &mut StdRng, n: u32, n_ops: usize, with_links: bool) -> Vec<Replica> {
    let mut replicas: Vec<Replica> = (1..=n).map(Replica::new).collect();
    let mut done = 0;
    while done < n_ops {
        let at = rng.random_range(0..replicas.len());
        if rng.random_bool(0.5) {
            let op = op(rng, with_links);
            if let Op::Update(path, entry) = &op {
                // The namespace lets no entry change its type.
                let shown = Txn::new(&replicas[at].rows).shown(path).unwrap();
                if shown.is_some_and(|s| dulse_merge::view::is_dir(&s) != entry.is_dir()) {
                    continue;
                }
            }
            match replicas[at].local(&op, rng) {
                Ok(()) => done += 1,
                Err(LocalError::Read(e)) => panic!("{e}"),
                Err(_) => {}
            }
        } else {
            let from = replicas[rng.random_range(0..n as usize)].log.clone();
            let seen = replicas[at].vector.clone();
            if let Some(next) = from.iter().find(|c| c.stamp > seen.get(c.origin)) {
                replicas[at].receive(next);
            }
        }
    }
    replicas
}

/// Delivers everything to a replica in some order that keeps each origin's.
fn deliver(replica: &mut Replica, logs: &[Vec<Change>], rng: &mut StdRng) {
    loop {
        let open: Vec<&Change> = logs
            .iter()
            .filter_map(|log| log.iter().find(|c| c.stamp > replica.vector.get(c.origin)))
            .collect();
        let Some(next) = open.choose(rng) else { return };
        replica.receive(next);
        if rng.random_bool(0.1) {
            replica.receive(next);
        }
    }
}

fn converge(seed: u64, n: u32, n_ops: usize, with_links: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut replicas = history(&mut rng, n, n_ops, with_links);
    let logs: Vec<Vec<Change>> = replicas.iter().map(|r| r.log.clone()).collect();
    replicas.push(Replica::new(99));
    replicas.push(Replica::new(98));
    for replica in &mut replicas {
        deliver(replica, &logs, &mut rng);
    }
    let first = replicas[0].state(!with_links);
    for other in &replicas[1..] {
        let state = other.state(!with_links);
        if state != first {
            for log in &logs {
                for change in log {
                    eprintln!("{change:?}");
                }
            }
            for key in first.keys().chain(state.keys()) {
                if first.get(key) != state.get(key) {
                    eprintln!(
                        "{:?}: {:?} / {:?}",
                        String::from_utf8_lossy(key),
                        first.get(key),
                        state.get(key)
                    );
                }
            }
            panic!(
                "seed {seed} diverges at {} against {}",
                other.origin, replicas[0].origin
            );
        }
    }
}

#[test]
fn random_histories_end_in_one_state() {
    for seed in 0..1500 {
        converge(seed, 2 + (seed % 4) as u32, 4 + (seed % 20) as usize, false);
    }
}

#[test]
fn random_histories_with_hard_links_end_in_one_state() {
    for seed in 0..1500 {
        converge(seed, 2 + (seed % 4) as u32, 4 + (seed % 20) as usize, true);
    }
}
