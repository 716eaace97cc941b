// SPDX-License-Identifier: Apache-2.0
//! Removing entries and trees.

use dulse_store::{Expect, ListRange, Step, Transaction};
use dulse_types::FullPath;

use crate::{Caller, Change, Error, Namespace};

/// Entries that one change of a recursive delete removes.
const PART_MAX: usize = 1_000;

/// Bytes of entries and paths in one change of a recursive delete: half of what a change may
/// have, as they are in its record.
const PART_BYTES_MAX: usize = 2 << 20;

/// Bytes that a step takes in a record beside its entry and paths, at most.
const STEP_BYTES: usize = 256;

/// How an entry is removed.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct DeleteOptions {
    /// Everything below goes too.
    pub is_recursive: bool,
    /// What cannot be removed below is left, and the rest is removed nevertheless. The
    /// directories above it stay, and the call fails in the end.
    pub ignores_errors_below: bool,
    /// The chunks stay on the volume servers.
    pub keep_chunks: bool,
    /// When above 0: an entry written after it, in seconds since 1970, stays.
    pub if_not_modified_after: i64,
    /// Who asked.
    pub caller: Caller,
}

/// A directory that is being emptied, and behind which name to go on.
struct Open {
    dir: FullPath,
    after: String,
}

impl Namespace {
    /// Removes an entry. One that is not there is removed already. A tree that is too big for
    /// one change goes in parts, deepest first: what others create below meanwhile is kept,
    /// and the call fails with `NotEmpty` in the end; what was removed stays removed.
    ///
    /// # Errors
    ///
    /// `NotEmpty`, or the store's.
    pub async fn delete(&self, path: &FullPath, options: DeleteOptions) -> Result<Change, Error> {
        if path.is_root() {
            return Ok(Change::default());
        }
        self.check_stays(path)?;
        let Some(found) = self.store.find(path)? else {
            return Ok(Change::default());
        };
        if options.if_not_modified_after > 0
            && found.entry.fields()?.attrs().mtime > options.if_not_modified_after
        {
            return Ok(Change::default());
        }
        if found.entry.is_dir() && options.is_recursive {
            if let Some(trees) = self.trees_of(path) {
                return self.delete_tree(trees, path, &options).await;
            }
            self.delete_below(path, &options).await?;
        }
        self.delete_one(path, &options).await
    }

    async fn delete_one(&self, path: &FullPath, options: &DeleteOptions) -> Result<Change, Error> {
        self.transact(path, &options.caller, || {
            let mut transaction = Transaction::default();
            let Some(found) = self.store.find(path)? else {
                return Ok(None);
            };
            let expect = Expect::Same(path.clone(), found.token);
            transaction.expects.push(expect);
            if found.entry.is_dir() && !self.delete_expired_below(path, &mut transaction)? {
                return Err(Error::not_empty(path));
            }
            transaction.steps.push(Step::Delete {
                path: path.clone(),
                delete_chunks: !options.keep_chunks,
            });
            Ok(Some(transaction))
        })
        .await
    }

    /// A directory that shows nothing is empty to its users: what has expired in it goes
    /// first, as far as one change reaches. False when something is left.
    pub(crate) fn delete_expired_below(
        &self,
        dir: &FullPath,
        transaction: &mut Transaction,
    ) -> Result<bool, Error> {
        let now_s = self.now().s;
        let rows = self.store.list(dir, &behind("", 1))?;
        if rows.is_empty() {
            transaction.expects.push(Expect::Empty(dir.clone()));
            return Ok(true);
        }
        if !rows[0].entry.is_expired(now_s) {
            return Ok(false);
        }
        let rows = self.store.list(dir, &behind("", PART_MAX))?;
        if rows.len() >= PART_MAX || rows.iter().any(|row| !row.entry.is_expired(now_s)) {
            return Ok(false);
        }
        for row in rows {
            let path = FullPath::of(dir.as_str(), &row.name)?;
            let Some(found) = self.store.find(&path)? else {
                continue;
            };
            let expect = Expect::Same(path.clone(), found.token);
            transaction.expects.push(expect);
            transaction.steps.push(Step::Delete {
                path,
                delete_chunks: true,
            });
        }
        Ok(true)
    }

    /// Removes what is below a directory, depth first without recursion.
    async fn delete_below(&self, top: &FullPath, options: &DeleteOptions) -> Result<(), Error> {
        let opened = |dir: FullPath| Open {
            dir,
            after: String::new(),
        };
        let mut open = vec![opened(top.clone())];
        while let Some(Open { dir, after }) = open.last_mut() {
            let rows = self.store.list(dir, &behind(after, PART_MAX))?;
            let is_end = rows.len() < PART_MAX;
            let (mut part, mut bytes, mut deeper, mut is_whole) = (Vec::new(), 0, None, true);
            for row in rows {
                let child = FullPath::of(dir.as_str(), &row.name)?;
                if row.entry.is_dir() && !self.store.list(&child, &behind("", 1))?.is_empty() {
                    *after = row.name;
                    deeper = Some(child);
                    break;
                }
                bytes += STEP_BYTES + 2 * child.as_str().len() + row.entry.raw().len();
                *after = row.name;
                part.push(child);
                if bytes >= PART_BYTES_MAX {
                    is_whole = false;
                    break;
                }
            }
            self.delete_part(&part, options).await?;
            if let Some(child) = deeper {
                open.push(opened(child));
            } else if is_end && is_whole {
                let emptied = open.pop();
                if let Some(emptied) = emptied.filter(|_| !open.is_empty()) {
                    self.delete_single(&emptied.dir, options).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete_single(&self, path: &FullPath, options: &DeleteOptions) -> Result<(), Error> {
        match self.delete_one(path, options).await {
            Err(error) if options.ignores_errors_below => {
                tracing::warn!(%path, %error, "a recursive delete leaves an entry");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Removes these entries in one change; those that are gone meanwhile are fine.
    async fn delete_part(&self, paths: &[FullPath], options: &DeleteOptions) -> Result<(), Error> {
        let Some(first) = paths.first() else {
            return Ok(());
        };
        let removed = self.transact(first, &options.caller, || {
            let mut transaction = Transaction::default();
            for path in paths {
                let Some(found) = self.store.find(path)? else {
                    continue;
                };
                if found.entry.is_dir() {
                    // Filled meanwhile: the directory above says so in the end.
                    if !self.store.list(path, &behind("", 1))?.is_empty() {
                        continue;
                    }
                    transaction.expects.push(Expect::Empty(path.clone()));
                }
                let expect = Expect::Same(path.clone(), found.token);
                transaction.expects.push(expect);
                transaction.steps.push(Step::Delete {
                    path: path.clone(),
                    delete_chunks: !options.keep_chunks,
                });
            }
            Ok((!transaction.steps.is_empty()).then_some(transaction))
        });
        match removed.await {
            Err(error) if options.ignores_errors_below => {
                tracing::warn!(%error, "part of a recursive delete failed; one by one");
                for path in paths {
                    self.delete_single(path, options).await?;
                }
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// The first names behind one.
fn behind(after: &str, limit: usize) -> ListRange {
    ListRange {
        prefix: String::new(),
        start: after.to_owned(),
        inclusive: false,
        limit,
    }
}
