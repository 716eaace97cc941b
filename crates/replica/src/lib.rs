// SPDX-License-Identifier: Apache-2.0
//! One replica: an entry store over a journal and an engine.
//!
//! [`Replica`] is the sequencer's state: it has no thread, and takes clock, disk and
//! engine as arguments, so the simulation runs it as it is. [`ReplicaStore`] puts it
//! on a thread of its own and is the [`dulse_store::EntryStore`] of a filer.
//!
//! Order, which everything rests on: records are appended to the journal and synced,
//! then the engine batch is applied unsynced, then callers are answered. Where the sync
//! comes later (peers' changes, `os`), the batch carries the records. So the engine
//! is never ahead of the log, and state and peers are fed from the same records.

mod acknowledged;
mod apart;
mod checkpoint;
mod clock;
mod conflicts;
mod digests;
mod driver;
mod error;
mod expiry;
mod forgetting;
mod garbage;
mod guard;
mod items;
mod judging;
mod levels;
pub mod metrics;
mod options;
mod queue;
mod recover;
pub mod reissue;
mod renewal;
mod repair;
mod room;
mod scrub;
mod sequencer;
mod shared;
mod silences;
mod store;
mod syncer;
mod tail;
mod transfer;
mod trees;
mod unsaid;
mod waits;

pub use acknowledged::PEERS_WAIT;
pub use clock::{Clock, SystemClock};
pub use conflicts::{Conflict, ConflictCounts, ConflictPage};
pub use digests::{DirectorySum, NameHash, Page};
pub use expiry::{Due, removes_expired};
pub use garbage::{ASKED_MAX, Garbage, Grace, Share, share};
pub use guard::ClockBound;
pub use items::{Census, Item, Items, identity_of, name_of, sum};
pub use levels::{Durability, DurabilityError, LevelBelow, LevelError, Levels, PEERS_MAX};
pub use options::{
    CHECKPOINT_EVERY, CHECKPOINT_EVERY_BYTES, ConflictLimits, LOG_BUDGET_BYTES, LOG_RETENTION,
    Limits, RESERVE_BYTES, ReplicaOptions, SEGMENT_SIZE_BYTES, TREE_PART_BYTES, TREE_PART_NAMES,
};
pub use reissue::{Known, Reissued};
pub use renewal::Renewal;
pub use repair::{Foreign, Repair, Repaired, Replacement, Restored};
pub use scrub::{ScrubCursor, Scrubbed};
pub use sequencer::{Applied, Replica};
pub use shared::{Following, JOINS_MAX, Shared};
pub use store::ReplicaStore;
pub use syncer::Progress;
pub use transfer::{Export, ExportPart, ImportCursor, ImportRow, PART_ROWS};
pub use trees::{TreeBegun, TreeOver, TreeProgress, TreeState};
pub use waits::{WAITING_MAX, Waits};
