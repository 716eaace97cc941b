// SPDX-License-Identifier: Apache-2.0
//! What is recorded: changes and their steps. Byte layout: `docs/formats/change.md`.

use bytes::Bytes;
use dulse_types::entry::DataPart;
use dulse_types::{FileId, Identity, Origin, Stamp, Vector, Version};

/// One atomic step of one origin, one record of the journal.
///
/// A change that yields k upstream events reserves the k stamps `first..=stamp`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Who made it.
    pub origin: Origin,
    /// First of the stamps it reserves.
    pub first: Stamp,
    /// Last of them: the position in the origin's log.
    pub stamp: Stamp,
    /// The origin's previous position, so that a hole is visible; zero at the start.
    pub prev: Stamp,
    /// Upstream's signatures it has passed, the origin's own included.
    pub signatures: Vec<i32>,
    /// Whether another cluster made it.
    pub is_from_other_cluster: bool,
    /// What it does, in order.
    pub steps: Vec<Step>,
}

/// One step. Tags are stable; an unknown one stops its origin and is never skipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes registers of one name and its inode.
    Name(Box<NameStep>),
    /// Writes a key.
    Kv(KvStep),
    /// Changes who is a member.
    Member(MemberStep),
    /// Records or settles a conflict.
    Conflict(ConflictStep),
    /// Ties the parts of one big tree change together.
    TreePart {
        /// The intent all parts belong to.
        intent: Identity,
        /// Which part, from 0.
        part: u32,
        /// Whether it is the last.
        is_last: bool,
    },
}

impl Step {
    /// Bytes that it takes encoded, at most: the parts of any length and a fixed rest.
    #[must_use]
    pub fn size_bytes_max(&self) -> usize {
        /// Flags, lengths, identities, versions: what a step has besides its parts.
        const REST: usize = 192;
        /// Each hint's length, each moved chunk, each origin of a vector.
        const ITEM: usize = 16;
        REST + match self {
            Self::Name(step) => {
                let data = step.data.as_ref();
                let parts = [
                    step.place.as_ref().map(|place| place.path.len()),
                    data.map(|data| data.value.0.len() + data.seen.len() * ITEM),
                    step.kills.as_ref().map(|kills| kills.seen.len() * ITEM),
                    step.attributes.as_ref().map(|write| write.value.len()),
                    step.old_entry.as_ref().map(Bytes::len),
                    Some(step.moved_chunks.len() * ITEM),
                ];
                let hints = step.hints.iter().map(|hint| hint.len() + ITEM);
                parts.iter().flatten().sum::<usize>() + hints.sum::<usize>()
            }
            Self::Kv(step) => step.key.len() + step.value.as_ref().map_or(0, Bytes::len),
            Self::Member(MemberStep::Join { address, .. }) => address.len(),
            Self::Conflict(ConflictStep::Record { path, loser, .. }) => path.len() + loser.len(),
            Self::Member(_) | Self::Conflict(_) | Self::TreePart { .. } => 0,
        }
    }
}

/// Registers of one name and inode that a step writes; what is absent is not touched.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NameStep {
    /// Offset of its stamp from the change's first: the version of what it writes.
    pub offset: u32,
    /// Whether it yields an upstream event, at that stamp.
    pub has_event: bool,
    /// The name.
    pub name: Identity,
    /// The inode; equal to `name` for all but hard links.
    pub inode: Identity,
    /// Whether the name is born here.
    pub is_birth: bool,
    /// Place register.
    pub place: Option<Place>,
    /// Whether the touch register is written.
    pub is_touch: bool,
    /// Kills register.
    pub kills: Option<Kills>,
    /// Data register.
    pub data: Option<DataWrite>,
    /// Attribute register.
    pub attributes: Option<AttributesWrite>,
    /// Access time in nanoseconds; merged by maximum.
    pub atime_ns: Option<i64>,
    /// Where the name may be found, the doer's present path first.
    pub hints: Vec<Bytes>,
    /// The entry it replaced, moved or removed, as the doer saw it.
    pub old_entry: Option<Bytes>,
    /// Whether chunks that this drops may be freed.
    pub delete_chunks: bool,
    /// Chunks that move here from another inode, and so are freed by this one alone.
    pub moved_chunks: Vec<FileId>,
}

/// A write of a place register.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    /// Order among names that one change puts at one path: the shown one greatest.
    pub rank: u32,
    /// The absolute path.
    pub path: Bytes,
}

/// A write of a kills register.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Kills {
    /// The greatest touch version the deleter had seen.
    pub touch: Version,
    /// For each other origin the greatest data version in the chain it removed, and the last one
    /// of its own where it keeps the chunks: whose
    /// current data is not among them lost it in conflict. Empty when the deleter knew of
    /// another live name of the inode, and so removed none.
    pub seen: Vector,
}

/// A write of a data register.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DataWrite {
    /// The version it replaces.
    pub replaces: Version,
    /// For each other origin the greatest data version in the chain of replaced versions.
    pub seen: Vector,
    /// Chunks, inline bytes, size, md5, mtime.
    pub value: DataPart,
}

/// A write of an attribute register.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AttributesWrite {
    /// The version it replaces.
    pub replaces: Version,
    /// Everything of the entry but the data.
    pub value: Bytes,
}

/// A write of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvStep {
    /// Offset of its stamp.
    pub offset: u32,
    /// The key.
    pub key: Bytes,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

/// A change of membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberStep {
    /// A filer joins.
    Join {
        /// Who.
        member: Origin,
        /// Where it was then; a hint.
        address: String,
    },
    /// A filer leaves for good; all it had is handed over.
    Leave {
        /// Who.
        member: Origin,
    },
    /// A silent member is shut out.
    Fence {
        /// Who.
        member: Origin,
        /// The last of its changes that the doer had. What other members have beyond it counts.
        cut: Stamp,
    },
    /// An operator removes a member.
    Remove {
        /// Who.
        member: Origin,
        /// As of a fence.
        cut: Stamp,
    },
}

/// A conflict recorded or settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConflictStep {
    /// Lost data or a shadowed name, by the loser's origin.
    Record {
        /// Names the record.
        id: Identity,
        /// 1 data, 2 shadow.
        kind: u8,
        /// The losing name.
        name: Identity,
        /// Where it was.
        path: Bytes,
        /// The losing entry.
        loser: Bytes,
        /// The version that won.
        winner: Version,
    },
    /// A current version arrived that had seen the loser.
    Withdraw {
        /// The record.
        id: Identity,
    },
    /// An operator or the budget let it go.
    Expire {
        /// The record.
        id: Identity,
    },
}

impl Change {
    /// Every path that its steps mention, with the name they mention it for.
    pub fn mentions(&self) -> impl Iterator<Item = (Identity, &Bytes)> {
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Name(step) => Some(step),
            _ => None,
        });
        names.flat_map(|step| {
            let places = step.place.iter().map(|place| &place.path);
            places.chain(&step.hints).map(|path| (step.name, path))
        })
    }

    /// Its position in the origin's log, as a version.
    #[must_use]
    pub fn position(&self) -> Version {
        Version {
            stamp: self.stamp,
            origin: self.origin,
        }
    }

    /// The version of what the step at this offset writes.
    #[must_use]
    pub fn version(&self, offset: u32) -> Version {
        Version {
            stamp: self.first.plus(offset),
            origin: self.origin,
        }
    }
}

impl Change {
    /// Steps without origin or stamps, for rows that keep a step.
    #[must_use]
    pub(crate) fn of_steps(steps: Vec<Step>) -> Self {
        Self {
            origin: Origin::default(),
            first: Stamp::ZERO,
            stamp: Stamp::ZERO,
            prev: Stamp::ZERO,
            signatures: Vec::new(),
            is_from_other_cluster: false,
            steps,
        }
    }
}
