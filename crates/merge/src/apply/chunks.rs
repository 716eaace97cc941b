// SPDX-License-Identifier: Apache-2.0
//! Which chunks the present data lacks: the garbage space.
//!
//! A row's value is two versions: what lost the chunk, which is the data that named it or the
//! delete of the inode, and the data that lacks it. Both must be stable before the chunk may
//! be freed. ⚠ Of data that lost to a later write it is that data's version, whichever of the
//! two arrived first: where the write is and the data is not yet, the data arrives as one that
//! lost, is kept for a conflict, and may be recorded as one when its writer is gone.
//!
//! ⚠ Present chunks of a dead inode have [`NEVER`] for the latter: nothing lacks them, and that
//! the inode is dead is certain only when it is forgotten here; then its data's version comes
//! in.
//!
//! Manifests list chunks, and what they list is not read here: rows are made of what the data
//! itself names. What a row's chunk may be held by besides is [`crate::holders`]' affair, and
//! so are the chunks that a dropped manifest lists, which have no rows.
//!
//! A chunk that moved to another inode is dropped by the first one like any other; who
//! frees it is the register of its owner. So the move may arrive before or after
//! whatever drops the chunk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_types::entry::{DataPart, file_id_of};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{FileId, Identity, Origin, Stamp, Version};

use crate::change::NameStep;
use crate::holders;
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::txn::{ReadError, Txn};

/// The data that lacks a chunk which a dead inode still has: stable nowhere.
pub const NEVER: Version = Version {
    stamp: Stamp(i64::MAX),
    origin: Origin(u64::MAX),
};

/// A dropped chunk. Layout: `docs/formats/rows.md`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The data that named it and lost, or the delete.
    pub cause: Version,
    /// The data that lacks it.
    pub winner: Version,
    /// The encoded chunk, if it is a manifest: what it takes to read it.
    pub manifest: Option<Bytes>,
}

impl Row {
    fn new(cause: Version, winner: Version, manifest: Option<&Bytes>) -> Self {
        let manifest = manifest.cloned();
        Self {
            cause,
            winner,
            manifest,
        }
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let manifest = self.manifest.as_deref().unwrap_or_default();
        let mut out = Writer::with_capacity(ROW_LEN + manifest.len());
        self.cause.write(&mut out);
        self.winner.write(&mut out);
        out.raw(manifest);
        out.into_vec()
    }

    /// Reads what [`Row::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged.
    pub fn decode(value: &Bytes) -> Result<Self, WireError> {
        let input = &mut Reader::new(value);
        let (cause, winner) = (Version::read(input)?, Version::read(input)?);
        let manifest = (value.len() > ROW_LEN).then(|| value.slice(ROW_LEN..));
        Ok(Self {
            cause,
            winner,
            manifest,
        })
    }
}

/// Two versions.
const ROW_LEN: usize = 32;

/// The manifests among the chunks of some data.
fn manifests_of(data: &DataPart) -> impl Iterator<Item = (FileId, Bytes)> {
    let manifests = data.manifests().into_iter();
    manifests.filter_map(|manifest| Some((file_id_of(&manifest)?, manifest)))
}

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
    let had: BTreeSet<FileId> = before.data.file_ids().into_iter().collect();
    let known: BTreeSet<FileId> = had.iter().copied().chain(arrived).collect();
    let both = [&before.data, &arriving.value].into_iter();
    let manifests: BTreeMap<FileId, Bytes> = both.flat_map(manifests_of).collect();
    let mut has_dropped_manifest = false;
    for chunk in known {
        let key = keys::garbage(inode, chunk);
        if present.contains(&chunk) {
            if txn.get(&key)?.is_some() {
                txn.delete(key);
            }
        } else {
            let lost = match had.contains(&chunk) {
                true => before.data_version,
                false => cause,
            };
            let row = Row::new(lost, after.data_version, manifests.get(&chunk));
            has_dropped_manifest |= row.manifest.is_some();
            txn.put(key, row.encode());
        }
    }
    holders::keep(txn, inode, &after.data, has_dropped_manifest)
}

/// Merges two states of one inode's content; chunks that only the loser names are dropped.
pub(crate) fn merge_states(
    txn: &mut Txn<'_>,
    inode: Identity,
    into: &mut Content,
    other: &Content,
) -> Result<(), ReadError> {
    let both = [into.data.clone(), other.data.clone()];
    let versions = [into.data_version, other.data_version];
    into.merge(other);
    if !both.iter().any(DataPart::has_chunks) {
        return Ok(());
    }
    let present: BTreeSet<FileId> = into.data.file_ids().into_iter().collect();
    let mut known = BTreeMap::new();
    for (data, version) in both.iter().zip(versions) {
        known.extend(data.file_ids().into_iter().map(|chunk| (chunk, version)));
    }
    known.retain(|chunk, _| !present.contains(chunk));
    let manifests: BTreeMap<FileId, Bytes> = both.iter().flat_map(manifests_of).collect();
    let mut has_dropped_manifest = false;
    for (chunk, lost) in known {
        let key = keys::garbage(inode, chunk);
        if txn.get(&key)?.is_none_or(|row| is_of_dead(&row)) {
            let row = Row::new(lost, into.data_version, manifests.get(&chunk));
            has_dropped_manifest |= row.manifest.is_some();
            txn.put(key, row.encode());
        }
    }
    holders::keep(txn, inode, &into.data, has_dropped_manifest)
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
    let is_dropped = !row.is_live() && !row.keeps(row.content.data_version);
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
    let manifests: BTreeMap<FileId, Bytes> = manifests_of(&content.data).collect();
    for chunk in content.data.file_ids() {
        let key = keys::garbage(inode, chunk);
        let was_dropped = txn.get(&key)?.is_some();
        if was_dropped && !is_dropped {
            txn.delete(key);
        } else if is_dropped && !was_dropped {
            let row = Row::new(cause, NEVER, manifests.get(&chunk));
            txn.put(key, row.encode());
        }
    }
    if manifests.is_empty() {
        return Ok(());
    }
    holders::keep(txn, inode, &content.data, false)
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
    let mut kept = BTreeSet::new();
    for chunk in content.data.file_ids() {
        let key = keys::garbage(inode, chunk);
        match txn.get(&key)? {
            Some(row) if is_of_dead(&row) => {
                let row = Row::decode(&row).map_err(corrupt)?;
                let winner = content.data_version;
                txn.put(key, Row { winner, ..row }.encode());
            }
            Some(_) => {}
            None => {
                kept.insert(chunk);
                disown(txn, inode, chunk)?;
            }
        }
    }
    holders::forgotten(txn, inode, &content.data, &kept)
}

fn corrupt(source: WireError) -> ReadError {
    ReadError::Corrupt {
        space: Space::Garbage as u8,
        source,
    }
}

pub(crate) fn is_of_dead(row: &Bytes) -> bool {
    Row::decode(row).is_ok_and(|row| row.winner == NEVER)
}

/// Removes the register of a chunk's owner, if that is this inode.
pub(crate) fn disown(txn: &mut Txn<'_>, inode: Identity, chunk: FileId) -> Result<(), ReadError> {
    if owner(txn, chunk)?.is_some_and(|(_, owner)| owner == inode) {
        txn.delete(keys::chunk_owner(chunk));
    }
    Ok(())
}

/// The last move of a chunk, and the inode that it moved to.
pub(crate) fn owner(
    txn: &Txn<'_>,
    chunk: FileId,
) -> Result<Option<(Version, Identity)>, ReadError> {
    let row = txn.get(&keys::chunk_owner(chunk))?;
    row.map(|row| decode_owner(&row))
        .transpose()
        .map_err(corrupt)
}

/// The register of a chunk's owner: the greatest move wins.
fn own(txn: &mut Txn<'_>, chunk: FileId, by: (Version, Identity)) -> Result<(), ReadError> {
    if owner(txn, chunk)?.is_none_or(|before| before < by) {
        let mut out = Writer::with_capacity(40);
        by.0.write(&mut out);
        by.1.write(&mut out);
        txn.put(keys::chunk_owner(chunk), out.into_vec());
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

/// Whether the value of a dropped chunk's row is one.
#[must_use]
pub fn is_garbage(value: &Bytes) -> bool {
    Row::decode(value).is_ok()
}

#[cfg(test)]
mod tests {
    use dulse_types::entry::split;
    use dulse_types::{EntryFields, FileChunk};

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
        let row = row.map(|row| Row::decode(&row).unwrap()).unwrap();
        assert_eq!((row.cause, row.winner), (version(10), version(20)));
    }
}
