// SPDX-License-Identifier: Apache-2.0
//! Hard links: inodes with several names.
//!
//! The first link moves the content from the row of the name that has the inode's
//! identity into a row of the inode. Link rows list the inode's names: one flag
//! byte, 1 while the name is live and whole, and its path.

use bytes::Bytes;
use dulse_types::entry::hard_link_id_of;
use dulse_types::wire::Reader;
use dulse_types::{Identity, Vector, Version};

use super::chunks::{merge_states, settle};
use super::locate::find;
use super::{Where, merge_content as merge_registers};
use crate::change::NameStep;
use crate::digest::{INODES_DIR, hash};
use crate::keys::{self, Space};
use crate::row::{Content, InodeRow, NameRow};
use crate::txn::{ReadError, Txn};
use crate::view;

/// Most inodes kept for one hard link id, the oldest ones: ids are random, so several
/// inodes have one only after writes at filers that did not know of each other.
const SAME_ID_MAX: usize = 64;

/// Makes sure that the inode of a further link has a row of its own, with all that is
/// known of it: also when an earlier step could not find the inode's own name.
pub(super) fn ensure_inode_row(txn: &mut Txn<'_>, step: &NameStep) -> Result<(), ReadError> {
    let known = txn.inode(step.inode)?;
    if known.as_ref().is_some_and(|inode| inode.is_born) {
        return Ok(());
    }
    let first = find(txn, step.inode, &step.hints)?;
    let mut inode = known.unwrap_or(InodeRow {
        inode: step.inode,
        is_born: false,
        content: Content::blank(),
    });
    let Some(first) = first.filter(|first| !first.row.is_linked) else {
        put(txn, &inode);
        return Ok(());
    };
    let mut row = first.row.clone();
    row.is_linked = true;
    row.content = Content::blank();
    merge_states(txn, step.inode, &mut inode.content, &first.row.content)?;
    inode.is_born |= row.is_born;
    put(txn, &inode);
    match first.place {
        Where::AtPath => {
            view::replace(txn, &first.row, row.clone())?;
            visibility(txn, &row, true)?;
        }
        Where::Grave => {
            txn.put(keys::by_identity(Space::Graves, row.name), row.encode(true));
            put_link(txn, &row, Some(false))?;
        }
        Where::Partial => {
            txn.put(
                keys::by_identity(Space::Partial, row.name),
                row.encode(true),
            );
            put_link(txn, &row, Some(false))?;
        }
    }
    if inode.is_born {
        show_waiting(txn, step.inode, None)
    } else {
        Ok(())
    }
}

/// A name's own birth meets an inode row that links made before.
pub(super) fn settle_birth(
    txn: &mut Txn<'_>,
    row: &mut NameRow,
    step: &NameStep,
) -> Result<(), ReadError> {
    if row.inode != row.name {
        row.is_linked = true;
        return Ok(());
    }
    if !step.is_birth {
        return Ok(());
    }
    if let Some(mut inode) = txn.inode(row.inode)? {
        merge_states(txn, row.inode, &mut inode.content, &row.content)?;
        inode.is_born = true;
        row.is_linked = true;
        row.content = Content::blank();
        put(txn, &inode);
        // Its own name is put where it belongs by the caller, and only there: a replay
        // parks it among the partial ones, and shown twice it would shadow itself.
        show_waiting(txn, row.inode, Some(row.name))?;
    }
    Ok(())
}

/// Names that waited for their inode's birth show now.
fn show_waiting(
    txn: &mut Txn<'_>,
    inode: Identity,
    except: Option<Identity>,
) -> Result<(), ReadError> {
    for (name, _, _) in names_of(txn, inode)? {
        if except == Some(name) {
            continue;
        }
        let Some(mut row) = txn.kept(Space::Partial, name)? else {
            continue;
        };
        if !row.is_born {
            continue;
        }
        txn.delete(keys::by_identity(Space::Partial, name));
        if row.is_live() {
            row.merged = Vector::new();
            visibility(txn, &row, true)?;
            view::attach(txn, row)?;
        } else {
            txn.put(keys::by_identity(Space::Graves, name), row.encode(true));
        }
    }
    Ok(())
}

/// Merges the content that a step writes into the inode's row.
pub(super) fn merge_content(
    txn: &mut Txn<'_>,
    row: &NameRow,
    version: Version,
    step: &NameStep,
) -> Result<(), ReadError> {
    put_link(txn, row, None)?;
    index_hard_link_id(txn, row.inode, step, &Content::default(), None)?;
    let Some(before) = txn.inode(row.inode)? else {
        return Ok(());
    };
    let mut after = before.clone();
    merge_registers(&mut after.content, version, step);
    // Also when nothing changes: arriving data that lost leaves its chunks behind.
    super::chunks::merged(
        txn,
        row.inode,
        version,
        step,
        &before.content,
        &after.content,
    )?;
    if after == before {
        return Ok(());
    }
    if n_links_in(txn, row.inode)? > 0 {
        txn.digest_sub(INODES_DIR, hash(&before.encode()));
        txn.digest_add(INODES_DIR, hash(&after.encode()));
    }
    put(txn, &after);
    Ok(())
}

/// Whether name and inode are both born.
pub(crate) fn is_whole(txn: &Txn<'_>, row: &NameRow) -> Result<bool, ReadError> {
    if !row.is_born {
        return Ok(false);
    }
    if row.inode == row.name {
        return Ok(true);
    }
    Ok(txn.inode(row.inode)?.is_some_and(|inode| inode.is_born))
}

/// Counts a name of a linked inode in or out; the inode's content counts in the digest
/// while it has a name.
pub(crate) fn visibility(
    txn: &mut Txn<'_>,
    row: &NameRow,
    is_visible: bool,
) -> Result<(), ReadError> {
    if !row.is_linked {
        return Ok(());
    }
    let before = n_links_in(txn, row.inode)?;
    put_link(txn, row, Some(is_visible))?;
    let after = n_links_in(txn, row.inode)?;
    let Some(inode) = txn.inode(row.inode)? else {
        return Ok(());
    };
    match (before, after) {
        (0, 1..) => txn.digest_add(INODES_DIR, hash(&inode.encode())),
        (1.., 0) => txn.digest_sub(INODES_DIR, hash(&inode.encode())),
        _ => {}
    }
    Ok(())
}

/// Keeps the garbage right after a step on a linked inode.
///
/// The present chunks are dropped once every name is dead, unless all of their deleters
/// wanted them kept and one of them had seen them: a mount that unlinks one of several names
/// asks to keep them, and only its last unlink does not. Which of them arrived last must not matter.
pub(crate) fn settle_garbage(
    txn: &mut Txn<'_>,
    inode: Identity,
    cause: Version,
) -> Result<(), ReadError> {
    let Some(row) = txn.inode(inode)?.filter(|row| row.is_born) else {
        return Ok(());
    };
    if !row.content.data.has_chunks() {
        return Ok(());
    }
    let data = row.content.data_version;
    let (mut is_dropped, mut is_kept, mut is_unseen) = (false, false, false);
    for (name, is_visible, _) in names_of(txn, inode)? {
        if is_visible {
            return settle(txn, inode, &row.content, cause, false);
        }
        let Some(grave) = txn.kept(Space::Graves, name)? else {
            continue;
        };
        is_dropped |= !grave.keeps_chunks;
        is_kept |= grave.keeps(data);
        is_unseen |= !grave.keeps(data);
    }
    is_dropped |= is_unseen && !is_kept;
    settle(txn, inode, &row.content, cause, is_dropped)
}

/// A name of an inode is not here any more, whatever digests say.
pub(crate) fn hide(txn: &mut Txn<'_>, row: &NameRow) -> Result<(), ReadError> {
    put_link(txn, row, Some(false))
}

/// A name of an inode is here again, whatever digests say.
pub(crate) fn reveal(txn: &mut Txn<'_>, row: &NameRow) -> Result<(), ReadError> {
    put_link(txn, row, Some(true))
}

/// Whether the content of an inode counts in the digest: while a name of it shows.
///
/// # Errors
///
/// When rows cannot be read.
pub fn is_counted(txn: &Txn<'_>, inode: Identity) -> Result<bool, ReadError> {
    Ok(n_links_in(txn, inode)? > 0)
}

/// Gives an inode a row of its own when the one name it has still holds its content.
pub(crate) fn unfold(txn: &mut Txn<'_>, inode: Identity) -> Result<(), ReadError> {
    let path = txn.get(&keys::first_path(inode))?;
    let first = find(txn, inode, path.as_slice())?;
    if first.is_none_or(|first| first.row.is_linked) {
        return Ok(());
    }
    ensure_inode_row(
        txn,
        &NameStep {
            inode,
            ..NameStep::default()
        },
    )
}

fn put_link(txn: &mut Txn<'_>, row: &NameRow, visible: Option<bool>) -> Result<(), ReadError> {
    let key = keys::link(row.inode, row.name);
    let before = txn.get(&key)?;
    let was_visible = before.as_ref().and_then(|v| v.first()) == Some(&1);
    let mut value = vec![u8::from(visible.unwrap_or(was_visible))];
    value.extend_from_slice(&row.path);
    if before.as_deref() != Some(&value[..]) {
        txn.put(key, value);
    }
    Ok(())
}

fn put(txn: &mut Txn<'_>, row: &InodeRow) {
    txn.put(keys::by_identity(Space::Inodes, row.inode), row.encode());
}

/// The names of an inode that has a row: name, whether it is visible, its path.
pub(crate) fn names_of(
    txn: &Txn<'_>,
    inode: Identity,
) -> Result<Vec<(Identity, bool, Bytes)>, ReadError> {
    let from = keys::by_identity(Space::Links, inode);
    let mut to = from.clone();
    to.extend_from_slice(&[0xff; Identity::LEN + 1]);
    let rows = txn.scan(&from, &to, usize::MAX)?;
    let parsed = rows.into_iter().filter_map(|(key, value)| {
        let name = Identity::read(&mut Reader::new(key.get(from.len()..)?)).ok()?;
        let is_visible = value.first() == Some(&1);
        Some((name, is_visible, value.slice(1.min(value.len())..)))
    });
    Ok(parsed.collect())
}

fn n_links_in(txn: &Txn<'_>, inode: Identity) -> Result<usize, ReadError> {
    Ok(names_of(txn, inode)?
        .iter()
        .filter(|(_, is_visible, _)| *is_visible)
        .count())
}

/// The names of a hard-linked inode that show, in order of identity.
///
/// # Errors
///
/// When rows cannot be read.
pub fn live_names(txn: &Txn<'_>, inode: Identity) -> Result<Vec<NameRow>, ReadError> {
    let mut live = Vec::new();
    for (name, is_visible, path) in names_of(txn, inode)? {
        if !is_visible {
            continue;
        }
        let shown = txn.shown(&path)?;
        live.extend(shown.filter(|row| row.name == name && row.inode == inode));
    }
    Ok(live)
}

/// How many names the inode of a row has.
///
/// # Errors
///
/// When rows cannot be read.
pub fn n_links(txn: &Txn<'_>, row: &NameRow) -> Result<usize, ReadError> {
    if row.is_linked {
        n_links_in(txn, row.inode)
    } else {
        Ok(1)
    }
}

/// Keeps the map from upstream's hard link id to the inodes that ever had it, and to the
/// path of one while it has one name.
///
/// Attributes that lose count too, and an id may come to several inodes when filers
/// that do not know of each other's each make one: nothing goes by what came last.
pub(super) fn index_hard_link_id(
    txn: &mut Txn<'_>,
    inode: Identity,
    step: &NameStep,
    content: &Content,
    path: Option<&Bytes>,
) -> Result<(), ReadError> {
    let written = step.attributes.as_ref();
    if let Some(id) = written.and_then(|written| hard_link_id_of(&written.value)) {
        let mut inodes = find_by_hard_link_id(txn, id)?;
        if let Err(at) = inodes.binary_search(&inode) {
            inodes.insert(at, inode);
            inodes.truncate(SAME_ID_MAX);
            put_inodes_of_id(txn, id, &inodes);
        }
    }
    if let Some(path) = path.filter(|_| hard_link_id_of(&content.attributes).is_some()) {
        txn.put(keys::first_path(inode), path.clone());
    }
    Ok(())
}

/// Writes which inodes have a hard link id.
pub(crate) fn put_inodes_of_id(txn: &mut Txn<'_>, id: &[u8], inodes: &[Identity]) {
    let key = keys::hard_link_id(id);
    if inodes.is_empty() {
        txn.delete(key);
    } else {
        let value: Vec<u8> = inodes.iter().flat_map(|i| i.to_bytes()).collect();
        txn.put(key, value);
    }
}

/// The inodes that upstream's hard link id names, the oldest first.
///
/// # Errors
///
/// When rows cannot be read.
pub fn find_by_hard_link_id(txn: &Txn<'_>, id: &[u8]) -> Result<Vec<Identity>, ReadError> {
    let Some(value) = txn.get(&keys::hard_link_id(id))? else {
        return Ok(Vec::new());
    };
    let input = &mut Reader::new(&value);
    let mut inodes = Vec::new();
    while !input.is_empty() {
        let inode = Identity::read(input).map_err(|source| ReadError::Corrupt {
            space: Space::Links as u8,
            source,
        })?;
        inodes.push(inode);
    }
    Ok(inodes)
}
