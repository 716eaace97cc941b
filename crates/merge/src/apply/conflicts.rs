// SPDX-License-Identifier: Apache-2.0
//! Conflicts: their registers, the chunks that they pin, and what causes them.
//!
//! Every replica notes what it sees losing as a *pending* row, and whoever is to judge turns
//! it into a record by a change of its own. So when a loser's origin is gone, its successor
//! still has the losing entry, and whoever frees chunks knows not to. Pending rows are each
//! replica's own: they depend on the order in which changes arrived, and are in no digest.

use dulse_types::entry::join;
use dulse_types::{Entry, FileId, Identity, Vector, Version};

use super::names_of;
use crate::change::{Change, ConflictStep, NameStep, Step};
use crate::conflict::{self, data_id, is_data_lost};
use crate::digest::{CONFLICTS_DIR, hash};
use crate::keys::{self, Space};
use crate::row::{ConflictRow, Content, NameRow};
use crate::txn::{ReadError, Txn};

/// Merges a record, or what settles one.
pub(super) fn step(
    txn: &mut Txn<'_>,
    version: Version,
    step: &ConflictStep,
) -> Result<(), ReadError> {
    let (ConflictStep::Record { id, .. }
    | ConflictStep::Withdraw { id }
    | ConflictStep::Expire { id }) = step;
    let before = txn.conflict(*id)?;
    let mut row = before.clone().unwrap_or_default();
    match step {
        ConflictStep::Record { .. } => {
            let record = encode(step);
            // Should two judges record one loss, their order of arrival must not matter.
            if version > row.recorded {
                row.recorded = version;
                row.record = record;
            }
            if row.is_open() {
                row.cause = Vector::new();
            }
        }
        ConflictStep::Withdraw { .. } | ConflictStep::Expire { .. } => {
            row.settled = row.settled.max(version);
            row.cause = Vector::new();
        }
    }
    put(txn, *id, before, Some(row));
    Ok(())
}

/// Merges another replica's row of a conflict; whether that changed anything here.
pub(crate) fn merge_row(
    txn: &mut Txn<'_>,
    id: Identity,
    theirs: ConflictRow,
) -> Result<bool, ReadError> {
    let before = txn.conflict(id)?;
    let mut row = before.clone().unwrap_or_else(|| theirs.clone());
    // Of one version the greater bytes, so that both sides choose alike.
    if !theirs.recorded.is_zero() && (theirs.recorded, &theirs.record) > (row.recorded, &row.record)
    {
        row.recorded = theirs.recorded;
        row.record = theirs.record;
    }
    row.settled = row.settled.max(theirs.settled);
    if row.is_open() {
        row.cause = Vector::new();
    }
    let is_new = before.as_ref() != Some(&row);
    put(txn, id, before, Some(row));
    Ok(is_new)
}

/// Forgets a conflict, and with it that it pins chunks.
pub(crate) fn drop_row(txn: &mut Txn<'_>, id: Identity, row: ConflictRow) -> Result<(), ReadError> {
    // A record that was settled before it was seen losing once more is still settled.
    let after = (row.is_pending() && !row.settled.is_zero()).then(|| ConflictRow {
        cause: Vector::new(),
        ..row.clone()
    });
    put(txn, id, Some(row), after);
    Ok(())
}

/// Whether some conflict pins a chunk: recorded, pending, or settled and not yet stable.
///
/// # Errors
///
/// When rows cannot be read.
pub fn is_pinned(txn: &Txn<'_>, chunk: FileId) -> Result<bool, ReadError> {
    let from = keys::pins(chunk);
    let mut to = from.clone();
    to.extend_from_slice(&[0xff; Identity::LEN + 1]);
    txn.has_any(&from, &to)
}

fn encode(step: &ConflictStep) -> bytes::Bytes {
    Change::of_steps(vec![Step::Conflict(step.clone())]).encode()
}

/// Replaces a row, and keeps the digest and the pins right.
fn put(txn: &mut Txn<'_>, id: Identity, before: Option<ConflictRow>, after: Option<ConflictRow>) {
    if before == after {
        return;
    }
    let open = |row: &&ConflictRow| row.is_open();
    if let Some(row) = before.as_ref().filter(open) {
        txn.digest_sub(CONFLICTS_DIR, hash(&row.canonical()));
    }
    if let Some(row) = after.as_ref().filter(open) {
        txn.digest_add(CONFLICTS_DIR, hash(&row.canonical()));
    }
    let record = |row: &Option<ConflictRow>| row.as_ref().map(|row| row.record.clone());
    if record(&before) != record(&after) {
        for chunk in before.iter().flat_map(ConflictRow::chunks) {
            txn.delete(keys::pin(chunk, id));
        }
        // ⚠ Settled ones too: what settled it may not have reached whoever frees chunks.
        for chunk in after.iter().flat_map(ConflictRow::chunks) {
            txn.put(keys::pin(chunk, id), vec![]);
        }
    }
    let key = keys::by_identity(Space::Conflicts, id);
    match after {
        Some(row) => txn.put(key, row.encode()),
        None => txn.delete(key),
    }
}

/// A name and its content around a step.
pub(super) struct Noted {
    pub(super) was_live: bool,
    pub(super) content_before: Content,
    pub(super) row: NameRow,
}

/// Notes what a step makes lose, and what is back by it. See [`crate::conflict`].
pub(super) fn note(
    txn: &mut Txn<'_>,
    version: Version,
    step: &NameStep,
    noted: &Noted,
) -> Result<(), ReadError> {
    let Noted {
        was_live,
        content_before: before,
        row,
    } = noted;
    let others = if row.is_linked {
        names_of(txn, row.inode)?
    } else {
        Vec::new()
    };
    // An inode lives while one of its names does.
    let has_other = others
        .iter()
        .any(|(name, is_live, _)| *is_live && *name != row.name);
    let (was_live, is_live) = (*was_live || has_other, row.is_live() || has_other);
    let content = if row.is_linked {
        txn.inode(row.inode)?.map(|inode| inode.content)
    } else {
        None
    };
    let content = content.as_ref().unwrap_or(&row.content);
    let current = content.data_version;
    if let Some(data) = &step.data {
        let earlier = before.data_version;
        if version > earlier {
            let gives_way = was_live && is_data_lost(earlier, version.origin, &data.seen);
            if gives_way && before.data != data.value {
                lose(txn, row, earlier, &before.entry(), version, &one(version))?;
            }
            for (origin, stamp) in data.seen.iter() {
                back(txn, data_id(Version { stamp, origin }))?;
            }
        } else if version < earlier
            && is_data_lost(version, earlier.origin, &before.seen)
            && before.data != data.value
        {
            // It came after what it lost to.
            let entry = join(&content.attributes, &data.value, content.atime_ns);
            lose(txn, row, version, &entry, earlier, &one(earlier))?;
        }
    }
    if is_live && !was_live {
        back(txn, data_id(current))?;
        back(txn, row.name)?;
    } else if !is_live && !current.is_zero() {
        let entry = || content.entry();
        if let Some(kills) = &step.kills {
            // Whichever of an inode's names was deleted last, in whatever order that arrived.
            let (seen, _) = deleters(txn, row, &others)?;
            if was_live && is_data_lost(current, version.origin, &seen) {
                lose(txn, row, current, &entry(), kills.touch, &one(version))?;
            }
        } else if step.data.is_some() && current == version {
            // It came after the deletes that killed it.
            let (seen, merged) = deleters(txn, row, &others)?;
            if seen.get(version.origin) < version.stamp {
                lose(txn, row, version, &entry(), row.kills, &merged)?;
            }
        }
    }
    Ok(())
}

/// What those who deleted the names of a dead inode had seen, and which changes they are in.
fn deleters(
    txn: &Txn<'_>,
    row: &NameRow,
    others: &[(Identity, bool, bytes::Bytes)],
) -> Result<(Vector, Vector), ReadError> {
    let (mut seen, mut merged) = (row.kills_seen.clone(), row.merged.clone());
    for (name, _, _) in others {
        if let Some(grave) = txn.kept(Space::Graves, *name)? {
            seen.merge_max(&grave.kills_seen);
            merged.merge_max(&grave.merged);
        }
    }
    Ok((seen, merged))
}

fn one(version: Version) -> Vector {
    [(version.origin, version.stamp)].into_iter().collect()
}

fn lose(
    txn: &mut Txn<'_>,
    row: &NameRow,
    lost: Version,
    entry: &Entry,
    winner: Version,
    cause: &Vector,
) -> Result<(), ReadError> {
    let id = data_id(lost);
    let before = txn.conflict(id)?;
    let mut after = before.clone().unwrap_or_default();
    let Some(losses) = &mut txn.losses else {
        return Ok(());
    };
    losses.back.remove(&id);
    losses.lost.insert(id);
    if after.is_open() {
        return Ok(());
    }
    if !after.is_pending() {
        after.record = encode(&ConflictStep::Record {
            id,
            kind: conflict::DATA,
            name: row.name,
            path: row.path.clone(),
            loser: entry.raw().clone(),
            winner,
        });
    }
    after.cause.merge_max(cause);
    after.cause.raise(winner.origin, winner.stamp);
    put(txn, id, before, Some(after));
    Ok(())
}

/// What was lost is current again, or what is current was made on top of it.
fn back(txn: &mut Txn<'_>, id: Identity) -> Result<(), ReadError> {
    let Some(row) = txn.conflict(id)? else {
        return Ok(());
    };
    if row.is_pending() {
        drop_row(txn, id, row)
    } else {
        if row.is_open()
            && let Some(losses) = &mut txn.losses
        {
            losses.back.insert(id);
        }
        Ok(())
    }
}
