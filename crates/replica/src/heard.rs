// SPDX-License-Identifier: Apache-2.0
//! When each member was heard last, kept over restarts: who is away for too long is shut out,
//! however often the others are restarted meanwhile.
//!
//! Local, in no transfer and in no digest. What a crash takes of it makes somebody look silent
//! for a minute longer.

use dulse_kv::{Batch, ReadExt};
use dulse_merge::keys::Space;
use dulse_store::{Error, Operation};
use dulse_types::Origin;
use dulse_types::wire::{Reader, Writer};

use crate::error;
use crate::sequencer::Replica;
use crate::shared::Shared;

/// First byte of the rows.
const HEARD_VERSION: u8 = 1;

impl Shared {
    /// When each member was heard last, by this filer's wall clock, in nanoseconds since 1970.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn heard(&self) -> Result<Vec<(Origin, i64)>, Error> {
        let (from, to) = Space::Acknowledgements.range();
        let rows = self.engine.scan(&from, &to, usize::MAX);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let parsed = rows.into_iter().map(|(key, value)| {
            let read = || {
                let origin = Reader::new(key.get(1..).unwrap_or_default()).u64_be()?;
                let input = &mut Reader::new(&value);
                let version = input.u8()?;
                if version != HEARD_VERSION {
                    return Err(dulse_types::wire::WireError::BadValue {
                        what: "version of when a member was heard",
                        value: version.into(),
                    });
                }
                Ok((Origin(origin), input.i64_be()?))
            };
            read().map_err(|e| error::corrupt(Operation::List, e))
        });
        parsed.collect()
    }
}

impl Replica {
    /// Keeps when members were heard last; those not named are as before.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn note_heard(&mut self, heard: &[(Origin, i64)]) -> Result<(), Error> {
        self.ready()?;
        let rows = heard.iter().map(|(origin, at_ns)| {
            let mut row = Writer::new();
            row.u8(HEARD_VERSION);
            row.i64_be(*at_ns);
            let key = Space::Acknowledgements.key(&origin.0.to_be_bytes());
            (key, Some(row.into_bytes()))
        });
        let writes = rows.collect();
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Commit, e))
    }
}
