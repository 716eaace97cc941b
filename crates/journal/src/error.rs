// SPDX-License-Identifier: Apache-2.0
//! The error of the journal.

use dulse_types::wire::WireError;

use crate::disk::DiskError;
use crate::record::PAYLOAD_LEN_MAX;

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("journal")]
    Disk(#[from] DiskError),
    /// Bytes that were on disk do not check out: no torn tail, which is cut silently.
    #[error(
        "`{file}` of the journal is damaged at byte {offset}, which was safely on disk once; \
         restore it, or empty the store's directory to fetch the state from the other filers"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: WireError,
    },
    /// Written by a later version of this program.
    #[error("`{file}` has format version {found}, this program reads {expected}; upgrade it")]
    Version {
        /// The file.
        file: String,
        /// What it says.
        found: u64,
        /// What this version reads.
        expected: u64,
    },
    /// Part of the log is not there: dropped, or a segment is missing.
    #[error("journal lacks its part from position {from} to {to}")]
    Gap {
        /// Where it ends.
        from: u64,
        /// Where it goes on.
        to: u64,
    },
    /// The engine was made durable beyond the end of the log.
    #[error(
        "journal ends at position {end}, but the checkpoint is at {checkpoint}: the log lost \
         what the engine has; restore it, or empty the store's directory to fetch the state \
         from the other filers"
    )]
    Ahead {
        /// Where the checkpoint is.
        checkpoint: u64,
        /// Where the log ends.
        end: u64,
    },
    /// The segments belong to another store.
    #[error("journal belongs to store {found:016x}, expected {expected:016x}")]
    OtherStore {
        /// What the segment says.
        found: u64,
        /// What was asked for.
        expected: u64,
    },
    /// A record above the largest size.
    #[error("record of {0} bytes is larger than {PAYLOAD_LEN_MAX}")]
    TooLarge(usize),
    /// An earlier failed write or sync left unknown what is on disk; the journal must be
    /// opened anew.
    #[error("journal is closed for writing after a failed write or sync; restart the program")]
    Poisoned,
}

impl JournalError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }

    pub(crate) fn corrupt(file: &str, offset: u64, source: WireError) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            offset,
            source,
        }
    }

    pub(crate) fn version(file: &str, found: impl Into<u64>, expected: impl Into<u64>) -> Self {
        Self::Version {
            file: file.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}
