// SPDX-License-Identifier: Apache-2.0
//! What upstream's filers stored, read and taken over: a stopped store or a copy of one, or a
//! file that `fs.meta.save` wrote.
//!
//! A source yields [`Item`]s, parents before what is in them. [`fill`] puts them into a store,
//! [`verify`] compares a store with them. Both can be called again at any time: what is there is
//! looked at and left, which is how an interrupted import goes on. Nothing is written to a
//! source, and nothing of it is left out in silence: what cannot be taken is an item, too.
//!
//! The formats are in docs/formats/upstream-stores.md.

mod fill;
mod item;
mod leveldb;
pub mod meta;
mod rocks;
mod sqlite;
mod tree;
mod value;

pub use fill::{Counts, Failed, Problems, fill, verify};
pub use item::{Item, SourceError};
pub use leveldb::{Layout, LevelDbSource, leveldb_row};
#[cfg(feature = "rocksdb")]
pub use rocks::RocksDbSource;
pub use rocks::rocksdb_row;
pub use sqlite::{Columns, SqliteSource, sqlite_row};
pub use tree::{Child, Items, Row, Tree, items};
pub use value::{decode_value, is_local_key};
