// SPDX-License-Identifier: Apache-2.0
//! Read, decide, commit: again when something changed in between.
//!
//! The first attempt takes no lock: most paths have one writer. Who loses a race waits in
//! the path's queue, so that any number of writers of one path get through, one after the
//! other, as long as other filers do not write it, too.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dulse_store::{Commit, Step, StepResult, Transaction};
use dulse_types::{Entry, FullPath};
use tokio::sync::Mutex;

use crate::{Caller, Change, Error, ErrorKind, Happened, Namespace};

/// Times an operation looks again after its expectations failed.
pub(crate) const RETRIES_MAX: usize = 64;

/// Queues of losers; paths share them by hash.
const QUEUES: usize = 256;

/// Where writers of one path wait for one another after a lost race.
#[derive(Clone)]
pub(crate) struct Queues {
    queues: Arc<[Mutex<()>]>,
    hasher: RandomState,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            queues: (0..QUEUES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Queues {
    pub(crate) fn of(&self, path: &FullPath) -> &Mutex<()> {
        let hash = self.hasher.hash_one(path.as_str());
        &self.queues[(hash % QUEUES as u64) as usize]
    }
}

impl Namespace {
    /// Builds a transaction from what is there now and commits it; when something changed
    /// meanwhile, builds it again. `None` means there is nothing to do.
    ///
    /// # Errors
    ///
    /// What `build` says; `Unavailable` after 64 lost races; the store's.
    pub(crate) async fn transact(
        &self,
        path: &FullPath,
        caller: &Caller,
        build: impl Fn() -> Result<Option<Transaction>, Error>,
    ) -> Result<Change, Error> {
        let mut waited = None;
        for _ in 0..RETRIES_MAX {
            let Some(mut transaction) = build()? else {
                return Ok(Change::default());
            };
            transaction.signatures.clone_from(&caller.signatures);
            transaction.is_from_other_cluster = caller.is_from_other_cluster;
            let steps = transaction.steps.clone();
            match self.commit(transaction).await {
                Ok(commit) => return Ok(change(steps, commit)),
                Err(error) if error.kind() == dulse_store::ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
            if waited.is_none() {
                waited = Some(self.queues.of(path).lock().await);
            }
        }
        Err(lost())
    }

    pub(crate) async fn commit(
        &self,
        transaction: Transaction,
    ) -> Result<Commit, dulse_store::Error> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.store.commit(
            transaction,
            Box::new(move |result| drop(answer.send(result))),
        );
        answered.await.unwrap_or_else(|_| {
            let kind = dulse_store::ErrorKind::Unavailable;
            Err(dulse_store::Error::new(dulse_store::Operation::Commit, kind).unknown_outcome())
        })
    }
}

/// Too many races were lost.
pub(crate) fn lost() -> Error {
    Error::of(
        ErrorKind::Unavailable,
        "too many concurrent changes, try again",
    )
}

pub(crate) fn change(steps: Vec<Step>, commit: Commit) -> Change {
    let results = steps.into_iter().zip(commit.results);
    Change {
        position: Some((commit.origin, commit.stamp)),
        events: results
            .filter_map(|(step, result)| happened(step, result))
            .collect(),
        intent: None,
    }
}

pub(crate) fn happened(step: Step, result: StepResult) -> Option<Happened> {
    let at = |path: FullPath, entry: Option<Entry>| entry.map(|entry| (path, entry));
    let (old_entry, new_entry) = (result.old_entry, result.new_entry);
    let (old, new, delete_chunks) = match step {
        Step::Create { path, .. } | Step::RestoreCopy { path, .. } => {
            (None, at(path, new_entry), true)
        }
        Step::RestoreInPlace { path, .. } => {
            (at(path.clone(), old_entry), at(path, new_entry), true)
        }
        Step::Update {
            path,
            delete_chunks,
            ..
        } => (
            at(path.clone(), old_entry),
            at(path, new_entry),
            delete_chunks,
        ),
        Step::Rename { from, to } => (at(from, old_entry), at(to, new_entry), false),
        Step::Delete {
            path,
            delete_chunks,
        } => (at(path, old_entry), None, delete_chunks),
        Step::Link { to, .. } => (None, at(to, new_entry), false),
        Step::KvPut { .. } | Step::KvDelete { .. } | Step::Dismiss { .. } => return None,
    };
    Some(Happened {
        stamp: result.stamp,
        old,
        new,
        delete_chunks,
    })
}
