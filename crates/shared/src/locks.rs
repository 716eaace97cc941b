// SPDX-License-Identifier: Apache-2.0
//! Writers of one path at this filer wait for one another here instead of in the database.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dulse_store::{Step, Transaction};
use dulse_types::FullPath;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks; paths share them by hash.
const N_LOCKS: usize = 1_024;

/// The locks of one filer.
pub(crate) struct Locks {
    locks: Vec<Arc<RwLock<()>>>,
    hasher: RandomState,
}

/// One lock that is held; free again when dropped.
#[expect(dead_code, reason = "held, not looked at")]
pub(crate) enum Locked {
    Write(OwnedRwLockWriteGuard<()>),
    Read(OwnedRwLockReadGuard<()>),
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
    ///
    /// - `with_parents`: nothing above them is written meanwhile either, which the database does
    ///   not see to when it has no transactions.
    pub(crate) async fn of(&self, transaction: &Transaction, with_parents: bool) -> Vec<Locked> {
        // Order: ascending, so that two never wait for one another.
        let mut at: BTreeMap<usize, bool> = BTreeMap::new();
        for step in &transaction.steps {
            let (one, two) = match step {
                Step::Create { path, .. }
                | Step::Update { path, .. }
                | Step::Delete { path, .. }
                | Step::RestoreInPlace { path, .. }
                | Step::RestoreCopy { path, .. } => (Some(path), None),
                Step::Rename { from, to } | Step::Link { from, to } => (Some(from), Some(to)),
                Step::KvPut { key, .. } | Step::KvDelete { key } => {
                    let index = (self.hasher.hash_one(key) % N_LOCKS as u64) as usize;
                    at.insert(index, true);
                    (None, None)
                }
                Step::Dismiss { .. } => (None, None),
            };
            for path in [one, two].into_iter().flatten() {
                at.insert(self.index(path), true);
                let mut above = path.parent().filter(|_| with_parents);
                while let Some(dir) = above.filter(|dir| !dir.is_root()) {
                    at.entry(self.index(&dir)).or_insert(false);
                    above = dir.parent();
                }
            }
        }
        let mut held = Vec::with_capacity(at.len());
        for (index, is_written) in at {
            let lock = Arc::clone(&self.locks[index]);
            held.push(match is_written {
                true => Locked::Write(lock.write_owned().await),
                false => Locked::Read(lock.read_owned().await),
            });
        }
        held
    }

    fn index(&self, path: &FullPath) -> usize {
        (self.hasher.hash_one(path.as_str()) % N_LOCKS as u64) as usize
    }
}
