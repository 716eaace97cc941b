// SPDX-License-Identifier: Apache-2.0
//! Names: all copies there are, merged into one that lies where it belongs.

use bytes::Bytes;
use dulse_types::{Identity, Vector, Version};

use super::{Outcome, Tie, is_covered, merge_content, put_inode, takes_theirs};
use crate::apply::{self, Where, chunks, links};
use crate::keys::{self, Space};
use crate::row::{Content, InodeRow, NameRow};
use crate::txn::{ReadError, Txn, decode_name};
use crate::view;

/// Merges another replica's copy of a name with every copy that is here.
pub(super) fn merge(
    txn: &mut Txn<'_>,
    theirs: NameRow,
    tie: Tie,
    paths: &[Bytes],
) -> Result<Outcome, ReadError> {
    if !is_covered(txn.applied.as_ref(), &theirs) {
        return Ok(Outcome::Newer);
    }
    // Its inode's row says more than is applied here, or got lost on the way.
    if theirs.is_linked && txn.inode(theirs.inode)?.is_none() {
        return Ok(Outcome::Newer);
    }
    let copies = copies(txn, &theirs, paths)?;
    let mut merged: Option<NameRow> = None;
    for (_, row) in &copies {
        apply::merge_into(&mut merged, row.clone());
    }
    let Some(mut row) = merged else {
        unfold_content(txn, &theirs)?;
        place(txn, &theirs, theirs.clone(), &[])?;
        return Ok(Outcome::Merged);
    };
    combine(txn, &mut row, theirs, tie)?;
    if let [(Where::AtPath, only)] = &copies[..]
        && is_alike(only, &row)
    {
        return Ok(Outcome::Same);
    }
    if let [(Where::Grave | Where::Partial, only)] = &copies[..]
        && is_alike(only, &row)
        && !(apply::is_whole(txn, &row)? && row.is_live())
    {
        return Ok(Outcome::Same);
    }
    let before = row.clone();
    place(txn, &before, row, &copies)?;
    Ok(Outcome::Merged)
}

fn is_alike(one: &NameRow, other: &NameRow) -> bool {
    NameRow {
        has_shadows: other.has_shadows,
        merged: other.merged.clone(),
        ..one.clone()
    } == *other
}

/// Every copy of a name that is here, and where it lies.
fn copies(
    txn: &Txn<'_>,
    theirs: &NameRow,
    others: &[Bytes],
) -> Result<Vec<(Where, NameRow)>, ReadError> {
    let name = theirs.name;
    let mut paths = vec![theirs.path.clone()];
    for path in apply::moved_paths(txn, name)?.iter().chain(others) {
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    let mut found = Vec::new();
    for path in &paths {
        let shown = txn.shown(path)?;
        found.extend(shown.filter(|row| !row.is_implied && row.name == name));
        if let Some(value) = txn.get(&keys::shadow(path, name))? {
            found.push(decode_name(Space::Shadows, &value, path)?);
        }
    }
    let mut copies: Vec<_> = found.into_iter().map(|row| (Where::AtPath, row)).collect();
    for (space, place) in [
        (Space::Graves, Where::Grave),
        (Space::Partial, Where::Partial),
    ] {
        copies.extend(txn.kept(space, name)?.map(|row| (place, row)));
    }
    Ok(copies)
}

/// Merges what arrives into what is here, register by register.
fn combine(
    txn: &mut Txn<'_>,
    row: &mut NameRow,
    theirs: NameRow,
    tie: Tie,
) -> Result<(), ReadError> {
    let (ours_at, theirs_at) = (row.place_order(), theirs.place_order());
    let is_elsewhere = theirs_at == ours_at && theirs.path != row.path;
    if theirs_at > ours_at || (is_elsewhere && takes_theirs(tie, &row.path, &theirs.path)) {
        row.place = theirs.place;
        row.rank = theirs.rank;
        row.path = theirs.path.clone();
    }
    row.is_born |= theirs.is_born;
    row.touch = row.touch.max(theirs.touch);
    if theirs.kills == row.kills && tie != Tie::Greater {
        if tie == Tie::Theirs {
            row.keeps_chunks = theirs.keeps_chunks;
            row.kills_seen = theirs.kills_seen.clone();
        }
    } else {
        row.merge_kills(theirs.kills, theirs.keeps_chunks, &theirs.kills_seen);
    }
    row.merged.merge_max(&theirs.merged);
    match (row.is_linked, theirs.is_linked) {
        (false, false) => merge_content(txn, row.inode, &mut row.content, &theirs.content, tie),
        (true, false) => into_inode(txn, row.inode, &theirs, tie),
        (true, true) => Ok(()),
        (false, true) => {
            let ours = row.clone();
            row.is_linked = true;
            row.content = Content::blank();
            into_inode(txn, ours.inode, &ours, tie)
        }
    }
}

/// Content that a copy of a name still has itself belongs to the inode's row.
fn unfold_content(txn: &mut Txn<'_>, row: &NameRow) -> Result<(), ReadError> {
    if row.is_linked || txn.inode(row.inode)?.is_none() {
        return Ok(());
    }
    into_inode(txn, row.inode, row, Tie::Greater)
}

fn into_inode(
    txn: &mut Txn<'_>,
    inode: Identity,
    row: &NameRow,
    tie: Tie,
) -> Result<(), ReadError> {
    let before = txn.inode(inode)?;
    let mut after = before.clone().unwrap_or(InodeRow {
        inode,
        is_born: false,
        content: Content::blank(),
    });
    after.is_born |= row.is_born;
    merge_content(txn, inode, &mut after.content, &row.content, tie)?;
    if before.as_ref() == Some(&after) {
        return Ok(());
    }
    put_inode(txn, before.as_ref(), &after)
}

/// Takes the copies away and puts the row where it belongs.
fn place(
    txn: &mut Txn<'_>,
    known: &NameRow,
    mut row: NameRow,
    copies: &[(Where, NameRow)],
) -> Result<(), ReadError> {
    for (at, copy) in copies {
        match at {
            Where::AtPath => {
                view::detach(txn, copy)?;
                view::settle(txn, &copy.path)?;
            }
            Where::Grave => txn.delete(keys::by_identity(Space::Graves, copy.name)),
            Where::Partial => txn.delete(keys::by_identity(Space::Partial, copy.name)),
        }
    }
    if !row.is_linked && txn.inode(row.inode)?.is_some() {
        row.is_linked = true;
        row.content = Content::blank();
    }
    let earlier = copies.iter().map(|(_, copy)| (copy.place, &copy.path));
    apply::remember_places(txn, known, earlier)?;
    links::visibility(txn, &row, false)?;
    let is_visible = apply::is_whole(txn, &row)? && row.is_live();
    let cause = newest(&row);
    chunks::lives_or_dead(txn, &row, cause)?;
    if is_visible {
        row.merged = Vector::new();
        links::visibility(txn, &row, true)?;
        view::settle(txn, &row.path)?;
        view::attach(txn, row.clone())?;
    } else {
        row.has_shadows = false;
        row.merged.raise(cause.origin, cause.stamp);
        let is_grave = !row.is_live() && row.is_born;
        let space = if is_grave {
            Space::Graves
        } else {
            Space::Partial
        };
        let key = keys::by_identity(space, row.name);
        txn.put(key, row.encode(true));
    }
    if row.is_linked {
        links::settle_garbage(txn, row.inode, cause)?;
    }
    Ok(())
}

/// The last change that made the row what it is.
fn newest(row: &NameRow) -> Version {
    let versions = [
        row.kills,
        row.touch,
        row.place,
        row.content.data_version,
        row.name.birth(),
    ];
    versions.into_iter().max().unwrap_or(Version::ZERO)
}

/// Makes what lies at one path what a trusted replica has there: `theirs` are all the names it
/// has at it, none where it has none. Digests stay as they are: they are what the trust in
/// that replica comes from. Rows that do not decode go, too.
///
/// # Errors
///
/// When rows cannot be read.
pub fn replace_at(txn: &mut Txn<'_>, path: &[u8], theirs: &[NameRow]) -> Result<(), ReadError> {
    let shadows = keys::shadows_at(path);
    let mut behind = shadows.clone();
    if let Some(last) = behind.last_mut() {
        *last = 1;
    }
    let entry = keys::entry(path);
    let mut stored = txn.scan(&shadows, &behind, usize::MAX)?;
    stored.extend(txn.get(&entry)?.map(|value| (entry.clone().into(), value)));
    for (key, value) in stored {
        let row = decode_name(Space::Shadows, &value, path).ok();
        let is_kept = |row: &NameRow| theirs.iter().any(|other| other.name == row.name);
        if let Some(row) = row.filter(|row| row.is_linked && !is_kept(row)) {
            links::hide(txn, &row)?;
        }
        txn.delete(key.to_vec());
    }
    for row in theirs {
        for space in [Space::Graves, Space::Partial] {
            txn.delete(keys::by_identity(space, row.name));
        }
        let row = NameRow {
            has_shadows: false,
            merged: Vector::new(),
            ..row.clone()
        };
        if row.is_linked {
            links::reveal(txn, &row)?;
        }
        txn.put(keys::shadow(path, row.name), row.encode(false));
    }
    view::settle(txn, path)
}

/// Makes again, from the names that lie at a path, what is derived from them: what shows
/// there, the directories above it, the links of their inodes. Rows that do not decode are
/// left for who repairs them.
///
/// # Errors
///
/// When rows cannot be read.
pub fn resettle(txn: &mut Txn<'_>, path: &[u8]) -> Result<(), ReadError> {
    let shown = txn.get(&keys::entry(path))?;
    let is_damaged = shown.is_some_and(|row| decode_name(Space::Entries, &row, path).is_err());
    let Ok(names) = txn.shadows(path) else {
        return Ok(());
    };
    if is_damaged {
        return Ok(());
    }
    let shown = txn.shown(path)?.filter(|row| !row.is_implied);
    for row in names.iter().chain(&shown).filter(|row| row.is_linked) {
        links::reveal(txn, row)?;
    }
    view::settle(txn, path)
}
