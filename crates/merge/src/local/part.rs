// SPDX-License-Identifier: Apache-2.0
//! One part of a tree change: as much of the walk as one change may hold.
//!
//! Moves go top down. The directory is at its new path from the first part on, with its
//! attributes, and what is below follows; what has not followed yet is found at its old
//! path, whose directories are implied as long as something lives there. Bottom up would
//! show the new directories as implied ones first, and upstream's subscribers would hear of
//! children before their directory. Deletes go bottom up, so that a directory is killed
//! only when nothing shows in it any more.
//!
//! In each part a name is at one path, as its row is moved in one change: nothing is listed
//! twice and nothing is lost on the way (I6).

use bytes::Bytes;
use dulse_types::{Identity, Vector};

use super::tree::Fate;
use super::walk::Steps;
use super::{Builder, Effect, LocalError, TreeWalk};
use crate::change::Step;
use crate::intent::TreeWork;
use crate::keys::{self, Space};
use crate::row::NameRow;
use crate::view::is_dir;

/// Names looked at by one part for each that it may take: a part that finds little to do
/// ends nevertheless.
const VISITS_PER_NAME: usize = 4;

/// How much one part does at most; it exceeds this by one path and its shadows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartLimits {
    /// Names moved or removed.
    pub names: usize,
    /// Bytes of the change.
    pub bytes: usize,
}

/// What a part did.
#[derive(Debug, Default)]
pub struct Part {
    /// Nothing is left to be done.
    pub is_end: bool,
    /// Names moved or removed.
    pub n_names: usize,
    /// Names that stay: what others placed or wrote after the change began, and directories
    /// that are not removed because of it.
    pub n_left: usize,
    /// What became of the top, when this part did that.
    pub top: Option<Effect>,
    /// A name that cannot be moved now; it is counted among the left.
    pub refused: Option<LocalError>,
}

impl Builder<'_, '_> {
    /// Says which part of which tree change this is. The first thing in its change.
    ///
    /// # Errors
    ///
    /// `Read`.
    pub fn begin_part(&mut self, intent: Identity, part: u32) -> Result<(), LocalError> {
        self.push(Step::TreePart {
            intent,
            part,
            is_last: false,
        })
    }

    /// Says that it is the last one.
    pub fn end_parts(&mut self) {
        if let Some(Step::TreePart { is_last, .. }) = self.change.steps.first_mut() {
            *is_last = true;
        }
    }

    /// Goes on with the walk until a limit is reached.
    ///
    /// ⚠ Of what it finds, only what `seen` covers is taken: names placed and, by a delete,
    /// written before the tree change began. `None` takes all.
    ///
    /// # Errors
    ///
    /// `Read`; `ChangeTooLarge` when one path alone exceeds what a change may have.
    pub fn tree_part(
        &mut self,
        work: &TreeWork,
        walk: &mut TreeWalk,
        seen: Option<&Vector>,
        limits: PartLimits,
    ) -> Result<Part, LocalError> {
        let top = walk.path().clone();
        let mut steps = Steps::new(walk);
        let (mut part, mut n_visits) = (Part::default(), 0);
        while part.n_names < limits.names
            && self.n_bytes < limits.bytes
            && n_visits < limits.names.saturating_mul(VISITS_PER_NAME)
        {
            let Some(shown) = steps.next(self.txn)? else {
                part.is_end = true;
                return Ok(part);
            };
            n_visits += 1;
            let is_top = shown.path == top;
            let effect = match work {
                TreeWork::Move { to } => self.move_names(&top, to, shown, seen, &mut part)?,
                TreeWork::Delete { delete_chunks } => {
                    self.kill_names(shown, *delete_chunks, seen, &mut part)?
                }
            };
            if is_top {
                part.top = effect;
            }
        }
        part.is_end = !walk.has_more_than(0, self.txn)?;
        Ok(part)
    }

    /// Moves what is shown at one path, and its shadows as [`Fate`] says.
    fn move_names(
        &mut self,
        from: &Bytes,
        to: &Bytes,
        shown: NameRow,
        seen: Option<&Vector>,
        part: &mut Part,
    ) -> Result<Option<Effect>, LocalError> {
        let mut path = to.to_vec();
        path.extend_from_slice(shown.path.get(from.len()..).unwrap_or_default());
        let path = Bytes::from(path);
        let is_shown_moved = !shown.is_implied && is_placed_before(&shown, seen);
        let shown_name = is_shown_moved.then_some(shown.name);
        let mut names = Vec::new();
        self.with_shadows(shown.clone(), &mut names)?;
        if seen.is_some() {
            // ⚠ What shadows a file may have come after the change began, unseen: then the
            // file is what is to be moved. So it moves, and stays shadowed if that moves too.
            names.iter_mut().for_each(|(_, fate)| *fate = Fate::Moved);
        }
        let n_names = names.len();
        names.retain(|(row, _)| is_placed_before(row, seen));
        part.n_left += n_names - names.len();
        // The one that shows of those that move; it stays the greatest of them.
        let moved = names.iter().filter(|(_, fate)| *fate == Fate::Moved);
        let greatest = moved
            .map(|(row, _)| row)
            .max_by_key(|row| row.place_order());
        let first = shown_name.or(greatest.map(|row| row.name));
        names.sort_by_key(|(row, _)| Some(row.name) != first);
        let mut effect = None;
        for (row, fate) in names {
            if fate == Fate::Killed {
                self.record_shadow(&shown, &row)?;
                self.kill_shadow(&row, true)?;
                part.n_names += 1;
                continue;
            }
            let is_shown = Some(row.name) == first;
            let entry = if is_shown {
                Some(self.content(&row)?.entry())
            } else {
                None
            };
            match self.place(&row, path.clone(), entry.as_ref()) {
                Ok(stamp) => {
                    part.n_names += 1;
                    if is_shown {
                        effect = Some(Effect {
                            stamp,
                            old_entry: entry.clone(),
                            new_entry: entry,
                        });
                    }
                }
                Err(refused @ LocalError::MovedTooOften(_)) => {
                    part.n_left += 1;
                    part.refused = Some(refused);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(effect)
    }

    /// Kills what is shown at one path and its shadows, unless something shows below.
    fn kill_names(
        &mut self,
        shown: NameRow,
        delete_chunks: bool,
        seen: Option<&Vector>,
        part: &mut Part,
    ) -> Result<Option<Effect>, LocalError> {
        let shadows = if shown.has_shadows {
            self.txn.shadows(&shown.path)?
        } else {
            Vec::new()
        };
        if is_dir(&shown) {
            let (from, to) = keys::children(Space::Entries, &shown.path);
            if self.txn.has_any(&from, &to)? {
                // What came after the change began is not left without its directory. A file
                // that it shadows goes nevertheless: it would show again some day (I4).
                part.n_left += 1;
                let files = shadows.iter().filter(|row| !is_dir(row));
                for file in files.filter(|row| is_written_before(row, seen)) {
                    self.record_shadow(&shown, file)?;
                    self.kill_shadow(file, true)?;
                    part.n_names += 1;
                }
                return Ok(None);
            }
        }
        if shown.is_implied {
            return Ok(None);
        }
        let mut effect = None;
        if is_written_before(&shown, seen) {
            let content = self.content(&shown)?;
            let old_entry = content.entry();
            let (offset, stamp) = self.event();
            self.kill(&shown, &content, offset, Some(&old_entry), delete_chunks)?;
            part.n_names += 1;
            effect = Some(Effect {
                stamp,
                old_entry: Some(old_entry),
                new_entry: None,
            });
        } else {
            part.n_left += 1;
        }
        for shadow in shadows {
            if is_written_before(&shadow, seen) {
                self.record_shadow(&shown, &shadow)?;
                // Whoever keeps chunks took over those of the entry that it saw.
                self.kill_shadow(&shadow, true)?;
                part.n_names += 1;
            } else {
                part.n_left += 1;
            }
        }
        Ok(effect)
    }
}

/// ⚠ Whether a name was put where it is before the change began.
fn is_placed_before(row: &NameRow, seen: Option<&Vector>) -> bool {
    seen.is_none_or(|seen| seen.covers(row.place))
}

/// ⚠ Whether its last write was seen, too: a delete kills nothing else.
fn is_written_before(row: &NameRow, seen: Option<&Vector>) -> bool {
    is_placed_before(row, seen) && seen.is_none_or(|seen| seen.covers(row.touch))
}
