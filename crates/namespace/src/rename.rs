// SPDX-License-Identifier: Apache-2.0
//! Moving entries and trees, and further names of files.

use dulse_store::{Expect, ListRange, Step, Transaction};
use dulse_types::FullPath;

use crate::{Caller, Change, Error, ErrorKind, Namespace};

impl Namespace {
    /// Moves an entry with all that is below it. A file that is at the target goes; an
    /// empty directory gives way to a directory. Missing parents are made.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`, `IsFile`, `NotEmpty`, `Invalid`, or the store's. Texts hold
    /// the words by which upstream's mount tells them apart.
    pub async fn rename(
        &self,
        from: &FullPath,
        to: &FullPath,
        caller: Caller,
    ) -> Result<Change, Error> {
        self.check_name(to)?;
        if to.is_below(from) || from.is_root() {
            let message = "mv: can not move directory to a subdirectory of itself";
            return Err(Error::invalid(message.to_owned()));
        }
        self.check_buckets(from, to)?;
        self.transact(&caller, || {
            let Some(source) = self.find_opt(from)? else {
                let message = format!("{from} not found: {}", crate::error::NOT_FOUND);
                return Err(Error::new(ErrorKind::NotFound, message));
            };
            if from == to {
                return Ok(None);
            }
            let mut transaction = Transaction {
                expects: vec![Expect::Same(from.clone(), source.token)],
                ..Transaction::default()
            };
            match self.store.find(to)? {
                None => transaction.expects.push(Expect::Absent(to.clone())),
                Some(target) => {
                    let (is_dir, was_dir) = (source.entry.is_dir(), target.entry.is_dir());
                    if is_dir && !was_dir {
                        let message = format!("{to} is not directory");
                        return Err(Error::new(ErrorKind::IsFile, message));
                    }
                    if !is_dir && was_dir {
                        return Err(Error::is_directory());
                    }
                    if was_dir {
                        let any = ListRange {
                            prefix: String::new(),
                            start: String::new(),
                            inclusive: true,
                            limit: 1,
                        };
                        if !self.store.list(to, &any)?.is_empty() {
                            let message = format!("{to} is not empty");
                            return Err(Error::new(ErrorKind::NotEmpty, message));
                        }
                        transaction.expects.push(Expect::Empty(to.clone()));
                    }
                    transaction
                        .expects
                        .push(Expect::Same(to.clone(), target.token));
                    transaction.steps.push(Step::Delete {
                        path: to.clone(),
                        delete_chunks: true,
                    });
                }
            }
            let fields = source.entry.fields()?;
            self.parents(to, &fields, &mut transaction)?;
            transaction.steps.push(Step::Rename {
                from: from.clone(),
                to: to.clone(),
            });
            Ok(Some(transaction))
        })
        .await
    }

    /// Buckets are not renamed, and nothing moves from one to another.
    fn check_buckets(&self, from: &FullPath, to: &FullPath) -> Result<(), Error> {
        let folder = &self.options().buckets_folder;
        let bucket = |path: &FullPath| {
            let rest = path
                .as_str()
                .strip_prefix(folder.as_str())?
                .strip_prefix('/')?;
            Some(rest.split('/').next().unwrap_or(rest).to_owned())
        };
        if from
            .parent()
            .is_some_and(|parent| parent.as_str() == folder)
        {
            return Err(Error::invalid("bucket renaming is not allowed".to_owned()));
        }
        let (a, b) = (
            bucket(from).unwrap_or_default(),
            bucket(to).unwrap_or_default(),
        );
        if a != b {
            let message = format!("can not move across collection {a} => {b}");
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}
