// SPDX-License-Identifier: Apache-2.0
//! Writers of one path at this filer wait for one another here instead of in the database.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dulse_store::{Step, Transaction};
use dulse_types::FullPath;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Locks; paths share them by hash.
const N_LOCKS: usize = 1_024;

/// The locks of one filer.
pub(crate) struct Locks {
    locks: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            locks: (0..N_LOCKS).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Locks {
    /// Waits for the paths that a transaction writes; they are free again once it is dropped.
    pub(crate) async fn of(&self, transaction: &Transaction) -> Vec<OwnedMutexGuard<()>> {
        let mut at: Vec<usize> = Vec::new();
        for step in &transaction.steps {
            match step {
                Step::Create { path, .. }
                | Step::Update { path, .. }
                | Step::Delete { path, .. }
                | Step::RestoreInPlace { path, .. }
                | Step::RestoreCopy { path, .. } => at.push(self.index(path)),
                Step::Rename { from, to } | Step::Link { from, to } => {
                    at.push(self.index(from));
                    at.push(self.index(to));
                }
                Step::KvPut { key, .. } | Step::KvDelete { key } => {
                    at.push((self.hasher.hash_one(key) % N_LOCKS as u64) as usize);
                }
                Step::Dismiss { .. } => {}
            }
        }
        // Order: ascending, so that two never wait for one another.
        at.sort_unstable();
        at.dedup();
        let mut held = Vec::with_capacity(at.len());
        for lock in at {
            held.push(Arc::clone(&self.locks[lock]).lock_owned().await);
        }
        held
    }

    fn index(&self, path: &FullPath) -> usize {
        (self.hasher.hash_one(path.as_str()) % N_LOCKS as u64) as usize
    }
}
