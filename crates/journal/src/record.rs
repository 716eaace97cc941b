// SPDX-License-Identifier: Apache-2.0
//! One record of the log.

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Origin, Stamp};

/// What a record holds. Numbers are stored and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// An encoded change.
    Change = 1,
    /// The clock will not promise or stamp beyond `stamp` before a later such record.
    ClockCeiling = 2,
    /// A change in parts that must be finished.
    Intent = 3,
    /// An encoded change that came with a whole state: covered by it, kept for those who
    /// lack it, never replayed.
    Kept = 4,
}

impl RecordKind {
    fn of(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Change),
            2 => Ok(Self::ClockCeiling),
            3 => Ok(Self::Intent),
            4 => Ok(Self::Kept),
            other => Err(WireError::BadValue {
                what: "record kind",
                value: u64::from(other),
            }),
        }
    }
}

/// A record and where it stands in its origin's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// Whose it is.
    pub origin: Origin,
    /// Position in the origin's log.
    pub stamp: Stamp,
    /// The origin's position before it.
    pub prev: Stamp,
    /// The content.
    pub payload: Bytes,
}

/// Bytes of a record before its payload.
pub(crate) const HEADER_LEN: usize = 34;

/// Largest payload of one record.
pub(crate) const PAYLOAD_LEN_MAX: usize = 64 << 20;

impl Record {
    /// Appends the record: length, checksum of what follows, kind, flags, origin, stamp,
    /// prev, payload.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut body = Writer::with_capacity(HEADER_LEN - 8 + self.payload.len());
        body.u8(self.kind as u8);
        body.u8(0);
        body.u64_be(self.origin.0);
        body.i64_be(self.stamp.0);
        body.i64_be(self.prev.0);
        body.raw(&self.payload);
        let length = self.payload.len() as u32;
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(&length.to_be_bytes()), body.as_slice());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&checksum.to_be_bytes());
        out.extend_from_slice(body.as_slice());
    }

    /// Reads one record off the front; `Ok(None)` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When it cannot be a record, whatever follows.
    pub(crate) fn read(input: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        if input.len() < HEADER_LEN {
            return Ok(None);
        }
        let head = &mut Reader::new(input);
        let length = head.u32_be()?;
        let size = length as usize;
        if size > PAYLOAD_LEN_MAX {
            return Err(WireError::TooLong {
                what: "record",
                len: u64::from(length),
            });
        }
        let checksum = head.u32_be()?;
        let Some(body) = input.get(8..HEADER_LEN + size) else {
            return Ok(None);
        };
        let actual = crc32c::crc32c_append(crc32c::crc32c(&length.to_be_bytes()), body);
        if actual != checksum {
            return Err(WireError::BadValue {
                what: "record checksum",
                value: checksum.into(),
            });
        }
        let kind = RecordKind::of(head.u8()?)?;
        head.u8()?;
        let origin = Origin(head.u64_be()?);
        let stamp = Stamp(head.i64_be()?);
        let prev = Stamp(head.i64_be()?);
        let payload = Bytes::copy_from_slice(head.raw(size)?);
        Ok(Some((
            Self {
                kind,
                origin,
                stamp,
                prev,
                payload,
            },
            HEADER_LEN + size,
        )))
    }

    /// Bytes it takes in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        (HEADER_LEN + self.payload.len()) as u64
    }
}
