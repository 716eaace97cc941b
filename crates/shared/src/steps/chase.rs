// SPDX-License-Identifier: Apache-2.0
//! Going forward where others wrote: from the moment something of a plan went, the rest follows
//! whatever is there now. What others changed moves or goes as they left it; what they made in a
//! directory that goes brings the directory back.

use std::collections::BTreeSet;

use bytes::Bytes;
use dulse_store::{Error, ErrorKind};
use dulse_types::entry::{FuseAttributes, MODE_DIRECTORY, UnknownFields};
use dulse_types::{EntryFields, FullPath};

use super::run::{Put, Runner};
use crate::plan::{failed, is_directory};
use crate::record::Event;
use crate::rows::{At, RowWrite, Rows, wall_clock_ns};
use crate::value;

/// Times that one row is followed before the plan is left to a later run.
const CHASES_MAX: usize = 16;

impl<R: Rows> Runner<'_, R> {
    /// Lets a row go that others changed.
    pub(super) async fn chase(&mut self, i: usize) -> Result<(), Error> {
        let row = self.steps.rows[i].clone();
        let At::Path(path) = &row.at else {
            return Err(failed(ErrorKind::Conflict).unknown_outcome());
        };
        for _ in 0..CHASES_MAX {
            let Some(now) = self.read(&row.at).await? else {
                return self.gone_already(i, path).await;
            };
            let is_changed = row.before.as_ref() != Some(&now);
            if is_changed && !self.follow(i, path, &now).await? {
                // It stays, and its copy, too.
                self.finals[i] = Some(now);
                self.made[i] = true;
                return Ok(());
            }
            let remove = RowWrite {
                at: row.at.clone(),
                before: Some(now),
                after: None,
            };
            match self.put(&[remove]).await? {
                Put::Made => self.made[i] = true,
                Put::Gone => self.gone(i),
                Put::Differs | Put::Lost => continue,
            }
            return Ok(());
        }
        let error = failed(ErrorKind::Conflict).with("path", path);
        Err(error.unknown_outcome())
    }

    /// Leaves a row as others wrote it.
    pub(super) async fn leave(&mut self, i: usize) -> Result<(), Error> {
        self.finals[i] = self.read(&self.steps.rows[i].at).await?;
        self.made[i] = true;
        self.is_adjusted = true;
        Ok(())
    }

    /// Others removed it first: then it was not there to be moved.
    async fn gone_already(&mut self, i: usize, path: &FullPath) -> Result<(), Error> {
        self.made[i] = true;
        self.is_adjusted = true;
        if self.steps.rows[i].before.clone().is_some_and(is_directory) {
            // What was in it may be at the new name already: that one stays.
            self.events_of(path).for_each(|event| event.old = None);
            return Ok(());
        }
        self.forget(i);
        let Some(copy) = self.steps.moved.get(&i).copied() else {
            return Ok(());
        };
        let undo = RowWrite {
            at: self.steps.rows[copy].at.clone(),
            before: self.finals[copy].clone(),
            after: None,
        };
        if let Put::Made | Put::Gone = self.put(&[undo]).await? {
            self.finals[copy] = None;
        }
        Ok(())
    }

    /// What others wrote is told, and written at the new name if there is one. `false` when that
    /// is not to be had: others wrote there, too.
    async fn follow(&mut self, i: usize, path: &FullPath, now: &Bytes) -> Result<bool, Error> {
        self.is_adjusted = true;
        let entry = value::decode(now.clone())?;
        let copy = self.steps.moved.get(&i).copied();
        if let Some(copy) = copy.filter(|copy| self.finals[*copy].as_ref() != Some(now)) {
            let write = RowWrite {
                at: self.steps.rows[copy].at.clone(),
                before: self.finals[copy].clone(),
                after: Some(now.clone()),
            };
            let is_there = matches!(self.put(std::slice::from_ref(&write)).await?, Put::Made)
                || self.read(&write.at).await?.as_ref() == Some(now);
            if !is_there {
                tracing::warn!(%path, "two filers wrote a file while it was moved; both names stay");
                self.events_of(path).for_each(|event| event.old = None);
                return Ok(false);
            }
            self.finals[copy] = Some(now.clone());
        }
        for event in self.events_of(path) {
            for (_, told) in [&mut event.old, &mut event.new].into_iter().flatten() {
                *told = entry.clone();
            }
        }
        Ok(true)
    }

    /// A directory that went is needed: others put something into it.
    pub(super) async fn bring_back(&mut self, i: usize, before: Bytes) -> Result<(), Error> {
        let row = &self.steps.rows[i];
        let At::Path(path) = &row.at else {
            return Ok(());
        };
        self.put(&[row.undo()]).await?;
        self.is_adjusted = true;
        let entry = value::decode(before.clone())?;
        self.announced.events.push(Event {
            old: None,
            new: Some((path.clone(), entry)),
            delete_chunks: false,
        });
        self.finals[i] = Some(before);
        Ok(())
    }

    /// Makes directories again that others removed between two runs, above what came.
    pub(super) async fn reach(&mut self) -> Result<(), Error> {
        let rows = self.steps.rows.iter().zip(&self.finals);
        let came = rows.filter_map(|(row, last)| match &row.at {
            At::Path(path) if row.after.is_some() && last.is_some() => Some(path),
            _ => None,
        });
        let mut above = BTreeSet::new();
        for path in came {
            let mut parent = path.parent();
            while let Some(dir) = parent.filter(|dir| !dir.is_root()) {
                parent = dir.parent();
                above.insert(dir);
            }
        }
        for dir in above {
            let at = At::Path(dir.clone());
            if self.read(&at).await?.is_some() {
                continue;
            }
            let attributes = FuseAttributes {
                file_mode: MODE_DIRECTORY | 0o755,
                mtime: wall_clock_ns() / 1_000_000_000,
                ..FuseAttributes::default()
            };
            let fields = EntryFields {
                attributes: Some(attributes),
                ..EntryFields::default()
            };
            let entry = fields.to_entry(&UnknownFields::default());
            let make = RowWrite {
                at,
                before: None,
                after: Some(value::encode(&entry)),
            };
            if let Put::Made = self.put(&[make]).await? {
                self.is_adjusted = true;
                self.announced.events.push(Event {
                    old: None,
                    new: Some((dir, entry)),
                    delete_chunks: false,
                });
            }
        }
        Ok(())
    }

    pub(super) fn events_of<'s>(
        &'s mut self,
        path: &'s FullPath,
    ) -> impl Iterator<Item = &'s mut Event> {
        let events = self.announced.events.iter_mut();
        events.filter(move |event| event.old.as_ref().is_some_and(|(old, _)| old == path))
    }
}
