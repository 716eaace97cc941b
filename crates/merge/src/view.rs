// SPDX-License-Identifier: Apache-2.0
//! What a path shows: a function of the registers alone.
//!
//! - A path with live descendants is a directory; a file there is shadowed.
//! - Else the name with the greatest place shows; the others are shadowed.
//! - A live name implies its ancestors: a directory that nobody made is derived.
//!
//! Whether a name shows or is shadowed does not count in the digest; that it is
//! live does. So hashes are counted where names come and go, and nowhere else.

use dulse_types::entry::{DataPart, MODE_DIRECTORY, UnknownFields, join};
use dulse_types::{Entry, EntryFields};

use crate::digest::hash;
use crate::keys::{self, Space, split_path};
use crate::row::NameRow;
use crate::txn::{ReadError, Txn};

/// Whether the row is a directory.
#[must_use]
pub fn is_dir(row: &NameRow) -> bool {
    row.is_implied || (!row.is_linked && row.content.is_dir())
}

/// The entry that a row shows. An implied directory has the attributes of its nearest
/// ancestor that somebody made.
///
/// # Errors
///
/// When rows cannot be read. `Corrupt` when a linked inode has no row.
pub fn entry_of(txn: &Txn<'_>, row: &NameRow) -> Result<Entry, ReadError> {
    if row.is_implied {
        return implied_entry(txn, &row.path);
    }
    if !row.is_linked {
        return Ok(row.content.entry());
    }
    let inode = txn.inode(row.inode)?.ok_or(ReadError::NoInode(row.inode))?;
    Ok(inode.content.entry())
}

fn implied_entry(txn: &Txn<'_>, path: &[u8]) -> Result<Entry, ReadError> {
    let mut dir = split_path(path).0;
    while dir.len() > 1 {
        if let Some(row) = txn.shown(dir)?.filter(|row| !row.is_implied) {
            let content = &row.content;
            let data = DataPart::default();
            return Ok(join(&content.attributes, &data, content.atime_ns));
        }
        dir = split_path(dir).0;
    }
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    Ok(fields.to_entry(&UnknownFields::default()))
}

/// Puts a live name at its path.
///
/// # Errors
///
/// When rows cannot be read.
pub fn attach(txn: &mut Txn<'_>, row: NameRow) -> Result<(), ReadError> {
    let path = row.path.clone();
    let (dir, _) = split_path(&path);
    txn.digest_add(dir, hash(&row.canonical()));
    match txn.shown(&path)? {
        None => {
            txn.put(
                keys::entry(&path),
                NameRow {
                    has_shadows: false,
                    ..row
                }
                .encode(false),
            );
            gained(txn, dir)
        }
        Some(shown) => {
            let mut names = names_at(txn, &path, Some(shown))?;
            names.push(row);
            show(txn, &path, names)
        }
    }
}

/// Takes a live name, as it is kept there, off its path.
///
/// # Errors
///
/// When rows cannot be read.
pub fn detach(txn: &mut Txn<'_>, row: &NameRow) -> Result<(), ReadError> {
    let path = row.path.clone();
    let (dir, _) = split_path(&path);
    txn.digest_sub(dir, hash(&row.canonical()));
    let shown = txn.shown(&path)?;
    if let Some(shown) = &shown
        && shown.name == row.name
        && !shown.has_shadows
        && !is_dir(shown)
    {
        txn.delete(keys::entry(&path));
        return lost(txn, dir);
    }
    let mut names = names_at(txn, &path, shown)?;
    names.retain(|other| other.name != row.name);
    txn.delete(keys::shadow(&path, row.name));
    show(txn, &path, names)
}

/// Replaces a live name by itself with other registers, at the same place.
///
/// # Errors
///
/// When rows cannot be read.
pub fn replace(txn: &mut Txn<'_>, old: &NameRow, new: NameRow) -> Result<(), ReadError> {
    let path = new.path.clone();
    let (dir, _) = split_path(&path);
    if let Some(shown) = txn.shown(&path)?
        && shown.name == new.name
        && is_dir(&shown) == is_dir(&new)
    {
        txn.digest_sub(dir, hash(&old.canonical()));
        txn.digest_add(dir, hash(&new.canonical()));
        let row = NameRow {
            has_shadows: shown.has_shadows,
            ..new
        };
        txn.put(keys::entry(&path), row.encode(false));
        return Ok(());
    }
    detach(txn, old)?;
    attach(txn, new)
}

/// Makes what shows at a path follow from the names that lie there, whatever the rows said.
///
/// # Errors
///
/// When rows cannot be read.
pub fn settle(txn: &mut Txn<'_>, path: &[u8]) -> Result<(), ReadError> {
    let shown = txn.shown(path)?;
    let mut names = txn.shadows(path)?;
    let shown = shown.filter(|row| !row.is_implied);
    if let Some(shown) = shown {
        names.retain(|row| row.name != shown.name);
        names.push(shown);
    }
    show(txn, path, names)
}

/// All names at a path that somebody made: the shown one and its shadows.
fn names_at(txn: &Txn<'_>, path: &[u8], shown: Option<NameRow>) -> Result<Vec<NameRow>, ReadError> {
    let Some(shown) = shown else {
        return Ok(Vec::new());
    };
    let mut names = if shown.has_shadows {
        txn.shadows(path)?
    } else {
        Vec::new()
    };
    if !shown.is_implied {
        names.push(shown);
    }
    Ok(names)
}

/// Writes the rows of a path anew: the winner shown, the others as shadows.
fn show(txn: &mut Txn<'_>, path: &[u8], mut names: Vec<NameRow>) -> Result<(), ReadError> {
    let (from, to) = keys::children(Space::Entries, path);
    let has_children = txn.has_any(&from, &to)?;
    names.sort_by_key(NameRow::place_order);
    let winner = if has_children {
        names.iter().rposition(is_dir)
    } else {
        names.len().checked_sub(1)
    };
    let winner = winner.map(|at| names.remove(at));
    for name in &names {
        let row = NameRow {
            has_shadows: false,
            ..name.clone()
        };
        txn.put(keys::shadow(path, name.name), row.encode(false));
    }
    let has_shadows = !names.is_empty();
    let (dir, _) = split_path(path);
    let key = keys::entry(path);
    match winner {
        Some(winner) => {
            txn.delete(keys::shadow(path, winner.name));
            txn.put(
                key,
                NameRow {
                    has_shadows,
                    ..winner
                }
                .encode(false),
            );
            gained(txn, dir)
        }
        None if has_children => {
            txn.put(
                key,
                NameRow {
                    has_shadows,
                    ..NameRow::implied()
                }
                .encode(false),
            );
            gained(txn, dir)
        }
        None => {
            txn.delete(key);
            lost(txn, dir)
        }
    }
}

/// A directory has something below it: it, and so its ancestors, must show.
fn gained(txn: &mut Txn<'_>, dir: &[u8]) -> Result<(), ReadError> {
    if dir.is_empty() || dir == b"/" {
        return Ok(());
    }
    match txn.shown(dir)? {
        Some(shown) if is_dir(&shown) => Ok(()),
        Some(shown) => {
            let names = names_at(txn, dir, Some(shown))?;
            show(txn, dir, names)
        }
        None => {
            txn.put(keys::entry(dir), NameRow::implied().encode(false));
            gained(txn, split_path(dir).0)
        }
    }
}

/// Something below a directory is gone: a derived one may vanish, a file come back.
fn lost(txn: &mut Txn<'_>, dir: &[u8]) -> Result<(), ReadError> {
    if dir.is_empty() || dir == b"/" {
        return Ok(());
    }
    let Some(shown) = txn.shown(dir)? else {
        return Ok(());
    };
    if !shown.is_implied && !shown.has_shadows {
        return Ok(());
    }
    let (from, to) = keys::children(Space::Entries, dir);
    if txn.has_any(&from, &to)? {
        return Ok(());
    }
    let names = names_at(txn, dir, Some(shown))?;
    show(txn, dir, names)
}
