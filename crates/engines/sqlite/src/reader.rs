// SPDX-License-Identifier: Apache-2.0
//! Reading: connections, the pool they come from, snapshots.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Error, ErrorKind, Order, Read, Visitor};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use crate::error::{NAME, fail};

/// Reader connections kept open for later reads.
const READERS_KEPT_MAX: usize = 16;

/// Pages each reader keeps, in KiB.
const CACHE_SIZE_KIB: usize = 4096;

/// Connections that are not in use.
pub(crate) struct Pool {
    path: PathBuf,
    kept: Mutex<Vec<Connection>>,
    /// One reference for each snapshot that is alive, and this one.
    snapshots: Arc<()>,
}

impl Pool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            kept: Mutex::default(),
            snapshots: Arc::default(),
        }
    }

    /// Snapshots that are alive.
    pub(crate) fn n_snapshots(&self) -> usize {
        Arc::strong_count(&self.snapshots) - 1
    }

    fn take(&self) -> Result<Connection, Error> {
        if let Some(kept) = self.kept.lock().pop() {
            return Ok(kept);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.path, flags);
        let connection = opened.map_err(|e| fail("open a reader", e))?;
        let cache = format!("PRAGMA cache_size = -{CACHE_SIZE_KIB}");
        let set = connection.execute_batch(&cache);
        set.map_err(|e| fail("prepare a reader", e))?;
        Ok(connection)
    }

    fn give(&self, connection: Connection) {
        let mut kept = self.kept.lock();
        if kept.len() < READERS_KEPT_MAX {
            kept.push(connection);
        }
    }

    /// Reads with a connection of the pool.
    pub(crate) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let connection = self.take()?;
        let result = read(&connection).map_err(|e| fail("read rows", e));
        self.give(connection);
        result
    }

    /// Fixes the present state.
    pub(crate) fn snapshot(self: &Arc<Self>) -> Result<Snapshot, Error> {
        let connection = self.take()?;
        let begin = || -> rusqlite::Result<()> {
            connection.execute_batch("BEGIN")?;
            // The first read of a transaction fixes what it sees.
            let mut first = connection.prepare_cached("SELECT 1 FROM rows LIMIT 1")?;
            first.query_row([], |_| Ok(())).optional().map(drop)
        };
        begin().map_err(|e| fail("take a snapshot", e))?;
        Ok(Snapshot {
            connection: Mutex::new(Some(connection)),
            pool: Arc::clone(self),
            _counted: Arc::clone(&self.snapshots),
        })
    }
}

/// The value of a key.
pub(crate) fn get(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Bytes>> {
    let mut statement = connection.prepare_cached("SELECT value FROM rows WHERE key = ?1")?;
    let mut rows = statement.query(params![key])?;
    let row = rows.next()?;
    row.map(|row| blob(row, 0).map(Bytes::copy_from_slice))
        .transpose()
}

/// Shows rows without copying them.
pub(crate) fn visit(
    connection: &Connection,
    range: Range<&[u8]>,
    order: Order,
    visitor: &mut Visitor<'_>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(match order {
        Order::Ascending => "SELECT key, value FROM rows WHERE key >= ?1 AND key < ?2 ORDER BY key",
        Order::Descending => {
            "SELECT key, value FROM rows WHERE key >= ?1 AND key < ?2 ORDER BY key DESC"
        }
    })?;
    let mut rows = statement.query(params![range.start, range.end])?;
    while let Some(row) = rows.next()? {
        if visitor(blob(row, 0)?, blob(row, 1)?).is_break() {
            break;
        }
    }
    Ok(())
}

fn blob<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    Ok(row.get_ref(column)?.as_blob()?)
}

/// A reader inside a transaction.
pub(crate) struct Snapshot {
    /// `None` only while it is dropped.
    connection: Mutex<Option<Connection>>,
    pool: Arc<Pool>,
    _counted: Arc<()>,
}

impl Snapshot {
    fn with<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let connection = self.connection.lock();
        let Some(connection) = connection.as_ref() else {
            return Err(Error::new(NAME, ErrorKind::Io, "read a closed snapshot"));
        };
        read(connection).map_err(|e| fail("read rows", e))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.lock().take() else {
            return;
        };
        // A connection that cannot leave its transaction is closed instead.
        if connection.execute_batch("COMMIT").is_ok() {
            self.pool.give(connection);
        }
    }
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.with(|connection| get(connection, key))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        self.with(|connection| visit(connection, range, order, visitor))
    }
}
