// SPDX-License-Identifier: Apache-2.0
//! Taking back what was lost in a conflict, or letting it go.

use dulse_store::{Step, Transaction};
use dulse_types::{Entry, FullPath, Identity};

use crate::create::CreateOptions;
use crate::{Caller, Change, Error, ErrorKind, Namespace, texts};

impl Namespace {
    /// Writes what a conflict lost back into the file that lost it, and lets it go.
    ///
    /// # Errors
    ///
    /// `NotFound` when the conflict is not open or nothing is at the path, `Exists` when
    /// something else is; the store's.
    pub async fn restore_in_place(
        &self,
        conflict: Identity,
        path: &FullPath,
        caller: Caller,
    ) -> Result<Change, Error> {
        let path = path.clone();
        let step = Step::RestoreInPlace { conflict, path };
        self.once(step, caller).await
    }

    /// Creates a copy of what a conflict lost, with the parents it needs, and lets the
    /// conflict go. The copy's chunks are its own; it is no hard link and does not expire.
    ///
    /// # Errors
    ///
    /// `Exists` when something is at the path, `NotFound` when the conflict is not open; as
    /// [`Namespace::create`].
    pub async fn restore_copy(
        &self,
        conflict: Identity,
        path: &FullPath,
        copy: &Entry,
        caller: Caller,
    ) -> Result<Change, Error> {
        self.check_name(path)?;
        let unknown = copy.unknown();
        let options = CreateOptions {
            is_exclusive: true,
            caller,
            ..CreateOptions::default()
        };
        self.transact(path, &options.caller, || {
            let mut fields = copy.fields()?;
            fields.hard_link_id.clear();
            fields.hard_link_counter = 0;
            fields.attrs_mut().ttl_sec = 0;
            let made = self.create_on(path, fields, &unknown, &options)?;
            let steps = made.steps.into_iter().map(|step| match step {
                Step::Create { path: at, entry } if at == *path => Step::RestoreCopy {
                    conflict,
                    path: at,
                    entry,
                },
                step => step,
            });
            Ok(Some(Transaction {
                steps: steps.collect(),
                expects: made.expects,
                ..Transaction::default()
            }))
        })
        .await
    }

    /// Lets a conflict go; what it keeps is freed in time.
    ///
    /// # Errors
    ///
    /// `NotFound` when it is not open; the store's.
    pub async fn dismiss(&self, conflict: Identity, caller: Caller) -> Result<Change, Error> {
        self.once(Step::Dismiss { conflict }, caller).await
    }

    async fn once(&self, step: Step, caller: Caller) -> Result<Change, Error> {
        let transaction = Transaction {
            steps: vec![step.clone()],
            signatures: caller.signatures,
            is_from_other_cluster: caller.is_from_other_cluster,
            ..Transaction::default()
        };
        match self.commit(transaction).await {
            Ok(commit) => Ok(crate::transact::change(vec![step], commit)),
            Err(error) if error.kind() == dulse_store::ErrorKind::Conflict => {
                Err(Error::of(ErrorKind::Exists, texts::ALREADY_EXISTS))
            }
            Err(error) => Err(error.into()),
        }
    }
}
