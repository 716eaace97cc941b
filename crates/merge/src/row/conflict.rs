// SPDX-License-Identifier: Apache-2.0
//! A recorded conflict, or one that is about to be. Layout: `docs/formats/rows.md`.

use bytes::Bytes;
use dulse_types::entry::{DataPart, split};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Entry, FileId, Vector, Version};

use super::{ROW_VERSION, start};
use crate::change::{Change, ConflictStep, Step};
use crate::codec::DecodeError;

/// A conflict as far as it is known.
///
/// Two registers, the greatest record and the greatest settlement; it is open while the
/// record is the later one. So what was settled stays settled, whatever arrives first, and
/// the same data lost once more is recorded once more. ⚠ The row stays until the settling
/// change is stable: as long its chunks are pinned.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConflictRow {
    /// Version of the change that recorded it last; zero while none has arrived.
    pub recorded: Version,
    /// Version of the change that withdrew it or let it go last; zero while none did.
    pub settled: Version,
    /// What made it lose, while its judge has yet to record it; else empty. Each replica's
    /// own affair, in no digest.
    pub cause: Vector,
    /// The record as a change with that one step; empty when it has not arrived.
    pub record: Bytes,
}

const RECORDED: u8 = 1;
const SETTLED: u8 = 2;
const PENDING: u8 = 4;

impl ConflictRow {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(48 + self.record.len());
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.u8(ROW_VERSION);
        out.u8(flag(!self.recorded.is_zero(), RECORDED)
            | flag(!self.settled.is_zero(), SETTLED)
            | flag(self.is_pending(), PENDING));
        if !self.recorded.is_zero() {
            self.recorded.write(&mut out);
        }
        if !self.settled.is_zero() {
            self.settled.write(&mut out);
        }
        if self.is_pending() {
            self.cause.write(&mut out);
        }
        out.raw(&self.record);
        out.into_vec()
    }

    /// The bytes that the digest hashes while it is open. An earlier settlement is left out:
    /// one replica may have forgotten it and another one not.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let open = Self {
            recorded: self.recorded,
            record: self.record.clone(),
            ..Self::default()
        };
        open.encode()
    }

    /// Reads what [`ConflictRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let flags = input.u8()?;
        if flags & !(RECORDED | SETTLED | PENDING) != 0 {
            return Err(WireError::BadValue {
                what: "state of a conflict",
                value: u64::from(flags),
            });
        }
        let version = |flag: u8, input: &mut Reader<'_>| {
            if flags & flag == 0 {
                return Ok(Version::ZERO);
            }
            Version::read(input)
        };
        let recorded = version(RECORDED, input)?;
        let settled = version(SETTLED, input)?;
        let cause = if flags & PENDING == 0 {
            Vector::new()
        } else {
            Vector::read(input)?
        };
        let record = bytes.slice(input.position()..);
        Ok(Self {
            recorded,
            settled,
            cause,
            record,
        })
    }

    /// Whether it is listed at every filer and counts in the digest.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.recorded > self.settled
    }

    /// Whether it was seen here and its judge has yet to record it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.cause.is_empty()
    }

    /// The record's step; `None` while it has not arrived.
    ///
    /// # Errors
    ///
    /// When the record is damaged.
    pub fn step(&self) -> Result<Option<ConflictStep>, DecodeError> {
        if self.record.is_empty() {
            return Ok(None);
        }
        let steps = Change::decode(&self.record)?.steps;
        Ok(steps.into_iter().find_map(|step| match step {
            Step::Conflict(step @ ConflictStep::Record { .. }) => Some(step),
            _ => None,
        }))
    }

    /// The chunks of the losing entry; none when it cannot be read.
    #[must_use]
    pub fn chunks(&self) -> Vec<FileId> {
        self.data().file_ids()
    }

    /// The encoded manifests among them.
    #[must_use]
    pub fn manifests(&self) -> Vec<Bytes> {
        self.data().manifests()
    }

    /// The data of the losing entry; nothing when it cannot be read.
    fn data(&self) -> DataPart {
        let Ok(Some(ConflictStep::Record { loser, .. })) = self.step() else {
            return DataPart::default();
        };
        Entry::from_bytes(loser).map_or_else(|_| DataPart::default(), |entry| split(&entry).data)
    }
}
