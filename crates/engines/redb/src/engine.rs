// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Order, Read, Usage, Visitor};
use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition,
};

use crate::error::{Cause, NAME};
use crate::file::ReservedFile;
use crate::reserve::Reserve;

/// All rows; the spaces are leading bytes of the keys.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Pages kept in memory unless told otherwise, in bytes.
const CACHE_SIZE_BYTES: usize = 128 << 20;

/// redb's pages, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Pages that writing one row may change: two leaves and their share of the branches.
const PAGES_PER_ROW: u64 = 4;

/// Pages that a batch changes whatever is in it: the way to the root.
const PAGES_PER_BATCH: u64 = 16;

/// What a checkpoint writes besides: the tables of free pages, in bytes.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// What the caller decides.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pages kept in memory, in bytes; unsynced ones may take half of it.
    pub cache_size_bytes: usize,
}

/// A store in one redb file.
pub struct RedbEngine {
    /// The last state. Readers share it instead of opening a transaction and a table each.
    /// Order: dropped before the database.
    current: ArcSwap<Table>,
    /// `None` only while it is dropped.
    database: Option<Database>,
    /// One reference for each snapshot that is alive, and this one.
    snapshots: Arc<()>,
    disk: Option<Disk>,
    writer: Mutex<Writer>,
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The files, where they are files.
struct Disk {
    path: PathBuf,
    reserve: Arc<Reserve>,
    unsynced_bytes_max: u64,
}

/// Held over each commit.
#[derive(Default)]
struct Writer {
    /// What the pages of batches since the last checkpoint may take, in bytes.
    unsynced_bytes: u64,
}

impl RedbEngine {
    /// Opens or creates the files `store.redb` and `store.reserve` in a directory that exists.
    ///
    /// # Errors
    ///
    /// `Locked` when another process has it open, `Corrupt`, `DiskFull`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let cache_size_bytes = CACHE_SIZE_BYTES;
        Self::open_with(dir, Options { cache_size_bytes })
    }

    /// The same for a file that may be damaged: all of it is read and every checksum looked at
    /// first. A plain open trusts a file that was closed cleanly, and may panic over one that
    /// something else changed. Cost: one read of the file.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn open_checked(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("store.redb");
        if path.exists() {
            let checked = redb::Builder::new()
                .set_check_integrity_on_open(true)
                .open(&path);
            drop(checked.map_err(|e| e.while_doing("check the store"))?);
        }
        Self::open(dir)
    }

    /// The same with other options.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, Error> {
        let path = dir.join("store.redb");
        if !path.exists() {
            create(dir, &path, options)?;
        }
        let reserve = Reserve::open(&dir.join("store.reserve")).map_err(|e| at(&path, &e))?;
        let reserve = Arc::new(reserve);
        let file = ReservedFile {
            file: file(&path)?,
            reserve: Arc::clone(&reserve),
        };
        let mut engine = Self::with_backend(file, options)?;
        engine.disk = Some(Disk {
            path,
            reserve,
            unsynced_bytes_max: options.cache_size_bytes as u64 / 2,
        });
        Ok(engine)
    }

    /// A store in any storage, without a reserve: for tests that let storage fail.
    ///
    /// # Errors
    ///
    /// As [`RedbEngine::open`].
    pub fn with_backend(backend: impl StorageBackend, options: Options) -> Result<Self, Error> {
        let database = redb::Builder::new()
            .set_cache_size(options.cache_size_bytes)
            .create_with_backend(backend)
            .map_err(|e| e.while_doing("open the store"))?;
        // The first commit makes the table, so that readers find one.
        commit(&database, Batch::default(), Durability::Immediate)?;
        Ok(Self {
            current: ArcSwap::from_pointee(table(&database)?),
            database: Some(database),
            snapshots: Arc::default(),
            disk: None,
            writer: Mutex::default(),
        })
    }

    fn database(&self) -> &Database {
        let database = self.database.as_ref();
        database.expect("only drop takes the database")
    }

    /// Sets aside what unsynced pages and `coming_bytes` more may need.
    fn reserve(&self, unsynced_bytes: u64, coming_bytes: u64) -> Result<(), Error> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        // The cache bounds what waits to be written, whatever was written since.
        let waiting = unsynced_bytes.min(disk.unsynced_bytes_max);
        let held = disk.reserve.hold(waiting + coming_bytes + CHECKPOINT_BYTES);
        held.map_err(|e| Error::new(NAME, ErrorKind::from(&e), "set room aside").source(e))
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        // Dropping a database hides its errors. Nothing is lost by them: what counts is the
        // last checkpoint.
        if let Some(Err(error)) = self.database.take().map(Database::close) {
            tracing::warn!(%error, "the redb store was not closed cleanly");
        }
    }
}

/// Makes a new store under another name: half of one would never open again.
fn create(dir: &Path, path: &Path, options: Options) -> Result<(), Error> {
    let new = path.with_extension("redb.new");
    let removed = std::fs::remove_file(&new);
    removed
        .or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(e)
            }
        })
        .map_err(|e| at(&new, &e))?;
    drop(RedbEngine::with_backend(file(&new)?, options)?);
    let renamed = || -> io::Result<()> {
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    };
    renamed().map_err(|e| at(path, &e))
}

fn file(path: &Path) -> Result<FileBackend, Error> {
    let mut how = File::options();
    how.read(true).write(true).create(true).truncate(false);
    let file = how.open(path).map_err(|e| at(path, &e))?;
    FileBackend::new(file).map_err(|e| e.while_doing(&format!("open `{}`", path.display())))
}

fn at(path: &Path, error: &io::Error) -> Error {
    let context = format!("use `{}`: {error}", path.display());
    Error::new(NAME, ErrorKind::from(error), context)
}

fn commit(database: &Database, batch: Batch, durability: Durability) -> Result<(), Error> {
    let begun = database.begin_write();
    let mut txn = begun.map_err(|e| e.while_doing("begin a write"))?;
    txn.set_quick_repair(matches!(durability, Durability::Immediate));
    txn.set_durability(durability)
        .map_err(|e| Error::new(NAME, ErrorKind::Io, "set the durability").source(e))?;
    {
        let opened = txn.open_table(ROWS);
        let mut table = opened.map_err(|e| e.while_doing("open the table"))?;
        for (key, value) in batch.writes {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_ref()),
                None => table.remove(key.as_slice()),
            }
            .map_err(|e| e.while_doing("write a row"))?;
        }
    }
    txn.commit().map_err(|e| e.while_doing("commit a batch"))
}

/// The rows of the last commit.
fn table(database: &Database) -> Result<Table, Error> {
    let begun = database.begin_read();
    let txn = begun.map_err(|e| e.while_doing("begin a read"))?;
    let opened = txn.open_table(ROWS);
    opened.map_err(|e| e.while_doing("open the table"))
}

/// What the pages that a batch changes may take, in bytes.
fn bound(batch: &Batch) -> u64 {
    let rows = batch.writes.iter().map(|(key, value)| {
        let row = key.len() + value.as_ref().map_or(0, Bytes::len);
        // Long rows get a run of pages that is a power of two.
        PAGES_PER_ROW * PAGE_BYTES + 2 * row as u64
    });
    PAGES_PER_BATCH * PAGE_BYTES + rows.sum::<u64>()
}

fn get(table: &Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
    let value = table.get(key).map_err(|e| e.while_doing("read a row"))?;
    Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
}

fn visit(
    table: &Table,
    range: Range<&[u8]>,
    order: Order,
    visitor: &mut Visitor<'_>,
) -> Result<(), Error> {
    if range.start >= range.end {
        return Ok(());
    }
    let rows = table.range::<&[u8]>(range);
    let mut rows = rows.map_err(|e| e.while_doing("scan rows"))?;
    while let Some(row) = match order {
        Order::Ascending => rows.next(),
        Order::Descending => rows.next_back(),
    } {
        let (key, value) = row.map_err(|e| e.while_doing("scan rows"))?;
        if visitor(key.value(), value.value()).is_break() {
            break;
        }
    }
    Ok(())
}

/// One state of the file.
struct RedbSnapshot {
    table: Arc<Table>,
    _counted: Arc<()>,
}

impl Read for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        get(&self.table, key)
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        visit(&self.table, range, order, visitor)
    }
}

impl Read for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        get(&self.current.load(), key)
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        visit(&self.current.load_full(), range, order, visitor)
    }
}

impl Engine for RedbEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let coming = bound(&batch);
        self.reserve(writer.unsynced_bytes, coming)?;
        commit(self.database(), batch, Durability::None)?;
        writer.unsynced_bytes = writer.unsynced_bytes.saturating_add(coming);
        self.current.store(Arc::new(table(self.database())?));
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        // Writing out without the room for it would fail for good.
        self.reserve(writer.unsynced_bytes, 0)?;
        commit(self.database(), Batch::default(), Durability::Immediate)?;
        writer.unsynced_bytes = 0;
        self.current.store(Arc::new(table(self.database())?));
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(RedbSnapshot {
            table: self.current.load_full(),
            _counted: Arc::clone(&self.snapshots),
        }))
    }

    fn usage(&self) -> Result<Usage, Error> {
        let size = |disk: &Disk| -> io::Result<u64> {
            // The file may have holes.
            let rows = std::fs::metadata(&disk.path)?.blocks() * 512;
            Ok(rows + disk.reserve.disk_bytes()?)
        };
        let disk_bytes = match &self.disk {
            Some(disk) => size(disk).map_err(|e| at(&disk.path, &e))?,
            None => 0,
        };
        Ok(Usage {
            disk_bytes,
            n_snapshots: Arc::strong_count(&self.snapshots) - 1,
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}
