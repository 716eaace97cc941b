// SPDX-License-Identifier: Apache-2.0
//! The redb engine: one file, pure Rust, the default.
//!
//! How it keeps the contract of [`dulse_kv::Engine`]:
//!
//! - **Durable, and a prefix.** Batches are committed with `Durability::None`: their pages stay
//!   in memory or go to places of the file that the last durable commit does not use. A
//!   checkpoint is an empty commit that is durable. So after a crash there is exactly what the
//!   last checkpoint (or a later clean close) held; the prefix of later batches is empty.
//! - **Opening after a crash** reads no whole file: checkpoints commit with quick repair, which
//!   also means two phases, so that no checksum decides which commit counts.
//! - **Full disk.** redb refuses everything, reads too, after a write to its file failed, and
//!   opening it anew would lose what is not checkpointed. So a second file, `store.reserve`,
//!   holds as much room as unsynced pages may need. A write that finds the disk full gives it
//!   up and goes on; the next batch is refused with `DiskFull` until the reserve is whole again.
//!   Where a file system cannot reserve room, the engine says so once and works without.
//! - **Memory** is bounded by the cache, of which unsynced pages may take half.
//! - **Growth.** The file doubles up to 4 GiB, then grows by 4 GiB at a time, but as a hole:
//!   only what was written takes room. Checkpoints cut off free pages at its end. A snapshot
//!   pins what was replaced since; [`dulse_kv::Engine::usage`] shows both.

mod engine;
mod error;
mod file;
mod reserve;

pub use engine::{Options, RedbEngine};
