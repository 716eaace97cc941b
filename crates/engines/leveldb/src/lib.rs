// SPDX-License-Identifier: Apache-2.0
//! The LevelDB engine: Debian's C++ library, loaded at run time.
//!
//! How it keeps the contract of [`dulse_kv::Engine`], and what LevelDB alone would not:
//!
//! - **Batches are a prefix.** A batch is one record of LevelDB's log, numbered behind the one
//!   before. LevelDB changes to a new log every 8 MiB and never syncs the old one, so a power
//!   loss may keep the new log and lose the end of the old; and what was not synced may come
//!   back as zeros, over which its reader steps. So before LevelDB sees the logs, they are read
//!   here ([`dulse_leveldb::records`], `recovery`): from the log that the manifest names on,
//!   record by record, each with a valid checksum and the number that follows; behind the first
//!   that is not, the rest is cut off and later logs are removed. The same for the last record of the manifest,
//!   which is synced one by one.
//! - **A checkpoint** syncs every log there is, then the directory: LevelDB's own synced write
//!   syncs the present log alone, and no log's name. What is in no log is in a table, which
//!   LevelDB syncs, with its name, before the manifest names it.
//! - **Opening** makes a new manifest, renames `CURRENT` and deletes the old manifest and logs,
//!   with nothing synced between: where a disk keeps the deletions and loses the rename, nothing
//!   is left. So what may be deleted has a second name (`before.…`) until the directory is synced
//!   (`opening`).
//! - **Full disk.** After a write to its log failed LevelDB's log is of no more use, and after one
//!   in the background it refuses everything; only opening helps. So a batch is refused while
//!   there is not room for it, for tables and for a new log; should LevelDB still meet a full
//!   disk, reads go on, and once there is room for what opening writes, the next batch opens the
//!   store anew, in the process. A snapshot would not survive that, so it waits for them.
//! - **A failed sync is final**, and so is any other error of a write but a full disk.
//! - **One owner**: `LOCK` is locked with `flock` for as long as the store is open, beside
//!   LevelDB's own `fcntl` lock: that one goes when any descriptor of the file is closed, and
//!   `flock` is what upstream's library asks for.
//! - **Damage**: checksums of all blocks are verified when they are read. LevelDB's cursors step
//!   over damaged blocks; each scan asks for that at its end.
//!
//! A file `STORE` says that the directory is such a store; without it nothing is opened, so a
//! store that upstream's filer made is never taken for ours.

mod engine;
mod error;
mod opening;
mod recovery;

pub use engine::{LeveldbEngine, Options, library};
pub use opening::MARKER;
pub use recovery::log_number;
