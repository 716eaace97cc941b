// SPDX-License-Identifier: Apache-2.0
//! How long each member has been silent, kept over restarts: who is away for too long is shut
//! out, however often the others are restarted meanwhile.
//!
//! Durations, not moments: a wall clock that is wrong when one is written or read would make
//! a member look silent that is not. Local, in no transfer and in no digest. What a crash
//! takes of it makes somebody look silent for a minute less.

use std::time::Duration;

use dulse_kv::{Batch, ReadExt};
use dulse_merge::keys::Space;
use dulse_store::{Error, Operation};
use dulse_types::Origin;
use dulse_types::wire::{Reader, WireError, Writer};

use crate::error;
use crate::sequencer::Replica;
use crate::shared::Shared;

/// First byte of the rows.
const SILENCE_VERSION: u8 = 2;

/// First byte of rows that say at which moment a member was heard: of no use any more.
const MOMENT_VERSION: u8 = 1;

impl Shared {
    /// How long each member had been silent when that was noted last.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn silences(&self) -> Result<Vec<(Origin, Duration)>, Error> {
        let (from, to) = Space::Acknowledgements.range();
        let rows = self.engine.scan(&from, &to, usize::MAX);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let parsed = rows.into_iter().map(|(key, value)| {
            let origin = Reader::new(key.get(1..).unwrap_or_default()).u64_be();
            let origin = origin.map_err(|e| error::corrupt(Operation::List, e))?;
            let silence = decode_silence(&value);
            Ok((
                Origin(origin),
                silence.map_err(|e| error::corrupt(Operation::List, e))?,
            ))
        });
        parsed.collect()
    }
}

impl Replica {
    /// Keeps how long members have been silent; those not named are as before.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn note_silences(&mut self, silences: &[(Origin, Duration)]) -> Result<(), Error> {
        self.ready()?;
        let rows = silences.iter().map(|(origin, silence)| {
            let key = Space::Acknowledgements.key(&origin.0.to_be_bytes());
            (key, Some(encode_silence(*silence).into()))
        });
        let writes = rows.collect();
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Commit, e))
    }
}

/// A row: format, nanoseconds.
fn encode_silence(silence: Duration) -> Vec<u8> {
    let mut row = Writer::new();
    row.u8(SILENCE_VERSION);
    row.u64_be(u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX));
    row.into_vec()
}

fn decode_silence(row: &[u8]) -> Result<Duration, WireError> {
    let input = &mut Reader::new(row);
    let version = input.u8()?;
    let value = input.u64_be()?;
    input.finish()?;
    match version {
        SILENCE_VERSION => Ok(Duration::from_nanos(value)),
        // ⚠ Silent since then by a clock that may have been wrong: it counts for nothing.
        MOMENT_VERSION => Ok(Duration::ZERO),
        _ => Err(WireError::BadValue {
            what: "version of how long a member was silent",
            value: version.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_read_as_it_was_written_and_a_moment_counts_for_nothing() {
        let row = encode_silence(Duration::from_secs(3));
        assert_eq!(row, [2, 0, 0, 0, 0, 0xb2, 0xd0, 0x5e, 0x00]);
        assert_eq!(decode_silence(&row), Ok(Duration::from_secs(3)));
        let moment = [1, 0x18, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode_silence(&moment), Ok(Duration::ZERO));
        assert!(decode_silence(&[3, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode_silence(&row[..8]).is_err());
    }
}
