// SPDX-License-Identifier: Apache-2.0
//! Replicas without disk or network, and random operations on them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::digest::Sum;
use dulse_merge::keys::{self, Space};
use dulse_merge::local::{Builder, Effect, LocalError};
use dulse_merge::txn::RowsError;
use dulse_merge::{
    Change, ConflictRow, ConflictStep, InodeRow, KvRow, MemberRow, MemberStep, NameRow, Rows, Step,
    Txn, apply,
};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::wire::Reader;
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Identity, Origin, Stamp, Vector};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::naive::{Naive, Shown};

#[derive(Default, Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<Vec<u8>, Bytes>);

impl Memory {
    pub(crate) fn write(&mut self, writes: Vec<(Vec<u8>, Option<Bytes>)>) {
        for (key, value) in writes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

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
pub(crate) struct Replica {
    pub(crate) origin: Origin,
    pub(crate) rows: Memory,
    pub(crate) vector: Vector,
    pub(crate) log: Vec<Change>,
    pub(crate) clock: i64,
}

impl Replica {
    pub(crate) fn new(id: u32) -> Self {
        let origin = Origin::new(id, id).unwrap();
        Self {
            origin,
            rows: Memory::default(),
            vector: Vector::new(),
            log: vec![],
            clock: 0,
        }
    }

    pub(crate) fn local(&mut self, op: &Op, rng: &mut StdRng) -> Result<(), LocalError> {
        let rows = self.rows.clone();
        let mut txn = Txn::new(&rows);
        txn.applied = Some(self.vector.clone());
        let first = Stamp(self.clock + 1 + i64::from(rng.random_range(0..3u8)));
        let prev = self.vector.get(self.origin);
        let mut builder = Builder::new(&mut txn, self.origin, first, prev);
        match op {
            Op::Create(path, entry) => builder.create(path, entry)?,
            Op::Update(path, entry) => builder.update(path, entry, true)?,
            Op::Delete(path, delete_chunks) => builder.delete(path, *delete_chunks)?,
            Op::Rename(from, to) => builder.rename(from, to)?,
            Op::Link(from, to) => builder.link(from, to)?,
            Op::Kv(key, value) => builder.kv(key, value.clone())?,
            Op::Other(step) => {
                builder.other(step.clone())?;
                Effect::default()
            }
        };
        let change = builder.finish();
        assert_eq!(Change::decode(&change.encode()).unwrap(), change);
        self.clock = change.stamp.0;
        self.vector.set(self.origin, change.stamp);
        let (writes, _) = txn.finish().unwrap();
        self.rows.write(writes);
        self.log.push(change);
        self.check();
        Ok(())
    }

    pub(crate) fn receive(&mut self, change: &Change) {
        if change.stamp <= self.vector.get(change.origin) {
            return;
        }
        assert_eq!(change.prev, self.vector.get(change.origin));
        let rows = self.rows.clone();
        let mut txn = Txn::new(&rows);
        txn.applied = Some(self.vector.clone());
        apply(&mut txn, change).unwrap();
        assert_eq!(
            txn.n_orphans, 0,
            "a write to a name that is lost: {change:?}"
        );
        let (writes, _) = txn.finish().unwrap();
        self.rows.write(writes);
        self.vector.set(change.origin, change.stamp);
        self.clock = self.clock.max(change.stamp.0);
        self.check();
    }

    /// The digest rows equal what the rows say; the tree is a tree.
    pub(crate) fn check(&self) {
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

    /// The rows, seen as the naive model sees them.
    pub(crate) fn seen(&self) -> Naive {
        seen(&self.rows)
    }
}

/// Rows, read into the shape of the naive model.
pub(crate) fn seen(rows: &Memory) -> Naive {
    let mut out = Naive::default();
    let txn = Txn::new(rows);
    for (key, value) in &rows.0 {
        let rest = &key[1..];
        let name = |path: &[u8]| NameRow::decode(value, path).unwrap();
        let identity = || Identity::read(&mut Reader::new(rest)).unwrap();
        if key[0] == Space::Entries as u8 {
            let path = Bytes::from(keys::path_of(key).unwrap());
            let row = NameRow {
                has_shadows: false,
                ..name(&path)
            };
            let has_shadows = name(&path).has_shadows;
            let mut shadows = txn.shadows(&path).unwrap();
            shadows.sort_by_key(|row| (row.place, row.rank, row.name));
            assert_eq!(has_shadows, !shadows.is_empty(), "has_shadows is a lie");
            let winner = (!row.is_implied).then_some(row);
            out.tree.insert(path, Shown { winner, shadows });
        } else if key[0] == Space::Shadows as u8 {
            let path = keys::path_of(key).unwrap();
            assert!(txn.shown(&path).unwrap().is_some(), "a shadow of nothing");
        } else if key[0] == Space::Graves as u8 {
            // When it was merged is each replica's own affair.
            let grave = NameRow {
                merged: Vector::new(),
                ..name(b"")
            };
            out.graves.insert(identity(), grave);
        } else if key[0] == Space::Partial as u8 {
            out.partial.insert(identity());
        } else if key[0] == Space::Inodes as u8 {
            let row = InodeRow::decode(value).unwrap();
            out.inodes.insert(row.inode, row);
        } else if key[0] == Space::Kv as u8 || key[0] == Space::KvGraves as u8 {
            let row = KvRow::decode(value).unwrap();
            assert_eq!(row.value.is_some(), key[0] == Space::Kv as u8);
            out.kv.insert(Bytes::copy_from_slice(rest), row);
        } else if key[0] == Space::Members as u8 {
            let origin = Origin(Reader::new(rest).u64_be().unwrap());
            let mut row = MemberRow::decode(value).unwrap();
            if row.state != MemberRow::MEMBER {
                row.address.clear();
            }
            out.members.insert(origin, row);
        } else if key[0] == Space::Conflicts as u8 {
            let row = ConflictRow::decode(value).unwrap();
            out.conflicts.insert(identity(), row);
        } else if key[0] == Space::Garbage as u8 {
            // Else the owner of a chunk that moved.
            out.garbage.extend(keys::parse_garbage(key));
        } else if key[0] == Space::Digest as u8 {
            out.digest
                .insert(rest[2..].to_vec(), Sum::decode(value).unwrap());
        }
    }
    // A dead inode keeps its row; the naive model lists those with a live name.
    let live: BTreeSet<Identity> = out.all().map(|row| row.inode).collect();
    out.inodes.retain(|inode, _| live.contains(inode));
    out
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Bytes, Entry),
    Update(Bytes, Entry),
    Delete(Bytes, bool),
    Rename(Bytes, Bytes),
    Link(Bytes, Bytes),
    Kv(Bytes, Option<Bytes>),
    Other(Step),
}

pub(crate) const PATHS: &[&str] = &["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/b/x/1"];

pub(crate) fn path(rng: &mut StdRng) -> Bytes {
    Bytes::from_static(PATHS.choose(rng).unwrap().as_bytes())
}

pub(crate) fn entry(rng: &mut StdRng) -> Entry {
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

/// Which operations a history has besides the common ones.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mix {
    /// Hard links.
    pub(crate) links: bool,
    /// Upstream's hard link ids, times to live, access times.
    pub(crate) ids: bool,
    /// Members and conflict records.
    pub(crate) others: bool,
}

impl Mix {
    pub(crate) const PLAIN: Self = Self {
        links: false,
        ids: false,
        others: false,
    };
    pub(crate) const LINKS: Self = Self {
        links: true,
        ..Self::PLAIN
    };
    pub(crate) const ALL: Self = Self {
        links: true,
        ids: true,
        others: true,
    };
}

/// An entry, of a file now and then with one of two hard link ids, a time to live and an
/// access time.
fn entry_of(rng: &mut StdRng, mix: Mix) -> Entry {
    let entry = entry(rng);
    if !mix.ids || entry.is_dir() {
        return entry;
    }
    let mut fields = entry.fields().unwrap();
    if rng.random_bool(0.3) {
        fields.hard_link_id = Bytes::from(vec![rng.random_range(0..2)]);
    }
    let attributes = fields.attrs_mut();
    attributes.ttl_sec = [0, 10, 20][rng.random_range(0..3)];
    attributes.atime = rng.random_range(0..50);
    fields.to_entry(&UnknownFields::default())
}

/// A change of membership, or a conflict recorded or settled: few of each, so that they meet.
fn other(rng: &mut StdRng) -> Step {
    let id = dulse_merge::conflict::data_id(Identity::default().birth());
    let id = Identity {
        stamp: Stamp(rng.random_range(1..4)),
        ..id
    };
    let member = Origin(rng.random_range(50..53));
    let cut = Stamp(rng.random_range(1..9));
    match rng.random_range(0..7) {
        0 => Step::Member(MemberStep::Join {
            member,
            address: format!("filer:{cut}"),
        }),
        1 => Step::Member(MemberStep::Leave { member }),
        2 => Step::Member(MemberStep::Fence { member, cut }),
        3 => Step::Member(MemberStep::Remove { member, cut }),
        4 => Step::Conflict(ConflictStep::Withdraw { id }),
        5 => Step::Conflict(ConflictStep::Expire { id }),
        _ => Step::Conflict(ConflictStep::Record {
            id,
            kind: dulse_merge::conflict::DATA,
            name: id,
            path: path(rng),
            loser: entry(rng).raw().clone(),
            winner: id.birth(),
        }),
    }
}

pub(crate) fn op(rng: &mut StdRng, mix: Mix) -> Op {
    if mix.others && rng.random_bool(0.25) {
        return Op::Other(other(rng));
    }
    match rng.random_range(0..if mix.links { 12 } else { 11 }) {
        0..=3 => Op::Create(path(rng), entry_of(rng, mix)),
        4..=5 => Op::Update(path(rng), entry_of(rng, mix)),
        6..=7 => Op::Delete(path(rng), rng.random_bool(0.7)),
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
pub(crate) fn history(rng: &mut StdRng, n: u32, n_ops: usize, mix: Mix) -> Vec<Replica> {
    let mut replicas: Vec<Replica> = (1..=n).map(Replica::new).collect();
    let mut done = 0;
    while done < n_ops {
        let at = rng.random_range(0..replicas.len());
        if rng.random_bool(0.5) {
            let op = op(rng, mix);
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
pub(crate) fn deliver(replica: &mut Replica, logs: &[Vec<Change>], rng: &mut StdRng) {
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
