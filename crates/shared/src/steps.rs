// SPDX-License-Identifier: Apache-2.0
//! A transaction as rows to write one after another, where the database has no transactions.
//!
//! The order keeps everything reachable at any moment: keys (what hard links share) come first,
//! then what is new or changed, directories before what is in them, and last what goes, what is
//! in a directory before the directory. A moved entry is at its new name before it leaves the
//! old one. What lies in one directory goes together where the database can do that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use dulse_types::FullPath;

use crate::backend::{Guard, Work, Write};
use crate::record::Announced;
use crate::rows::{At, GroupMax, RowWrite, Rows};

mod chase;
mod clocks;
mod run;

pub(crate) use clocks::Clocks;
pub(crate) use run::{Ran, Runner};

/// Rows in order, and what must hold beside them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Steps {
    pub(crate) rows: Vec<RowWrite>,
    pub(crate) checks: Vec<Guard>,
    /// Writes of the database, in order; those of one level may be under way at once.
    pub(super) groups: Vec<Group>,
    /// Of rows that go, the row that holds the same entry under its new name.
    pub(super) moved: BTreeMap<usize, usize>,
}

/// Rows that one write of the database holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) rows: Range<usize>,
    pub(super) level: usize,
    /// Whether nothing but rows that go is in it.
    pub(super) goes: bool,
}

impl Steps {
    /// The rows of a planned transaction.
    pub(crate) fn of<R: Rows>(work: Work, announced: &Announced, database: &R) -> Self {
        let mut before: BTreeMap<At, Option<Bytes>> = BTreeMap::new();
        for guard in &work.guards {
            match guard {
                Guard::Absent(path) => drop(before.insert(At::Path(path.clone()), None)),
                Guard::Same(path, value) => {
                    before.insert(At::Path(path.clone()), Some(value.clone()));
                }
                Guard::Key(key, value) => {
                    before.insert(At::Key(key.clone()), value.clone());
                }
                Guard::Directory(_) | Guard::Names(..) => {}
            }
        }
        let mut rows: Vec<RowWrite> = Vec::with_capacity(work.writes.len());
        for write in work.writes {
            let (at, after) = match write {
                Write::Insert(path, value) | Write::Replace(path, value) => {
                    (At::Path(path), Some(value))
                }
                Write::Remove(path) | Write::RemoveDirectory(path) => (At::Path(path), None),
                Write::PutKey(key, value) => (At::Key(key), Some(value)),
                Write::RemoveKey(key) => (At::Key(key), None),
            };
            let before = before.remove(&at).unwrap_or_default();
            rows.push(RowWrite { at, before, after });
        }
        // What is told and stays as it is must stay so until it is told: it is written again.
        let events = announced.events.iter();
        let told = events.flat_map(|event| [&event.old, &event.new].into_iter().flatten());
        for path in told.map(|(path, _)| At::Path(path.clone())) {
            if let Some(value) = before.remove(&path) {
                rows.push(RowWrite {
                    at: path,
                    before: value.clone(),
                    after: value,
                });
            }
        }
        Self::new(rows, work.guards, announced, database)
    }

    /// Rows and checks as they were journaled.
    pub(crate) fn new<R: Rows>(
        mut rows: Vec<RowWrite>,
        mut checks: Vec<Guard>,
        announced: &Announced,
        database: &R,
    ) -> Self {
        rows.sort_by_cached_key(place);
        let index: BTreeMap<At, usize> = rows.iter().map(|row| row.at.clone()).zip(0..).collect();
        // A row that is written is compared when it is.
        checks.retain(|check| match check {
            Guard::Absent(path) | Guard::Same(path, _) => {
                !index.contains_key(&At::Path(path.clone()))
            }
            Guard::Key(key, _) => !index.contains_key(&At::Key(key.clone())),
            Guard::Directory(_) | Guard::Names(..) => true,
        });
        // What is made stays in the directories that are made with it.
        for row in &rows {
            let At::Path(path) = &row.at else { continue };
            let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else {
                continue;
            };
            let is_made = |at: &At| index.get(at).is_some_and(|i| rows[*i].after.is_some());
            let check = Guard::Directory(parent.clone());
            if row.after.is_some() && is_made(&At::Path(parent)) && !checks.contains(&check) {
                checks.push(check);
            }
        }
        let moved = announced.events.iter().filter_map(|event| {
            let ((from, _), (to, _)) = (event.old.as_ref()?, event.new.as_ref()?);
            let at = |path: &FullPath| index.get(&At::Path(path.clone())).copied();
            let (from, to) = (at(from)?, at(to)?);
            let is_move = rows[from].goes() && rows[to].after == rows[from].before;
            is_move.then_some((from, to))
        });
        let moved = moved.collect();
        let alone: BTreeSet<String> = rows
            .iter()
            .filter_map(|row| match &row.at {
                At::Path(path) => path.parent(),
                At::Key(_) => None,
            })
            .filter(|parent| !database.groups(parent))
            .map(|parent| parent.as_str().to_owned())
            .collect();
        let groups = groups(&rows, database.group_max(), &alone);
        Self {
            rows,
            checks,
            groups,
            moved,
        }
    }
}

impl Steps {
    /// Whether the database makes all of it at once.
    pub(crate) fn is_one_write(&self) -> bool {
        self.groups.len() <= 1
    }

    /// Of each row, the level in which it is written.
    pub(super) fn levels(&self) -> Vec<usize> {
        let mut levels = vec![0; self.rows.len()];
        for group in &self.groups {
            levels[group.rows.clone()].fill(group.level);
        }
        levels
    }
}

/// Where a row comes in the order: what it is, how deep, in which directory.
type Place = (u8, i64, String, At);

fn place(row: &RowWrite) -> Place {
    let At::Path(path) = &row.at else {
        return (0, 0, String::new(), row.at.clone());
    };
    let depth = path.as_str().matches('/').count() as i64;
    let parent = path.parent().map(|parent| parent.as_str().to_owned());
    let (kind, depth) = match row.goes() {
        false => (1, depth),
        true => (2, -depth),
    };
    (kind, depth, parent.unwrap_or_default(), row.at.clone())
}

/// - `alone`: directories whose rows are written one by one.
fn groups(rows: &[RowWrite], max: GroupMax, alone: &BTreeSet<String>) -> Vec<Group> {
    let size = |row: &RowWrite| {
        let both = [&row.before, &row.after];
        both.into_iter().flatten().map(Bytes::len).sum::<usize>()
    };
    let place = |row: &RowWrite| {
        let (kind, depth, parent, _) = place(row);
        (kind, depth, parent)
    };
    let is_key = rows.iter().any(|row| matches!(row.at, At::Key(_)));
    let one = rows.first().map(|row| place(row).2);
    let is_alone = |parent: &String| alone.contains(parent);
    let is_one_directory = !is_key
        && !one.as_ref().is_some_and(is_alone)
        && rows.iter().all(|row| Some(place(row).2) == one);
    let n_bytes: usize = rows.iter().map(size).sum();
    if is_one_directory && rows.len() > 1 && rows.len() <= max.n_rows && n_bytes <= max.n_bytes {
        // All at once: what goes and what comes is never seen apart.
        return vec![Group {
            rows: 0..rows.len(),
            level: 0,
            goes: rows.iter().all(RowWrite::goes),
        }];
    }
    let mut out: Vec<Group> = Vec::new();
    let (mut last, mut level, mut n_bytes) = (None, 0, 0);
    for (i, row) in rows.iter().enumerate() {
        let (kind, depth, parent) = place(row);
        if last
            .as_ref()
            .is_some_and(|(k, d, _)| (*k, *d) != (kind, depth))
        {
            level += 1;
        }
        let fits = kind != 0
            && !is_alone(&parent)
            && last.as_ref() == Some(&(kind, depth, parent.clone()));
        n_bytes += size(row);
        match out.last_mut() {
            Some(group) if fits && group.rows.len() < max.n_rows && n_bytes <= max.n_bytes => {
                group.rows.end = i + 1;
            }
            _ => {
                n_bytes = size(row);
                out.push(Group {
                    rows: i..i + 1,
                    level,
                    goes: kind == 2,
                });
            }
        }
        last = Some((kind, depth, parent));
    }
    out
}
