// SPDX-License-Identifier: Apache-2.0
//! A thin, safe binding to the system's LevelDB, loaded at run time.
//!
//! Debian's package `libleveldb1d` brings the library; nothing of it is needed to build. The C
//! interface is bound as it is: a [`Db`] with reads, ordered [`Cursor`]s, [`Snapshot`]s and
//! atomic [`Batch`]es. What a caller could get wrong in C is a type here: a database is closed
//! after the last cursor and snapshot of it, a cursor's rows are borrowed from it, and a
//! failed call is an [`Error`].
//!
//! It is no engine: which settings keep whose promises is its users' business.
//!
//! [`records`] reads the framing of its logs and manifests without the library.
//!
//! **Opening writes.** LevelDB has no way to read only: opening moves what the logs hold into
//! tables, writes a new manifest and removes old files. Whoever wants a store to stay as it is
//! opens a copy.

mod batch;
mod cursor;
mod db;
mod error;
mod library;
mod options;
mod raw;
pub mod records;
mod snapshot;

pub use batch::Batch;
pub use cursor::Cursor;
pub use db::Db;
pub use error::{Error, ErrorKind};
pub use library::{DIRECTORY_VARIABLE, Library, MissingLibrary};
pub use options::{Options, ReadOptions};
pub use snapshot::Snapshot;
