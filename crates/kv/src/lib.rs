// SPDX-License-Identifier: Apache-2.0
//! The ordered key-value trait that embedded engines implement, and the memory engine.
//!
//! It is no database interface: it has what a replica needs. Keys are flat and
//! ordered bytewise; which row lies where is the replica's business.

mod error;
mod memory;

pub use error::{Error, ErrorKind};
pub use memory::MemoryEngine;

use bytes::Bytes;

/// A row: key and value.
pub type Row = (Bytes, Bytes);

/// Writes that are applied whole or not at all; a key appears once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Batch {
    /// Key and its value; `None` removes the key.
    pub writes: Vec<(Vec<u8>, Option<Bytes>)>,
}

/// Reads of one consistent state.
pub trait Read: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// At most `limit` rows with keys in `from..to`, ascending bytewise.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error>;
}

/// An embedded ordered store. Each call sees every batch whose `write` returned.
///
/// Contract:
/// - a batch is there whole or not at all, also after a crash;
/// - `write` need not be durable; after a crash everything up to the last
///   `checkpoint` is there, and of the later batches those up to some point, each whole;
/// - when `checkpoint` returns, every batch written before is durable;
/// - a snapshot sees one state for as long as it lives, and blocks no writer;
/// - scans are in byte order of keys, and see no half batch.
pub trait Engine: Read {
    /// Applies a batch, unsynced.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`; then nothing of the batch is there.
    fn write(&self, batch: Batch) -> Result<(), Error>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    fn checkpoint(&self) -> Result<(), Error>;

    /// One consistent state, as of now.
    ///
    /// # Errors
    ///
    /// `Io`.
    fn snapshot(&self) -> Result<Box<dyn Read>, Error>;

    /// The engine's name, as configured.
    fn name(&self) -> &'static str;
}
