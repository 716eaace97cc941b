// SPDX-License-Identifier: Apache-2.0
//! How a replica is opened.

use std::sync::Arc;

use dulse_journal::Disk;
use dulse_kv::Engine;

use crate::clock::Clock;

/// When a local write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on disk: survives power loss.
    Fsync,
    /// When the system has it: survives kill -9, not power loss.
    Os,
}

/// What a replica is made of.
#[derive(Clone)]
pub struct ReplicaOptions {
    /// Where the journal is.
    pub disk: Arc<dyn Disk>,
    /// Where the rows are.
    pub engine: Arc<dyn Engine>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for a new origin; used only when the store is new.
    pub random: u64,
    /// When local writes are acknowledged.
    pub durability: Durability,
    /// Bytes of journal after which the engine is checkpointed.
    pub checkpoint_every_bytes: u64,
}

/// Bytes of one journal segment.
pub(crate) const SEGMENT_SIZE_BYTES: u64 = 64 << 20;

/// Bytes of journal after which the engine is checkpointed, unless told otherwise.
pub const CHECKPOINT_EVERY_BYTES: u64 = 16 << 20;
