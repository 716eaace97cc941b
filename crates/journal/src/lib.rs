// SPDX-License-Identifier: Apache-2.0
//! The write-ahead log, which is also the replication log.
//!
//! Append-only segment files of checksummed records: this filer's own changes and
//! its peers', in the order they arrived. A position is a byte offset in the log as
//! a whole and never goes back. The journal has no threads and no clock; disk comes
//! in as a [`Disk`]. Byte layout: `docs/formats/journal.md`.

mod disk;
mod journal;
mod memory;
mod record;
mod segment;

pub use disk::{Disk, DiskError, RealDisk};
pub use journal::{Journal, JournalError, JournalOptions, Recovery};
pub use memory::MemDisk;
pub use record::{Record, RecordKind};
