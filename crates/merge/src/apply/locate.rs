// SPDX-License-Identifier: Apache-2.0
//! Finding a name: at a hinted path, where it moved, in the graves, or half arrived.

use std::collections::BTreeSet;

use bytes::Bytes;
use dulse_types::Identity;

use super::moved_paths;
use crate::change::NameStep;
use crate::keys::Space;
use crate::row::NameRow;
use crate::txn::{ReadError, Txn};

/// Where a name's row lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    /// At its path, shown or shadowed.
    AtPath,
    /// Among the dead.
    Grave,
    /// Among those of which something is missing.
    Partial,
}

/// A name that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// Its row.
    pub row: NameRow,
    /// Where that lies.
    pub place: Where,
}

/// Finds the name a step speaks of.
///
/// # Errors
///
/// When rows cannot be read.
pub fn locate(txn: &mut Txn<'_>, step: &NameStep) -> Result<Option<Located>, ReadError> {
    if txn.is_first_birth(step) {
        // Whatever arrived before its birth waits for it there.
        let row = txn.kept(Space::Partial, step.name)?;
        let place = Where::Partial;
        return Ok(row.map(|row| Located { row, place }));
    }
    let mut paths = step.hints.clone();
    paths.extend(step.place.iter().map(|place| place.path.clone()));
    find(txn, step.name, &paths)
}

/// The path of a name, dead ones and half arrived ones included, looked for at these paths and
/// where it moved; `None` when it is at neither.
pub(crate) fn lies_at(
    txn: &Txn<'_>,
    name: Identity,
    paths: &[Bytes],
) -> Result<Option<Bytes>, ReadError> {
    Ok(find(txn, name, paths)?.map(|found| found.row.path))
}

/// Finds a name by identity, at these paths first.
///
/// A name has one row, so the order of places decides only what it costs: mostly one read, four
/// where it moved or died here. All paths are read when it lies where it was before it moved
/// here for the first time, or nowhere: they may be a thousand.
pub(crate) fn find(
    txn: &Txn<'_>,
    name: Identity,
    paths: &[Bytes],
) -> Result<Option<Located>, ReadError> {
    let at_path = |row| Located {
        row,
        place: Where::AtPath,
    };
    let (first, others) = paths.split_at(paths.len().min(1));
    if let Some(row) = at_any(txn, name, first)? {
        return Ok(Some(at_path(row)));
    }
    let moved = moved_paths(txn, name)?;
    let (present, earlier) = moved.split_at(moved.len().min(1));
    if let Some(row) = at_any(txn, name, present)? {
        return Ok(Some(at_path(row)));
    }
    if let Some(found) = kept(txn, name)? {
        return Ok(Some(found));
    }
    // The oldest first: here it may have moved less often than where the paths come from.
    let mut seen: BTreeSet<_> = first.iter().chain(present).collect();
    let rest = others.iter().rev().chain(earlier);
    let rest = rest.filter(|path| seen.insert(*path));
    Ok(at_any(txn, name, rest)?.map(at_path))
}

fn kept(txn: &Txn<'_>, name: Identity) -> Result<Option<Located>, ReadError> {
    for (space, place) in [
        (Space::Graves, Where::Grave),
        (Space::Partial, Where::Partial),
    ] {
        if let Some(row) = txn.kept(space, name)? {
            return Ok(Some(Located { row, place }));
        }
    }
    Ok(None)
}

fn at_any<'a>(
    txn: &Txn<'_>,
    name: Identity,
    paths: impl IntoIterator<Item = &'a Bytes>,
) -> Result<Option<NameRow>, ReadError> {
    for path in paths {
        if let Some(row) = at_path(txn, name, path)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn at_path(txn: &Txn<'_>, name: Identity, path: &[u8]) -> Result<Option<NameRow>, ReadError> {
    let Some(shown) = txn.shown(path)? else {
        return Ok(None);
    };
    if !shown.is_implied && shown.name == name {
        return Ok(Some(shown));
    }
    if !shown.has_shadows {
        return Ok(None);
    }
    Ok(txn.shadows(path)?.into_iter().find(|row| row.name == name))
}

/// Merges two copies of one name.
pub(crate) fn merge_into(merged: &mut Option<NameRow>, row: NameRow) {
    let Some(into) = merged else {
        *merged = Some(row);
        return;
    };
    if row.place_order() > into.place_order() {
        into.place = row.place;
        into.rank = row.rank;
        into.path = row.path;
    }
    into.is_born |= row.is_born;
    into.is_linked |= row.is_linked;
    into.touch = into.touch.max(row.touch);
    into.merge_kills(row.kills, row.keeps_chunks, &row.kills_seen);
    into.merged.merge_max(&row.merged);
    into.content.merge(&row.content);
}
