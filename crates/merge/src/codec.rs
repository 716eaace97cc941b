// SPDX-License-Identifier: Apache-2.0
//! Changes as bytes. Layout: `docs/formats/change.md`.

use bytes::Bytes;
use dulse_types::entry::DataPart;
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{FileId, Identity, Origin, Stamp, Vector, Version};

use crate::change::{
    AttributesWrite, Change, ConflictStep, DataWrite, Kills, KvStep, MemberStep, NameStep, Place,
    Step,
};

/// First byte of an encoded change.
pub const CHANGE_VERSION: u8 = 1;

/// Most steps of one change; big tree changes are split.
pub const STEPS_MAX: u64 = 100_000;

/// Most hints, signatures or moved chunks of one step.
const LIST_MAX: u64 = 1 << 20;

/// Why bytes are no change that this version can apply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are damaged.
    #[error("malformed change: {0}")]
    Malformed(#[from] WireError),
    /// A newer format; its origin is stopped, never skipped.
    #[error("change format {0} is not known; expected {CHANGE_VERSION}: upgrade this filer")]
    UnknownVersion(u8),
    /// A newer kind of step; its origin is stopped, never skipped.
    #[error("kind of change {0} is not known: upgrade this filer")]
    UnknownKind(u8),
}

const TAG_NAME: u8 = 1;
const TAG_KV_PUT: u8 = 2;
const TAG_KV_DELETE: u8 = 3;
const TAG_JOIN: u8 = 4;
const TAG_LEAVE: u8 = 5;
const TAG_FENCE: u8 = 6;
const TAG_REMOVE: u8 = 7;
const TAG_CONFLICT_RECORD: u8 = 8;
const TAG_CONFLICT_WITHDRAW: u8 = 9;
const TAG_CONFLICT_EXPIRE: u8 = 10;
const TAG_TREE_PART: u8 = 11;

const HAS_EVENT: u64 = 1;
const HAS_INODE: u64 = 1 << 1;
const IS_BIRTH: u64 = 1 << 2;
const HAS_PLACE: u64 = 1 << 3;
const IS_TOUCH: u64 = 1 << 4;
const HAS_KILLS: u64 = 1 << 5;
const HAS_DATA: u64 = 1 << 6;
const HAS_ATTRIBUTES: u64 = 1 << 7;
const HAS_ATIME: u64 = 1 << 8;
const HAS_OLD_ENTRY: u64 = 1 << 9;
const DELETE_CHUNKS: u64 = 1 << 10;
const HAS_MOVED_CHUNKS: u64 = 1 << 11;
const FLAGS_KNOWN: u64 = (1 << 12) - 1;

impl Change {
    /// The bytes of the record's payload and of the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let steps = self.steps.iter().map(Step::size_bytes_max);
        let mut out = Writer::with_capacity(64 + steps.sum::<usize>());
        out.u8(CHANGE_VERSION);
        out.u64_be(self.origin.0);
        out.i64_be(self.prev.0);
        out.i64_be(self.first.0);
        out.varint(self.stamp.0.wrapping_sub(self.first.0).cast_unsigned());
        out.u8(u8::from(self.is_from_other_cluster));
        out.varint(self.signatures.len() as u64);
        for signature in &self.signatures {
            out.u32_be(signature.cast_unsigned());
        }
        out.varint(self.steps.len() as u64);
        for step in &self.steps {
            write_step(&mut out, step);
        }
        out.into_bytes()
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    ///
    /// `Malformed`, or `UnknownVersion` and `UnknownKind` from a newer filer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut Reader::new(bytes);
        let version = input.u8()?;
        if version != CHANGE_VERSION {
            return Err(DecodeError::UnknownVersion(version));
        }
        let origin = Origin(input.u64_be()?);
        let prev = Stamp(input.i64_be()?);
        let first = Stamp(input.i64_be()?);
        let span = input.varint()?;
        let stamp = i64::try_from(span)
            .ok()
            .and_then(|span| first.0.checked_add(span));
        let stamp = Stamp(stamp.ok_or(WireError::BadValue {
            what: "stamp",
            value: span,
        })?);
        let is_from_other_cluster = input.u8()? != 0;
        let signatures = (0..count(input, "signatures", LIST_MAX)?)
            .map(|_| input.u32_be().map(u32::cast_signed))
            .collect::<Result<_, _>>()?;
        let steps = (0..count(input, "steps", STEPS_MAX)?)
            .map(|_| read_step(input, span))
            .collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self {
            origin,
            first,
            stamp,
            prev,
            signatures,
            is_from_other_cluster,
            steps,
        })
    }
}

fn count(input: &mut Reader<'_>, what: &'static str, max: u64) -> Result<u64, WireError> {
    let len = input.varint()?;
    // Every item has at least one byte, so a count above what is left is a lie.
    if len > max || len > input.remaining() as u64 {
        return Err(WireError::TooLong { what, len });
    }
    Ok(len)
}

fn write_step(out: &mut Writer, step: &Step) {
    match step {
        Step::Name(step) => {
            out.u8(TAG_NAME);
            write_name(out, step);
        }
        Step::Kv(KvStep { offset, key, value }) => {
            out.u8(if value.is_some() {
                TAG_KV_PUT
            } else {
                TAG_KV_DELETE
            });
            out.varint(u64::from(*offset));
            out.bytes(key);
            if let Some(value) = value {
                out.bytes(value);
            }
        }
        Step::Member(step) => write_member(out, step),
        Step::Conflict(step) => write_conflict(out, step),
        Step::TreePart {
            intent,
            part,
            is_last,
        } => {
            out.u8(TAG_TREE_PART);
            intent.write(out);
            out.varint(u64::from(*part));
            out.u8(u8::from(*is_last));
        }
    }
}

fn write_member(out: &mut Writer, step: &MemberStep) {
    match step {
        MemberStep::Join { member, address } => {
            out.u8(TAG_JOIN);
            out.u64_be(member.0);
            out.bytes(address.as_bytes());
        }
        MemberStep::Leave { member } => {
            out.u8(TAG_LEAVE);
            out.u64_be(member.0);
        }
        MemberStep::Fence { member, cut } => {
            out.u8(TAG_FENCE);
            out.u64_be(member.0);
            out.i64_be(cut.0);
        }
        MemberStep::Remove { member, cut } => {
            out.u8(TAG_REMOVE);
            out.u64_be(member.0);
            out.i64_be(cut.0);
        }
    }
}

fn write_conflict(out: &mut Writer, step: &ConflictStep) {
    match step {
        ConflictStep::Record {
            id,
            kind,
            name,
            path,
            loser,
            winner,
        } => {
            out.u8(TAG_CONFLICT_RECORD);
            id.write(out);
            out.u8(*kind);
            name.write(out);
            out.bytes(path);
            out.bytes(loser);
            winner.write(out);
        }
        ConflictStep::Withdraw { id } => {
            out.u8(TAG_CONFLICT_WITHDRAW);
            id.write(out);
        }
        ConflictStep::Expire { id } => {
            out.u8(TAG_CONFLICT_EXPIRE);
            id.write(out);
        }
    }
}

fn write_name(out: &mut Writer, step: &NameStep) {
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    let flags = flag(step.has_event, HAS_EVENT)
        | flag(step.inode != step.name, HAS_INODE)
        | flag(step.is_birth, IS_BIRTH)
        | flag(step.place.is_some(), HAS_PLACE)
        | flag(step.is_touch, IS_TOUCH)
        | flag(step.kills.is_some(), HAS_KILLS)
        | flag(step.data.is_some(), HAS_DATA)
        | flag(step.attributes.is_some(), HAS_ATTRIBUTES)
        | flag(step.atime_ns.is_some(), HAS_ATIME)
        | flag(step.old_entry.is_some(), HAS_OLD_ENTRY)
        | flag(step.delete_chunks, DELETE_CHUNKS)
        | flag(!step.moved_chunks.is_empty(), HAS_MOVED_CHUNKS);
    out.varint(flags);
    out.varint(u64::from(step.offset));
    step.name.write(out);
    if step.inode != step.name {
        step.inode.write(out);
    }
    if let Some(place) = &step.place {
        out.varint(u64::from(place.rank));
        out.bytes(&place.path);
    }
    if let Some(kills) = &step.kills {
        kills.touch.write(out);
        kills.seen.write(out);
    }
    if let Some(data) = &step.data {
        data.replaces.write(out);
        data.seen.write(out);
        out.bytes(&data.value.0);
    }
    if let Some(attributes) = &step.attributes {
        attributes.replaces.write(out);
        out.bytes(&attributes.value);
    }
    if let Some(atime) = step.atime_ns {
        out.i64_be(atime);
    }
    out.varint(step.hints.len() as u64);
    for hint in &step.hints {
        out.bytes(hint);
    }
    if let Some(old) = &step.old_entry {
        out.bytes(old);
    }
    if !step.moved_chunks.is_empty() {
        out.varint(step.moved_chunks.len() as u64);
        for id in &step.moved_chunks {
            out.u32_be(id.volume_id);
            out.u64_be(id.key);
            out.u32_be(id.cookie);
        }
    }
}

fn blob(input: &mut Reader<'_>) -> Result<Bytes, WireError> {
    input.bytes().map(Bytes::copy_from_slice)
}

/// Reads the offset of a stamp; behind those that the change reserved there is none.
fn read_offset(input: &mut Reader<'_>, span: u64) -> Result<u32, WireError> {
    let offset = input.varint_u32()?;
    if u64::from(offset) > span {
        return Err(WireError::BadValue {
            what: "offset",
            value: u64::from(offset),
        });
    }
    Ok(offset)
}

fn read_step(input: &mut Reader<'_>, span: u64) -> Result<Step, DecodeError> {
    let tag = input.u8()?;
    Ok(match tag {
        TAG_NAME => Step::Name(Box::new(read_name(input, span)?)),
        TAG_KV_PUT | TAG_KV_DELETE => {
            let offset = read_offset(input, span)?;
            let key = blob(input)?;
            let value = if tag == TAG_KV_PUT {
                Some(blob(input)?)
            } else {
                None
            };
            Step::Kv(KvStep { offset, key, value })
        }
        TAG_JOIN => {
            let member = Origin(input.u64_be()?);
            let address = String::from_utf8_lossy(input.bytes()?).into_owned();
            Step::Member(MemberStep::Join { member, address })
        }
        TAG_LEAVE => Step::Member(MemberStep::Leave {
            member: Origin(input.u64_be()?),
        }),
        TAG_FENCE | TAG_REMOVE => {
            let member = Origin(input.u64_be()?);
            let cut = Stamp(input.i64_be()?);
            Step::Member(if tag == TAG_FENCE {
                MemberStep::Fence { member, cut }
            } else {
                MemberStep::Remove { member, cut }
            })
        }
        TAG_CONFLICT_RECORD => Step::Conflict(ConflictStep::Record {
            id: Identity::read(input)?,
            kind: input.u8()?,
            name: Identity::read(input)?,
            path: blob(input)?,
            loser: blob(input)?,
            winner: Version::read(input)?,
        }),
        TAG_CONFLICT_WITHDRAW => Step::Conflict(ConflictStep::Withdraw {
            id: Identity::read(input)?,
        }),
        TAG_CONFLICT_EXPIRE => Step::Conflict(ConflictStep::Expire {
            id: Identity::read(input)?,
        }),
        TAG_TREE_PART => Step::TreePart {
            intent: Identity::read(input)?,
            part: input.varint_u32()?,
            is_last: input.u8()? != 0,
        },
        other => return Err(DecodeError::UnknownKind(other)),
    })
}

fn read_name(input: &mut Reader<'_>, span: u64) -> Result<NameStep, DecodeError> {
    let flags = input.varint()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(DecodeError::UnknownKind(TAG_NAME));
    }
    let has = |flag: u64| flags & flag != 0;
    let offset = read_offset(input, span)?;
    let name = Identity::read(input)?;
    let inode = if has(HAS_INODE) {
        Identity::read(input)?
    } else {
        name
    };
    let place = if has(HAS_PLACE) {
        Some(Place {
            rank: input.varint_u32()?,
            path: blob(input)?,
        })
    } else {
        None
    };
    let kills = if has(HAS_KILLS) {
        let touch = Version::read(input)?;
        let seen = Vector::read(input)?;
        Some(Kills { touch, seen })
    } else {
        None
    };
    let data = if has(HAS_DATA) {
        let replaces = Version::read(input)?;
        let seen = Vector::read(input)?;
        Some(DataWrite {
            replaces,
            seen,
            value: DataPart(blob(input)?),
        })
    } else {
        None
    };
    let attributes = if has(HAS_ATTRIBUTES) {
        Some(AttributesWrite {
            replaces: Version::read(input)?,
            value: blob(input)?,
        })
    } else {
        None
    };
    let atime_ns = if has(HAS_ATIME) {
        Some(input.i64_be()?)
    } else {
        None
    };
    let hints = (0..count(input, "hints", LIST_MAX)?)
        .map(|_| blob(input))
        .collect::<Result<_, _>>()?;
    let old_entry = if has(HAS_OLD_ENTRY) {
        Some(blob(input)?)
    } else {
        None
    };
    let mut moved_chunks = Vec::new();
    if has(HAS_MOVED_CHUNKS) {
        for _ in 0..count(input, "moved chunks", LIST_MAX)? {
            moved_chunks.push(FileId {
                volume_id: input.u32_be()?,
                key: input.u64_be()?,
                cookie: input.u32_be()?,
            });
        }
    }
    Ok(NameStep {
        offset,
        has_event: has(HAS_EVENT),
        name,
        inode,
        is_birth: has(IS_BIRTH),
        place,
        is_touch: has(IS_TOUCH),
        kills,
        data,
        attributes,
        atime_ns,
        hints,
        old_entry,
        delete_chunks: has(DELETE_CHUNKS),
        moved_chunks,
    })
}
