// SPDX-License-Identifier: Apache-2.0
//! One record of the log.

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError};
use dulse_types::{Origin, Stamp};

/// What a record holds. Numbers are stored and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// An encoded change.
    Change = 1,
    /// The clock will not promise or stamp beyond `prev` before a later such record.
    ClockCeiling = 2,
    /// A change in parts that must be finished.
    Intent = 3,
    /// An encoded change that came with a whole state: covered by it, kept for those who
    /// lack it, never replayed.
    Kept = 4,
    /// The journal's own: when this was written, everything before `stamp`, a position, was
    /// on disk. `prev` is its own position. Readers are not shown it.
    Synced = 5,
}

impl RecordKind {
    fn of(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Change),
            2 => Ok(Self::ClockCeiling),
            3 => Ok(Self::Intent),
            4 => Ok(Self::Kept),
            5 => Ok(Self::Synced),
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

/// Largest payload of one record, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 64 << 20;

impl Record {
    /// The mark that everything before `synced` is on disk, itself at `position`.
    pub(crate) fn synced(store: u64, synced: u64, position: u64) -> Self {
        Self {
            kind: RecordKind::Synced,
            origin: Origin(store),
            stamp: Stamp(synced as i64),
            prev: Stamp(position as i64),
            payload: Bytes::new(),
        }
    }

    /// Appends the record: length, checksum of what follows, kind, flags, origin, stamp,
    /// prev, payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let length = (self.payload.len() as u32).to_be_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&[0; 4]);
        out.push(self.kind as u8);
        out.push(0);
        out.extend_from_slice(&self.origin.0.to_be_bytes());
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        out.extend_from_slice(&self.prev.0.to_be_bytes());
        out.extend_from_slice(&self.payload);
        let sum = checksum(length, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&sum.to_be_bytes());
    }

    /// Reads one record off the front; `Ok(None)` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When it cannot be a record, whatever follows.
    pub fn read(input: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
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
        let sum = head.u32_be()?;
        let Some(body) = input.get(8..HEADER_LEN + size) else {
            return Ok(None);
        };
        if checksum(length.to_be_bytes(), body) != sum {
            return Err(WireError::BadValue {
                what: "record checksum",
                value: sum.into(),
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

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), body)
}
