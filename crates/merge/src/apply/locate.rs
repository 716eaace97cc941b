// SPDX-License-Identifier: Apache-2.0
//! Finding a name: at a hinted path, where it moved, in the graves, or half arrived.

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
    find(txn, step.name, paths)
}

/// The path of a name, dead ones and half arrived ones included, looked for at these paths and
/// where it moved; `None` when it is at neither.
pub(crate) fn lies_at(
    txn: &Txn<'_>,
    name: Identity,
    mut paths: Vec<Bytes>,
) -> Result<Option<Bytes>, ReadError> {
    paths.extend(moved_paths(txn, name)?);
    let row = match at_any(txn, name, &paths)? {
        Some(row) => Some(row),
        None => kept(txn, name)?.map(|found| found.row),
    };
    Ok(row.map(|row| row.path))
}

/// Finds a name by identity, at these paths first.
pub(crate) fn find(
    txn: &mut Txn<'_>,
    name: Identity,
    mut paths: Vec<Bytes>,
) -> Result<Option<Located>, ReadError> {
    if let Some(row) = at_any(txn, name, &paths)? {
        return Ok(Some(Located {
            row,
            place: Where::AtPath,
        }));
    }
    let n_seen = paths.len();
    for path in moved_paths(txn, name)? {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if let Some(row) = at_any(txn, name, &paths[n_seen..])? {
        return Ok(Some(Located {
            row,
            place: Where::AtPath,
        }));
    }
    kept(txn, name)
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

fn at_any(txn: &Txn<'_>, name: Identity, paths: &[Bytes]) -> Result<Option<NameRow>, ReadError> {
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
