// SPDX-License-Identifier: Apache-2.0
//! Removing and moving: what lies at a path, its shadows, and everything below.

use bytes::Bytes;
use dulse_types::{Entry, Stamp};

use super::{Builder, Effect, LocalError, PLACES_MAX, TREE_NAMES_MAX};
use crate::apply::moved_paths;
use crate::change::{Kills, NameStep, Place, Step};
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::txn::decode_name;
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
            self.kill_shadow(&shadow, delete_chunks)?;
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry),
            new_entry: None,
        })
    }

    fn kill_shadow(&mut self, shadow: &NameRow, delete_chunks: bool) -> Result<(), LocalError> {
        let content = self.content(shadow)?;
        self.kill(shadow, &content, self.last_offset(), None, delete_chunks)
    }

    fn kill(
        &mut self,
        row: &NameRow,
        content: &Content,
        offset: u32,
        event_of: Option<&Entry>,
        delete_chunks: bool,
    ) -> Result<(), LocalError> {
        let hints = self.hints(row)?;
        let seen = self.chain_of(content);
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

    /// Moves the entry shown with everything below it; what is shown at the target goes,
    /// and so do the files that are shadowed along the way.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IntoItself`, `TooBig`, `ChangeTooLarge`, `MovedTooOften`,
    /// `Read`.
    pub fn rename(&mut self, from: &Bytes, to: &Bytes) -> Result<Effect, LocalError> {
        let shown = self.require(from)?;
        // Onto itself too: it would kill the very name that it is to move.
        if to.starts_with(from) && matches!(to.get(from.len()), None | Some(&b'/')) {
            return Err(LocalError::IntoItself(from.clone()));
        }
        if let Some(target) = self.txn.shown(to)? {
            let (first, last) = keys::children(Space::Entries, to);
            if self.txn.has_any(&first, &last)? {
                return Err(LocalError::NotEmpty(to.clone()));
            }
            self.kill_all(to, &target, true)?;
        }
        let old_entry = self.content(&shown)?.entry();
        let names = self.below(from, &shown)?;
        let mut stamp = self.change.stamp;
        for (at, (row, fate)) in names.into_iter().enumerate() {
            if fate == Fate::Killed {
                self.kill_shadow(&row, true)?;
                continue;
            }
            let mut path = to.to_vec();
            path.extend_from_slice(&row.path[from.len()..]);
            let moved = self.place(&row, Bytes::from(path), fate == Fate::Shown)?;
            if at == 0 {
                stamp = moved;
            }
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry.clone()),
            new_entry: Some(old_entry),
        })
    }

    fn place(&mut self, row: &NameRow, path: Bytes, is_shown: bool) -> Result<Stamp, LocalError> {
        if row.place != row.name.birth() && moved_paths(self.txn, row.name)?.len() >= PLACES_MAX {
            return Err(LocalError::MovedTooOften(row.path.clone()));
        }
        let hints = self.hints(row)?;
        let (offset, stamp) = if is_shown {
            self.event()
        } else {
            (self.last_offset(), self.change.stamp)
        };
        let old_entry = if is_shown {
            Some(self.content(row)?.entry().raw().clone())
        } else {
            None
        };
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: is_shown,
            name: row.name,
            inode: row.inode,
            // The shown one stays the greatest of those that move together.
            place: Some(Place {
                rank: if is_shown {
                    u32::MAX
                } else {
                    row.rank.min(u32::MAX - 1)
                },
                path,
            }),
            hints,
            old_entry,
            ..NameStep::default()
        })))?;
        Ok(stamp)
    }

    /// Every name at a path and below, parents first, each with what becomes of it.
    fn below(&self, path: &Bytes, shown: &NameRow) -> Result<Vec<(NameRow, Fate)>, LocalError> {
        let mut names = Vec::new();
        self.with_shadows(shown.clone(), &mut names)?;
        if !is_dir(shown) {
            return Ok(names);
        }
        for (from, to) in [
            keys::children(Space::Entries, path),
            keys::deeper(Space::Entries, path),
        ] {
            let rows = self.txn.scan(&from, &to, TREE_NAMES_MAX + 1)?;
            for (key, value) in rows {
                let Some(path) = keys::path_of(&key) else {
                    continue;
                };
                self.with_shadows(decode_name(Space::Entries, &value, &path)?, &mut names)?;
            }
            if names.len() > TREE_NAMES_MAX {
                return Err(LocalError::TooBig(path.clone()));
            }
        }
        // Upstream's order of events: what is in each directory right behind it.
        names.sort_by_cached_key(|(row, _)| {
            let slash_first = |b: &u8| if *b == b'/' { 0 } else { *b };
            row.path.iter().map(slash_first).collect::<Vec<u8>>()
        });
        Ok(names)
    }

    fn with_shadows(
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
            out.push((shown, Fate::Shown));
        }
        out.extend(shadows.into_iter().map(|row| {
            let fate = if is_one_directory && is_dir(&row) {
                Fate::Shadow
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
enum Fate {
    /// It moves and shows.
    Shown,
    /// It moves, shadowed.
    Shadow,
    /// It dies, as in a delete.
    Killed,
}
