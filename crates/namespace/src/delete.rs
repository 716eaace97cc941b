// SPDX-License-Identifier: Apache-2.0
//! Removing entries and trees.

use dulse_store::{Expect, ListRange, Step, Transaction};
use dulse_types::FullPath;

use crate::{Caller, Change, Error, ErrorKind, Namespace};

/// Entries that one change of a recursive delete removes.
const PART_MAX: usize = 1_000;

/// How an entry is removed.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct DeleteOptions {
    /// Everything below goes too.
    pub is_recursive: bool,
    /// The chunks stay on the volume servers.
    pub keep_chunks: bool,
    /// When above 0: an entry written after it, in seconds since 1970, stays.
    pub if_not_modified_after: i64,
    /// Who asked.
    pub caller: Caller,
}

impl Namespace {
    /// Removes an entry. One that is not there is removed already. A tree goes in parts,
    /// deepest first: what others create below meanwhile stops it with `NotEmpty`.
    ///
    /// # Errors
    ///
    /// `NotEmpty`, or the store's.
    pub async fn delete(&self, path: &FullPath, options: DeleteOptions) -> Result<Change, Error> {
        if path.is_root() {
            return Ok(Change::default());
        }
        let Some(found) = self.store.find(path)? else {
            return Ok(Change::default());
        };
        if options.if_not_modified_after > 0
            && found.entry.fields()?.attrs().mtime > options.if_not_modified_after
        {
            return Ok(Change::default());
        }
        if found.entry.is_dir() && options.is_recursive {
            self.delete_below(path, &options).await?;
        }
        self.delete_one(path, &options).await
    }

    async fn delete_one(&self, path: &FullPath, options: &DeleteOptions) -> Result<Change, Error> {
        self.transact(&options.caller, || {
            let Some(found) = self.store.find(path)? else {
                return Ok(None);
            };
            let mut expects = vec![Expect::Same(path.clone(), found.token)];
            if found.entry.is_dir() {
                if !self.store.list(path, &first(1))?.is_empty() {
                    let message = format!("fail to delete non-empty folder: {path}");
                    return Err(Error::new(ErrorKind::NotEmpty, message));
                }
                expects.push(Expect::Empty(path.clone()));
            }
            let delete_chunks = !options.keep_chunks;
            let steps = vec![Step::Delete {
                path: path.clone(),
                delete_chunks,
            }];
            Ok(Some(Transaction {
                expects,
                steps,
                ..Transaction::default()
            }))
        })
        .await
    }

    /// Removes what is below a directory, depth first without recursion.
    async fn delete_below(&self, top: &FullPath, options: &DeleteOptions) -> Result<(), Error> {
        let mut open = vec![top.clone()];
        while let Some(dir) = open.last().cloned() {
            let rows = self.store.list(&dir, &first(PART_MAX))?;
            let mut files = Vec::new();
            let mut is_deeper = false;
            for row in &rows {
                let child = FullPath::of(dir.as_str(), &row.name)?;
                if row.entry.is_dir() && !self.store.list(&child, &first(1))?.is_empty() {
                    open.push(child);
                    is_deeper = true;
                    break;
                }
                files.push(child);
            }
            self.delete_part(&files, options).await?;
            if !is_deeper && rows.len() < PART_MAX {
                open.pop();
            }
        }
        Ok(())
    }

    /// Removes these entries in one change; those that are gone meanwhile are fine.
    async fn delete_part(&self, paths: &[FullPath], options: &DeleteOptions) -> Result<(), Error> {
        if paths.is_empty() {
            return Ok(());
        }
        self.transact(&options.caller, || {
            let mut transaction = Transaction::default();
            for path in paths {
                let Some(found) = self.store.find(path)? else {
                    continue;
                };
                transaction
                    .expects
                    .push(Expect::Same(path.clone(), found.token));
                if found.entry.is_dir() {
                    if !self.store.list(path, &first(1))?.is_empty() {
                        continue;
                    }
                    transaction.expects.push(Expect::Empty(path.clone()));
                }
                let delete_chunks = !options.keep_chunks;
                transaction.steps.push(Step::Delete {
                    path: path.clone(),
                    delete_chunks,
                });
            }
            Ok((!transaction.steps.is_empty()).then_some(transaction))
        })
        .await?;
        Ok(())
    }
}

fn first(limit: usize) -> ListRange {
    ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: true,
        limit,
    }
}
