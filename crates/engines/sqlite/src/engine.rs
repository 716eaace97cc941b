// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Read, Row};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

const NAME: &str = "sqlite";

/// Reader connections kept open for later reads.
const READERS_KEPT_MAX: usize = 16;

/// Prepared statements each connection keeps.
const STATEMENTS_MAX: usize = 8;

/// A store in one SQLite file.
pub struct SqliteEngine {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Arc<Mutex<Vec<Connection>>>,
}

impl SqliteEngine {
    /// Opens or creates the file `store.sqlite` in a directory that exists.
    ///
    /// # Errors
    ///
    /// `Locked`, `Corrupt`, `DiskFull`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("store.sqlite");
        let writer = Connection::open(&path).map_err(|e| fail("open the file", e))?;
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 0;
                 CREATE TABLE IF NOT EXISTS rows
                     (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                 PRAGMA synchronous = OFF;",
            )
            .map_err(|e| fail("prepare the file", e))?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            readers: Arc::default(),
        })
    }

    fn reader(&self) -> Result<SqliteSnapshot, Error> {
        let kept = self.readers.lock().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let opened = Connection::open_with_flags(&self.path, flags);
                let connection = opened.map_err(|e| fail("open a reader", e))?;
                connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
                connection
            }
        };
        let pool = Arc::clone(&self.readers);
        Ok(SqliteSnapshot {
            connection: Mutex::new(Some(connection)),
            pool,
        })
    }
}

/// A reader; inside a transaction where it must see one state.
struct SqliteSnapshot {
    connection: Mutex<Option<Connection>>,
    pool: Arc<Mutex<Vec<Connection>>>,
}

impl SqliteSnapshot {
    fn with<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let connection = self.connection.lock();
        let Some(connection) = connection.as_ref() else {
            return Err(Error::new(
                NAME,
                ErrorKind::Io,
                "read from a closed snapshot",
            ));
        };
        read(connection).map_err(|e| fail("read rows", e))
    }
}

impl Drop for SqliteSnapshot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.lock().take() else {
            return;
        };
        if !connection.is_autocommit() && connection.execute_batch("COMMIT").is_err() {
            return;
        }
        let mut pool = self.pool.lock();
        if pool.len() < READERS_KEPT_MAX {
            pool.push(connection);
        }
    }
}

impl Read for SqliteSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT value FROM rows WHERE key = ?1")?;
            let value = statement.query_row(params![key], |row| row.get::<_, Vec<u8>>(0));
            Ok(value.optional()?.map(Bytes::from))
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, value FROM rows WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
            )?;
            let rows = statement.query_map(params![from, to, limit], |row| {
                Ok((
                    Bytes::from(row.get::<_, Vec<u8>>(0)?),
                    Bytes::from(row.get::<_, Vec<u8>>(1)?),
                ))
            })?;
            rows.collect()
        })
    }
}

impl Read for SqliteEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.reader()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.reader()?.scan(from, to, limit)
    }
}

impl Engine for SqliteEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut connection = self.writer.lock();
        let write = || -> rusqlite::Result<()> {
            let txn = connection.transaction()?;
            {
                let mut put =
                    txn.prepare_cached("INSERT OR REPLACE INTO rows (key, value) VALUES (?1, ?2)")?;
                let mut delete = txn.prepare_cached("DELETE FROM rows WHERE key = ?1")?;
                for (key, value) in &batch.writes {
                    match value {
                        Some(value) => put.execute(params![key, &value[..]])?,
                        None => delete.execute(params![key])?,
                    };
                }
            }
            txn.commit()
        };
        let mut write = write;
        write().map_err(|e| fail("write a batch", e))
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let connection = self.writer.lock();
        // FULL syncs the WAL before and the file after the copy; OFF again for speed.
        // RESTART or TRUNCATE would wait for readers; what a long snapshot keeps back is
        // synced in the WAL.
        let checkpoint = || -> rusqlite::Result<()> {
            connection.execute_batch("PRAGMA synchronous = FULL")?;
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            connection.execute_batch("PRAGMA synchronous = OFF")
        };
        checkpoint().map_err(|e| fail("checkpoint", e))?;
        // A passive checkpoint that copied nothing has synced nothing: sync the WAL itself.
        let wal = self.path.with_extension("sqlite-wal");
        let synced = std::fs::File::open(wal).and_then(|file| file.sync_all());
        synced.map_err(|e| Error::new(NAME, ErrorKind::from(&e), "sync the log").source(e))
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        let reader = self.reader()?;
        // The first read of a transaction fixes what it sees.
        reader.with(|connection| {
            connection.execute_batch("BEGIN")?;
            connection.query_row(
                "SELECT count(*) FROM (SELECT 1 FROM rows LIMIT 1)",
                [],
                |_| Ok(()),
            )
        })?;
        Ok(Box::new(reader))
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

fn fail(context: &str, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::DiskFull,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    };
    Error::new(NAME, kind, context).source(error)
}
