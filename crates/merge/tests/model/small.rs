// SPDX-License-Identifier: Apache-2.0
//! Small cases, all of them: three replicas, two names, few operations of six kinds, and
//! for each operation everything its doer may have seen.
//!
//! States are kept per vector. A new change makes a state for every vector that has
//! it, reached from each of its neighbours; all must agree, and with the naive model.
//! So every order of delivery is tried without listing orders.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use dulse_merge::local::Builder;
use dulse_merge::{Change, Txn, apply};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, Origin, Stamp};

use crate::histories::assert_same;
use crate::naive::Naive;
use crate::world::{Memory, Op, seen};

const REPLICAS: usize = 3;

/// How many changes of each replica are applied.
type Point = [usize; REPLICAS];

#[derive(Clone)]
struct World {
    logs: [Vec<Arc<Change>>; REPLICAS],
    states: HashMap<Point, Arc<Memory>>,
    /// What each replica had seen at its last operation.
    seen: [Point; REPLICAS],
}

/// The six kinds, each way round.
fn operations(names: [&'static str; 2], at: usize) -> Vec<Op> {
    let [a, b] = names.map(Bytes::from);
    let file = |uid| entry(0o644, uid);
    let dir = || entry(MODE_DIRECTORY | 0o755, 0);
    let uid = 1 + at as u32;
    let mut operations = Vec::new();
    for (this, other) in [(&a, &b), (&b, &a)] {
        operations.push(Op::Create(this.clone(), file(uid)));
        operations.push(Op::Create(this.clone(), dir()));
        operations.push(Op::Update(this.clone(), file(10 + uid)));
        operations.push(Op::Delete(this.clone(), true));
        operations.push(Op::Rename(this.clone(), other.clone()));
        operations.push(Op::Link(this.clone(), other.clone()));
    }
    operations
}

fn entry(file_mode: u32, uid: u32) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = file_mode;
    fields.attrs_mut().uid = uid;
    if file_mode & MODE_DIRECTORY == 0 {
        fields.content = Bytes::from(vec![uid as u8]);
    }
    fields.to_entry(&UnknownFields::default())
}

fn origin(at: usize) -> Origin {
    Origin::new(1 + at as u32, 1 + at as u32).unwrap()
}

fn includes(a: &Point, b: &Point) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b)
}

impl World {
    fn new() -> Self {
        Self {
            logs: Default::default(),
            states: HashMap::from([([0; REPLICAS], Arc::default())]),
            seen: Default::default(),
        }
    }

    /// The change that `op` makes at replica `at`, which has seen `point`.
    fn local(&self, at: usize, point: &Point, op: &Op) -> Option<Change> {
        let rows = &self.states[point];
        let mut txn = Txn::new(&**rows);
        if let Op::Update(path, _) = op {
            let shown = txn.shown(path).unwrap()?;
            if dulse_merge::view::is_dir(&shown) {
                return None;
            }
        }
        let known = (0..REPLICAS).flat_map(|at| &self.logs[at][..point[at]]);
        let clock = known.map(|change| change.stamp).max();
        let first = clock.unwrap_or(Stamp::ZERO).next();
        let prev = self.logs[at].last().map_or(Stamp::ZERO, |c| c.stamp);
        let mut builder = Builder::new(&mut txn, origin(at), first, prev);
        let done = match op {
            Op::Create(path, entry) => builder.create(path, entry),
            Op::Update(path, entry) => builder.update(path, entry, true),
            Op::Delete(path, delete_chunks) => builder.delete(path, *delete_chunks),
            Op::Rename(from, to) => builder.rename(from, to),
            Op::Link(from, to) => builder.link(from, to),
            Op::Kv(key, value) => builder.kv(key, value.clone()),
            Op::Other(_) => return None,
        };
        done.ok()?;
        Some(builder.finish()).filter(|change| !change.steps.is_empty())
    }

    fn with(&self, at: usize, point: &Point, change: Change) -> Self {
        let mut next = self.clone();
        let change = Arc::new(change);
        next.logs[at].push(Arc::clone(&change));
        next.seen[at] = *point;
        next.seen[at][at] += 1;
        let last = self.logs[at].len();
        let mut befores: Vec<&Point> = self.states.keys().filter(|p| p[at] == last).collect();
        befores.sort_by_key(|point| point.iter().sum::<usize>());
        for before in befores {
            let rows = merged(&self.states[before], &change);
            let mut point = *before;
            point[at] += 1;
            let got = seen(&rows);
            let logs = [next.applied(&point).cloned().collect()];
            assert_same("naive", &got, &Naive::of(&logs[0]), &logs);
            for other in (0..REPLICAS).filter(|o| *o != at && point[*o] > 0) {
                let mut beside = point;
                beside[other] -= 1;
                let late = &next.logs[other][beside[other]];
                let rows = merged(&next.states[&beside], late);
                assert_same("another order", &seen(&rows), &got, &logs);
            }
            next.states.insert(point, Arc::new(rows));
        }
        next
    }

    fn applied(&self, point: &Point) -> impl Iterator<Item = &Change> {
        let logs = self.logs.iter().zip(*point);
        logs.flat_map(|(log, n)| log[..n].iter().map(|change| &**change))
    }
}

fn merged(rows: &Memory, change: &Change) -> Memory {
    let mut txn = Txn::new(rows);
    apply(&mut txn, change).unwrap();
    let (writes, _) = txn.finish().unwrap();
    let mut rows = rows.clone();
    rows.write(writes);
    rows
}

/// Counts the histories of exactly `left` more operations, checking each state on the way.
fn explore(world: &World, names: [&'static str; 2], left: usize) -> u64 {
    if left == 0 {
        return 1;
    }
    let used = world.logs.iter().filter(|log| !log.is_empty()).count();
    let mut n_histories = 0;
    // Replicas that did nothing are alike, so only the first of them is tried.
    for at in 0..REPLICAS.min(used + 1) {
        let own = world.logs[at].len();
        let points = world.states.keys().filter(|p| p[at] == own);
        for point in points.filter(|p| includes(p, &world.seen[at])) {
            for op in operations(names, at) {
                if let Some(change) = world.local(at, point, &op) {
                    n_histories += explore(&world.with(at, point, change), names, left - 1);
                }
            }
        }
    }
    n_histories
}

fn check(names: [&'static str; 2], n_operations: usize, expect_at_least: u64) {
    let n_histories = explore(&World::new(), names, n_operations);
    println!("{names:?}: {n_histories} histories of {n_operations} operations");
    assert!(
        n_histories >= expect_at_least,
        "the enumeration lost its cases"
    );
}

#[test]
fn every_history_of_four_operations_on_two_names_in_one_directory_converges() {
    check(["/a", "/b"], 4, 70_000);
}

#[test]
fn every_history_of_four_operations_on_a_directory_and_a_name_in_it_converges() {
    check(["/a", "/a/b"], 4, 20_000);
}
