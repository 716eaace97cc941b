// SPDX-License-Identifier: Apache-2.0
//! Local operations at one replica against a plain map, after each step, and what they cost.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::keys::split_path;
use dulse_merge::local::{Builder, LocalError};
use dulse_merge::txn::RowsError;
use dulse_merge::view::is_dir;
use dulse_merge::{Change, Rows, Txn, events};
use dulse_types::{Entry, Stamp};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::world::{Memory, Mix, Op, Replica, entry, op};

/// Path to what it shows: an inode, `None` for a directory that nobody made.
type Tree = BTreeMap<Bytes, Option<usize>>;

#[derive(Default)]
struct Reference {
    tree: Tree,
    inodes: Vec<Entry>,
}

impl Reference {
    fn is_dir(&self, path: &Bytes) -> bool {
        match self.tree.get(path) {
            Some(Some(inode)) => self.inodes[*inode].is_dir(),
            Some(None) => true,
            None => false,
        }
    }

    fn put(&mut self, path: &Bytes, inode: usize) {
        self.tree.insert(path.clone(), Some(inode));
        self.imply();
    }

    /// Makes the directories that names imply, and takes those away that none does.
    fn imply(&mut self) {
        self.tree.retain(|_, inode| inode.is_some());
        for path in self.tree.keys().cloned().collect::<Vec<_>>() {
            let mut dir = split_path(&path).0;
            while !dir.is_empty() && dir != b"/" {
                let dir_path = Bytes::copy_from_slice(dir);
                self.tree.entry(dir_path).or_insert(None);
                dir = split_path(dir).0;
            }
        }
    }

    /// Does what an operation that succeeded must have done.
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path, entry) | Op::Update(path, entry) => {
                if let Some(Some(inode)) = self.tree.get(path) {
                    self.inodes[*inode] = entry.clone();
                    return;
                }
                self.inodes.push(entry.clone());
                self.put(path, self.inodes.len() - 1);
            }
            Op::Delete(path, _) => {
                self.tree.remove(path);
                self.imply();
            }
            Op::Link(from, to) => {
                let inode = self.tree[from].unwrap();
                self.put(to, inode);
            }
            Op::Rename(from, to) => {
                let below = [from, &Bytes::from_static(b"/")]
                    .map(|b| b.to_vec())
                    .concat();
                let moves = |path: &Bytes| path == from || path.starts_with(&below);
                let moved: Tree = self
                    .tree
                    .clone()
                    .into_iter()
                    .filter(|(p, _)| moves(p))
                    .collect();
                self.tree.retain(|path, _| !moves(path));
                self.tree.remove(to);
                for (path, inode) in moved {
                    let path = [to, &path[from.len()..]].concat();
                    self.tree.insert(Bytes::from(path), inode);
                }
                self.imply();
            }
            Op::Kv(..) | Op::Other(_) => {}
        }
    }
}

/// Whether an entry may come where a file is, or go below one: the namespace refuses that.
fn is_refused_above(reference: &Reference, op: &Op) -> bool {
    let to = match op {
        Op::Create(path, _) | Op::Rename(_, path) | Op::Link(_, path) => path,
        Op::Update(path, entry) => return reference.is_dir(path) != entry.is_dir(),
        Op::Delete(..) | Op::Kv(..) | Op::Other(_) => return false,
    };
    let mut dir = split_path(to).0;
    while !dir.is_empty() && dir != b"/" {
        let path = Bytes::copy_from_slice(dir);
        if reference.tree.contains_key(&path) && !reference.is_dir(&path) {
            return true;
        }
        dir = split_path(dir).0;
    }
    match op {
        Op::Rename(from, to) => {
            reference.tree.contains_key(to) && reference.is_dir(from) != reference.is_dir(to)
        }
        _ => false,
    }
}

/// Follows the events of a change, as a subscriber of upstream does.
fn follow(told: &mut BTreeSet<Bytes>, change: &Change) {
    let mut last = change.prev;
    for event in events(change) {
        assert!(event.stamp > last && event.stamp <= change.stamp);
        last = event.stamp;
        if let Some(path) = &event.old_path {
            assert!(told.remove(path), "{path:?} was never told of");
        }
        told.extend(event.new_path);
    }
}

#[test]
fn local_operations_and_their_events_do_what_they_do_to_a_plain_tree() {
    for seed in 0..600 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut replica = Replica::new(1);
        let mut reference = Reference::default();
        let mut told = BTreeSet::new();
        for _ in 0..30 {
            let op = op(&mut rng, Mix::LINKS);
            if is_refused_above(&reference, &op) {
                continue;
            }
            match replica.local(&op, &mut rng) {
                Ok(()) => reference.apply(&op),
                Err(LocalError::Read(error)) => panic!("{error}"),
                Err(_) => continue,
            }
            follow(&mut told, replica.log.last().unwrap());
            let seen = replica.seen();
            let made: BTreeSet<Bytes> = seen.all().map(|row| row.path.clone()).collect();
            assert_eq!(told, made, "{seed} {op:?}");
            let shown: Vec<_> = seen.tree.keys().collect();
            assert_eq!(
                shown,
                reference.tree.keys().collect::<Vec<_>>(),
                "{seed} {op:?}"
            );
            for (path, shown) in &seen.tree {
                assert!(shown.shadows.is_empty(), "alone, nothing is shadowed");
                let Some(row) = &shown.winner else {
                    assert_eq!(reference.tree[path], None, "{path:?}");
                    continue;
                };
                let content = seen.inodes.get(&row.inode).map(|inode| &inode.content);
                let got = content.unwrap_or(&row.content).entry();
                let inode = reference.tree[path].expect("somebody made it");
                let expect = dulse_types::entry::split(&reference.inodes[inode]);
                assert_eq!(
                    dulse_types::entry::split(&got),
                    expect,
                    "{seed} {path:?} {op:?}"
                );
                assert_eq!(is_dir(row), reference.is_dir(path));
            }
        }
    }
}

#[test]
fn a_name_cannot_be_moved_onto_itself() {
    // It killed the target first, which was the very name that it was to move.
    let mut rng = StdRng::seed_from_u64(1);
    let mut replica = Replica::new(1);
    let path = Bytes::from_static(b"/a");
    let made = Op::Create(path.clone(), entry(&mut rng));
    replica.local(&made, &mut rng).unwrap();
    let moved = replica.local(&Op::Rename(path.clone(), path), &mut rng);
    assert!(matches!(moved, Err(LocalError::IntoItself(_))));
    assert_eq!(replica.seen().tree.len(), 1);
}

struct Counting<'a> {
    rows: &'a Memory,
    n_reads: Cell<usize>,
}

impl Rows for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.n_reads.set(self.n_reads.get() + 1);
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        self.n_reads.set(self.n_reads.get() + 1);
        self.rows.scan(from, to, limit)
    }
}

#[test]
fn creating_a_file_in_a_directory_takes_few_reads_and_two_writes() {
    let mut rng = StdRng::seed_from_u64(rng_seed_of_a_file());
    let mut replica = Replica::new(1);
    let file = entry(&mut rng);
    assert!(!file.is_dir());
    let sibling = Op::Create(Bytes::from_static(b"/d/0"), file.clone());
    replica.local(&sibling, &mut rng).unwrap();
    let rows = Counting {
        rows: &replica.rows,
        n_reads: Cell::new(0),
    };
    let mut txn = Txn::new(&rows);
    let (first, prev) = (Stamp(100), replica.vector.get(replica.origin));
    let mut builder = Builder::new(&mut txn, replica.origin, first, prev);
    builder.create(&Bytes::from_static(b"/d/1"), &file).unwrap();
    let (writes, _) = txn.finish().unwrap();
    assert_eq!(writes.len(), 2, "the entry and the directory's digest");
    let n_reads = rows.n_reads.get();
    assert!(
        n_reads <= 4,
        "{n_reads} reads: each row once, none by the new identity"
    );
}

/// A seed whose first entry is a file.
fn rng_seed_of_a_file() -> u64 {
    let is_file = |seed: &u64| !entry(&mut StdRng::seed_from_u64(*seed)).is_dir();
    (0..100).find(is_file).expect("three in five are files")
}
