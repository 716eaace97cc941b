// SPDX-License-Identifier: Apache-2.0
//! Transactions of steps and what came of them.

use bytes::Bytes;
use dulse_types::{Entry, FullPath, Identity, Origin, Stamp};

use crate::{Error, Token};

/// Called once with the result of a commit.
pub type Done = Box<dyn FnOnce(Result<Commit, Error>) + Send>;

/// What must hold when the transaction is applied, else `Conflict`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Nothing is shown at the path.
    Absent(FullPath),
    /// The path is in exactly the state that was read.
    Same(FullPath, Token),
    /// A directory is shown at the path.
    Directory(FullPath),
    /// The directory shows no entries.
    Empty(FullPath),
}

/// One step of a transaction. Each yields one upstream event, in order, unless said otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A new entry where nothing is shown.
    Create {
        /// Where.
        path: FullPath,
        /// What, without its name.
        entry: Entry,
    },
    /// New content or attributes of the entry shown; only what differs is written.
    Update {
        /// Where.
        path: FullPath,
        /// The whole new entry, without its name.
        entry: Entry,
        /// Whether chunks that are dropped may be freed.
        delete_chunks: bool,
    },
    /// Moves the entry shown, with all that is below it when it is a directory.
    /// What is shown at `to` must have been deleted by an earlier step, or be a file.
    Rename {
        /// From where.
        from: FullPath,
        /// To where.
        to: FullPath,
    },
    /// Removes the entry shown; a directory must be empty or emptied by earlier steps.
    Delete {
        /// Where.
        path: FullPath,
        /// Whether its chunks may be freed.
        delete_chunks: bool,
    },
    /// A further name of the inode shown at `from`.
    Link {
        /// An existing name.
        from: FullPath,
        /// The new name.
        to: FullPath,
    },
    /// Writes what a conflict lost back into the file that lost it, shown at the path, and
    /// lets the conflict go. `NotFound` when it is not open or nothing is shown, `Conflict`
    /// when something else is: then [`Step::RestoreCopy`] is what can be done.
    RestoreInPlace {
        /// The conflict.
        conflict: Identity,
        /// Where the file is shown.
        path: FullPath,
    },
    /// Creates a copy of what a conflict lost where nothing is shown, and lets the conflict
    /// go. `NotFound` when it is not open.
    RestoreCopy {
        /// The conflict.
        conflict: Identity,
        /// Where.
        path: FullPath,
        /// What, without its name. Its chunks are its own: one of the loser's is `Invalid`.
        entry: Entry,
    },
    /// Lets a conflict go; no event. `NotFound` when it is not open.
    Dismiss {
        /// The conflict.
        conflict: Identity,
    },
    /// Sets a key of the key-value space; no event.
    KvPut {
        /// The key.
        key: Bytes,
        /// The value, not empty.
        value: Bytes,
    },
    /// Removes a key; no event.
    KvDelete {
        /// The key.
        key: Bytes,
    },
}

/// Steps that are applied whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// What must hold.
    pub expects: Vec<Expect>,
    /// What to do.
    pub steps: Vec<Step>,
    /// Upstream's signatures the change has passed; the own one is added.
    pub signatures: Vec<i32>,
    /// Whether another cluster made the change.
    pub is_from_other_cluster: bool,
}

/// What one step did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepResult {
    /// Stamp of its event.
    pub stamp: Stamp,
    /// The entry it replaced, moved or removed, without its name.
    pub old_entry: Option<Entry>,
    /// The entry it left, without its name.
    pub new_entry: Option<Entry>,
}

/// A transaction that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Whose log has the change. Where directories have stores of their own beside an embedded
    /// one, a change there is in another log than [`crate::EntryStore::origin`]'s.
    pub origin: Origin,
    /// Position of the change in that log: the session token.
    pub stamp: Stamp,
    /// One result per step.
    pub results: Vec<StepResult>,
}
