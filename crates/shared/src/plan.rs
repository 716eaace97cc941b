// SPDX-License-Identifier: Apache-2.0
//! From a transaction to rows: what must hold, what is written, what is announced.
//!
//! A plan reads what it needs and remembers what it read; the guards say that nothing of that
//! has changed. Each step sees what those before it left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_store::{
    Error, ErrorKind, Expect, ListRange, Operation, Step, StepResult, Token, Transaction,
};
use dulse_types::{Entry, FullPath, Stamp};
use xxhash_rust::xxh3::xxh3_128;

use crate::backend::{Backend, Guard, Work, Write};
use crate::record::{Announced, Event};
use crate::value;

mod ahead;
mod links;
mod moving;

use ahead::Ahead;

pub use moving::NAMES_MAX;

/// The key under which every filer on a store finds its id.
pub(crate) const STORE_ID_KEY: &[u8] = b"filer.store.id";

/// Largest value of one entry, in bytes: its old and its new one fit into one journal record.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;

/// Largest sum of the values that one transaction reads and writes, in bytes.
const PLAN_BYTES_MAX: usize = 48 << 20;

/// Names read at a time.
const PAGE: usize = 1_000;

/// A row as it is and as it is to be.
#[derive(Clone, Default)]
struct Row {
    before: Option<Bytes>,
    now: Option<Bytes>,
}

/// A planned transaction.
pub(crate) struct Plan {
    pub(crate) work: Work,
    pub(crate) announced: Announced,
    /// One per step; stamps are set once they are known.
    pub(crate) results: Vec<StepResult>,
    /// Which event is each step's own; `None` when it has none.
    pub(crate) own_events: Vec<Option<u32>>,
}

pub(crate) struct Planner<'a, B> {
    backend: &'a B,
    now_s: i64,
    rows: BTreeMap<FullPath, Row>,
    keys: BTreeMap<Bytes, Row>,
    ahead: Ahead,
    directories: BTreeSet<FullPath>,
    /// Rows of which more was looked at than whether they are directories.
    exact: BTreeSet<FullPath>,
    names: BTreeMap<FullPath, u64>,
    events: Vec<Event>,
    n_bytes: usize,
}

impl Plan {
    /// Plans a transaction by what is there now.
    ///
    /// # Errors
    ///
    /// As [`dulse_store::EntryStore::commit`]; nothing was changed.
    pub(crate) async fn make<B: Backend>(
        backend: &B,
        transaction: &Transaction,
        now_s: i64,
    ) -> Result<Self, Error> {
        let mut planner = Planner {
            backend,
            now_s,
            rows: BTreeMap::new(),
            keys: BTreeMap::new(),
            ahead: Ahead::of(transaction),
            directories: BTreeSet::new(),
            exact: BTreeSet::new(),
            names: BTreeMap::new(),
            events: Vec::new(),
            n_bytes: 0,
        };
        for expect in &transaction.expects {
            planner.expect(expect).await?;
        }
        let (mut results, mut own_events) = (Vec::new(), Vec::new());
        for step in &transaction.steps {
            let n_before = planner.events.len();
            let result = planner.step(step).await?;
            results.push(result);
            own_events.push(planner.own_event(step, n_before));
        }
        let announced = Announced {
            signatures: transaction.signatures.clone(),
            is_from_other_cluster: transaction.is_from_other_cluster,
            events: std::mem::take(&mut planner.events),
        };
        Ok(Self {
            work: planner.work(),
            announced,
            results,
            own_events,
        })
    }
}

impl<B: Backend> Planner<'_, B> {
    async fn expect(&mut self, expect: &Expect) -> Result<(), Error> {
        let holds = match expect {
            Expect::Absent(path) => self.row(path).await?.is_none(),
            Expect::Same(path, token) => match self.row(path).await? {
                None => false,
                Some(value) => self.token(value).await? == *token,
            },
            Expect::Directory(path) => {
                self.directories.insert(path.clone());
                path.is_root() || self.look(path).await?.is_some_and(is_directory)
            }
            Expect::Empty(path) => {
                self.directories.insert(path.clone());
                self.is_empty(path).await?
            }
        };
        if holds {
            Ok(())
        } else {
            Err(failed(ErrorKind::Conflict).with("expected", format!("{expect:?}")))
        }
    }

    async fn step(&mut self, step: &Step) -> Result<StepResult, Error> {
        match step {
            Step::Create { path, entry } => {
                if self.row(path).await?.is_some() {
                    return Err(failed(ErrorKind::Conflict).with("path", path));
                }
                self.put(path, entry).await?;
                self.event(None, Some((path, entry)), true)
            }
            Step::Update {
                path,
                entry,
                delete_chunks,
            } => {
                let there = self.there(path).await?;
                self.unlink(&there, Some(entry)).await?;
                self.put(path, entry).await?;
                self.event(Some((path, &there)), Some((path, entry)), *delete_chunks)
            }
            Step::Delete {
                path,
                delete_chunks,
            } => {
                let there = self.there(path).await?;
                if there.is_dir() && !self.is_empty(path).await? {
                    return Err(failed(ErrorKind::NotEmpty).with("path", path));
                }
                self.unlink(&there, None).await?;
                self.write(path, None);
                self.event(Some((path, &there)), None, *delete_chunks)
            }
            Step::Rename { from, to } => self.rename(from, to).await,
            Step::Link { from, to } => self.link(from, to).await,
            Step::KvPut { key, .. } | Step::KvDelete { key } if key[..] == *STORE_ID_KEY => {
                Err(failed(ErrorKind::Invalid)
                    .with("key", "filer.store.id, which belongs to the store"))
            }
            Step::KvPut { key, value } => {
                self.put_key(key, Some(value.clone())).await?;
                Ok(nothing())
            }
            Step::KvDelete { key } => {
                self.put_key(key, None).await?;
                Ok(nothing())
            }
            // Writers of one store do not conflict: the later one saw the earlier.
            Step::RestoreInPlace { conflict, .. }
            | Step::RestoreCopy { conflict, .. }
            | Step::Dismiss { conflict } => {
                Err(failed(ErrorKind::NotFound).with("conflict", conflict))
            }
        }
    }

    /// The value of a row, read once; it must stay as it is.
    async fn row(&mut self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.exact.insert(path.clone());
        self.look(path).await
    }

    /// The value of a row, read once.
    async fn look(&mut self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        if let Some(row) = self.rows.get(path) {
            return Ok(row.now.clone());
        }
        let value = match self.ahead.take(path) {
            Some(value) => value,
            None => self.read_ahead(path).await?,
        };
        self.saw(path, value.clone())?;
        Ok(value)
    }

    /// Remembers a value that was read.
    fn saw(&mut self, path: &FullPath, value: Option<Bytes>) -> Result<(), Error> {
        self.count(value.as_ref().map_or(0, Bytes::len))?;
        let row = Row {
            before: value.clone(),
            now: value,
        };
        self.rows.insert(path.clone(), row);
        Ok(())
    }

    /// The entry at a path, its shared content included.
    async fn shown(&mut self, path: &FullPath) -> Result<Option<Entry>, Error> {
        match self.row(path).await? {
            None => Ok(None),
            Some(value) => self.resolve(value).await.map(Some),
        }
    }

    async fn there(&mut self, path: &FullPath) -> Result<Entry, Error> {
        let shown = self.shown(path).await?;
        shown.ok_or_else(|| failed(ErrorKind::NotFound).with("path", path))
    }

    /// Writes an entry, and what it shares with others.
    async fn put(&mut self, path: &FullPath, entry: &Entry) -> Result<(), Error> {
        let value = value::encode(entry);
        if value.len() > ENTRY_BYTES_MAX {
            return Err(failed(ErrorKind::Invalid).with("path", path).with(
                "because",
                format!(
                    "an entry has {} bytes; at most {ENTRY_BYTES_MAX}",
                    value.len()
                ),
            ));
        }
        self.count(value.len())?;
        self.share(entry, &value).await?;
        self.write(path, Some(value));
        Ok(())
    }

    fn write(&mut self, path: &FullPath, value: Option<Bytes>) {
        self.rows.entry(path.clone()).or_default().now = value;
    }

    /// The value of a key, read once.
    async fn key(&mut self, key: &Bytes) -> Result<Option<Bytes>, Error> {
        if let Some(row) = self.keys.get(key) {
            return Ok(row.now.clone());
        }
        let value = self.backend.kv_get(key).await?;
        self.count(value.as_ref().map_or(0, Bytes::len))?;
        let row = Row {
            before: value.clone(),
            now: value.clone(),
        };
        self.keys.insert(key.clone(), row);
        Ok(value)
    }

    async fn put_key(&mut self, key: &Bytes, value: Option<Bytes>) -> Result<(), Error> {
        self.key(key).await?;
        self.count(value.as_ref().map_or(0, Bytes::len))?;
        self.keys.entry(key.clone()).or_default().now = value;
        Ok(())
    }

    /// Whether a directory has no entries, those that earlier steps made or removed counted.
    async fn is_empty(&mut self, dir: &FullPath) -> Result<bool, Error> {
        let inside =
            |(path, _): &(&FullPath, &Row)| path.parent().as_ref() == Some(dir) && !path.is_root();
        let touched: BTreeMap<String, bool> = self
            .rows
            .iter()
            .filter(inside)
            .map(|(path, row)| (path.name().to_owned(), row.now.is_some()))
            .collect();
        if touched.values().any(|is_there| *is_there) {
            return Ok(false);
        }
        // One that no step touched is enough to know.
        let rows = self.children(dir, touched.len() + 1).await?;
        if rows.iter().any(|(name, _)| !touched.contains_key(name)) {
            return Ok(false);
        }
        self.names.insert(dir.clone(), rows.len() as u64);
        Ok(true)
    }

    /// The first rows of a directory, as they are in the database.
    async fn children(&self, dir: &FullPath, limit: usize) -> Result<Vec<(String, Bytes)>, Error> {
        let mut out: Vec<(String, Bytes)> = Vec::new();
        while out.len() < limit {
            let range = ListRange {
                prefix: String::new(),
                start: out.last().map(|(name, _)| name.clone()).unwrap_or_default(),
                inclusive: false,
                limit: PAGE.min(limit - out.len()),
            };
            let page = self.backend.list(dir, &range).await?;
            let is_end = page.len() < range.limit;
            out.extend(page);
            if is_end {
                break;
            }
        }
        Ok(out)
    }

    fn event(
        &mut self,
        old: Option<(&FullPath, &Entry)>,
        new: Option<(&FullPath, &Entry)>,
        delete_chunks: bool,
    ) -> Result<StepResult, Error> {
        let owned = |at: (&FullPath, &Entry)| (at.0.clone(), at.1.clone());
        self.events.push(Event {
            old: old.map(owned),
            new: new.map(owned),
            delete_chunks,
        });
        Ok(StepResult {
            stamp: Stamp::ZERO,
            old_entry: old.map(|(_, entry)| entry.clone()),
            new_entry: new.map(|(_, entry)| entry.clone()),
        })
    }

    fn count(&mut self, n_bytes: usize) -> Result<(), Error> {
        self.n_bytes += n_bytes;
        if self.n_bytes <= PLAN_BYTES_MAX {
            return Ok(());
        }
        let text = format!("more than {PLAN_BYTES_MAX} bytes of entries in one transaction");
        Err(failed(ErrorKind::TooLarge).with("because", text))
    }

    /// The step's own event: of a rename, that of its top, behind that of what it replaced.
    fn own_event(&self, step: &Step, n_before: usize) -> Option<u32> {
        let first = self.events.get(n_before)?;
        let is_replaced = matches!(step, Step::Rename { .. }) && first.new.is_none();
        Some((n_before + usize::from(is_replaced)) as u32)
    }

    /// The guards and writes of all that was read and is to be.
    fn work(self) -> Work {
        let (mut guards, mut writes) = (BTreeMap::new(), Vec::new());
        for dir in self.directories.into_iter().filter(|dir| !dir.is_root()) {
            guards.insert(dir.clone(), Guard::Directory(dir));
        }
        for (path, row) in self.rows {
            let is_changed = row.now != row.before;
            if is_changed || self.exact.contains(&path) || !guards.contains_key(&path) {
                let guard = match &row.before {
                    None => Guard::Absent(path.clone()),
                    Some(value) => Guard::Same(path.clone(), value.clone()),
                };
                guards.insert(path.clone(), guard);
            }
            match (row.before, row.now) {
                (None, Some(value)) => writes.push(Write::Insert(path, value)),
                (Some(_), Some(value)) if is_changed => writes.push(Write::Replace(path, value)),
                (Some(before), None) if is_directory(before.clone()) => {
                    writes.push(Write::RemoveDirectory(path));
                }
                (Some(_), None) => writes.push(Write::Remove(path)),
                _ => {}
            }
        }
        let mut guards: Vec<Guard> = guards.into_values().collect();
        // Behind the guards on rows: a directory is held before its names are counted.
        let names = self.names.into_iter();
        guards.extend(names.map(|(dir, n)| Guard::Names(dir, n)));
        for (key, row) in self.keys {
            guards.push(Guard::Key(key.clone(), row.before.clone()));
            match (row.before, row.now) {
                (before, Some(value)) if before.as_ref() != Some(&value) => {
                    writes.push(Write::PutKey(key, value));
                }
                (Some(_), None) => writes.push(Write::RemoveKey(key)),
                _ => {}
            }
        }
        Work {
            ticket: 0,
            guards,
            writes,
        }
    }
}

/// What names one state of a path: its row, and what it shares with others.
pub(crate) fn token(row: &[u8], shared: Option<&[u8]>) -> Token {
    Token(xxh3_128(row) ^ shared.map_or(0, |shared| xxh3_128(shared).rotate_left(1)))
}

/// Whether a stored value is a directory's.
pub fn is_directory(value: Bytes) -> bool {
    value::decode(value).is_ok_and(|entry| entry.is_dir())
}

pub(crate) fn failed(kind: ErrorKind) -> Error {
    Error::new(Operation::Commit, kind)
}

/// The result of a step without an event.
fn nothing() -> StepResult {
    StepResult {
        stamp: Stamp::ZERO,
        old_entry: None,
        new_entry: None,
    }
}
