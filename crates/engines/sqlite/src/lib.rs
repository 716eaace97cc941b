// SPDX-License-Identifier: Apache-2.0
//! The SQLite engine: one table in WAL mode, one writer, a pool of readers.
//!
//! How it keeps the contract of [`dulse_kv::Engine`]:
//!
//! - **Batches are a prefix.** A batch is one transaction, its pages are frames appended to the
//!   write-ahead log. Each frame's checksum continues that of the frame before, from the salts
//!   in the log's header on; recovery stops at the first frame that does not continue the chain,
//!   and at the last commit before it. So whatever of the unsynced part of the log a power loss
//!   leaves, in any order of sectors, whole batches up to some point remain.
//! - **`synchronous = NORMAL`, always.** It syncs the log before its pages are copied into the
//!   file, the file before the log may start over, **and the header when the log starts over**.
//!   Commits sync nothing, so it costs nothing between checkpoints. `OFF` is not enough: when a
//!   log starts over, the new header and frames may reach the disk in part; an old header with
//!   the first old frames then is a valid log that puts old pages over the newer file. The
//!   crash suite finds it when the setting is changed.
//! - **A checkpoint** syncs the log, which alone makes every batch before it durable, then copies
//!   what it can into the file (`PASSIVE`, which waits for nobody). SQLite never checkpoints by
//!   itself.
//! - **Growth of the log.** It starts over with the first batch after a checkpoint that copied
//!   everything and that no reader of the old log outlives. Should readers prevent that until it
//!   has 64 MiB, a checkpoint waits for them, at most 250 ms, and cuts it. A snapshot prevents
//!   it for as long as it lives; [`dulse_kv::Engine::usage`] shows both.
//! - **A failed sync is final**, as the contract demands: SQLite itself would try again and
//!   trust the answer.
//! - **One owner**: SQLite would share the file, so `store.lock` is locked beside it.
//! - **Names**: the directory is synced when the store is opened; SQLite does so itself when it
//!   makes the log anew. The log's shared-memory file needs no sync, it is rebuilt.
//!
//! Nothing here may open `store.sqlite` other than through SQLite: closing any descriptor of it
//! would drop SQLite's locks. The log carries no locks.

mod engine;
mod error;
mod reader;

pub use engine::SqliteEngine;
