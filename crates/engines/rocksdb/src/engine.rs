// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Order, Read, Usage, Visitor, files};
use parking_lot::Mutex;
use rocksdb::{DB, ReadOptions, WriteBatch, WriteOptions};

use crate::error::{NAME, at, fail, io as io_error};
use crate::opening;
use crate::options::Options;
use crate::snapshot::{RocksdbSnapshot, get, read_options, visit};

/// How long a batch waits before it tries again, where compaction does not keep up.
const STALL_WAIT: Duration = Duration::from_millis(2);

/// Bytes of all memtables.
const IN_MEMORY: &str = "rocksdb.cur-size-all-mem-tables";

/// A store in the files of one directory.
pub struct RocksdbEngine {
    writer: Mutex<Writer>,
    db: Arc<DB>,
    reads: ReadOptions,
    options: Options,
    dir: PathBuf,
    /// The same, for asking about its disk.
    dir_file: File,
    /// One reference for each snapshot that is alive, and this one: the lock lives as long as
    /// any. Order: unlocked behind the database, so it is the last.
    lock: Arc<File>,
}

/// The one that writes.
struct Writer {
    options: WriteOptions,
    /// Whether a write or sync failed for another reason than a full disk; then what is on disk
    /// is unknown until the store is opened anew.
    is_failed: bool,
    /// Whether RocksDB met a full disk the last time; it goes on by itself once there is room.
    is_full: bool,
}

impl RocksdbEngine {
    /// Opens or makes the files of a store in a directory that exists and holds nothing else.
    ///
    /// # Errors
    ///
    /// `Locked` when it is open already, `Corrupt`, `DiskFull`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Options::STANDARD)
    }

    /// The same with other sizes.
    ///
    /// # Errors
    ///
    /// As [`RocksdbEngine::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, Error> {
        let dir_file = File::open(dir).map_err(|e| at("open", dir, e))?;
        let lock = files::lock(NAME, &dir.join("store.lock"))?;
        let db = opening::open(dir, options)?;
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        writes.set_no_slowdown(true);
        Ok(Self {
            writer: Mutex::new(Writer {
                options: writes,
                is_failed: false,
                is_full: false,
            }),
            db: Arc::new(db),
            reads: read_options(),
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
    /// As [`RocksdbEngine::open`].
    pub fn open_checked(dir: &Path) -> Result<Self, Error> {
        let engine = Self::open(dir)?;
        let mut options = read_options();
        options.fill_cache(false);
        let mut cursor = engine.db.raw_iterator_opt(options);
        cursor.seek_to_first();
        while cursor.valid() {
            cursor.next();
        }
        cursor.status().map_err(|e| fail("check the store", e))?;
        drop(cursor);
        Ok(engine)
    }

    /// Refuses what would fill the disk: there must be room for tables of all memtables.
    fn check_room(&self, batch: &Batch) -> Result<(), Error> {
        let Some(free) = files::free_bytes(&self.dir_file) else {
            return Ok(());
        };
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
        let in_memory = self.db.property_int_value(IN_MEMORY);
        let in_memory = in_memory.map_err(|e| fail("ask for its size", e))?;
        let needed = rows.sum::<u64>().saturating_mul(2) + in_memory.unwrap_or(0) + margin;
        if free < needed {
            let context = format!("write with {free} bytes free on the disk, {needed} needed");
            return Err(Error::new(NAME, ErrorKind::DiskFull, context));
        }
        Ok(())
    }

    fn write_now(&self, writer: &mut Writer, batch: &Batch) -> Result<(), Error> {
        loop {
            self.check_room(batch)?;
            let mut raw = WriteBatch::default();
            for (key, value) in &batch.writes {
                match value {
                    Some(value) => raw.put(key, value),
                    None => raw.delete(key),
                }
            }
            match self.db.write_opt(raw, &writer.options) {
                // Nothing of it was applied. Whether there is room is asked again.
                Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => {
                    std::thread::sleep(STALL_WAIT);
                }
                written => return writer.judge(written, "write a batch"),
            }
        }
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

    /// A full disk is waited for by RocksDB itself, and any other failure is final.
    fn judge(&mut self, done: Result<(), rocksdb::Error>, what: &str) -> Result<(), Error> {
        let done = done.map_err(|e| fail(what, e));
        let kind = done.as_ref().err().map(Error::kind);
        self.is_full = kind == Some(ErrorKind::DiskFull);
        self.is_failed = kind.is_some() && !self.is_full;
        done
    }
}

impl Read for RocksdbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        get(&self.db, key, &self.reads)
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        visit(&self.db, read_options(), range, order, visitor)
    }
}

impl Engine for RocksdbEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        self.write_now(&mut writer, &batch)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        writer.check()?;
        if writer.is_full {
            // RocksDB waits until nothing is done in the background before it goes on, and each
            // attempt to make a table would keep it busy. A batch of nothing is refused at once.
            let tried = self.db.write_opt(WriteBatch::default(), &writer.options);
            writer.judge(tried, "write after a full disk")?;
        }
        // Every batch is in a memtable, or in a table that RocksDB has synced.
        writer.judge(self.db.flush(), "make tables of what is in memory")
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(RocksdbSnapshot::take(&self.db, &self.lock)))
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
            n_snapshots: Arc::strong_count(&self.lock) - 1,
        })
    }

    fn name(&self) -> &'static str {
        NAME
    }
}
