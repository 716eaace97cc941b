// SPDX-License-Identifier: Apache-2.0
//! The write-ahead log, which is also the replication log.
//!
//! Append-only segment files of checksummed records: this filer's own changes and
//! its peers', in the order they arrived. A position is a byte offset in the log as
//! a whole and never goes back. The journal has no threads and no clock; disk comes
//! in as a [`Disk`]. Byte layout: `docs/formats/journal.md`.

mod checkpoint;
mod disk;
mod error;
mod index;
mod journal;
mod memory;
mod open;
mod read;
mod real;
mod record;
mod scan;
mod segment;

pub use checkpoint::Checkpoint;
pub use disk::{Disk, DiskError, Space};
pub use error::JournalError;
pub use journal::{Journal, JournalOptions, Oldest};
pub use memory::MemDisk;
pub use open::{Recovery, any_store_of, store_of};
pub use real::{RealDisk, make_durably};
pub use record::{PAYLOAD_LEN_MAX, Record, RecordKind};
