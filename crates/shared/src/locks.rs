// SPDX-License-Identifier: Apache-2.0
//! Writers of one path at this filer wait for one another here instead of in the database.
//!
//! Each path that somebody writes or waits for has a lock of its own, which goes with the last of
//! them. A fixed number of locks that paths share was considered: a transaction of a thousand
//! paths would hold most of them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dulse_store::{Step, Transaction};
use dulse_types::FullPath;
use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks by the hash of what they are of; two with one hash share it.
type Table = Mutex<HashMap<u64, Arc<RwLock<()>>>>;

/// The locks of one filer.
#[derive(Default)]
pub(crate) struct Locks {
    table: Arc<Table>,
    hasher: RandomState,
}

/// One lock that is held or waited for; free again when dropped.
pub(crate) struct Locked {
    table: Arc<Table>,
    hash: u64,
    held: Option<Held>,
}

#[expect(dead_code, reason = "held, not looked at")]
enum Held {
    Write(OwnedRwLockWriteGuard<()>),
    Read(OwnedRwLockReadGuard<()>),
}

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.held.take());
        let mut table = self.table.lock();
        // Whoever waits took it from the table, under its lock.
        let is_last = table
            .get(&self.hash)
            .is_some_and(|lock| Arc::strong_count(lock) == 1);
        if is_last {
            table.remove(&self.hash);
        }
    }
}

impl Locks {
    /// Waits for the paths that a transaction writes; they are free again once it is dropped.
    ///
    /// - `with_parents`: nothing above them is written meanwhile either, which the database does
    ///   not see to when it has no transactions.
    pub(crate) async fn of(&self, transaction: &Transaction, with_parents: bool) -> Vec<Locked> {
        let mut all = Vec::new();
        // Order: ascending, so that two never wait for one another.
        for (hash, is_written) in self.needed(transaction, with_parents) {
            let lock = Arc::clone(self.table.lock().entry(hash).or_default());
            // Before it is waited for: who gives up leaves nothing in the table.
            all.push(Locked {
                table: Arc::clone(&self.table),
                hash,
                held: None,
            });
            let held = match is_written {
                true => Held::Write(lock.write_owned().await),
                false => Held::Read(lock.read_owned().await),
            };
            if let Some(locked) = all.last_mut() {
                locked.held = Some(held);
            }
        }
        all
    }

    /// The hashes of what is locked, and whether it is written.
    fn needed(&self, transaction: &Transaction, with_parents: bool) -> BTreeMap<u64, bool> {
        let mut needed = BTreeMap::new();
        for step in &transaction.steps {
            let (one, two) = match step {
                Step::Create { path, .. }
                | Step::Update { path, .. }
                | Step::Delete { path, .. }
                | Step::RestoreInPlace { path, .. }
                | Step::RestoreCopy { path, .. } => (Some(path), None),
                Step::Rename { from, to } | Step::Link { from, to } => (Some(from), Some(to)),
                Step::KvPut { key, .. } | Step::KvDelete { key } => {
                    needed.insert(self.hasher.hash_one(key), true);
                    (None, None)
                }
                Step::Dismiss { .. } => (None, None),
            };
            for path in [one, two].into_iter().flatten() {
                needed.insert(self.of_path(path), true);
                let mut above = path.parent().filter(|_| with_parents);
                while let Some(dir) = above.filter(|dir| !dir.is_root()) {
                    needed.entry(self.of_path(&dir)).or_insert(false);
                    above = dir.parent();
                }
            }
        }
        needed
    }

    fn of_path(&self, path: &FullPath) -> u64 {
        self.hasher.hash_one(path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn deleting(paths: &[String]) -> Transaction {
        let delete = |path: &String| Step::Delete {
            path: FullPath::parse(path).unwrap(),
            delete_chunks: true,
        };
        Transaction {
            steps: paths.iter().map(delete).collect(),
            ..Transaction::default()
        }
    }

    /// Whether nothing of it would have to be waited for.
    fn is_free(locks: &Locks, transaction: &Transaction) -> bool {
        let taken = locks.of(transaction, true);
        // Unconstrained: or tokio has whoever takes many free locks wait for its turn.
        tokio::task::unconstrained(taken).now_or_never().is_some()
    }

    #[tokio::test]
    async fn many_names_of_a_directory_leave_its_others_free() {
        let names = |first: usize| -> Vec<String> {
            (first..first + 1_000).map(|n| format!("/d/{n}")).collect()
        };
        let locks = Locks::default();
        let held = locks.of(&deleting(&names(0)), true).await;
        assert!(is_free(&locks, &deleting(&names(1_000))));
        assert!(!is_free(&locks, &deleting(&names(999))));
        let above = deleting(&["/d".to_owned()]);
        assert!(!is_free(&locks, &above));
        drop(held);
        assert!(is_free(&locks, &above));
    }

    #[tokio::test]
    async fn locks_go_with_those_who_held_or_waited() {
        let locks = Locks::default();
        let one = deleting(&["/d/a".to_owned()]);
        let held = locks.of(&one, true).await;
        // One who gives up, too.
        assert!(!is_free(&locks, &one));
        assert_eq!(locks.table.lock().len(), 2);
        drop(held);
        assert_eq!(locks.table.lock().len(), 0);
    }
}
