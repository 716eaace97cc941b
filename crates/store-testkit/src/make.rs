// SPDX-License-Identifier: Apache-2.0
//! Entries, paths and transactions in short.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use dulse_store::{
    Commit, EntryStore, Error, ErrorKind, Expect, ListRange, Listed, Step, Transaction,
};
use dulse_types::entry::{FuseAttributes, MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath};

/// How long a commit may take before the case is given up.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(120);

/// A path that is one.
#[must_use]
pub fn path(text: &str) -> FullPath {
    FullPath::parse(text).expect("a case names paths")
}

/// An entry of these fields.
#[must_use]
pub fn entry(change: impl FnOnce(&mut EntryFields)) -> Entry {
    let mut fields = EntryFields {
        attributes: Some(FuseAttributes {
            mtime: 1_700_000_000,
            crtime: 1_700_000_000,
            file_mode: 0o644,
            ..FuseAttributes::default()
        }),
        ..EntryFields::default()
    };
    change(&mut fields);
    fields.to_entry(&UnknownFields::default())
}

/// A file that holds these bytes itself.
#[must_use]
pub fn file(content: &str) -> Entry {
    entry(|fields| {
        fields.content = Bytes::copy_from_slice(content.as_bytes());
        fields.attrs_mut().file_size = content.len() as u64;
    })
}

/// A directory.
#[must_use]
pub fn directory() -> Entry {
    entry(|fields| fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755)
}

/// Commits and waits.
///
/// # Errors
///
/// The store's.
pub fn commit(store: &Arc<dyn EntryStore>, transaction: Transaction) -> Result<Commit, Error> {
    let (answer, answered) = mpsc::sync_channel(1);
    store.commit(
        transaction,
        Box::new(move |result| drop(answer.send(result))),
    );
    let result = answered.recv_timeout(COMMIT_TIME_MAX);
    let mut done = result.expect("a commit calls `done` once")?;
    for result in &mut done.results {
        for entry in [&mut result.old_entry, &mut result.new_entry] {
            *entry = entry.take().map(|entry| plain(&entry));
        }
    }
    Ok(done)
}

/// The same entry in one form: in which order a message has its fields is the store's choice.
pub(crate) fn plain(entry: &Entry) -> Entry {
    let fields = entry.fields().expect("an entry that was stored");
    fields.to_entry(&entry.unknown())
}

/// Commits steps without expectations.
pub(crate) fn apply(store: &Arc<dyn EntryStore>, steps: Vec<Step>) -> Result<Commit, Error> {
    let transaction = Transaction {
        steps,
        ..Transaction::default()
    };
    commit(store, transaction)
}

/// Commits one step under expectations.
pub(crate) fn apply_if(
    store: &Arc<dyn EntryStore>,
    expects: Vec<Expect>,
    step: Step,
) -> Result<Commit, Error> {
    let transaction = Transaction {
        expects,
        steps: vec![step],
        ..Transaction::default()
    };
    commit(store, transaction)
}

pub(crate) fn create(at: &str, entry: &Entry) -> Step {
    Step::Create {
        path: path(at),
        entry: entry.clone(),
    }
}

pub(crate) fn update(at: &str, entry: &Entry) -> Step {
    Step::Update {
        path: path(at),
        entry: entry.clone(),
        delete_chunks: true,
    }
}

pub(crate) fn delete(at: &str) -> Step {
    Step::Delete {
        path: path(at),
        delete_chunks: true,
    }
}

pub(crate) fn rename(from: &str, to: &str) -> Step {
    Step::Rename {
        from: path(from),
        to: path(to),
    }
}

/// The entry shown at a path.
pub(crate) fn shown(store: &Arc<dyn EntryStore>, at: &str) -> Option<Entry> {
    let found = store.find(&path(at)).expect("a read of a sound store");
    found.map(|found| plain(&found.entry))
}

/// The names of one page.
pub(crate) fn names(store: &Arc<dyn EntryStore>, dir: &str, range: &ListRange) -> Vec<String> {
    let rows = list(store, dir, range);
    rows.into_iter().map(|row| row.name).collect()
}

/// One page.
pub(crate) fn list(store: &Arc<dyn EntryStore>, dir: &str, range: &ListRange) -> Vec<Listed> {
    let mut rows = store.list(&path(dir), range).expect("a listing");
    for row in &mut rows {
        row.entry = plain(&row.entry);
    }
    rows
}

/// The front of a directory.
pub(crate) fn front(limit: usize) -> ListRange {
    ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit,
    }
}

/// The kind of a failure that must be one, and that must have left nothing behind.
pub(crate) fn refused(result: Result<Commit, Error>) -> ErrorKind {
    let error = result.expect_err("a commit that must be refused");
    assert_eq!(error.outcome(), dulse_store::Outcome::NotApplied, "{error}");
    error.kind()
}
