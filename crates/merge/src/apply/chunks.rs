// SPDX-License-Identifier: Apache-2.0
//! Which chunks the present data lacks: the garbage space.
//!
//! A row's value is two versions: the change that dropped the chunk and the data
//! that lacks it. Both must be stable before the chunk may be freed. ⚠ Present chunks of a
//! dead inode have [`NEVER`] for the latter: nothing lacks them, and that the inode is dead
//! is certain only when it is forgotten here; then its data's version comes in.
//!
//! A chunk that moved to another inode is dropped by the first one like any other; who
//! frees it is the register of its owner. So the move may arrive before or after
//! whatever drops the chunk.

use std::collections::BTreeSet;

use dulse_types::entry::{DataPart, FileChunk};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{FileId, Identity, Origin, Stamp, Version};

use crate::change::NameStep;
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::txn::{ReadError, Txn};

/// The data that lacks a chunk which a dead inode still has: stable nowhere.
pub const NEVER: Version = Version {
    stamp: Stamp(i64::MAX),
    origin: Origin(u64::MAX),
};

/// Keeps the garbage right after data was merged: what the winner lacks goes in, what
/// is back in the winner comes out.
pub(super) fn merged(
    txn: &mut Txn<'_>,
    inode: Identity,
    cause: Version,
    step: &NameStep,
    before: &Content,
    after: &Content,
) -> Result<(), ReadError> {
    let Some(arriving) = &step.data else {
        return Ok(());
    };
    if !before.data.has_chunks() && !arriving.value.has_chunks() {
        return Ok(());
    }
    let present: BTreeSet<FileId> = after.data.file_ids().into_iter().collect();
    let arrived = arriving.value.file_ids();
    for chunk in step.moved_chunks.iter().filter(|c| arrived.contains(c)) {
        own(txn, *chunk, (cause, inode))?;
    }
    let had = before.data.file_ids();
    let (mut known, mut dropped) = (BTreeSet::new(), BTreeSet::new());
    for named in [had, arrived] {
        if !is_listed_perhaps(&named, &present, &after.data) {
            dropped.extend(named.iter().copied());
        }
        known.extend(named);
    }
    for chunk in known {
        let key = keys::garbage(inode, chunk);
        if present.contains(&chunk) {
            if txn.get(&key)?.is_some() {
                txn.delete(key);
            }
        } else if dropped.contains(&chunk) {
            txn.put(key, value(cause, after.data_version));
        }
    }
    Ok(())
}

/// Whether chunks of some data may be listed in a manifest of the winner, so that they are
/// not dropped though it does not name them.
///
/// ⚠ Whoever writes a long list of chunks puts most of them into manifests, chunks like any
/// other, which are not read here: then the data names the manifest instead of what it lists,
/// and all of that is as present as before. A manifest that both name is older than either,
/// and lists nothing that one of them names itself.
fn is_listed_perhaps(named: &[FileId], present: &BTreeSet<FileId>, winner: &DataPart) -> bool {
    if named.iter().all(|chunk| present.contains(chunk)) {
        return false;
    }
    // What cannot be read may be a manifest.
    let Ok(chunks) = winner.chunks() else {
        return true;
    };
    let manifests = chunks.iter().filter(|chunk| chunk.is_chunk_manifest);
    let mut manifests = manifests.filter_map(FileChunk::id);
    manifests.any(|manifest| !named.contains(&manifest))
}

/// Merges two states of one inode's content; chunks that only the loser names are dropped.
pub(crate) fn merge_states(
    txn: &mut Txn<'_>,
    inode: Identity,
    into: &mut Content,
    other: &Content,
) -> Result<(), ReadError> {
    let both = [into.data.file_ids(), other.data.file_ids()];
    into.merge(other);
    let present: BTreeSet<FileId> = into.data.file_ids().into_iter().collect();
    let mut known = Vec::new();
    for named in both {
        if !is_listed_perhaps(&named, &present, &into.data) {
            known.extend(named);
        }
    }
    for chunk in known.into_iter().filter(|chunk| !present.contains(chunk)) {
        let key = keys::garbage(inode, chunk);
        if txn.get(&key)?.is_none_or(|row| is_of_dead(&row)) {
            txn.put(key, value(into.data_version, into.data_version));
        }
    }
    Ok(())
}

/// Keeps the garbage right for a name of an unlinked inode that moved, lived or died.
pub(crate) fn lives_or_dead(
    txn: &mut Txn<'_>,
    row: &NameRow,
    cause: Version,
) -> Result<(), ReadError> {
    if row.is_linked || !row.is_born {
        return Ok(());
    }
    let is_dropped = !row.is_live() && !row.keeps_chunks;
    settle(txn, row.inode, &row.content, cause, is_dropped)
}

/// Puts the chunks of an inode's present data in or out, as its names decided.
pub(super) fn settle(
    txn: &mut Txn<'_>,
    inode: Identity,
    content: &Content,
    cause: Version,
    is_dropped: bool,
) -> Result<(), ReadError> {
    if !content.data.has_chunks() {
        return Ok(());
    }
    for chunk in content.data.file_ids() {
        let key = keys::garbage(inode, chunk);
        let was_dropped = txn.get(&key)?.is_some();
        if was_dropped && !is_dropped {
            txn.delete(key);
        } else if is_dropped && !was_dropped {
            txn.put(key, value(cause, NEVER));
        }
    }
    Ok(())
}

/// An inode is forgotten, so its death is stable, and its chunks wait for their grace only.
/// Those that a deleter wanted kept are nobody's from now on.
pub(crate) fn forgotten(
    txn: &mut Txn<'_>,
    inode: Identity,
    content: &Content,
) -> Result<(), ReadError> {
    if !content.data.has_chunks() {
        return Ok(());
    }
    for chunk in content.data.file_ids() {
        let key = keys::garbage(inode, chunk);
        match txn.get(&key)? {
            Some(row) if is_of_dead(&row) => {
                let cause = Version::read(&mut Reader::new(&row));
                let cause = cause.unwrap_or(content.data_version);
                txn.put(key, value(cause, content.data_version));
            }
            Some(_) => {}
            None => disown(txn, inode, chunk)?,
        }
    }
    Ok(())
}

pub(crate) fn is_of_dead(row: &[u8]) -> bool {
    row.get(16..) == Some(&value(NEVER, NEVER)[16..])
}

/// Removes the register of a chunk's owner, if that is this inode.
pub(crate) fn disown(txn: &mut Txn<'_>, inode: Identity, chunk: FileId) -> Result<(), ReadError> {
    let key = keys::chunk_owner(chunk);
    let owner = txn.get(&key)?.map(|row| decode_owner(&row)).transpose();
    let owner = owner.map_err(|source| ReadError::Corrupt {
        space: Space::Garbage as u8,
        source,
    })?;
    if owner.is_some_and(|(_, owner)| owner == inode) {
        txn.delete(key);
    }
    Ok(())
}

/// The register of a chunk's owner: the greatest move wins.
fn own(txn: &mut Txn<'_>, chunk: FileId, owner: (Version, Identity)) -> Result<(), ReadError> {
    let key = keys::chunk_owner(chunk);
    let before = txn.get(&key)?.map(|value| decode_owner(&value));
    let before = before.transpose().map_err(|source| ReadError::Corrupt {
        space: Space::Garbage as u8,
        source,
    })?;
    if before.is_none_or(|before| before < owner) {
        let mut out = Writer::with_capacity(40);
        owner.0.write(&mut out);
        owner.1.write(&mut out);
        txn.put(key, out.into_vec());
    }
    Ok(())
}

/// Reads an owner's row: the move, and the inode that the chunk moved to.
///
/// # Errors
///
/// When the row is damaged.
pub fn decode_owner(value: &[u8]) -> Result<(Version, Identity), WireError> {
    let input = &mut Reader::new(value);
    let owner = (Version::read(input)?, Identity::read(input)?);
    input.finish()?;
    Ok(owner)
}

/// Whether the value of a dropped chunk's row is one: two versions.
#[must_use]
pub fn is_garbage(value: &[u8]) -> bool {
    value.len() == 32
}

pub(crate) fn value(cause: Version, winner: Version) -> Vec<u8> {
    let mut out = Writer::with_capacity(32);
    cause.write(&mut out);
    winner.write(&mut out);
    out.into_vec()
}

#[cfg(test)]
mod tests {
    use dulse_types::EntryFields;
    use dulse_types::entry::split;

    use super::*;
    use crate::txn::NoRows;

    fn chunk(key: u64) -> FileId {
        FileId {
            volume_id: 1,
            key,
            cookie: 1,
        }
    }

    /// Data of one chunk, written at a stamp.
    fn content(key: u64, at: i64) -> Content {
        let mut named = FileChunk::default();
        named.set_id(chunk(key));
        let fields = EntryFields {
            chunks: vec![named],
            ..EntryFields::default()
        };
        Content {
            data_version: version(at),
            data: split(&fields.to_entry(&Default::default())).data,
            ..Content::blank()
        }
    }

    fn version(at: i64) -> Version {
        Version {
            stamp: Stamp(at),
            origin: Origin(1),
        }
    }

    /// As of a dead inode's present data it would wait for ever: that is said of what the inode
    /// has when it is forgotten.
    #[test]
    fn a_chunk_of_a_dead_inode_that_loses_to_another_state_is_what_that_lacks() {
        let rows = NoRows;
        let mut txn = Txn::new(&rows);
        let inode = Identity::default();
        let mut dead = content(7, 10);
        settle(&mut txn, inode, &dead, version(15), true).unwrap();
        merge_states(&mut txn, inode, &mut dead, &content(8, 20)).unwrap();
        assert_eq!(dead.data.file_ids(), [chunk(8)]);
        let row = txn.get(&keys::garbage(inode, chunk(7))).unwrap();
        let lacking = row.as_deref().and_then(|row| row.get(16..));
        assert_eq!(lacking, Some(&value(version(20), version(20))[16..]));
    }
}
