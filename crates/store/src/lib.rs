// SPDX-License-Identifier: Apache-2.0
//! The entry store: what the namespace needs of whatever keeps its entries.
//!
//! Embedded replicas and shared databases implement [`EntryStore`]. It speaks of
//! entries at paths and of transactions of steps; rename is a step of its own,
//! never insert plus delete, so that a replica keeps its identities.

mod error;
mod transaction;
mod tree;

pub use error::{Error, ErrorKind, Operation, Outcome};
pub use transaction::{Commit, Done, Expect, Step, StepResult, Transaction};
pub use tree::{TreeChange, TreeCommit, TreeDone, TreeOpened, TreeWork, Trees};

use bytes::Bytes;
use dulse_types::{Entry, FullPath, Origin};

/// Most entries that one [`EntryStore::list`] returns.
pub const LIST_MAX: usize = 10_000;

/// An entry as it is found, with the token that names its present content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The entry, without its name.
    pub entry: Entry,
    /// Changes with every change of the entry at this path; compare for equality only.
    pub token: Token,
    /// Names of the inode; 1 unless it has hard links.
    pub n_links: u32,
}

/// Names one state of one path. Equal tokens mean that nothing changed there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u128);

/// One row of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The bare name.
    pub name: String,
    /// The entry, without its name.
    pub entry: Entry,
}

/// Where and how far to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListRange {
    /// Only names with this prefix, bytewise.
    pub prefix: String,
    /// Start behind this name, or at it when `inclusive`; empty is the front.
    pub start: String,
    /// Whether `start` itself may appear.
    pub inclusive: bool,
    /// Most rows, `1..=LIST_MAX`; fewer are returned only at the end.
    pub limit: usize,
}

/// A store of entries. Methods block for short reads; [`EntryStore::commit`] does not.
///
/// Contract:
/// - names are listed in ascending byte order;
/// - a transaction is applied whole or not at all, and in the order of its steps;
/// - `commit` calls `done` once, after the change is as durable as configured;
/// - a read that starts after `done` was called sees the change;
/// - an expectation that fails yields `Conflict` and nothing is applied;
/// - after `Unknown` the change may or may not be there; it is never reported as failed.
pub trait EntryStore: Send + Sync {
    /// Finds the entry shown at a path; `None` when there is none. The root is never stored.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error>;

    /// Lists one directory. A missing directory is an empty list.
    ///
    /// An entry made or removed meanwhile may or may not appear; every other entry
    /// appears exactly once. Cost: one range scan.
    ///
    /// # Errors
    ///
    /// `Corrupt` at the first row that does not decode, `Io`.
    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error>;

    /// Reads a key of the key-value space.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Applies a transaction and calls `done` with what came of it.
    ///
    /// `done` may run on the store's own thread and must not block.
    fn commit(&self, transaction: Transaction, done: Done);

    /// Who stamps the changes made here; its lower half is upstream's signature.
    fn origin(&self) -> Origin;
}
