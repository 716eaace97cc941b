// SPDX-License-Identifier: Apache-2.0
//! Trees of any size, for stores that do better than their callers could.

use dulse_types::{FullPath, Identity, Stamp};

use crate::{Error, StepResult, Transaction};

/// Called once with what came of a tree change.
pub type TreeDone = Box<dyn FnOnce(Result<TreeCommit, Error>) + Send>;

/// Called at most once, before its first part, when a tree change is to go in several: with what
/// those carry.
pub type TreeOpened = Box<dyn FnOnce(Identity) + Send>;

/// What is to be done with a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeWork {
    /// Move it there; nothing shows at the target when it begins.
    Move {
        /// The path it gets.
        to: FullPath,
    },
    /// Remove it, deepest names first.
    Delete {
        /// Whether its chunks may be freed.
        delete_chunks: bool,
    },
}

/// A change of a whole tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeChange {
    /// What must hold when it begins, what is done first, and who asked.
    pub before: Transaction,
    /// The top of the tree: the entry shown there and everything below it.
    pub path: FullPath,
    /// What is to be done with it.
    pub work: TreeWork,
}

/// A tree change that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeCommit {
    /// Position of its last change in this origin's log: the session token.
    pub stamp: Stamp,
    /// What became of the top; `None` when it stays, or when nobody made it.
    pub top: Option<StepResult>,
    /// Names moved or removed.
    pub n_names: u64,
    /// Names that stay, because others put them there or wrote them after the change began.
    pub n_left: u64,
    /// Why a name could not be moved, if that is why any stays.
    pub refused: Option<String>,
    /// What its changes carry when it took several; its stamp lies before the first.
    pub intent: Option<Identity>,
}

/// A store that changes trees of any size itself.
///
/// Contract, beside that of [`crate::EntryStore`]:
/// - a tree that one change holds goes in one change, whole or not at all;
/// - a bigger one goes in parts; at any time each entry is listed at its old or at its new
///   path, and at one of them only;
/// - what others put there after it began, unseen here, is spared;
/// - local writes at or below the two paths, or that would move what is above them, wait for a
///   bounded time and are then refused as `Unavailable`;
/// - once begun it goes on to its end: through a full disk, a restart and an asker that left;
/// - an expectation that fails yields `Conflict`, and nothing has begun.
pub trait Trees: Send + Sync {
    /// Does a tree change and calls `done` when it is over, or when it has not begun; `opened`
    /// before, if it takes several changes.
    ///
    /// Both may run on the store's own thread and must not block.
    fn change_tree(&self, change: TreeChange, opened: TreeOpened, done: TreeDone);
}
