// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Order, Read, Usage, Visitor, files};
use dulse_leveldb::{Cursor, Db, ReadOptions, Snapshot};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::error::{NAME, fail, io as io_error};
use crate::opening;
use crate::recovery::{at, logs};

/// Whether there is a library to load; without one nothing should be made for the engine.
///
/// # Errors
///
/// `Io`, with the package to install.
pub fn library() -> Result<(), Error> {
    let loaded = dulse_leveldb::Library::get().map(drop);
    loaded.map_err(|e| fail("load the library", e.into()))
}

/// How much LevelDB keeps in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Batches that are not in a table yet, and the size of a log, in bytes; there may be twice
    /// as much. More makes the log after a crash longer and the margin of a full disk wider.
    /// LevelDB takes no less than 64 KiB.
    pub write_buffer_size_bytes: usize,
    /// Blocks of tables, in bytes.
    pub block_cache_size_bytes: usize,
    /// Room that a batch leaves on the disk, in bytes. Below it LevelDB may meet a full disk,
    /// and the store may not open on one.
    pub margin_bytes: u64,
}

impl Options {
    /// What a filer uses.
    pub const STANDARD: Self = Self {
        write_buffer_size_bytes: 8 << 20,
        block_cache_size_bytes: 32 << 20,
        // Two tables of what is in memory, the first blocks of a new log, manifests.
        margin_bytes: 18 << 20,
    };

    fn raw(self) -> dulse_leveldb::Options {
        dulse_leveldb::Options {
            create_if_missing: false,
            paranoid_checks: true,
            write_buffer_size_bytes: self.write_buffer_size_bytes,
            n_open_files_max: 1000,
            table_size_bytes: 4 << 20,
            block_cache_size_bytes: self.block_cache_size_bytes,
            filter_bits_per_key: 10,
            is_compressed: true,
        }
    }
}

/// Every block that comes from a file is checked.
const READ: ReadOptions = ReadOptions {
    verifies_checksums: true,
    fills_cache: true,
};

/// A store in the files of one directory.
pub struct LeveldbEngine {
    writer: Mutex<Writer>,
    /// `None` after it could not be opened anew. Order: locked behind `writer`; a scan holds it
    /// for reading, so that nothing is closed under it.
    open: RwLock<Option<Arc<Db>>>,
    options: Options,
    dir: PathBuf,
    /// The same, for asking about its disk.
    dir_file: File,
    /// One reference for each snapshot that is alive, and this one: the lock lives as long as
    /// any. Order: unlocked behind the database, so it is the last.
    lock: Arc<File>,
}

/// What writing has come to.
struct Writer {
    /// Whether a write or sync failed for another reason than a full disk; then what is on disk
    /// is unknown until the store is opened anew.
    is_failed: bool,
    /// Whether LevelDB met a full disk; then it is opened anew before the next batch.
    is_stuck: bool,
}

impl LeveldbEngine {
    /// Opens or makes the files of a store in a directory that exists and holds nothing else.
    ///
    /// # Errors
    ///
    /// `Locked` when it is open already, `Corrupt`, `DiskFull`; `Io`, also when there is no
    /// library, which the error's source says.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Options::STANDARD)
    }

    /// The same with other sizes.
    ///
    /// # Errors
    ///
    /// As [`LeveldbEngine::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, Error> {
        let dir_file = File::open(dir).map_err(|e| at("open", dir, e))?;
        let lock = files::lock(NAME, &dir.join("LOCK"))?;
        let db = opening::open(dir, &options.raw())?;
        Ok(Self {
            writer: Mutex::new(Writer {
                is_failed: false,
                is_stuck: false,
            }),
            open: RwLock::new(Some(Arc::new(db))),
            options,
            dir: dir.to_owned(),
            dir_file,
            lock: Arc::new(lock),
        })
    }

    /// The same for a store that may be damaged: every block is read and its checksum verified.
    /// Cost: one read of all tables.
    ///
    /// # Errors
    ///
    /// As [`LeveldbEngine::open`].
    pub fn open_checked(dir: &Path) -> Result<Self, Error> {
        let engine = Self::open(dir)?;
        let unkept = ReadOptions {
            fills_cache: false,
            ..READ
        };
        let mut cursor = engine.with(|db| db.cursor(unkept, None))?;
        cursor.seek_to_first();
        while cursor.row().is_some() {
            cursor.next();
        }
        cursor.status().map_err(|e| fail("check the store", e))?;
        drop(cursor);
        Ok(engine)
    }

    /// Reads of the open database.
    fn with<T>(
        &self,
        read: impl FnOnce(&Db) -> Result<T, dulse_leveldb::Error>,
    ) -> Result<T, Error> {
        let open = self.open.read();
        read(database(&open)?).map_err(|e| fail("read rows", e))
    }

    fn n_snapshots(&self) -> usize {
        Arc::strong_count(&self.lock) - 1
    }

    /// Refuses what would fill the disk.
    fn check_room(&self, needed: u64) -> Result<(), Error> {
        match files::free_bytes(&self.dir_file) {
            Some(free) if free < needed => {
                let context = format!("write with {free} bytes free on the disk, {needed} needed");
                Err(Error::new(NAME, ErrorKind::DiskFull, context))
            }
            _ => Ok(()),
        }
    }

    /// Opens the database anew after it met a full disk, once there is room for what opening
    /// writes: tables of all that is in the logs.
    fn open_anew(&self) -> Result<(), Error> {
        let mut in_logs = 0;
        for path in logs(&self.dir)?.values() {
            in_logs += std::fs::metadata(path).map_or(0, |log| log.len());
        }
        self.check_room(
            in_logs
                .saturating_mul(2)
                .saturating_add(self.options.margin_bytes),
        )?;
        let mut open = self.open.write();
        let n = self.n_snapshots();
        if n > 0 {
            let context = format!("open the store anew after a full disk: {n} snapshots are read");
            return Err(Error::new(NAME, ErrorKind::DiskFull, context));
        }
        tracing::warn!(dir = %self.dir.display(), "opening the store anew after a full disk");
        // Order: closed first, as it has its own lock. All readers are gone: they hold the lock
        // of `open`, and snapshots were counted.
        *open = None;
        *open = Some(Arc::new(opening::open(&self.dir, &self.options.raw())?));
        Ok(())
    }

    fn write_now(&self, writer: &mut Writer, batch: &Batch) -> Result<(), Error> {
        if writer.is_stuck {
            self.open_anew()?;
            writer.is_stuck = false;
        }
        let rows = batch.writes.iter().map(|(key, value)| {
            let row = key.len() + value.as_ref().map_or(0, Bytes::len);
            row as u64 + 16
        });
        // Who removes may go on where nobody adds any more: else a full store stayed full.
        let adds = batch.writes.iter().any(|(_, value)| value.is_some());
        let margin = match adds {
            true => self.options.margin_bytes,
            false => self.options.margin_bytes / 2,
        };
        self.check_room(rows.sum::<u64>().saturating_mul(2) + margin)?;
        let wrong = |e| fail("write a batch", e);
        let mut raw = dulse_leveldb::Batch::new().map_err(wrong)?;
        for (key, value) in &batch.writes {
            match value {
                Some(value) => raw.put(key, value),
                None => raw.delete(key),
            }
        }
        let open = self.open.read();
        let written = database(&open)?.write(&mut raw, false).map_err(wrong);
        if let Err(error) = &written {
            let is_full = error.kind() == ErrorKind::DiskFull;
            writer.is_stuck = is_full;
            writer.is_failed = !is_full;
        }
        written
    }
}

impl Writer {
    fn check(&self) -> Result<(), Error> {
        if self.is_failed {
            let context = "write after a failed sync or write; the store must be opened anew";
            return Err(Error::new(NAME, ErrorKind::Io, context));
        }
        Ok(())
    }
}

fn database<'a>(open: &'a RwLockReadGuard<'_, Option<Arc<Db>>>) -> Result<&'a Arc<Db>, Error> {
    open.as_ref().ok_or_else(|| {
        let context = "read a store that could not be opened anew after a full disk";
        Error::new(NAME, ErrorKind::DiskFull, context)
    })
}

fn visit(
    mut cursor: Cursor,
    range: Range<&[u8]>,
    order: Order,
    visitor: &mut Visitor<'_>,
) -> Result<(), Error> {
    match order {
        Order::Ascending => cursor.seek(range.start),
        Order::Descending => {
            cursor.seek(range.end);
            match cursor.row() {
                Some(_) => cursor.prev(),
                None => cursor.seek_to_last(),
            }
        }
    }
    while let Some((key, value)) = cursor.row() {
        if key < range.start || key >= range.end || visitor(key, value).is_break() {
            break;
        }
        match order {
            Order::Ascending => cursor.next(),
            Order::Descending => cursor.prev(),
        }
    }
    // Damage is stepped over, so it is asked for however the scan ended.
    cursor.status().map_err(|e| fail("scan rows", e))
}

impl Read for LeveldbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.with(|db| db.get(key, READ, None))?;
        Ok(value.map(Bytes::from))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if range.start >= range.end {
            return Ok(());
        }
        let open = self.open.read();
        let cursor = database(&open)?.cursor(READ, None);
        visit(
            cursor.map_err(|e| fail("scan rows", e))?,
            range,
            order,
            visitor,
        )
    }
}

/// One state of the store.
struct LeveldbSnapshot {
    snapshot: Snapshot,
    db: Arc<Db>,
    /// Order: dropped behind the database.
    _counted: Arc<File>,
}

impl Read for LeveldbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.db.get(key, READ, Some(&self.snapshot));
        Ok(value.map_err(|e| fail("read a row", e))?.map(Bytes::from))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        if range.start >= range.end {
            return Ok(());
        }
        let cursor = self.db.cursor(READ, Some(&self.snapshot));
        visit(
            cursor.map_err(|e| fail("scan rows", e))?,
            range,
            order,
            visitor,
        )
    }
}

impl Engine for LeveldbEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        self.write_now(&mut writer, &batch)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        // Every batch is in a log, or in a table that LevelDB has synced: a log is deleted only
        // behind that. While the writer is locked no new log is begun.
        let synced = logs(&self.dir).and_then(|logs| {
            for path in logs.values() {
                match File::open(path).and_then(|log| log.sync_data()) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    done => done.map_err(|e| at("sync", path, e))?,
                }
            }
            // Their names, too.
            self.dir_file
                .sync_all()
                .map_err(|e| at("sync", &self.dir, e))
        });
        writer.is_failed = synced.is_err();
        synced
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        let open = self.open.read();
        let db = database(&open)?;
        Ok(Box::new(LeveldbSnapshot {
            snapshot: db.snapshot(),
            db: Arc::clone(db),
            _counted: Arc::clone(&self.lock),
        }))
    }

    fn usage(&self) -> Result<Usage, Error> {
        let mut disk_bytes = 0;
        for path in opening::files(&self.dir)? {
            match std::fs::metadata(&path) {
                Ok(file) => disk_bytes += file.blocks() * 512,
                // Tables come and go.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("look at the files", e)),
            }
        }
        Ok(Usage {
            disk_bytes,
            n_snapshots: self.n_snapshots(),
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}
