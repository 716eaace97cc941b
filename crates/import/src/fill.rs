// SPDX-License-Identifier: Apache-2.0
//! Items into a store, and a store compared with items.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use dulse_store::{Commit, EntryStore, Error, ErrorKind, Step, Transaction};
use dulse_types::entry::split;
use dulse_types::{Entry, FullPath};

use crate::item::{Item, SourceError};

/// Most steps of one transaction.
const STEPS_MAX: usize = 500;

/// Bytes of entries above which a transaction is full; a change may have 4 MiB.
const BYTES_MAX: usize = 1 << 20;

/// Transactions on their way: the store makes a group of them.
const WINDOW: usize = 8;

/// Problems that are kept by name; all are counted.
const SHOWN_MAX: usize = 20;

/// What was done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Entries of the source that were looked at.
    pub n_entries: u64,
    /// Pairs of the key-value space that were.
    pub n_pairs: u64,
    /// Of both, those that were there already.
    pub n_there: u64,
    /// What means nothing elsewhere and was left out.
    pub n_local: u64,
}

/// What is wrong, the first of it by name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Problems {
    /// The first.
    pub shown: Vec<String>,
    /// All.
    pub count: u64,
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The source.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The store.
    #[error("write to the store")]
    Store(#[source] Error),
    /// The store is gone.
    #[error("the store stopped")]
    Stopped,
}

impl Problems {
    /// Counts one.
    pub fn add(&mut self, what: &str, why: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("{what}: {why}"));
        }
    }
}

/// A transaction on its way.
struct Sent {
    steps: Vec<Step>,
    answer: Receiver<Result<Commit, Error>>,
}

/// Puts items into a store. What is there already and equal is left; what is there and differs,
/// and what the store cannot take, is a problem and the rest goes on.
///
/// - `progress`: called after each transaction.
///
/// Blocks, for as long as it takes. Memory: eight transactions.
///
/// # Errors
///
/// When source or store fail. It can be called again then.
pub fn fill(
    store: &dyn EntryStore,
    items: &mut dyn Iterator<Item = Result<Item, SourceError>>,
    progress: &mut dyn FnMut(&Counts),
) -> Result<(Counts, Problems), Failed> {
    let mut counts = Counts::default();
    let mut problems = Problems::default();
    let mut sent = VecDeque::new();
    let mut steps = Vec::new();
    let mut n_bytes = 0;
    for item in items {
        let (step, size) = match item? {
            Item::Local => {
                counts.n_local += 1;
                continue;
            }
            Item::Refused { what, why } => {
                problems.add(&what, &why);
                continue;
            }
            Item::Entry { path, entry } => {
                counts.n_entries += 1;
                match find(store, &path)? {
                    Some(found) if is_same(&found, &entry) => {
                        counts.n_there += 1;
                        continue;
                    }
                    // One that nobody made, for what was put into it before, makes room.
                    Some(found) if found.is_dir() && entry.is_dir() => {}
                    Some(_) => {
                        problems.add(path.as_str(), "is there, and is not the same");
                        continue;
                    }
                    None => {}
                }
                let size = path.as_str().len() + entry.raw().len();
                (Step::Create { path, entry }, size)
            }
            Item::Kv { key, value } => {
                counts.n_pairs += 1;
                if store.kv_get(&key).map_err(Failed::Store)?.as_ref() == Some(&value) {
                    counts.n_there += 1;
                    continue;
                }
                let size = key.len() + value.len();
                (Step::KvPut { key, value }, size)
            }
        };
        if steps.len() >= STEPS_MAX || (n_bytes + size > BYTES_MAX && !steps.is_empty()) {
            sent.push_back(send(store, std::mem::take(&mut steps)));
            n_bytes = 0;
            if sent.len() >= WINDOW {
                land(store, sent.pop_front(), &mut problems)?;
                progress(&counts);
            }
        }
        n_bytes += size;
        steps.push(step);
    }
    sent.push_back(send(store, steps));
    while !sent.is_empty() {
        land(store, sent.pop_front(), &mut problems)?;
        progress(&counts);
    }
    Ok((counts, problems))
}

/// Compares a store with items: each must be there as it is in the source.
///
/// Blocks, for as long as it takes.
///
/// # Errors
///
/// When source or store fail.
pub fn verify(
    store: &dyn EntryStore,
    items: &mut dyn Iterator<Item = Result<Item, SourceError>>,
    progress: &mut dyn FnMut(&Counts),
) -> Result<(Counts, Problems), Failed> {
    let mut counts = Counts::default();
    let mut problems = Problems::default();
    for item in items {
        match item? {
            Item::Local => counts.n_local += 1,
            Item::Refused { .. } => {}
            Item::Entry { path, entry } => {
                counts.n_entries += 1;
                match find(store, &path)? {
                    Some(found) if is_same(&found, &entry) => counts.n_there += 1,
                    Some(_) => problems.add(path.as_str(), "is not as in the source"),
                    None => problems.add(path.as_str(), "is not there"),
                }
            }
            Item::Kv { key, value } => {
                counts.n_pairs += 1;
                match store.kv_get(&key).map_err(Failed::Store)? {
                    Some(found) if found == value => counts.n_there += 1,
                    _ => problems.add(&shown(&key), "is not as in the source"),
                }
            }
        }
        if (counts.n_entries + counts.n_pairs).is_multiple_of(STEPS_MAX as u64) {
            progress(&counts);
        }
    }
    Ok((counts, problems))
}

fn find(store: &dyn EntryStore, path: &FullPath) -> Result<Option<Entry>, Failed> {
    let found = store.find(path).map_err(Failed::Store)?;
    Ok(found.map(|found| found.entry))
}

fn send(store: &dyn EntryStore, steps: Vec<Step>) -> Sent {
    let (tell, answer) = channel();
    let transaction = Transaction {
        steps: steps.clone(),
        ..Transaction::default()
    };
    // Nobody waits any more when the import has failed.
    store.commit(transaction, Box::new(move |result| drop(tell.send(result))));
    Sent { steps, answer }
}

/// Waits for a transaction. One that is refused is done step by step, to find what it is.
fn land(store: &dyn EntryStore, sent: Option<Sent>, problems: &mut Problems) -> Result<(), Failed> {
    let Some(Sent { steps, answer }) = sent else {
        return Ok(());
    };
    let error = match answer.recv().map_err(|_| Failed::Stopped)? {
        Ok(_) => return Ok(()),
        Err(error) if is_of_a_step(&error) => error,
        Err(error) => return Err(Failed::Store(error)),
    };
    let [step] = &steps[..] else {
        for step in steps {
            land(store, Some(send(store, vec![step])), problems)?;
        }
        return Ok(());
    };
    let (what, is_there) = match step {
        Step::Create { path, entry } => {
            let found = find(store, path)?;
            let is_there = found.is_some_and(|found| is_same(&found, entry));
            (path.as_str().to_owned(), is_there)
        }
        Step::KvPut { key, .. } => (shown(key), false),
        other => (format!("{other:?}"), false),
    };
    if !is_there {
        problems.add(&what, &error.to_string());
    }
    Ok(())
}

/// Whether the store has nothing against it but what one of its steps says.
fn is_of_a_step(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::DroppedChunk
            | ErrorKind::NotFound
    )
}

/// Whether two entries are the same but for what a store derives: how many names there are.
fn is_same(found: &Entry, expected: &Entry) -> bool {
    let registers = |entry: &Entry| {
        let parts = split(entry);
        (parts.data, parts.attributes, parts.atime_ns)
    };
    if registers(found) == registers(expected) {
        return true;
    }
    let (Ok(mut a), Ok(mut b)) = (found.fields(), expected.fields()) else {
        return false;
    };
    if a.hard_link_id.is_empty() {
        return false;
    }
    (a.hard_link_counter, b.hard_link_counter) = (0, 0);
    (a.is_directory, b.is_directory) = (false, false);
    a == b && found.unknown() == expected.unknown()
}

/// A key for people.
fn shown(key: &Bytes) -> String {
    format!("the key \"{}\"", key.escape_ascii())
}
