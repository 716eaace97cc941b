// SPDX-License-Identifier: Apache-2.0
//! What is lost in a conflict, who says so, and when: judgments over registers alone.
//!
//! Data is lost when a write that had not seen it wins, and names when another one shows at
//! their path. Lost attributes and places are no conflicts. Each is recorded once, by an
//! ordinary change of one origin, under an id that follows from what was lost.

use dulse_types::{Identity, Origin, Vector, Version};

use crate::row::NameRow;

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
    if !registers.iter().all(|version| stable.covers(*version)) {
        ShadowVerdict::Pending
    } else if shown.inode == shadow.inode {
        ShadowVerdict::Kill
    } else {
        ShadowVerdict::RecordAndKill
    }
}
