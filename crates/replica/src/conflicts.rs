// SPDX-License-Identifier: Apache-2.0
//! Conflicts as readers see them.

use bytes::Bytes;
use dulse_merge::conflict::{self, DATA, ShadowVerdict};
use dulse_merge::keys::Space;
use dulse_merge::{ConflictRow, ConflictStep, Txn};
use dulse_store::{Error, Operation};
use dulse_types::{Entry, Identity, Version};

use crate::error;
use crate::shared::{EngineRows, Shared};

/// Rows looked at for one page: conflicts of other paths may lie between those asked for.
const LOOK_MAX: usize = 1_000;

/// What the last look through all conflicts counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ConflictCounts {
    /// Recorded: data that lost to a write or a delete that had not seen it.
    pub n_data: u64,
    /// Recorded: names that another one shadowed.
    pub n_shadows: u64,
    /// Seen here and not recorded yet.
    pub n_pending: u64,
    /// Bytes of content that the records keep from being freed.
    pub pinned_bytes: u64,
}

/// One conflict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// Names it.
    pub id: Identity,
    /// Whether data was lost, else a name.
    pub is_data: bool,
    /// Whether it is not recorded yet: it may still come to nothing.
    pub is_pending: bool,
    /// The losing name.
    pub name: Identity,
    /// Where that was.
    pub path: Bytes,
    /// The losing entry.
    pub loser: Entry,
    /// When it was written: the data, or the name.
    pub lost: Version,
    /// What won.
    pub winner: Version,
    /// When it was recorded; zero while it is pending.
    pub recorded: Version,
}

/// Some conflicts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConflictPage {
    /// In no order that means anything.
    pub conflicts: Vec<Conflict>,
    /// Where to go on; `None` at the end.
    pub next: Option<Bytes>,
}

/// Bytes of content in chunks.
pub(crate) fn pinned_bytes(loser: &Bytes) -> u64 {
    let entry = Entry::from_bytes(loser.clone()).ok();
    let fields = entry.and_then(|entry| entry.fields().ok());
    let chunks = fields.into_iter().flat_map(|fields| fields.chunks);
    chunks.fold(0, |sum, chunk| sum.saturating_add(chunk.size))
}

impl Shared {
    /// What the last look through all conflicts counted; it lags a little.
    #[must_use]
    pub fn conflict_counts(&self) -> ConflictCounts {
        *self.conflicts.lock()
    }

    /// Conflicts, recorded and pending, whose path begins with `prefix`, at most `limit`.
    /// A page may be empty and not the last: the rows looked at are bounded.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn conflicts(
        &self,
        prefix: &[u8],
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<ConflictPage, Error> {
        let unreadable = |e| error::read(Operation::List, e);
        let rows = EngineRows(&*self.engine);
        let txn = Txn::new(&rows);
        let mut page = ConflictPage::default();
        let (first, shadows) = (Space::Conflicts.range().0, Space::Shadows.range().0);
        let from = after.map_or(first.clone(), |after| after.to_vec());
        let looked = LOOK_MAX.min(limit.max(1));
        if from.first() == first.first() {
            let look = conflict::conflicts(&txn, &from, looked).map_err(unreadable)?;
            let found = look.found.iter().filter_map(|k| of_row(k.id, &k.row));
            page.conflicts = found.filter(|c| c.path.starts_with(prefix)).collect();
            page.next = Some(look.next.unwrap_or(shadows).into());
            return Ok(page);
        }
        let none = dulse_types::Vector::new();
        let look = conflict::shadows(&txn, &none, &from, looked).map_err(unreadable)?;
        for found in look.found {
            let is_conflict = found.verdict != ShadowVerdict::OneDirectory
                && found.shown.inode != found.shadow.inode
                && found.shadow.path.starts_with(prefix);
            if is_conflict {
                page.conflicts.push(of_shadow(&txn, &found)?);
            }
        }
        page.next = look.next.map(Bytes::from);
        Ok(page)
    }

    /// One conflict, recorded or pending.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn conflict(&self, id: Identity) -> Result<Option<Conflict>, Error> {
        let rows = EngineRows(&*self.engine);
        let row = Txn::new(&rows).conflict(id);
        let row = row.map_err(|e| error::read(Operation::Find, e))?;
        if let Some(found) = row.and_then(|row| of_row(id, &row)) {
            return Ok(Some(found));
        }
        // A pending shadow has no row by its id; there are few shadows.
        let mut after: Option<Bytes> = Some(Space::Shadows.range().0.into());
        while after.is_some() {
            let page = self.conflicts(b"", after.as_ref(), LOOK_MAX)?;
            if let Some(found) = page.conflicts.into_iter().find(|c| c.id == id) {
                return Ok(Some(found));
            }
            after = page.next;
        }
        Ok(None)
    }
}

fn of_row(id: Identity, row: &ConflictRow) -> Option<Conflict> {
    if !row.is_open() && !row.is_pending() {
        return None;
    }
    let step = row.step().ok().flatten()?;
    let ConflictStep::Record {
        kind,
        name,
        path,
        loser,
        winner,
        ..
    } = step
    else {
        return None;
    };
    Some(Conflict {
        id,
        is_data: kind == DATA,
        is_pending: !row.is_open(),
        name,
        path,
        loser: Entry::from_bytes(loser).ok()?,
        lost: id.birth(),
        winner,
        recorded: if row.is_open() {
            row.recorded
        } else {
            Version::ZERO
        },
    })
}

fn of_shadow(txn: &Txn<'_>, found: &conflict::Shadow) -> Result<Conflict, Error> {
    let entry = dulse_merge::view::entry_of(txn, &found.shadow);
    Ok(Conflict {
        id: found.shadow.name,
        is_data: false,
        is_pending: true,
        name: found.shadow.name,
        path: found.shadow.path.clone(),
        loser: entry.map_err(|e| error::read(Operation::List, e))?,
        lost: found.shadow.name.birth(),
        winner: found.shown.place,
        recorded: Version::ZERO,
    })
}
