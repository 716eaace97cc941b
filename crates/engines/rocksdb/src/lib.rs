// SPDX-License-Identifier: Apache-2.0
//! The RocksDB engine, for filers with very many entries or very many writes.
//!
//! It is built with the feature `rocksdb` alone, which takes a C++ compiler, libclang and many
//! minutes; without it this crate is empty.
//!
//! How it keeps the contract of `dulse_kv::Engine`:
//!
//! - **Batches are a prefix, without a log.** RocksDB's own write-ahead log is off: the journal is
//!   the log. A batch goes whole into one memtable; memtables become tables in the order in which
//!   they were filled, each table and its name are synced before the manifest names it, and the
//!   manifest is synced with each record. So what a crash leaves is what some number of memtables
//!   held: whole batches up to some point.
//! - **A checkpoint** makes tables of all memtables and waits for them (`Flush`). They are not
//!   compressed at first: a checkpoint comes every few seconds, and what it wrote is soon written
//!   again, compressed, one level down.
//! - **Opening** cuts what a power loss left of the manifest's last record, which RocksDB itself
//!   would call corruption. RocksDB makes a new manifest then, and deletes nothing before the
//!   directory with the new `CURRENT` is synced.
//! - **Full disk.** A batch is refused while there is not room for the tables of all that is in
//!   memory and of the batch. Should RocksDB still meet a full disk, what is in memory stays
//!   there and is read; it looks every five seconds whether there is room, and then goes on by
//!   itself. Until then batches and checkpoints are refused with `DiskFull`.
//! - **Stalls.** RocksDB makes writers wait where compaction does not keep up. A batch waits here
//!   instead, where it is seen that the reason is a full disk.
//! - **A failed sync is final**, and so is any other error of a write but a full disk.
//! - **One owner**: `store.lock` is locked for as long as the store is open, beside RocksDB's own
//!   lock on `LOCK`, which ends when any descriptor of that file is closed.
//! - **Damage**: checksums of all blocks are verified when they are read from a file.
//!
//! A file `STORE` says that the directory is such a store; without it nothing is opened, so a
//! store that upstream's filer made is never taken for ours.
#![cfg(feature = "rocksdb")]

mod engine;
mod error;
mod manifest;
mod opening;
mod options;
mod snapshot;

pub use engine::RocksdbEngine;
pub use opening::MARKER;
pub use options::Options;
