// SPDX-License-Identifier: Apache-2.0
//! The contract of an engine.

use bytes::Bytes;

use crate::{Error, Read};

/// Writes that are applied whole or not at all; a key appears once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Batch {
    /// Key and its value; `None` removes the key, whether it is there or not.
    pub writes: Vec<(Vec<u8>, Option<Bytes>)>,
}

/// What an engine takes of its surroundings, for metrics and alarms.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Size of all its files, in bytes.
    pub disk_bytes: u64,
    /// Snapshots that are alive. Each keeps what was replaced since it was taken, so files
    /// that grow while this stays above zero are held by a snapshot.
    pub n_snapshots: usize,
}

/// An embedded ordered store. Each read sees every batch whose `write` returned.
///
/// The contract, each point a suite of `dulse-kv-testkit`:
///
/// - **Atomic.** A batch is there whole or not at all: for readers while it is written, after
///   an error, after a kill, after power loss.
/// - **Durable at checkpoints.** `write` need not sync. When `checkpoint` returns, every batch
///   whose `write` returned before it was called is on disk.
/// - **A prefix.** After a crash everything up to the last checkpoint is there, and of the
///   later batches those up to some point. A later batch without an earlier one never is,
///   whatever the disk did with what was not synced: lost, reordered, torn in 512-byte
///   sectors.
/// - **Snapshots** see one state for as long as they live, and block no writer, no checkpoint
///   and no other reader. What they pin is shown by [`Usage`].
/// - **Full disk.** `write` fails with `DiskFull` and nothing of the batch is there; reads
///   go on, nothing that was written before is lost, and once there is room `write` works
///   again without a restart.
/// - **A failed sync is final.** After one the engine refuses `write` and `checkpoint` with
///   `Io` until it is opened anew: the system may have dropped what it could not write.
/// - **One owner.** A second open of the same directory fails with `Locked`.
/// - **Threads.** All methods may be called at once; writes may wait for one another.
///
/// For an engine on a log-structured tree the prefix asks for one of two things. With the
/// engine's own log (`LevelDB`): the log holds every batch; a checkpoint syncs it; a log that was
/// not synced before its successor got the first batch may lose its end while the successor
/// keeps its start, so recovery stops at the first hole and at the first damaged record, and
/// never skips one. Without a log (`RocksDB`): a batch is in one memtable, memtables become
/// tables in the order in which they were filled, each synced before the manifest names it, and
/// a checkpoint makes tables of all of them; several column families only with `atomic_flush`.
pub trait Engine: Read {
    /// Applies a batch, unsynced.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`; then nothing of the batch is there.
    fn write(&self, batch: Batch) -> Result<(), Error>;

    /// Makes everything written so far durable. Cost: what was written since the last one.
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

    /// What it takes of its surroundings. Cost: a few system calls.
    ///
    /// # Errors
    ///
    /// `Io`.
    fn usage(&self) -> Result<Usage, Error>;

    /// The engine's name, as configured.
    fn name(&self) -> &'static str;
}
