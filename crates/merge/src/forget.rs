// SPDX-License-Identifier: Apache-2.0
//! Forgetting: rows that no change still to come can speak of.
//!
//! ⚠ Graves, moved and partial rows and dead inodes are forgotten only when their births
//! are covered, every kill, touch, data and place version merged into them is stable, and
//! this replica's own copy of all that is on disk: else a change that is still on its way,
//! or a replay after a crash, would find nothing and bring the dead back.
//!
//! Why stability is enough: an acknowledgement counts here only once everything its sender
//! had stamped before it is applied here. So when a delete is stable, whatever anybody did
//! to that name before hearing of it has arrived, and afterwards nobody does anything.
//!
//! Nothing that is forgotten counts in a digest, and what is forgotten here may still be
//! kept elsewhere: this is each replica's own affair and no change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_types::entry::{DataPart, hard_link_id_of};
use dulse_types::wire::Reader;
use dulse_types::{FileId, Identity, Origin, Vector, Version};

use crate::apply::{
    chunks, decode_moved, drop_conflict, find, find_by_hard_link_id, names_of, put_inodes_of_id,
};
use crate::conflict::judge;
use crate::holders;
use crate::keys::{self, Space};
use crate::row::{ConflictRow, Content, InodeRow, KvRow, MemberRow, NameRow};
use crate::txn::{ReadError, Txn, decode_name};

/// What one call did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pass {
    /// Rows looked at.
    pub n_read: usize,
    /// Rows forgotten or shortened.
    pub n_forgotten: usize,
    /// Where the next call goes on; `None` when all spaces were looked through.
    pub next: Option<Vec<u8>>,
}

/// Key ranges that hold what may be forgotten, in order.
fn ranges() -> [(Vec<u8>, Vec<u8>); 3] {
    [
        // Moved, partial, graves, inodes: graves before the inodes they let go.
        (Space::Moved.range().0, Space::Inodes.range().1),
        // Of the links only what maps ids; links of names go with their names.
        (keys::first_paths(), Space::Links.range().1),
        (Space::KvGraves.range().0, Space::Conflicts.range().1),
    ]
}

/// Looks at up to `limit` rows from the key `from` on, an empty one being the start, and
/// forgets those that may be.
///
/// - `own`: the replica's origin: it records what it judges, and forgets nothing of that.
/// - `stable`: what every member had acknowledged by the time of this replica's last
///   checkpoint. ⚠ No later: what is merged since is not on disk here, and a replay of it
///   must find the rows it speaks of.
/// - Cost: one scan, and for each row a few reads.
///
/// # Errors
///
/// When rows cannot be read; then nothing of the transaction must be written.
pub fn forget(
    txn: &mut Txn<'_>,
    own: Origin,
    stable: &Vector,
    from: &[u8],
    limit: usize,
) -> Result<Pass, ReadError> {
    let mut pass = Pass::default();
    for (first, end) in ranges() {
        let mut at = first.max(from.to_vec());
        while at < end {
            if pass.n_read >= limit {
                pass.next = Some(at);
                return Ok(pass);
            }
            let rows = txn.scan(&at, &end, limit - pass.n_read)?;
            let Some((last, _)) = rows.last() else { break };
            at = last.to_vec();
            at.push(0);
            for (key, value) in rows {
                pass.n_read += 1;
                pass.n_forgotten += usize::from(row(txn, own, stable, &key, &value)?);
            }
        }
    }
    Ok(pass)
}

/// Forgets one row if it may; true when it did.
fn row(
    txn: &mut Txn<'_>,
    own: Origin,
    stable: &Vector,
    key: &Bytes,
    value: &Bytes,
) -> Result<bool, ReadError> {
    let space = key.first().copied().unwrap_or_default();
    let is = |wanted: Space| space == wanted as u8;
    if is(Space::Moved) {
        moved(txn, stable, key, value)
    } else if is(Space::Graves) {
        name(txn, stable, decode_name(Space::Graves, value, b"")?, key)
    } else if is(Space::Partial) {
        name(txn, stable, decode_name(Space::Partial, value, b"")?, key)
    } else if is(Space::Inodes) {
        inode(txn, stable, key, value)
    } else if is(Space::Links) {
        match key.get(1) {
            Some(0xff) => hard_link_id(txn, stable, &key[2..]),
            _ => first_path(txn, stable, key, value),
        }
    } else if is(Space::KvGraves) {
        let row = KvRow::decode(value).map_err(|e| corrupt(Space::KvGraves, e))?;
        Ok(drop_if(txn, key, stable.covers(row.version)))
    } else if is(Space::Conflicts) {
        let row = ConflictRow::decode(value).map_err(|e| corrupt(Space::Conflicts, e))?;
        conflict(txn, own, stable, key, row)
    } else {
        Ok(false)
    }
}

/// A dropped chunk was freed, or is held by a manifest: its row goes, and with it who owned
/// it. ⚠ A row that changed since stays. Behind the last of an inode,
/// [`crate::holders::tidy`] is due.
///
/// - `dropped`: the change that dropped it and the data that lacks it, as the row said.
///
/// # Errors
///
/// When rows cannot be read.
pub fn freed(
    txn: &mut Txn<'_>,
    inode: Identity,
    chunk: FileId,
    (cause, winner): (Version, Version),
) -> Result<(), ReadError> {
    let key = keys::garbage(inode, chunk);
    let row = txn.get(&key)?;
    let row = row.map(|row| chunks::Row::decode(&row)).transpose();
    let row = row.map_err(|e| corrupt(Space::Garbage, e))?;
    if row.is_none_or(|row| (row.cause, row.winner) != (cause, winner)) {
        return Ok(());
    }
    txn.delete(key);
    // A chunk that a manifest holds is still this inode's.
    if txn.get(&keys::held(inode))?.is_none() {
        chunks::disown(txn, inode, chunk)?;
    }
    Ok(())
}

/// Looks at up to `limit` rows from the key `from` on, an empty one being the start, that say
/// something of rows which are not here, though they are not forgotten here. For a state that
/// came from two replicas.
///
/// ⚠ What is forgotten is each replica's own affair. Where the first one had forgotten an inode
/// or a name and the second had not, chunks' rows wait for its being forgotten here, where it is
/// not, and an inode is held by a link of which there is no name: they would be freed by nobody.
/// That one of them forgot it says that its death is stable, and everything that it had merged.
///
/// # Errors
///
/// When rows cannot be read; then nothing of the transaction must be written.
pub fn forget_orphans(txn: &mut Txn<'_>, from: &[u8], limit: usize) -> Result<Pass, ReadError> {
    let mut pass = Pass::default();
    let links = (Space::Links.range().0, keys::first_paths());
    let dropped = (Space::Garbage.range().0, keys::garbage_end());
    for (first, end) in [links, dropped] {
        let at = first.max(from.to_vec());
        if at >= end {
            continue;
        }
        let rows = txn.scan(&at, &end, limit - pass.n_read)?;
        pass.n_read += rows.len();
        if pass.n_read == limit
            && let Some((last, _)) = rows.last()
        {
            let mut next = last.to_vec();
            next.push(0);
            pass.next = Some(next);
        }
        for (key, value) in rows {
            let is_forgotten = match key.first() {
                Some(space) if *space == Space::Links as u8 => orphaned_link(txn, &key, &value)?,
                _ => orphaned_chunk(txn, &key, &value)?,
            };
            pass.n_forgotten += usize::from(is_forgotten);
        }
        if pass.next.is_some() {
            break;
        }
    }
    Ok(pass)
}

/// Removes the link of a name that is nowhere.
fn orphaned_link(txn: &mut Txn<'_>, key: &Bytes, value: &Bytes) -> Result<bool, ReadError> {
    let name = key.get(1 + Identity::LEN..).unwrap_or_default();
    let name = Identity::read(&mut Reader::new(name));
    let name = name.map_err(|e| corrupt(Space::Links, e))?;
    // Whether it shows, then where.
    let path = value.slice(1.min(value.len())..);
    let is_there = find(txn, name, &[path])?.is_some();
    Ok(drop_if(txn, key, !is_there))
}

/// A dropped chunk of a dead inode that is not here waits for nothing but its grace.
fn orphaned_chunk(txn: &mut Txn<'_>, key: &Bytes, value: &Bytes) -> Result<bool, ReadError> {
    if !chunks::is_of_dead(value) {
        return Ok(false);
    }
    let inode = Identity::read(&mut Reader::new(key.get(1..).unwrap_or_default()));
    let inode = inode.map_err(|e| corrupt(Space::Garbage, e))?;
    if txn.inode(inode)?.is_some() {
        return Ok(false);
    }
    // ⚠ The one name of an inode that has no hard link has its identity, and its content; so has
    // one of a linked inode, but no content: that name may be kept here without its inode.
    for space in [Space::Graves, Space::Partial] {
        let name = txn.get(&keys::by_identity(space, inode))?;
        let name = name
            .map(|name| decode_name(space, &name, b""))
            .transpose()?;
        if name.is_some_and(|name| !name.is_linked) {
            return Ok(false);
        }
    }
    let row = chunks::Row::decode(value).map_err(|e| corrupt(Space::Garbage, e))?;
    let winner = row.cause;
    txn.put(key.to_vec(), chunks::Row { winner, ..row }.encode());
    // It names nothing any more, so that holds nothing.
    holders::forgotten(txn, inode, &DataPart::default(), &BTreeSet::new())?;
    Ok(true)
}

fn drop_if(txn: &mut Txn<'_>, key: &Bytes, is_over: bool) -> bool {
    if is_over {
        txn.delete(key.to_vec());
    }
    is_over
}

fn corrupt(space: Space, source: dulse_types::wire::WireError) -> ReadError {
    let space = space as u8;
    ReadError::Corrupt { space, source }
}

fn moved(
    txn: &mut Txn<'_>,
    stable: &Vector,
    key: &Bytes,
    value: &Bytes,
) -> Result<bool, ReadError> {
    let mut row = decode_moved(value)?;
    let n_before = row.places.len();
    if !row.trim(|version| stable.covers(version)) {
        txn.delete(key.to_vec());
        return Ok(true);
    }
    let is_shorter = row.places.len() < n_before;
    if is_shorter {
        txn.put(key.to_vec(), row.encode());
    }
    Ok(is_shorter)
}

/// A grave or a partial name.
fn name(txn: &mut Txn<'_>, stable: &Vector, row: NameRow, key: &Bytes) -> Result<bool, ReadError> {
    let registers = [row.place, row.touch];
    let (name, inode) = (row.name.birth(), row.inode.birth());
    let is_lost = never_comes(txn, stable, name)? || never_comes(txn, stable, inode)?;
    let is_born = stable.covers(name) && stable.covers(inode);
    // Whoever deleted it may have seen a write that never comes.
    let is_over = (is_born || is_lost)
        && (stable.covers(row.kills) || never_comes(txn, stable, row.kills)?)
        && registers.iter().all(|version| stable.covers(*version))
        && stable.includes(&row.merged)
        && (row.is_linked || content_is_stable(&row.content, stable));
    if !is_over {
        return Ok(false);
    }
    txn.delete(key.to_vec());
    if row.is_linked {
        txn.delete(keys::link(row.inode, row.name));
    } else if !is_lost {
        chunks::forgotten(txn, row.inode, &row.content)?;
    }
    Ok(true)
}

/// Whether a birth or a write is not here and never will be: whose it is was shut out, or left, and did
/// not hand it to anybody that is left.
///
/// ⚠ Once every member has the end of that origin. Whoever is gone holds back what is stable
/// until nothing of it can arrive any more, so its end is not stable before. ⚠ The chunks of
/// such a file stay: whoever has it makes it anew with them, in a file of another identity.
fn never_comes(txn: &Txn<'_>, stable: &Vector, version: Version) -> Result<bool, ReadError> {
    if stable.covers(version) {
        return Ok(false);
    }
    let row = txn.member(version.origin)?;
    Ok(row.is_some_and(|row| row.state != MemberRow::MEMBER && stable.covers(row.version)))
}

/// Of each origin that is no member any more, the change that ended it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ends(BTreeMap<Origin, Version>);

impl Ends {
    /// Those of all members that are gone. Cost: a scan of their rows, a few dozen bytes each.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn read(txn: &Txn<'_>) -> Result<Self, ReadError> {
        let gone = txn.member_rows()?.into_iter();
        let gone = gone.filter(|(_, row)| row.state != MemberRow::MEMBER);
        Ok(Self(
            gone.map(|(origin, row)| (origin, row.version)).collect(),
        ))
    }

    /// What must be stable besides for `cause` never to arrive where it is not: `None` while
    /// its origin is a member.
    #[must_use]
    pub fn of(&self, cause: Version) -> Option<Version> {
        self.0.get(&cause.origin).copied()
    }
}

/// Whether a dropped chunk has lost its grounds for good, as far as its own row tells.
///
/// - `stable`: what is stable, and has been for the grace.
/// - `end`: [`Ends::of`] the cause. ⚠ Data that one had who was shut out, and that not every
///   member has, is never stable: then its writer's end must be, behind which nobody takes it.
#[must_use]
pub fn is_dropped(
    stable: &Vector,
    (cause, winner): (Version, Version),
    end: Option<Version>,
) -> bool {
    let is_settled = stable.covers(cause) || end.is_some_and(|end| stable.covers(end));
    is_settled && stable.covers(winner)
}

fn content_is_stable(content: &Content, stable: &Vector) -> bool {
    stable.covers(content.data_version) && stable.covers(content.attributes_version)
}

/// The content of a hard-linked inode: while a name of it is kept, so is it.
fn inode(
    txn: &mut Txn<'_>,
    stable: &Vector,
    key: &Bytes,
    value: &Bytes,
) -> Result<bool, ReadError> {
    let row = InodeRow::decode(value).map_err(|e| corrupt(Space::Inodes, e))?;
    let is_lost = never_comes(txn, stable, row.inode.birth())?;
    let is_over = (is_lost || stable.covers(row.inode.birth()))
        && content_is_stable(&row.content, stable)
        && names_of(txn, row.inode)?.is_empty();
    if is_over && !is_lost {
        chunks::forgotten(txn, row.inode, &row.content)?;
    }
    Ok(drop_if(txn, key, is_over))
}

/// The inodes that ever had a hard link id: those that are forgotten, or stably have
/// another one, go.
fn hard_link_id(txn: &mut Txn<'_>, stable: &Vector, id: &[u8]) -> Result<bool, ReadError> {
    let inodes = find_by_hard_link_id(txn, id)?;
    let mut kept = Vec::with_capacity(inodes.len());
    for inode in &inodes {
        let content = content_of(txn, *inode)?;
        let is_over = match &content {
            None => stable.covers(inode.birth()),
            Some(content) => {
                stable.covers(content.attributes_version)
                    && hard_link_id_of(&content.attributes) != Some(id)
            }
        };
        if !is_over {
            kept.push(*inode);
        }
    }
    let is_shorter = kept.len() < inodes.len();
    if is_shorter {
        put_inodes_of_id(txn, id, &kept);
    }
    Ok(is_shorter)
}

/// Where the one name of an inode with a hard link id lies.
fn first_path(
    txn: &mut Txn<'_>,
    stable: &Vector,
    key: &Bytes,
    path: &Bytes,
) -> Result<bool, ReadError> {
    let inode = Identity::read(&mut Reader::new(key.get(2..).unwrap_or_default()));
    let inode = inode.map_err(|e| corrupt(Space::Links, e))?;
    let is_linked = txn.inode(inode)?.is_some();
    let is_over = is_linked || {
        let name = find(txn, inode, std::slice::from_ref(path))?;
        match name {
            None => stable.covers(inode.birth()),
            Some(found) => {
                stable.covers(found.row.content.attributes_version)
                    && hard_link_id_of(&found.row.content.attributes).is_none()
            }
        }
    };
    Ok(drop_if(txn, key, is_over))
}

/// A settled conflict, or one that its judge has had the time to record.
fn conflict(
    txn: &mut Txn<'_>,
    own: Origin,
    stable: &Vector,
    key: &Bytes,
    row: ConflictRow,
) -> Result<bool, ReadError> {
    let id = Identity::read(&mut Reader::new(key.get(1..).unwrap_or_default()));
    let id = id.map_err(|e| corrupt(Space::Conflicts, e))?;
    let is_over = if row.is_pending() {
        stable.includes(&row.cause) && has_judged(txn, own, stable, id.origin)?
    } else {
        !row.is_open() && stable.covers(row.settled)
    };
    if is_over {
        drop_conflict(txn, id, row)?;
        // ⚠ What was settled before it was seen losing once more is left of it; nothing may become
        // stable for long, so that no pass would come to it.
        let left = txn.conflict(id)?;
        let left = left.filter(|left| !left.is_open() && stable.covers(left.settled));
        if let Some(row) = left {
            drop_conflict(txn, id, row)?;
        }
    }
    Ok(is_over)
}

/// Whether what some origin lost has been judged by whoever does, given that all members have
/// what made it lose, and what was said of it is here.
///
/// ⚠ Once the origin is no member any more, the smallest member judges, and may do so until
/// everybody has the end of the origin. Pending rows depend on the order in which changes
/// arrived: that one may have none where others do, and says nothing then; theirs would pin
/// chunks for ever.
fn has_judged(
    txn: &Txn<'_>,
    own: Origin,
    stable: &Vector,
    loser: Origin,
) -> Result<bool, ReadError> {
    let members = txn.members()?;
    if members.contains(&loser) {
        return Ok(true);
    }
    if judge(loser, &members) == Some(own) {
        return Ok(false);
    }
    let end = txn.member(loser)?.map(|row| row.version);
    Ok(end.is_some_and(|end| stable.covers(end)))
}

/// The content of an inode with a hard link id, wherever that lies.
fn content_of(txn: &mut Txn<'_>, inode: Identity) -> Result<Option<Content>, ReadError> {
    if let Some(row) = txn.inode(inode)? {
        return Ok(Some(row.content));
    }
    let path = txn.get(&keys::first_path(inode))?;
    let found = find(txn, inode, path.as_slice())?;
    Ok(found.map(|found| found.row.content))
}

#[cfg(test)]
mod tests {
    use dulse_types::Stamp;

    use super::*;
    use crate::txn::NoRows;

    /// What names it is still on its way, and would make another inode of the same id.
    #[test]
    fn a_hard_link_id_stays_until_the_birth_of_its_inode_is_stable() {
        let rows = NoRows;
        let mut txn = Txn::new(&rows);
        let inode = Identity {
            stamp: Stamp(5),
            origin: Origin(1),
            index: 0,
        };
        put_inodes_of_id(&mut txn, b"id", &[inode]);
        let stable = |at| [(Origin(1), Stamp(at))].into_iter().collect::<Vector>();
        assert!(!hard_link_id(&mut txn, &stable(4), b"id").unwrap());
        assert_eq!(find_by_hard_link_id(&txn, b"id").unwrap(), [inode]);
        assert!(hard_link_id(&mut txn, &stable(5), b"id").unwrap());
        assert_eq!(find_by_hard_link_id(&txn, b"id").unwrap(), []);
    }
}
