// SPDX-License-Identifier: Apache-2.0
//! Merging single rows of another replica: what repair and state merge are made of.
//!
//! A row carries its registers with their versions, so merging two copies of a name is what
//! merging the changes behind them is: the greater version of each register. Nothing gets a
//! new stamp, so a repaired row is no change and needs no record: a crash that loses it leaves
//! what was there before, which is found and repaired once more.
//!
//! ⚠ A row is merged only when everything in it is covered by what is applied here
//! ([`Outcome::Newer`] otherwise): else the engine would be ahead of the log, and the change
//! that made the row would find it there and take it for another one when it arrives.
//!
//! Two copies with the same version and other bytes are damage, or a defect: versions decide
//! nothing then, and the caller says whose bytes count ([`Tie`]).

mod names;

use bytes::Bytes;
use dulse_types::wire::Reader;
use dulse_types::{FullPath, Identity, Vector, Version};

use crate::apply::{self, chunks, kv_hash};
use crate::digest::{INODES_DIR, KV_DIR, hash};
use crate::holders::Held;
use crate::keys::{self, Space};
use crate::row::{ConflictRow, Content, InodeRow, KvRow, MemberRow, MovedRow, NameRow};
use crate::txn::{ReadError, Txn, decode_name};

pub use names::{replace_at, resettle};

/// Whose bytes count where versions are equal and bytes are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// What is here.
    Ours,
    /// What arrives.
    Theirs,
    /// The greater bytes: both sides choose alike.
    Greater,
}

/// What came of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is here already, or something greater is.
    Same,
    /// It changed what is here.
    Merged,
    /// It says more than is applied here: left to its change.
    Newer,
    /// It does not decode, or is of a space that is not merged.
    Refused,
}

/// Merges one row of another replica, given as its key and value there.
///
/// - `tie`: whose bytes count where versions do not decide.
/// - `paths`: where else copies of the same name may lie here.
///
/// Rows of linked inodes must come before the names that show them.
///
/// # Errors
///
/// When rows here cannot be read; then nothing of the transaction must be written.
pub fn merge_row(
    txn: &mut Txn<'_>,
    key: &Bytes,
    value: &Bytes,
    tie: Tie,
    paths: &[Bytes],
) -> Result<Outcome, ReadError> {
    let space = key.first().copied().unwrap_or_default();
    let rest = key.slice(1.min(key.len())..);
    let is = |wanted: Space| space == wanted as u8;
    if is(Space::Entries) || is(Space::Shadows) {
        let space = if is(Space::Entries) {
            Space::Entries
        } else {
            Space::Shadows
        };
        match name_row(space, key, value) {
            Some(theirs) => names::merge(txn, theirs, tie, paths),
            None => Ok(Outcome::Refused),
        }
    } else if is(Space::Graves) || is(Space::Partial) {
        match NameRow::decode(value, b"") {
            Ok(theirs) if is_path(&theirs.path) => names::merge(txn, theirs, tie, paths),
            _ => Ok(Outcome::Refused),
        }
    } else if is(Space::Inodes) {
        match InodeRow::decode(value) {
            Ok(theirs) if rest[..] == theirs.inode.to_bytes() => inode(txn, &theirs, tie),
            _ => Ok(Outcome::Refused),
        }
    } else if is(Space::Moved) {
        let name = Identity::read(&mut Reader::new(&rest));
        match (name, MovedRow::decode(value)) {
            (Ok(name), Ok(theirs)) if rest.len() == Identity::LEN => moved(txn, name, theirs),
            _ => Ok(Outcome::Refused),
        }
    } else if is(Space::Kv) || is(Space::KvGraves) {
        match KvRow::decode(value) {
            Ok(theirs) if theirs.value.is_some() == is(Space::Kv) => kv(txn, &rest, theirs, tie),
            _ => Ok(Outcome::Refused),
        }
    } else if is(Space::Conflicts) {
        let id = Identity::read(&mut Reader::new(&rest));
        match (id, ConflictRow::decode(value)) {
            (Ok(id), Ok(theirs)) if rest.len() == Identity::LEN => conflict(txn, id, theirs),
            _ => Ok(Outcome::Refused),
        }
    } else {
        Ok(Outcome::Refused)
    }
}

/// The name that a row of `entries` or `shadows` holds; `None` for one that is damaged, lies
/// where no name lies, or is derived.
fn name_row(space: Space, key: &[u8], value: &Bytes) -> Option<NameRow> {
    let path = keys::path_of(key).filter(|path| is_path(path))?;
    let row = decode_name(space, value, &path).ok()?;
    let is_there = match space {
        Space::Shadows => keys::shadow(&path, row.name) == key,
        _ => keys::entry(&path) == key,
    };
    (is_there && !row.is_implied && !row.path.is_empty()).then_some(row)
}

fn is_path(path: &[u8]) -> bool {
    let text = std::str::from_utf8(path).ok();
    let parsed = text.and_then(|text| FullPath::parse(text).ok());
    parsed.is_some_and(|parsed| !parsed.is_root() && parsed.as_str().as_bytes() == path)
}

/// Whether a row decodes. Rows of spaces that are no replica's to give always do.
#[must_use]
pub fn is_row(key: &[u8], value: &Bytes) -> bool {
    let is = |space: Space| key.first() == Some(&(space as u8));
    if is(Space::Entries) || is(Space::Shadows) {
        keys::path_of(key).is_some_and(|path| NameRow::decode(value, &path).is_ok())
    } else if is(Space::Partial) || is(Space::Graves) {
        NameRow::decode(value, b"")
            .is_ok_and(|row| key[1..] == row.name.to_bytes() && !row.path.is_empty())
    } else if is(Space::Moved) {
        MovedRow::decode(value).is_ok()
    } else if is(Space::Inodes) {
        InodeRow::decode(value).is_ok_and(|row| key[1..] == row.inode.to_bytes())
    } else if is(Space::Kv) || is(Space::KvGraves) {
        KvRow::decode(value).is_ok()
    } else if is(Space::Conflicts) {
        ConflictRow::decode(value).is_ok()
    } else if is(Space::Garbage) {
        match key.get(1) {
            Some(0xff) => apply::decode_owner(value).is_ok(),
            Some(0xfe) => keys::is_pin(key) && value.is_empty(),
            Some(0xfd) => key.len() == 2 + Identity::LEN && Held::decode(value).is_ok(),
            _ => keys::parse_garbage(key).is_some() && apply::is_garbage(value),
        }
    } else if is(Space::Members) {
        key.len() == 9 && MemberRow::decode(value).is_ok()
    } else {
        true
    }
}

/// ⚠ Whether everything that a row says is applied here, as far as it has versions.
#[must_use]
pub fn is_row_covered(applied: Option<&Vector>, key: &[u8], value: &Bytes) -> bool {
    let is = |space: Space| key.first() == Some(&(space as u8));
    if is(Space::Kv) || is(Space::KvGraves) {
        KvRow::decode(value).is_ok_and(|row| is_known(applied, row.version))
    } else if is(Space::Inodes) {
        InodeRow::decode(value).is_ok_and(|row| {
            applied.is_none_or(|applied| is_content_covered(applied, &row.content))
        })
    } else if is(Space::Conflicts) {
        ConflictRow::decode(value).is_ok_and(|row| is_conflict_covered(applied, &row))
    } else if is(Space::Partial) || is(Space::Graves) {
        NameRow::decode(value, b"").is_ok_and(|row| is_covered(applied, &row))
    } else {
        is_row(key, value)
    }
}

/// ⚠ Whether everything that a name's row says is applied here.
#[must_use]
pub fn is_covered(applied: Option<&Vector>, row: &NameRow) -> bool {
    let Some(applied) = applied else { return true };
    let versions = [
        row.name.birth(),
        row.inode.birth(),
        row.place,
        row.touch,
        row.kills,
    ];
    versions.iter().all(|version| applied.covers(*version))
        && applied.includes(&row.merged)
        && is_content_covered(applied, &row.content)
}

fn is_content_covered(applied: &Vector, content: &Content) -> bool {
    applied.covers(content.data_version) && applied.covers(content.attributes_version)
}

/// Merges the content of another replica's copy. Chunks that only the loser names are dropped;
/// of two copies with one version nothing is: what only a damaged one names is nobody's to
/// free.
fn merge_content(
    txn: &mut Txn<'_>,
    inode: Identity,
    ours: &mut Content,
    theirs: &Content,
    tie: Tie,
) -> Result<(), ReadError> {
    let mut theirs = theirs.clone();
    if theirs.data_version == ours.data_version {
        let differs = theirs.data != ours.data || theirs.seen != ours.seen;
        if differs && takes_theirs(tie, &ours.data.0, &theirs.data.0) {
            ours.data = theirs.data.clone();
            ours.seen = theirs.seen.clone();
        }
        theirs.data = ours.data.clone();
    }
    if theirs.attributes_version == ours.attributes_version
        && takes_theirs(tie, &ours.attributes, &theirs.attributes)
    {
        ours.attributes = theirs.attributes.clone();
    }
    chunks::merge_states(txn, inode, ours, &theirs)
}

fn takes_theirs(tie: Tie, ours: &[u8], theirs: &[u8]) -> bool {
    match tie {
        Tie::Ours => false,
        Tie::Theirs => true,
        Tie::Greater => theirs > ours,
    }
}

/// The content of an inode that has names of its own.
fn inode(txn: &mut Txn<'_>, theirs: &InodeRow, tie: Tie) -> Result<Outcome, ReadError> {
    let is_covered = txn.applied.as_ref().is_none_or(|applied| {
        applied.covers(theirs.inode.birth()) && is_content_covered(applied, &theirs.content)
    });
    if !is_covered {
        return Ok(Outcome::Newer);
    }
    let before = txn.inode(theirs.inode)?;
    if before.is_none() {
        apply::links::unfold(txn, theirs.inode)?;
    }
    let known = txn.inode(theirs.inode)?;
    let mut after = known.clone().unwrap_or(InodeRow {
        inode: theirs.inode,
        is_born: false,
        content: Content::blank(),
    });
    after.is_born |= theirs.is_born;
    merge_content(txn, theirs.inode, &mut after.content, &theirs.content, tie)?;
    if before.as_ref() == Some(&after) {
        return Ok(Outcome::Same);
    }
    put_inode(txn, known.as_ref(), &after)?;
    Ok(Outcome::Merged)
}

/// Writes an inode's row, counted in the digest while a name of it shows.
fn put_inode(
    txn: &mut Txn<'_>,
    before: Option<&InodeRow>,
    after: &InodeRow,
) -> Result<(), ReadError> {
    if apply::is_counted(txn, after.inode)? {
        if let Some(before) = before {
            txn.digest_sub(INODES_DIR, hash(&before.encode()));
        }
        txn.digest_add(INODES_DIR, hash(&after.encode()));
    }
    let key = keys::by_identity(Space::Inodes, after.inode);
    txn.put(key, after.encode());
    Ok(())
}

/// The places that a name had: those of both.
fn moved(txn: &mut Txn<'_>, name: Identity, theirs: MovedRow) -> Result<Outcome, ReadError> {
    let mut places = theirs.places.iter();
    if !places.all(|(version, path)| is_known(txn.applied.as_ref(), *version) && is_path(path)) {
        return Ok(Outcome::Newer);
    }
    let key = keys::by_identity(Space::Moved, name);
    let before = txn.get(&key)?;
    let known = before.as_ref().map(apply::decode_moved).transpose()?;
    let after = match known.clone() {
        None => theirs,
        Some(mut known) => {
            for place in theirs.places {
                known.remember(place);
            }
            known
        }
    };
    if known.as_ref() == Some(&after) {
        return Ok(Outcome::Same);
    }
    txn.put(key, after.encode());
    Ok(Outcome::Merged)
}

fn is_known(applied: Option<&Vector>, version: Version) -> bool {
    applied.is_none_or(|applied| applied.covers(version))
}

fn kv(txn: &mut Txn<'_>, key: &Bytes, theirs: KvRow, tie: Tie) -> Result<Outcome, ReadError> {
    if !is_known(txn.applied.as_ref(), theirs.version) {
        return Ok(Outcome::Newer);
    }
    let before = txn.kv(key)?;
    let is_taken = before.as_ref().is_none_or(|ours| {
        theirs.version > ours.version
            || theirs.version == ours.version
                && *ours != theirs
                && takes_theirs(tie, &ours.encode(), &theirs.encode())
    });
    if !is_taken {
        return Ok(Outcome::Same);
    }
    if let Some(row) = before.filter(|row| row.value.is_some()) {
        txn.digest_sub(KV_DIR, kv_hash(key, &row));
    }
    let (put, delete) = if theirs.value.is_some() {
        txn.digest_add(KV_DIR, kv_hash(key, &theirs));
        (Space::Kv, Space::KvGraves)
    } else {
        (Space::KvGraves, Space::Kv)
    };
    txn.delete(delete.key(key));
    txn.put(put.key(key), theirs.encode());
    Ok(Outcome::Merged)
}

/// A conflict's record: the later one, and settled by the later settlement.
fn conflict(txn: &mut Txn<'_>, id: Identity, theirs: ConflictRow) -> Result<Outcome, ReadError> {
    if !is_conflict_covered(txn.applied.as_ref(), &theirs) {
        return Ok(Outcome::Newer);
    }
    Ok(match apply::conflicts::merge_row(txn, id, theirs)? {
        true => Outcome::Merged,
        false => Outcome::Same,
    })
}

fn is_conflict_covered(applied: Option<&Vector>, row: &ConflictRow) -> bool {
    is_known(applied, row.recorded)
        && is_known(applied, row.settled)
        && applied.is_none_or(|applied| applied.includes(&row.cause))
}
