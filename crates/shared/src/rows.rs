// SPDX-License-Identifier: Apache-2.0
//! What a database without transactions must do to be a shared store: conditional writes of
//! single rows, and a number per filer that only rises.

use std::borrow::Cow;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;

use crate::backend::{Backend, Guard, Held, Settled, Work, Write};

/// Where a row is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum At {
    /// The entry at a path.
    Path(FullPath),
    /// A key of the key-value space.
    Key(Bytes),
}

/// One row to write, if it is as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowWrite {
    /// Where.
    pub at: At,
    /// What must be there; `None` for nothing.
    pub before: Option<Bytes>,
    /// What is to be there; `None` for nothing. What was there already may be written again.
    pub after: Option<Bytes>,
}

impl RowWrite {
    /// Whether it is an entry that goes.
    pub(crate) fn goes(&self) -> bool {
        self.before.is_some() && self.after.is_none() && matches!(self.at, At::Path(_))
    }

    /// Whether it is an entry where none was.
    pub(crate) fn is_new(&self) -> bool {
        self.before.is_none() && self.after.is_some() && matches!(self.at, At::Path(_))
    }

    /// Whether it leaves the row as it is.
    pub(crate) fn stays(&self) -> bool {
        self.before == self.after
    }

    /// The write that makes this one undone.
    #[must_use]
    pub(crate) fn undo(&self) -> Self {
        Self {
            at: self.at.clone(),
            before: self.after.clone(),
            after: self.before.clone(),
        }
    }
}

/// What keys begin with that filers of ours keep beside the key-value space.
const OURS: &[u8] = b"dulse.";

/// In front of keys of that space that begin so.
const APART: &[u8] = b"dulse.pair.";

/// Where a key of the key-value space lies, in a database in which filers' numbers are keys as
/// well: no key that a client writes is one of theirs.
#[must_use]
pub fn pair_key(key: &[u8]) -> Cow<'_, [u8]> {
    match key.starts_with(OURS) {
        true => Cow::Owned([APART, key].concat()),
        false => Cow::Borrowed(key),
    }
}

/// How much one [`Rows::write`] may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupMax {
    /// Rows; 1 where the database compares and writes single rows only.
    pub n_rows: usize,
    /// Values before and after together, in bytes. One row alone may have more.
    pub n_bytes: usize,
}

/// A database that compares and writes one row at a time, or some of one directory.
///
/// Contract:
/// - names are listed in ascending byte order;
/// - a read or a write that starts after a write was answered, at whatever filer, sees it;
/// - an error of `write` is `NotApplied` only when nothing of it can appear later, too; any
///   other says `unknown_outcome`, and then nothing of it appears any more once `late_max` has
///   passed – where it is a `Conflict`, at once – and `settle` was called behind that;
/// - a value is read back as the bytes that were written.
///
/// Every call is bounded in time; one that cannot reach the database is `Unavailable`.
pub trait Rows: Send + Sync + 'static {
    /// What logs and errors call it, such as `cassandra2`.
    fn name(&self) -> &'static str;

    /// The value of the row at a path.
    fn get(&self, path: &FullPath) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;

    /// The values of the rows at several paths; as [`Backend::get_all`].
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

    /// Writes rows whole or not at all: `false` when one of them is not as its `before` says, and
    /// nothing was written.
    ///
    /// - `group`: one key, or rows directly in one directory, at most [`Rows::group_max`].
    fn write(&self, group: &[RowWrite]) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Makes writes that do not depend on one another, in whatever order: each as
    /// [`Rows::write`] makes it, and what became of each, in the order of `groups`. A database
    /// that takes many in one round trip does better than to be asked for each.
    fn write_all(
        &self,
        groups: &[Vec<RowWrite>],
    ) -> impl Future<Output = Vec<Result<bool, Error>>> + Send {
        let writes: Vec<_> = groups.iter().map(|group| self.write(group)).collect();
        let writes = stream::iter(writes).buffered(self.writes_max());
        writes.collect()
    }

    /// How much one write may hold.
    fn group_max(&self) -> GroupMax;

    /// Whether rows directly in this directory may be in one write, and are listed; most
    /// databases keep all directories alike. One whose rows are not is never moved, and no
    /// directory is moved there.
    fn groups(&self, _directory: &FullPath) -> bool {
        true
    }

    /// Writes that may be under way at once for one transaction, at least 1.
    fn writes_max(&self) -> usize;

    /// How long after an answer was lost the write may still appear.
    fn late_max(&self) -> Duration;

    /// Sees to it that nothing appears any more of what was asked of rows before `late_max`, at
    /// whatever run of this filer; most databases have nothing to do then. Where it fails, it is
    /// done again.
    fn settle(&self, _rows: &[At]) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Raises the number of a filer to `stamp`, unless it is there already. Only that filer
    /// raises it, each time higher; an error leaves it open whether it was.
    ///
    /// - `filer`: the upper half of its origin.
    fn raise(&self, filer: u32, stamp: i64) -> impl Future<Output = Result<(), Error>> + Send;

    /// The numbers of all filers that ever raised theirs.
    fn raised(&self) -> impl Future<Output = Result<Vec<(u32, i64)>, Error>> + Send;
}

/// A database without transactions as a [`Backend`]: what it holds is written row by row, from a
/// plan in the filer's journal.
pub struct Stepwise<R>(pub R);

impl<R: Rows> Backend for Stepwise<R> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn get(&self, path: &FullPath) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.0.get(path)
    }

    fn get_all(
        &self,
        paths: &[FullPath],
    ) -> impl Future<Output = Result<Vec<Option<Bytes>>, Error>> + Send {
        self.0.get_all(paths)
    }

    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.0.list(directory, range)
    }

    fn kv_get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.0.kv_get(key)
    }

    /// Makes the one write that needs no plan: that of the store's id. A transaction goes through
    /// [`Backend::rows`].
    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let [Write::PutKey(key, value)] = &work.writes[..] else {
            let text = "a database without transactions is written row by row";
            return Err(Error::new(Operation::Commit, ErrorKind::Invalid).with("because", text));
        };
        let before = work.guards.iter().find_map(|guard| match guard {
            Guard::Key(guarded, before) if guarded == key => Some(before.clone()),
            _ => None,
        });
        let write = RowWrite {
            at: At::Key(key.clone()),
            before: before.flatten(),
            after: Some(value.clone()),
        };
        held(wall_clock_ns()).await?;
        match self.0.write(&[write]).await? {
            true => Ok(()),
            false => Err(Error::new(Operation::Commit, ErrorKind::Conflict)),
        }
    }

    async fn settle(&self, _ticket: i64, _: Option<&FullPath>) -> Result<Settled, Error> {
        tokio::time::sleep(self.0.late_max()).await;
        Ok(Settled::Over)
    }

    /// This filer's own clock: the numbers of [`Rows::raise`] make the order. They are asked for
    /// all the same, since who asks for the clock wants to know whether the database answers.
    async fn clock_ns(&self) -> Result<i64, Error> {
        self.0.raised().await?;
        Ok(wall_clock_ns())
    }

    fn rows(&self) -> Option<&impl Rows> {
        Some(&self.0)
    }
}

/// This machine's clock, in nanoseconds since 1970.
pub(crate) fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// No rows: what [`Backend::rows`] of a database with transactions is the type of.
pub(crate) enum Never {}

impl Rows for Never {
    fn name(&self) -> &'static str {
        match *self {}
    }
    async fn get(&self, _: &FullPath) -> Result<Option<Bytes>, Error> {
        match *self {}
    }
    async fn list(&self, _: &FullPath, _: &ListRange) -> Result<Vec<(String, Bytes)>, Error> {
        match *self {}
    }
    async fn kv_get(&self, _: &[u8]) -> Result<Option<Bytes>, Error> {
        match *self {}
    }
    async fn write(&self, _: &[RowWrite]) -> Result<bool, Error> {
        match *self {}
    }
    fn group_max(&self) -> GroupMax {
        match *self {}
    }
    fn writes_max(&self) -> usize {
        match *self {}
    }
    fn late_max(&self) -> Duration {
        match *self {}
    }
    async fn raise(&self, _: u32, _: i64) -> Result<(), Error> {
        match *self {}
    }
    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        match *self {}
    }
}
