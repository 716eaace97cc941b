// SPDX-License-Identifier: Apache-2.0
//! Recording conflicts, settling them, and taking back what was lost.

use bytes::Bytes;
use dulse_types::entry::split;
use dulse_types::{Entry, Identity};

use super::{Builder, Effect, LocalError};
use crate::apply::find;
use crate::change::{ConflictStep, Step};
use crate::conflict::{ShadowVerdict, judge_shadow, shadow_record};
use crate::row::NameRow;

/// An open conflict with the parts of its record.
struct Open {
    name: Identity,
    path: Bytes,
    loser: Entry,
}

impl Builder<'_, '_> {
    /// Records, withdraws or lets go of a conflict.
    ///
    /// # Errors
    ///
    /// `ChangeTooLarge`, `Read`.
    pub fn conflict(&mut self, step: ConflictStep) -> Result<(), LocalError> {
        self.push(Step::Conflict(step))
    }

    /// Kills a shadow, recorded unless both are names of one inode.
    ///
    /// # Errors
    ///
    /// `ChangeTooLarge`, `Read`.
    pub fn settle_shadow(&mut self, shown: &NameRow, shadow: &NameRow) -> Result<(), LocalError> {
        self.record_shadow(shown, shadow)?;
        self.kill_shadow(shadow, true)
    }

    /// Records a shadow that is about to be killed: also when somebody deletes or moves what
    /// shows there, who never saw it.
    pub(super) fn record_shadow(
        &mut self,
        shown: &NameRow,
        shadow: &NameRow,
    ) -> Result<(), LocalError> {
        // Registers as they are: who kills it needs not wait for others' changes.
        let everything = [shown.place, shown.touch, shadow.place, shadow.touch];
        let stable = everything.iter().map(|v| (v.origin, v.stamp));
        let mut all = dulse_types::Vector::new();
        stable.for_each(|(origin, stamp)| all.raise(origin, stamp));
        if judge_shadow(shown, shadow, &all) != ShadowVerdict::RecordAndKill {
            return Ok(());
        }
        if self
            .txn
            .conflict(shadow.name)?
            .is_some_and(|row| row.is_open())
        {
            return Ok(());
        }
        let record = shadow_record(self.txn, shown, shadow)?;
        self.conflict(record)
    }

    /// Lets an open conflict go.
    ///
    /// # Errors
    ///
    /// `NoConflict`, `Read`.
    pub fn dismiss(&mut self, id: Identity) -> Result<(), LocalError> {
        self.open(id)?;
        self.conflict(ConflictStep::Expire { id })
    }

    /// Writes lost data back into the very file that lost it, if that is shown at the path.
    /// Its chunks are that file's, so they become current again, dropped or not.
    ///
    /// # Errors
    ///
    /// `NoConflict`; `Exists` when something else is shown there and `NotFound` when nothing
    /// is: then the data is to be copied, and [`Builder::restore_copy`] called.
    pub fn restore_in_place(&mut self, id: Identity, path: &Bytes) -> Result<Effect, LocalError> {
        let open = self.open(id)?;
        let row = self.require(path)?;
        let lost = find(self.txn, open.name, &[open.path.clone(), path.clone()])?;
        let inode = lost.map_or(open.name, |lost| lost.row.inode);
        if row.is_implied || row.inode != inode {
            return Err(LocalError::Exists(path.clone()));
        }
        let content = self.content(&row)?;
        let mut written = self.differing(&content, split(&open.loser));
        written.attributes = None;
        written.atime_ns = None;
        if let Some(data) = &mut written.data
            && id.origin != self.change.origin
        {
            // It is made on top of both.
            data.seen.raise(id.origin, id.stamp);
        }
        let effect = self.write_over(&row, content, written, true)?;
        self.conflict(ConflictStep::Expire { id })?;
        Ok(effect)
    }

    /// Creates a copy of what was lost, with chunks of its own, and lets the conflict go.
    /// ⚠ Of its own: two files that share a chunk would each free it.
    ///
    /// # Errors
    ///
    /// `NoConflict`, `Exists`, `SharedChunk` when the copy names a chunk of the loser.
    pub fn restore_copy(
        &mut self,
        id: Identity,
        path: &Bytes,
        copy: &Entry,
    ) -> Result<Effect, LocalError> {
        let open = self.open(id)?;
        let theirs = split(&open.loser).data.file_ids();
        let shared = split(copy).data.file_ids();
        if let Some(chunk) = shared.into_iter().find(|chunk| theirs.contains(chunk)) {
            return Err(LocalError::SharedChunk(chunk.to_string()));
        }
        let effect = self.create(path, copy)?;
        self.conflict(ConflictStep::Expire { id })?;
        Ok(effect)
    }

    fn open(&self, id: Identity) -> Result<Open, LocalError> {
        let row = self.txn.conflict(id)?.filter(|row| row.is_open());
        let step = row.and_then(|row| row.step().ok().flatten());
        let Some(ConflictStep::Record {
            name, path, loser, ..
        }) = step
        else {
            return Err(LocalError::NoConflict(id));
        };
        let loser = Entry::from_bytes(loser).map_err(|_| LocalError::NoConflict(id))?;
        Ok(Open { name, path, loser })
    }
}
