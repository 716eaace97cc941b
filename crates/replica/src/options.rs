// SPDX-License-Identifier: Apache-2.0
//! How a replica is opened.

use std::sync::Arc;
use std::time::Duration;

use dulse_journal::Disk;
use dulse_kv::Engine;

use crate::clock::Clock;
use crate::levels::Durability;

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
    /// When local writes are acknowledged where nothing else is said.
    pub durability: Durability,
    /// Sizes and times.
    pub limits: Limits,
}

/// Sizes and times of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of journal after which the engine is checkpointed.
    pub checkpoint_every_bytes: u64,
    /// Time after which the engine is checkpointed, whatever the load.
    pub checkpoint_every: Duration,
    /// Bytes after which a new segment of the journal is begun.
    pub segment_size_bytes: u64,
    /// How long a stable part of the log is kept for subscribers that come back.
    pub log_retention: Duration,
    /// Bytes of log above which stable parts go before their time. A tenth of the disk, where
    /// that is less.
    pub log_budget_bytes: u64,
    /// Bytes of the disk that are kept free, so that a checkpoint and a recovery can always
    /// proceed. An eighth of the disk, where that is less.
    pub reserve_bytes: u64,
    /// Most names of a tree that is moved or removed in one change; bigger ones go in parts.
    pub tree_names_max: usize,
    /// Names of one such part.
    pub tree_part_names: usize,
    /// Bytes of one such part.
    pub tree_part_bytes: usize,
    /// What is kept of conflicts.
    pub conflicts: ConflictLimits,
}

/// What is kept of recorded conflicts; whatever is over a limit goes, the oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConflictLimits {
    /// How long a record is kept.
    pub keep: Duration,
    /// Most records.
    pub count: usize,
    /// Most bytes of file content that they pin.
    pub pinned_bytes: u64,
    /// Time between two looks through all of them and all shadows.
    pub look_every: Duration,
}

impl ConflictLimits {
    /// A month, for somebody to notice; ten thousand, each some KiB in every filer's store
    /// and more than anybody reads; and content that any cluster of a few disks has room for.
    pub const STANDARD: Self = Self {
        keep: Duration::from_secs(30 * 24 * 3600),
        count: 10_000,
        pinned_bytes: 256 << 30,
        look_every: Duration::from_secs(1),
    };
}

impl Limits {
    /// What a filer runs with unless told otherwise.
    pub const STANDARD: Self = Self {
        checkpoint_every_bytes: CHECKPOINT_EVERY_BYTES,
        checkpoint_every: CHECKPOINT_EVERY,
        segment_size_bytes: SEGMENT_SIZE_BYTES,
        log_retention: LOG_RETENTION,
        log_budget_bytes: LOG_BUDGET_BYTES,
        reserve_bytes: RESERVE_BYTES,
        tree_names_max: dulse_merge::local::TREE_NAMES_MAX,
        tree_part_names: TREE_PART_NAMES,
        tree_part_bytes: TREE_PART_BYTES,
        conflicts: ConflictLimits::STANDARD,
    };
}

/// Small enough that recovery replays it in a second, large enough that an engine's sync is
/// shared by many thousand changes.
pub const CHECKPOINT_EVERY_BYTES: u64 = 16 << 20;

/// What a crash may have to replay is bounded in time too.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// The unit in which the log is dropped.
pub const SEGMENT_SIZE_BYTES: u64 = 64 << 20;

/// A mount or a sync that was away for a weekend resumes.
pub const LOG_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Some fifty million changes.
pub const LOG_BUDGET_BYTES: u64 = 10 << 30;

/// Several times what an engine writes between two checkpoints.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// What others wait for while a part is done: some 50 ms.
pub const TREE_PART_NAMES: usize = 1_000;

/// A quarter of what a change may have: entries may be large, and others wait.
pub const TREE_PART_BYTES: usize = 1 << 20;
