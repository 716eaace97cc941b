// SPDX-License-Identifier: Apache-2.0
//! A recorded conflict. Layout: `docs/formats/rows.md`.

use bytes::Bytes;
use dulse_types::Version;
use dulse_types::wire::{WireError, Writer};

use super::{ROW_VERSION, start};

/// A conflict as far as it is known.
///
/// What was settled is never recorded again, whatever arrives first. ⚠ The record stays
/// until the settling change is stable: as long its chunks are pinned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConflictRow {
    /// Version of the change that withdrew it or let it expire.
    pub settled: Option<Version>,
    /// The record as a change with that one step; empty when it has not arrived.
    pub record: Bytes,
}

const KEPT: u8 = 1;
const SETTLED: u8 = 2;

impl ConflictRow {
    /// The stored bytes, which are also what the digest hashes while it is not settled.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(24 + self.record.len());
        out.u8(ROW_VERSION);
        match self.settled {
            None => out.u8(KEPT),
            Some(version) => {
                out.u8(SETTLED);
                version.write(&mut out);
            }
        }
        out.raw(&self.record);
        out.into_vec()
    }

    /// Reads what [`ConflictRow::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let input = &mut start(bytes)?;
        let settled = match input.u8()? {
            KEPT => None,
            SETTLED => Some(Version::read(input)?),
            other => {
                return Err(WireError::BadValue {
                    what: "state of a conflict",
                    value: u64::from(other),
                });
            }
        };
        let record = bytes.slice(input.position()..);
        Ok(Self { settled, record })
    }

    /// Whether it is listed and counts in the digest.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.settled.is_none()
    }
}
