// SPDX-License-Identifier: Apache-2.0
//! What a database must do to be a shared store: the little that lies below [`crate::SharedStore`].

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use dulse_store::{Error, ListRange};
use dulse_types::FullPath;

use crate::rows::Rows;

/// Paths whose rows are read together, at most: what etcd answers in one transaction, and few
/// enough that large entries are no more than a page of a listing.
pub const PATHS_MAX: usize = 128;

/// What must hold when writes are made, else `Conflict` and nothing is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// No row is at the path.
    Absent(FullPath),
    /// The row at the path has exactly this value.
    Same(FullPath, Bytes),
    /// The row at the path is a directory's, and stays one until the writes are made.
    Directory(FullPath),
    /// The directory has this many rows directly in it. Whoever adds one holds a
    /// [`Guard::Directory`] on it, so the number stays until the writes are made.
    Names(FullPath, u64),
    /// The key has this value, or is not there.
    Key(Bytes, Option<Bytes>),
}

/// One row to write. No path or key is written twice by one [`Work`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// A row where none is.
    Insert(FullPath, Bytes),
    /// Another value of the row that is there.
    Replace(FullPath, Bytes),
    /// The row that is there goes.
    Remove(FullPath),
    /// A directory's row goes, and with it whatever the database keeps for that directory alone.
    RemoveDirectory(FullPath),
    /// A key gets a value.
    PutKey(Bytes, Bytes),
    /// A key goes, if it is there.
    RemoveKey(Bytes),
}

/// Writes that are made whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Names this attempt and no other, of any filer.
    pub ticket: i64,
    /// What must hold, ordered by path, so that two of them wait for one another in one order.
    pub guards: Vec<Guard>,
    /// What to write, ordered by path.
    pub writes: Vec<Write>,
}

/// What became of an attempt whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// All of it is there, or was.
    Applied,
    /// Nothing of it is there or will be.
    NotApplied,
    /// It is over, but the database does not say how: the rows have to be read.
    Over,
    /// All of it is there, or was, unless the database has lost it in a crash and means another
    /// one: only rows that show it prove it.
    Perhaps,
}

/// Called once, when everything that an attempt writes is locked and before it is visible to
/// anybody: with the database's clock, in nanoseconds since 1970. The locks stay until what it
/// gives has ended; when that fails, nothing is made.
///
/// What another filer writes over any of it later has a later clock, as long as the database's
/// clock does not go back.
pub type Held<'a> = dyn Fn(i64) -> Holding<'a> + Send + Sync + 'a;

/// What is waited for while an attempt holds what it writes.
pub type Holding<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Nothing is waited for.
#[must_use]
pub fn held<'a>() -> Holding<'a> {
    Box::pin(std::future::ready(Ok(())))
}

/// A directory whose entries are in a store of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The directory. It itself is an entry of the default store.
    pub path: FullPath,
    /// Section of `filer.toml`, such as `redis2.tmp`.
    pub section: String,
    /// Id of that store.
    pub store_id: u32,
}

/// A database. Every call is bounded in time; one that cannot reach it is `Unavailable`.
///
/// Contract:
/// - names are listed in ascending byte order, whatever the database's collation;
/// - a read that starts after `apply` returned sees what it wrote;
/// - an error of `apply` is `NotApplied` only when nothing of it can appear later, too; one
///   after which it may appear says `unknown_outcome`, and `settle` then says more;
/// - a failed guard is `Conflict`; so is what the database took back to untie two writers.
pub trait Backend: Send + Sync + 'static {
    /// What logs and errors call it, such as `postgres`.
    fn name(&self) -> &'static str;

    /// The value of the row at a path.
    fn get(&self, path: &FullPath) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;

    /// The values of the rows at several paths, in their order; each is read as
    /// [`Backend::get`] does, at a moment of its own. Where the database reads several in one
    /// round trip, in that.
    ///
    /// - `paths`: at most [`PATHS_MAX`].
    fn get_all(
        &self,
        paths: &[FullPath],
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, Error>> + Send {
        async move {
            let mut values = Vec::with_capacity(paths.len());
            for path in paths {
                values.push(self.get(path).await?);
            }
            Ok(values)
        }
    }

    /// Rows directly in a directory; as [`dulse_store::EntryStore::list`].
    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send;

    /// The value of a key.
    fn kv_get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;

    /// Makes writes under guards.
    fn apply(&self, work: &Work, held: &Held<'_>)
    -> impl Future<Output = Result<(), Error>> + Send;

    /// Waits until an attempt is over and says what became of it, as far as is known.
    ///
    /// - `path`: one of the paths that it wrote; none when it wrote keys alone.
    fn settle(
        &self,
        ticket: i64,
        path: Option<&FullPath>,
    ) -> impl Future<Output = Result<Settled, Error>> + Send;

    /// The database's clock, in nanoseconds since 1970; never behind that of any earlier
    /// [`Held`] here.
    fn clock_ns(&self) -> impl Future<Output = Result<i64, Error>> + Send;

    /// How it is written when it has no transactions: row by row, from a plan in the filer's
    /// journal. `None` when it has, and [`Backend::apply`] makes them.
    fn rows(&self) -> Option<&impl Rows> {
        None::<&crate::rows::Never>
    }

    /// Directories that are in stores of their own; most databases hold all of a tree.
    fn locations(&self) -> &[Location] {
        &[]
    }
}
