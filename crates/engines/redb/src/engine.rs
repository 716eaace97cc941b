// SPDX-License-Identifier: Apache-2.0
//! The engine.

use std::path::Path;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Error, ErrorKind, Read, Row};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, StorageError, TableDefinition,
};

const NAME: &str = "redb";

/// All rows; the spaces are leading bytes of the keys.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Pages kept in memory unless told otherwise, in bytes.
const CACHE_SIZE_BYTES: usize = 128 << 20;

/// A store in one redb file.
pub struct RedbEngine {
    database: Database,
}

impl RedbEngine {
    /// Opens or creates the file `store.redb` in a directory that exists.
    ///
    /// # Errors
    ///
    /// `Locked` when another process has it open, `Corrupt`, `DiskFull`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("store.redb");
        let fail = |error: redb::DatabaseError| {
            let kind = match &error {
                redb::DatabaseError::DatabaseAlreadyOpen => ErrorKind::Locked,
                redb::DatabaseError::Storage(error) => storage_kind(error),
                _ => ErrorKind::Corrupt,
            };
            Error::new(NAME, kind, format!("open `{}`", path.display())).source(error)
        };
        let database = redb::Builder::new()
            .set_cache_size(CACHE_SIZE_BYTES)
            .create(&path)
            .map_err(fail)?;
        let engine = Self { database };
        engine.commit(Batch::default(), Durability::Immediate)?;
        Ok(engine)
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        let mut txn = self
            .database
            .begin_write()
            .map_err(|e| other("begin a write", e))?;
        let is_durable = matches!(durability, Durability::Immediate);
        txn.set_durability(durability)
            .map_err(|e| other("set the durability", e))?;
        txn.set_quick_repair(is_durable);
        {
            let mut table = txn
                .open_table(ROWS)
                .map_err(|e| other("open the table", e))?;
            for (key, value) in batch.writes {
                match value {
                    Some(value) => table.insert(key.as_slice(), value.as_ref()),
                    None => table.remove(key.as_slice()),
                }
                .map_err(|e| storage("write a row", e))?;
            }
        }
        txn.commit().map_err(|error| match error {
            redb::CommitError::Storage(error) => storage("commit a batch", error),
            error => other("commit a batch", error),
        })
    }

    fn read(&self) -> Result<RedbSnapshot, Error> {
        let txn = self
            .database
            .begin_read()
            .map_err(|e| other("begin a read", e))?;
        Ok(RedbSnapshot { txn })
    }
}

/// One state of the file.
struct RedbSnapshot {
    txn: ReadTransaction,
}

impl Read for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let table = self
            .txn
            .open_table(ROWS)
            .map_err(|e| other("open the table", e))?;
        let value = table.get(key).map_err(|e| storage("read a row", e))?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let table = self
            .txn
            .open_table(ROWS)
            .map_err(|e| other("open the table", e))?;
        let range = table.range(from..to).map_err(|e| storage("scan rows", e))?;
        let mut rows = Vec::with_capacity(limit.min(1024));
        for row in range.take(limit) {
            let (key, value) = row.map_err(|e| storage("scan rows", e))?;
            rows.push((
                Bytes::copy_from_slice(key.value()),
                Bytes::copy_from_slice(value.value()),
            ));
        }
        Ok(rows)
    }
}

impl Read for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.read()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.read()?.scan(from, to, limit)
    }
}

impl Engine for RedbEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.commit(batch, Durability::None)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        self.commit(Batch::default(), Durability::Immediate)
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(self.read()?))
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

fn storage(context: &str, error: StorageError) -> Error {
    Error::new(NAME, storage_kind(&error), context).source(error)
}

fn storage_kind(error: &StorageError) -> ErrorKind {
    match error {
        StorageError::Io(error) => ErrorKind::from(error),
        StorageError::Corrupted(_) => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    }
}

fn other(context: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(NAME, ErrorKind::Io, context).source(error)
}
