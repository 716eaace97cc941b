// SPDX-License-Identifier: Apache-2.0
//! Merging a change into rows.

pub(crate) mod chunks;
pub(crate) mod conflicts;
pub(crate) mod links;
mod locate;

use bytes::Bytes;
use dulse_types::wire::Writer;
use dulse_types::{Identity, Stamp, Vector, Version};

use crate::change::{Change, KvStep, MemberStep, NameStep, Step};
use crate::digest::{KV_DIR, hash};
use crate::keys::{self, Space};
use crate::row::{KvRow, MemberRow, MovedRow, NameRow};
use crate::txn::{ReadError, Txn};
use crate::view;

pub use chunks::{NEVER, Row as DroppedRow, decode_owner, is_garbage};
pub(crate) use conflicts::drop_row as drop_conflict;
pub use conflicts::is_pinned;
pub use links::{find_by_hard_link_id, is_counted, live_names, n_links};
pub(crate) use links::{is_whole, names_of, put_inodes_of_id};
pub use locate::{Located, Where, locate};
pub(crate) use locate::{find, lies_at, merge_into};

/// Why a change could not be merged. It is kept and retried, never skipped.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Rows could not be read.
    #[error("merge a change")]
    Read(#[from] ReadError),
}

/// Merges one change. Merging it again changes nothing.
///
/// The caller has checked that it follows what is applied of its origin.
/// Cost: a handful of reads per step, unless directories show or vanish.
///
/// # Errors
///
/// `Read`; then nothing of the transaction must be written.
pub fn apply(txn: &mut Txn<'_>, change: &Change) -> Result<(), ApplyError> {
    for step in &change.steps {
        apply_step(txn, change, step)?;
    }
    Ok(())
}

/// Merges one step of a change.
///
/// # Errors
///
/// `Read`.
pub fn apply_step(txn: &mut Txn<'_>, change: &Change, step: &Step) -> Result<(), ApplyError> {
    match step {
        Step::Name(step) => name(txn, change.version(step.offset), step)?,
        Step::Kv(step) => kv(txn, change.version(step.offset), step)?,
        Step::Member(step) => member(txn, change.position(), step)?,
        Step::Conflict(step) => conflicts::step(txn, change.version(0), step)?,
        Step::TreePart { .. } => {}
    }
    Ok(())
}

fn name(txn: &mut Txn<'_>, version: Version, step: &NameStep) -> Result<(), ReadError> {
    if step.inode != step.name {
        links::ensure_inode_row(txn, step)?;
    }
    let located = locate(txn, step)?;
    let (before, place) = match located {
        Some(Located { row, place }) => (row, Some(place)),
        None => {
            txn.count_orphan(step);
            (NameRow::new(step.name, step.inode), None)
        }
    };
    let mut after = before.clone();
    merge_name(&mut after, version, step);
    links::settle_birth(txn, &mut after, step)?;
    let content_before = if after.is_linked {
        let inode = txn.losses.is_some().then(|| txn.inode(after.inode));
        let inode = inode.transpose()?.flatten();
        links::merge_content(txn, &after, version, step)?;
        inode.map(|inode| inode.content).unwrap_or_default()
    } else {
        let old = before.content.clone();
        merge_content(&mut after.content, version, step);
        chunks::merged(txn, after.inode, version, step, &old, &after.content)?;
        let path = Some(&after.path);
        links::index_hard_link_id(txn, after.inode, step, &after.content, path)?;
        old
    };
    let given = step.place.as_ref().map(|place| (version, &place.path));
    let earlier = given.into_iter().chain([(before.place, &before.path)]);
    remember_places(txn, &after, earlier)?;
    let linked = after.is_linked.then_some(after.inode);
    let noted = txn.losses.is_some().then(|| conflicts::Noted {
        was_live: before.is_live(),
        content_before,
        row: after.clone(),
    });
    put_name(txn, before, place, after, version)?;
    if let Some(noted) = noted {
        conflicts::note(txn, version, step, &noted)?;
    }
    match linked {
        Some(inode) => links::settle_garbage(txn, inode, version),
        None => Ok(()),
    }
}

/// Registers of the name itself.
fn merge_name(row: &mut NameRow, version: Version, step: &NameStep) {
    row.is_born |= step.is_birth;
    if let Some(place) = &step.place
        && (version, place.rank) > (row.place, row.rank)
    {
        row.place = version;
        row.rank = place.rank;
        row.path = place.path.clone();
    }
    if step.is_touch {
        row.touch = row.touch.max(version);
    }
    if let Some(kills) = &step.kills {
        row.merge_kills(kills.touch, !step.delete_chunks, &kills.seen);
    }
}

/// Registers of the inode's content.
fn merge_content(content: &mut crate::row::Content, version: Version, step: &NameStep) {
    if let Some(data) = &step.data
        && version > content.data_version
    {
        content.data_version = version;
        content.seen = data.seen.clone();
        content.data = data.value.clone();
    }
    if let Some(attributes) = &step.attributes
        && version > content.attributes_version
    {
        content.attributes_version = version;
        content.attributes = attributes.value.clone();
    }
    if let Some(atime) = step.atime_ns {
        content.atime_ns = content.atime_ns.max(atime);
    }
}

/// Moves a name's row from where it was to where it belongs now.
fn put_name(
    txn: &mut Txn<'_>,
    before: NameRow,
    place: Option<Where>,
    after: NameRow,
    version: Version,
) -> Result<(), ReadError> {
    let is_visible = links::is_whole(txn, &after)? && after.is_live();
    let was_visible = place == Some(Where::AtPath);
    if is_visible && was_visible && before.path == after.path && before.place == after.place {
        if before != after {
            view::replace(txn, &before, after)?;
        }
        return Ok(());
    }
    match place {
        Some(Where::AtPath) => view::detach(txn, &before)?,
        Some(Where::Grave) => txn.delete(keys::by_identity(Space::Graves, before.name)),
        Some(Where::Partial) => txn.delete(keys::by_identity(Space::Partial, before.name)),
        None => {}
    }
    if is_visible != was_visible {
        links::visibility(txn, &after, is_visible)?;
    }
    chunks::lives_or_dead(txn, &after, version)?;
    let mut after = after;
    if is_visible {
        after.merged = Vector::new();
        return view::attach(txn, after);
    }
    after.merged.raise(version.origin, version.stamp);
    let is_grave = !after.is_live() && after.is_born;
    let space = if is_grave {
        Space::Graves
    } else {
        Space::Partial
    };
    let row = NameRow {
        has_shadows: false,
        ..after
    };
    txn.put(keys::by_identity(space, row.name), row.encode(true));
    Ok(())
}

/// Keeps, for a name that moved, every place it had or somebody gave it; the present one
/// first. Losing places count too: their givers hint at them until they know better.
pub(crate) fn remember_places<'a>(
    txn: &mut Txn<'_>,
    after: &NameRow,
    earlier: impl Iterator<Item = (Version, &'a Bytes)>,
) -> Result<(), ReadError> {
    let mut others = earlier
        .filter(|(_, path)| !path.is_empty() && **path != after.path)
        .peekable();
    if others.peek().is_none() {
        return Ok(());
    }
    let mut moved = moved(txn, after.name)?.unwrap_or_default();
    for (version, path) in others {
        moved.remember((version, path.clone()));
    }
    moved.move_to((after.place, after.path.clone()));
    let key = keys::by_identity(Space::Moved, after.name);
    txn.put(key, moved.encode());
    Ok(())
}

fn moved(txn: &Txn<'_>, name: Identity) -> Result<Option<MovedRow>, ReadError> {
    let value = txn.get(&keys::by_identity(Space::Moved, name))?;
    value.map(|value| decode_moved(&value)).transpose()
}

/// Decodes the places of a name.
pub(crate) fn decode_moved(value: &Bytes) -> Result<MovedRow, ReadError> {
    MovedRow::decode(value).map_err(|source| ReadError::Corrupt {
        space: Space::Moved as u8,
        source,
    })
}

/// The paths a name had, the present one first; empty when it never moved, or when every
/// member knows where it is.
///
/// # Errors
///
/// When the row cannot be read.
pub fn moved_paths(txn: &Txn<'_>, name: Identity) -> Result<Vec<Bytes>, ReadError> {
    let places = moved(txn, name)?.unwrap_or_default().places;
    Ok(places.into_iter().map(|(_, path)| path).collect())
}

fn kv(txn: &mut Txn<'_>, version: Version, step: &KvStep) -> Result<(), ReadError> {
    let before = txn.kv(&step.key)?;
    if before.as_ref().is_some_and(|row| row.version >= version) {
        return Ok(());
    }
    if let Some(row) = before.filter(|row| row.value.is_some()) {
        txn.digest_sub(KV_DIR, kv_hash(&step.key, &row));
    }
    let row = KvRow {
        version,
        value: step.value.clone(),
    };
    let (put, delete) = if row.value.is_some() {
        txn.digest_add(KV_DIR, kv_hash(&step.key, &row));
        (Space::Kv, Space::KvGraves)
    } else {
        (Space::KvGraves, Space::Kv)
    };
    txn.delete(delete.key(&step.key));
    txn.put(put.key(&step.key), row.encode());
    Ok(())
}

/// The hash a key-value pair counts with in the digest.
#[must_use]
pub fn kv_hash(key: &[u8], row: &KvRow) -> u128 {
    let mut out = Writer::new();
    out.bytes(key);
    out.raw(&row.encode());
    hash(out.as_slice())
}

/// Who is a member. ⚠ Leaving is for ever: an origin never joins again, whatever arrives first.
///
/// Of several steps about one origin the greatest state counts, then the greatest version; of
/// the cuts that were said, the greatest. Where it joined from is kept as a hint.
fn member(txn: &mut Txn<'_>, version: Version, step: &MemberStep) -> Result<(), ReadError> {
    let (origin, state, cut, address) = match step {
        MemberStep::Join { member, address } => {
            (*member, MemberRow::MEMBER, Stamp::ZERO, address.clone())
        }
        MemberStep::Leave { member } => (*member, MemberRow::LEFT, version.stamp, String::new()),
        MemberStep::Fence { member, cut } => (*member, MemberRow::FENCED, *cut, String::new()),
        MemberStep::Remove { member, cut } => (*member, MemberRow::REMOVED, *cut, String::new()),
    };
    let key = keys::member(origin);
    let known = txn.get(&key)?.map(|value| MemberRow::decode(&value));
    let known = known.transpose().map_err(|source| ReadError::Corrupt {
        space: Space::Members as u8,
        source,
    })?;
    let said = MemberRow {
        state,
        version,
        cut,
        address,
    };
    let row = match &known {
        None => said,
        Some(known) => merge_member(known, said),
    };
    let row = MemberRow {
        cut: if row.state == MemberRow::MEMBER {
            Stamp(i64::MAX)
        } else {
            row.cut
        },
        ..row
    };
    if known.as_ref() != Some(&row) {
        txn.put(key, row.encode());
    }
    Ok(())
}

fn merge_member(known: &MemberRow, said: MemberRow) -> MemberRow {
    let of_gone = |row: &MemberRow| match row.state {
        MemberRow::MEMBER => Stamp::ZERO,
        _ => row.cut,
    };
    let cut = of_gone(known).max(of_gone(&said));
    let (greater, lesser) = if (said.state, said.version) > (known.state, known.version) {
        (said, known.clone())
    } else {
        (known.clone(), said)
    };
    let address = if greater.address.is_empty() {
        lesser.address
    } else {
        greater.address.clone()
    };
    MemberRow {
        cut,
        address,
        ..greater
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::Origin;

    use super::*;
    use crate::change::Place;

    /// No change of ours places a name twice, and whatever a peer sends must end alike.
    #[test]
    fn of_two_places_of_one_version_the_greater_rank_counts_in_any_order() {
        let version = Version {
            stamp: Stamp(5),
            origin: Origin(1),
        };
        let places = [(1, &b"/a"[..]), (2, b"/b")];
        let [first, second] = places.map(|(rank, path)| NameStep {
            place: Some(Place {
                rank,
                path: Bytes::from_static(path),
            }),
            ..NameStep::default()
        });
        let placed = |steps: [&NameStep; 2]| {
            let mut row = NameRow::new(Identity::default(), Identity::default());
            for step in steps {
                merge_name(&mut row, version, step);
            }
            row
        };
        let row = placed([&first, &second]);
        assert_eq!(row.path, &b"/b"[..]);
        assert_eq!(placed([&second, &first]), row);
    }
}
