// SPDX-License-Identifier: Apache-2.0
//! Removing and moving: what lies at a path, its shadows, and everything below.

use bytes::Bytes;
use dulse_types::{Entry, Stamp, Vector};

use super::{Builder, CHANGE_BYTES_MAX, Effect, LocalError, PLACES_MAX, PartLimits, TreeWalk};
use crate::apply::{moved_paths, names_of};
use crate::change::{Kills, NameStep, Place, Step};
use crate::intent::TreeWork;
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::view::is_dir;

impl Builder<'_, '_> {
    /// Removes the entry shown and the shadows below it.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `ChangeTooLarge`, `Read`.
    pub fn delete(&mut self, path: &Bytes, delete_chunks: bool) -> Result<Effect, LocalError> {
        let shown = self.require(path)?;
        if is_dir(&shown) {
            let (from, to) = keys::children(Space::Entries, path);
            if self.txn.has_any(&from, &to)? {
                return Err(LocalError::NotEmpty(path.clone()));
            }
        }
        self.kill_all(path, &shown, delete_chunks)
    }

    fn kill_all(
        &mut self,
        path: &Bytes,
        shown: &NameRow,
        delete_chunks: bool,
    ) -> Result<Effect, LocalError> {
        let shadows = if shown.has_shadows {
            self.txn.shadows(path)?
        } else {
            Vec::new()
        };
        let content = self.content(shown)?;
        let old_entry = content.entry();
        let (offset, stamp) = self.event();
        if !shown.is_implied {
            self.kill(shown, &content, offset, Some(&old_entry), delete_chunks)?;
        }
        for shadow in shadows {
            self.record_shadow(shown, &shadow)?;
            // Whoever keeps chunks took over those of the entry that it saw.
            self.kill_shadow(&shadow, true)?;
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry),
            new_entry: None,
        })
    }

    pub(super) fn kill_shadow(
        &mut self,
        shadow: &NameRow,
        delete_chunks: bool,
    ) -> Result<(), LocalError> {
        let content = self.content(shadow)?;
        self.kill(shadow, &content, self.last_offset(), None, delete_chunks)
    }

    pub(super) fn kill(
        &mut self,
        row: &NameRow,
        content: &Content,
        offset: u32,
        event_of: Option<&Entry>,
        delete_chunks: bool,
    ) -> Result<(), LocalError> {
        let hints = self.hints(row)?;
        // ⚠ Who leaves another name of the inode means its content to stay: it has not seen
        // what goes when that name is deleted by somebody else meanwhile.
        let removes = !self.has_another_name(row)?;
        let mut seen = match removes {
            true => self.chain_of(content),
            false => Vector::new(),
        };
        // ⚠ Chunks that it wants kept are those that it saw, its own among them.
        let data = content.data_version;
        if removes && !delete_chunks && !data.is_zero() {
            seen.raise(data.origin, data.stamp);
        }
        let touch = row.touch;
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: event_of.is_some(),
            name: row.name,
            inode: row.inode,
            kills: Some(Kills { touch, seen }),
            hints,
            old_entry: event_of.map(|entry| entry.raw().clone()),
            delete_chunks,
            ..NameStep::default()
        })))
    }

    /// Whether the inode of a name shows under another one.
    fn has_another_name(&self, row: &NameRow) -> Result<bool, LocalError> {
        if !row.is_linked {
            return Ok(false);
        }
        let names = names_of(self.txn, row.inode)?;
        let mut names = names.iter();
        Ok(names.any(|(name, is_visible, _)| *is_visible && *name != row.name))
    }

    /// Removes the entry shown with everything below it, deepest first.
    ///
    /// # Errors
    ///
    /// `NotFound`, `TooBig`, `Read`.
    pub fn delete_tree(&mut self, path: &Bytes, delete_chunks: bool) -> Result<Effect, LocalError> {
        let shown = self.require(path)?;
        let old_entry = Some(self.content(&shown)?.entry());
        let work = TreeWork::Delete { delete_chunks };
        let done = self.whole_tree(&work, TreeWalk::bottom_up(path.clone()))?;
        // An implied directory goes with what was below it, without an event.
        Ok(done.unwrap_or(Effect {
            stamp: self.change.stamp,
            old_entry,
            new_entry: None,
        }))
    }

    /// Moves the entry shown with everything below it; what is shown at the target goes,
    /// and so do the files that are shadowed along the way.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IntoItself`, `TooBig`, `MovedTooOften`, `Read`.
    pub fn rename(&mut self, from: &Bytes, to: &Bytes) -> Result<Effect, LocalError> {
        self.may_rename(from, to)?;
        let shown = self.require(from)?;
        if let Some(target) = self.txn.shown(to)? {
            self.kill_all(to, &target, true)?;
        }
        let old_entry = Some(self.content(&shown)?.entry());
        let work = TreeWork::Move { to: to.clone() };
        let done = self.whole_tree(&work, TreeWalk::top_down(from.clone()))?;
        Ok(done.unwrap_or(Effect {
            stamp: self.change.stamp,
            old_entry: old_entry.clone(),
            new_entry: old_entry,
        }))
    }

    /// Whether the entry shown may be moved there, whatever its size.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IntoItself`, `Read`.
    pub fn may_rename(&self, from: &Bytes, to: &Bytes) -> Result<(), LocalError> {
        self.require(from)?;
        // Onto itself too: it would kill the very name that it is to move.
        if to.starts_with(from) && matches!(to.get(from.len()), None | Some(&b'/')) {
            return Err(LocalError::IntoItself(from.clone()));
        }
        if self.txn.shown(to)?.is_some() {
            let (first, last) = keys::children(Space::Entries, to);
            if self.txn.has_any(&first, &last)? {
                return Err(LocalError::NotEmpty(to.clone()));
            }
        }
        Ok(())
    }

    /// Does a tree change in this one change, or not at all.
    fn whole_tree(
        &mut self,
        work: &TreeWork,
        mut walk: TreeWalk,
    ) -> Result<Option<Effect>, LocalError> {
        let limits = PartLimits {
            names: self.tree_names_max,
            bytes: CHANGE_BYTES_MAX,
        };
        let too_big = LocalError::TooBig {
            path: walk.path().clone(),
            names_max: limits.names,
        };
        // Reading is cheap beside moving what would have to be taken back.
        if walk.has_more_than(limits.names, self.txn)? {
            return Err(too_big);
        }
        let part = self.tree_part(work, &mut walk, None, limits)?;
        match part.refused {
            Some(refused) => Err(refused),
            None if part.is_end => Ok(part.top),
            None => Err(too_big),
        }
    }

    /// Gives a name a new path. The one that shows there yields an event with its entry.
    pub(super) fn place(
        &mut self,
        row: &NameRow,
        path: Bytes,
        shown: Option<&Entry>,
    ) -> Result<Stamp, LocalError> {
        if row.place != row.name.birth() && moved_paths(self.txn, row.name)?.len() >= PLACES_MAX {
            return Err(LocalError::MovedTooOften(row.path.clone()));
        }
        let hints = self.hints(row)?;
        let (offset, stamp) = match shown {
            Some(_) => self.event(),
            None => (self.last_offset(), self.change.stamp),
        };
        // The shown one stays the greatest of those that move together.
        let rank = match shown {
            Some(_) => u32::MAX,
            None => row.rank.min(u32::MAX - 1),
        };
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: shown.is_some(),
            name: row.name,
            inode: row.inode,
            place: Some(Place { rank, path }),
            hints,
            old_entry: shown.map(|entry| entry.raw().clone()),
            ..NameStep::default()
        })))?;
        Ok(stamp)
    }

    /// What is shown at a path and its shadows, each with what becomes of it when something
    /// at or above the path moves away.
    pub(super) fn with_shadows(
        &self,
        shown: NameRow,
        out: &mut Vec<(NameRow, Fate)>,
    ) -> Result<(), LocalError> {
        let shadows = if shown.has_shadows {
            self.txn.shadows(&shown.path)?
        } else {
            Vec::new()
        };
        // Two directories at one path are one directory, so both move. Any other shadow
        // would pop up where the shown one was.
        let is_one_directory = is_dir(&shown);
        if !shown.is_implied {
            out.push((shown, Fate::Moved));
        }
        out.extend(shadows.into_iter().map(|row| {
            let fate = if is_one_directory && is_dir(&row) {
                Fate::Moved
            } else {
                Fate::Killed
            };
            (row, fate)
        }));
        Ok(())
    }
}

/// What becomes of a name when something at or above its path moves away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It moves, too.
    Moved,
    /// It dies, as in a delete.
    Killed,
}
