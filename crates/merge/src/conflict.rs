// SPDX-License-Identifier: Apache-2.0
//! What is lost in a conflict, who says so, and when: judgments over registers alone.
//!
//! Data is lost when a write that had not seen it wins, and names when another one shows at
//! their path. Lost attributes and places are no conflicts. Each is recorded once, by an
//! ordinary change of one origin, under an id that follows from what was lost.
//!
//! What a change makes lose is noted where it is merged ([`mod@crate::apply`]); [`verdicts`]
//! tells what this replica has to say about that. Shadows are judged by [`shadows`] and what
//! nobody is left to judge by [`orphan`], a little at a time, whenever more is stable.

use bytes::Bytes;
use dulse_types::{Identity, Origin, Vector, Version};

use crate::change::ConflictStep;
use crate::keys::{self, Space};
use crate::row::{ConflictRow, NameRow};
use crate::txn::{Losses, ReadError, Txn, decode_name};
use crate::view::{entry_of, is_dir};

/// [`crate::ConflictStep::Record`]'s kind for lost data.
pub const DATA: u8 = 1;
/// [`crate::ConflictStep::Record`]'s kind for a shadowed name.
pub const SHADOW: u8 = 2;

/// Who records what `loser` lost: itself while it is a member, else the smallest member.
/// `None` without members.
#[must_use]
pub fn judge(loser: Origin, members: &[Origin]) -> Option<Origin> {
    if members.contains(&loser) {
        return Some(loser);
    }
    members.iter().copied().min()
}

/// Names the record of lost data. No identity born has this index.
#[must_use]
pub fn data_id(lost: Version) -> Identity {
    Identity {
        stamp: lost.stamp,
        origin: lost.origin,
        index: u32::MAX,
    }
}

/// Whether the current data `lost` gives way to a write or a delete in conflict: one that
/// had not seen it.
///
/// - `by`: who made the winning write, or the delete.
/// - `seen`: what that carries.
#[must_use]
pub fn is_data_lost(lost: Version, by: Origin, seen: &Vector) -> bool {
    // An origin sees its own writes, so it is not listed in what it has seen.
    !lost.is_zero() && by != lost.origin && seen.get(lost.origin) < lost.stamp
}

/// The record to withdraw when a version with this `seen` becomes current: it was made on
/// top of what `loser` had lost, so that is not lost.
#[must_use]
pub fn withdrawn_by(loser: Origin, seen: &Vector) -> Option<Identity> {
    let stamp = seen.get(loser);
    let lost = Version {
        stamp,
        origin: loser,
    };
    (stamp.0 > 0).then(|| data_id(lost))
}

/// What is to be done about a shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShadowVerdict {
    /// Something of the two may still change: it is listed as pending.
    Pending,
    /// Two directories at one path are one directory: nothing is to be done.
    OneDirectory,
    /// Both are names of one inode, so nothing is lost: it is killed without a record.
    Kill,
    /// It is recorded and killed.
    RecordAndKill,
}

/// Judges a name that another one shadows.
///
/// ⚠ Only once places and touches of both are stable here: before, a change on its way may
/// move either of them away, and what was killed would be lost without need.
#[must_use]
pub fn judge_shadow(shown: &NameRow, shadow: &NameRow, stable: &Vector) -> ShadowVerdict {
    let registers = [shown.place, shown.touch, shadow.place, shadow.touch];
    if is_dir(shown) && is_dir(shadow) {
        ShadowVerdict::OneDirectory
    } else if !registers.iter().all(|version| stable.covers(*version)) {
        ShadowVerdict::Pending
    } else if shown.inode == shadow.inode {
        ShadowVerdict::Kill
    } else {
        ShadowVerdict::RecordAndKill
    }
}

/// What `own` has to record or withdraw because of the changes that caused these losses.
///
/// ⚠ It belongs in the log before those changes: an acknowledgement that covers them then
/// covers this too.
///
/// # Errors
///
/// When rows cannot be read.
pub fn verdicts(
    txn: &Txn<'_>,
    own: Origin,
    losses: &Losses,
) -> Result<Vec<ConflictStep>, ReadError> {
    if losses.lost.is_empty() && losses.back.is_empty() {
        return Ok(Vec::new());
    }
    let members = txn.members()?;
    let mut steps = Vec::new();
    for id in losses
        .lost
        .iter()
        .filter(|id| is_judge(own, **id, &members))
    {
        let row = txn.conflict(*id)?.filter(ConflictRow::is_pending);
        steps.extend(row.map(|row| decode(&row)).transpose()?.flatten());
    }
    for id in losses
        .back
        .iter()
        .filter(|id| is_judge(own, **id, &members))
    {
        let is_open = txn.conflict(*id)?.is_some_and(|row| row.is_open());
        steps.extend(is_open.then_some(ConflictStep::Withdraw { id: *id }));
    }
    Ok(steps)
}

/// Whether `own` judges what was lost under this id: its own, and as the smallest member
/// that of those who are no members any more.
#[must_use]
pub fn is_judge(own: Origin, id: Identity, members: &[Origin]) -> bool {
    id.origin == own || judge(id.origin, members) == Some(own)
}

fn decode(row: &ConflictRow) -> Result<Option<ConflictStep>, ReadError> {
    row.step().map_err(|error| ReadError::Corrupt {
        space: Space::Conflicts as u8,
        source: match error {
            crate::codec::DecodeError::Malformed(source) => source,
            _ => dulse_types::wire::WireError::BadValue {
                what: "record of a conflict",
                value: 0,
            },
        },
    })
}

/// What one look at some rows found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look<T> {
    /// What was found.
    pub found: Vec<T>,
    /// Rows looked at.
    pub n_read: usize,
    /// Where the next look goes on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// A shadow on which there is a verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shadow {
    /// The name that shows there.
    pub shown: NameRow,
    /// The one that does not.
    pub shadow: NameRow,
    /// What is to be done.
    pub verdict: ShadowVerdict,
}

/// Judges up to `limit` shadows from the key `from` on, an empty one being the start.
///
/// Cost: one scan, and a few reads for each.
///
/// # Errors
///
/// When rows cannot be read.
pub fn shadows(
    txn: &Txn<'_>,
    stable: &Vector,
    from: &[u8],
    limit: usize,
) -> Result<Look<Shadow>, ReadError> {
    let (first, end) = Space::Shadows.range();
    let from = first.max(from.to_vec());
    let rows = txn.scan(&from, &end, limit)?;
    let mut look = Look {
        found: Vec::new(),
        n_read: rows.len(),
        next: next(&rows, limit),
    };
    for (key, value) in rows {
        let Some(path) = keys::path_of(&key) else {
            continue;
        };
        let Some(mut shown) = txn.shown(&path)? else {
            continue;
        };
        shown.path = path.clone().into();
        let shadow = decode_name(Space::Shadows, &value, &path)?;
        let mut verdict = judge_shadow(&shown, &shadow, stable);
        let goes_by_children = is_dir(&shown) && shadow.place_order() > shown.place_order();
        if verdict == ShadowVerdict::RecordAndKill
            && goes_by_children
            && !has_stable_child(txn, stable, &path)?
        {
            // It is a directory for what is below it, and that may be on its way elsewhere.
            verdict = ShadowVerdict::Pending;
        }
        look.found.push(Shadow {
            shown,
            shadow,
            verdict,
        });
    }
    Ok(look)
}

/// Rows below a directory that are looked at for one that is stable.
const CHILDREN_MAX: usize = 64;

fn has_stable_child(txn: &Txn<'_>, stable: &Vector, path: &[u8]) -> Result<bool, ReadError> {
    for (from, to) in [
        keys::children(Space::Entries, path),
        keys::deeper(Space::Entries, path),
    ] {
        for (_, value) in txn.scan(&from, &to, CHILDREN_MAX)? {
            let row = decode_name(Space::Entries, &value, b"")?;
            if !row.is_implied && stable.covers(row.place) && stable.covers(row.touch) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn next(rows: &[(Bytes, Bytes)], limit: usize) -> Option<Vec<u8>> {
    let (last, _) = rows.last().filter(|_| rows.len() >= limit)?;
    let mut next = last.to_vec();
    next.push(0);
    Some(next)
}

/// The record of a shadow.
///
/// # Errors
///
/// When rows cannot be read.
pub fn shadow_record(
    txn: &Txn<'_>,
    shown: &NameRow,
    shadow: &NameRow,
) -> Result<ConflictStep, ReadError> {
    Ok(ConflictStep::Record {
        id: shadow.name,
        kind: SHADOW,
        name: shadow.name,
        path: shadow.path.clone(),
        loser: entry_of(txn, shadow)?.raw().clone(),
        winner: shown.place,
    })
}

/// A conflict of some kind, with its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Names it.
    pub id: Identity,
    /// All that is known of it.
    pub row: ConflictRow,
}

/// Up to `limit` conflicts from the key `from` on, an empty one being the start.
///
/// # Errors
///
/// When rows cannot be read.
pub fn conflicts(txn: &Txn<'_>, from: &[u8], limit: usize) -> Result<Look<Kept>, ReadError> {
    let (first, end) = Space::Conflicts.range();
    let from = first.max(from.to_vec());
    let rows = txn.scan(&from, &end, limit)?;
    let corrupt = |source| ReadError::Corrupt {
        space: Space::Conflicts as u8,
        source,
    };
    let mut look = Look {
        found: Vec::with_capacity(rows.len()),
        n_read: rows.len(),
        next: next(&rows, limit),
    };
    for (key, value) in rows {
        let input = &mut dulse_types::wire::Reader::new(key.get(1..).unwrap_or_default());
        let id = Identity::read(input).map_err(corrupt)?;
        let row = ConflictRow::decode(&value).map_err(corrupt)?;
        look.found.push(Kept { id, row });
    }
    Ok(look)
}

/// The encoded manifests that losing entries name, of recorded conflicts and pending ones.
///
/// - `page`: conflicts looked at by one scan.
///
/// # Errors
///
/// When rows cannot be read.
pub fn manifests(txn: &Txn<'_>, page: usize) -> Result<Vec<Bytes>, ReadError> {
    let (mut found, mut from) = (Vec::new(), Some(Vec::new()));
    while let Some(first) = from.take() {
        let look = conflicts(txn, &first, page)?;
        for kept in &look.found {
            found.extend(kept.row.manifests());
        }
        from = look.next;
    }
    Ok(found)
}

/// What `own` records of a pending conflict because its judge is no member any more.
///
/// # Errors
///
/// When rows cannot be read.
pub fn orphan(
    own: Origin,
    members: &[Origin],
    kept: &Kept,
) -> Result<Option<ConflictStep>, ReadError> {
    if !kept.row.is_pending() || !is_judge(own, kept.id, members) {
        return Ok(None);
    }
    decode(&kept.row)
}
