// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Order, Read, Usage, Visitor, files};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, params};

use crate::error::{NAME, fail, io as io_error};
use crate::reader::{Pool, get, visit};

/// A log longer than this, in bytes, is cut by a checkpoint that waits for readers.
const WAL_BYTES_MAX: u64 = 64 << 20;

/// How long such a checkpoint waits, and with it the batches behind it.
const READERS_WAIT: Duration = Duration::from_millis(250);

/// How the file is used; the reasons are in the crate's documentation.
///
/// A log that starts over is cut to `journal_size_limit`: below it its room is used again.
const SETUP: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;
    CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// A store in one SQLite file and its log.
pub struct SqliteEngine {
    writer: Mutex<Writer>,
    pool: Arc<Pool>,
    path: PathBuf,
    /// Locked for as long as the store is open. Order: unlocked last.
    _lock: File,
}

/// The one connection that writes.
struct Writer {
    connection: Connection,
    /// Whether a sync failed; then what is on disk is unknown until the store is opened anew.
    is_failed: bool,
}

impl SqliteEngine {
    /// Opens or creates the files `store.sqlite`, `store.sqlite-wal`, `store.sqlite-shm` and
    /// `store.lock` in a directory that exists.
    ///
    /// # Errors
    ///
    /// `Locked` when it is open already, `Corrupt`, `DiskFull`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let lock = files::lock(NAME, &dir.join("store.lock"))?;
        let path = dir.join("store.sqlite");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags);
        let connection = opened.map_err(|e| fail("open the file", e))?;
        let prepared = connection.execute_batch(SETUP);
        prepared.map_err(|e| fail("prepare the file", e))?;
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| io_error("sync the directory", e))?;
        let is_failed = false;
        Ok(Self {
            writer: Mutex::new(Writer {
                connection,
                is_failed,
            }),
            pool: Arc::new(Pool::new(path.clone())),
            path,
            _lock: lock,
        })
    }

    /// The same for a file that may be damaged: SQLite looks at all of its structure first. It
    /// keeps no checksums of pages: what a page says wrong is found by decoding its rows. Cost:
    /// one read of the file.
    ///
    /// # Errors
    ///
    /// As [`SqliteEngine::open`].
    pub fn open_checked(dir: &Path) -> Result<Self, Error> {
        let engine = Self::open(dir)?;
        let found: Result<String, _> =
            engine
                .writer
                .lock()
                .connection
                .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        let found = found.map_err(|e| fail("check the store", e))?;
        if found != "ok" {
            let context = format!("check the store: {found}");
            return Err(Error::new(NAME, ErrorKind::Corrupt, context));
        }
        Ok(engine)
    }

    fn wal(&self) -> PathBuf {
        self.path.with_extension("sqlite-wal")
    }
}

impl Writer {
    fn check(&self) -> Result<(), Error> {
        if self.is_failed {
            let context = "write after a failed sync; the store must be opened anew";
            return Err(Error::new(NAME, ErrorKind::Io, context));
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let txn = self.connection.transaction()?;
        {
            let mut put = txn.prepare_cached(
                "INSERT INTO rows (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?;
            let mut delete = txn.prepare_cached("DELETE FROM rows WHERE key = ?1")?;
            for (key, value) in &batch.writes {
                match value {
                    Some(value) => put.execute(params![key, &value[..]])?,
                    None => delete.execute(params![key])?,
                };
            }
        }
        txn.commit()
    }

    /// Copies the log into the file, as far as readers permit; whether all of it.
    fn copy(&self, how: &str) -> rusqlite::Result<bool> {
        let pragma = format!("PRAGMA wal_checkpoint({how})");
        self.connection.query_row(&pragma, [], |row| {
            let (is_busy, in_log, copied): (i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(is_busy == 0 && in_log == copied)
        })
    }
}

impl Read for SqliteEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.pool.with(|connection| get(connection, key))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        self.pool.with(|c| visit(c, range, order, visitor))
    }
}

impl Engine for SqliteEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let written = writer.write(&batch);
        // A log that starts over syncs its header, so a write may fail to sync too.
        writer.is_failed = written.as_ref().is_err_and(is_sync);
        written.map_err(|e| fail("write a batch", e))
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        // Order: the log first. Once it is synced all is durable, whatever the rest does; and
        // copying syncs nothing when a snapshot leaves it nothing to copy.
        let synced = File::open(self.wal()).and_then(|wal| wal.sync_data().map(|()| wal));
        let wal = match synced {
            Ok(wal) => wal,
            Err(error) => {
                writer.is_failed = true;
                return Err(io_error("sync the log", error));
            }
        };
        let is_long = wal.metadata().is_ok_and(|m| m.len() > WAL_BYTES_MAX);
        // A snapshot would only be waited for in vain.
        let copied = if is_long && self.pool.n_snapshots() == 0 {
            let wait = writer.connection.busy_timeout(READERS_WAIT);
            wait.and_then(|()| writer.copy("TRUNCATE"))
        } else {
            writer.copy("PASSIVE")
        };
        writer.is_failed = copied.as_ref().is_err_and(is_sync);
        copied.map(drop).map_err(|e| fail("copy the log", e))
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(self.pool.snapshot()?))
    }

    fn usage(&self) -> Result<Usage, Error> {
        let size = |path: &Path| match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("look at the files", error)),
        };
        Ok(Usage {
            disk_bytes: size(&self.path)? + size(&self.wal())?,
            n_snapshots: self.pool.n_snapshots(),
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

/// Whether an error is that of a sync.
fn is_sync(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    error.sqlite_error().is_some_and(|error| {
        [SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC].contains(&error.extended_code)
    })
}
