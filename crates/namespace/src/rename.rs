// SPDX-License-Identifier: Apache-2.0
//! Moving entries and trees, and further names of files.

use dulse_store::{Expect, Found, Step, Transaction};
use dulse_types::FullPath;

use crate::parents::OnFile;
use crate::trees::Opened;
use crate::{Caller, Change, Error, ErrorKind, Namespace, texts};

impl Namespace {
    /// Moves an entry with all that is below it. A file that is at the target goes; an
    /// empty directory gives way to a directory. Missing parents are made. A directory with
    /// more names below it than one change moves goes in parts where the store can do that.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`, `IsFile`, `NotEmpty`, `Invalid`, `Unavailable` when some
    /// names cannot be moved now, or the store's. Texts hold the words by which upstream's
    /// mount tells them apart.
    pub async fn rename(
        &self,
        from: &FullPath,
        to: &FullPath,
        caller: Caller,
    ) -> Result<Change, Error> {
        self.rename_telling(from, to, caller, None).await
    }

    /// The same, and tells when it is to take several changes.
    ///
    /// # Errors
    ///
    /// As [`Namespace::rename`].
    pub async fn rename_telling(
        &self,
        from: &FullPath,
        to: &FullPath,
        caller: Caller,
        opened: Option<Opened>,
    ) -> Result<Change, Error> {
        self.check_name(to)?;
        if to.is_below(from) || from.is_root() {
            return Err(Error::of(ErrorKind::Invalid, texts::RENAME_INTO_ITSELF));
        }
        if to.is_root() {
            let error = Error::other_type(true);
            let message = format!("{error}: {to} {}", texts::RENAME_NOT_EMPTY);
            return Err(Error::new(error.kind(), message));
        }
        self.check_buckets(from, to)?;
        self.check_stays(from)?;
        self.check_stays(to)?;
        self.check_one_store(from, to)?;
        let is_dir = self.find_opt(from)?.is_some_and(|f| f.entry.is_dir());
        if let Some(trees) = self.trees_of(from).filter(|_| is_dir) {
            return self.rename_tree(trees, from, to, &caller, opened).await;
        }
        self.transact(from, &caller, || self.rename_on(from, to))
            .await
    }

    pub(crate) fn rename_on(
        &self,
        from: &FullPath,
        to: &FullPath,
    ) -> Result<Option<Transaction>, Error> {
        let Some(source) = self.find_opt(from)? else {
            let (words, text) = (texts::RENAME_NOT_FOUND, texts::NOT_FOUND);
            let message = format!("{from} {words}: {text}");
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
            Some(target) => self.replace(to, &source, &target, &mut transaction)?,
        }
        let fields = source.entry.fields()?;
        self.parents(to, &fields, OnFile::Promote, &mut transaction)?;
        transaction.steps.push(Step::Rename {
            from: from.clone(),
            to: to.clone(),
        });
        Ok(Some(transaction))
    }

    /// Adds the removal of what is at the target, where it may be removed.
    fn replace(
        &self,
        to: &FullPath,
        source: &Found,
        target: &Found,
        transaction: &mut Transaction,
    ) -> Result<(), Error> {
        let (is_dir, was_dir) = (source.entry.is_dir(), target.entry.is_dir());
        // What has expired is in nobody's way.
        if is_dir != was_dir && !target.entry.is_expired(self.now().s) {
            let error = Error::other_type(was_dir);
            if was_dir {
                return Err(error);
            }
            let message = format!("{error}: {to} {}", texts::RENAME_NOT_DIRECTORY);
            return Err(Error::new(error.kind(), message));
        }
        if was_dir && !self.delete_expired_below(to, transaction)? {
            let error = Error::not_empty(to);
            let message = format!("{error} {}", texts::RENAME_NOT_EMPTY);
            return Err(Error::new(error.kind(), message));
        }
        let expect = Expect::Same(to.clone(), target.token);
        transaction.expects.push(expect);
        transaction.steps.push(Step::Delete {
            path: to.clone(),
            delete_chunks: true,
        });
        Ok(())
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
            return Err(Error::of(ErrorKind::Invalid, texts::RENAME_BUCKET));
        }
        let (a, b) = (
            bucket(from).unwrap_or_default(),
            bucket(to).unwrap_or_default(),
        );
        if a != b {
            let message = format!("{} {a} => {b}", texts::RENAME_ACROSS);
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}
