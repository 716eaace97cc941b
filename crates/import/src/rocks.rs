// SPDX-License-Identifier: Apache-2.0
//! Upstream's RocksDB store: one database, keys begin with a hash of the directory.
//!
//! A copy is opened, and that for reading only: a RocksDB that opens a directory for writing
//! makes new files in formats that an older one does not read. Tables, which never change, are
//! linked into the copy where the file system allows, the rest is copied.
//!
//! What upstream sets besides (dynamic level sizes, bloom filters of 8 bits) says how tables are
//! written, and nothing about how they are read. Its compaction filter drops entries whose TTL
//! has passed; here they come as they are, and are expired as any other.

use bytes::Bytes;

use crate::leveldb::{HASH_LEN, is_entry};
use crate::tree::Row;
use crate::value::is_hard_link;

#[cfg(feature = "rocksdb")]
pub use source::RocksDbSource;

/// Understands a row; any bytes give one.
#[must_use]
pub fn rocksdb_row(key: &[u8], value: &[u8]) -> Row {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    // A pair's key can be as long as an entry's; its value says what it is then.
    if key.len() > HASH_LEN && !is_hard_link(&key, &value) && is_entry(&value) {
        return Row::Hashed;
    }
    Row::Kv { key, value }
}

#[cfg(feature = "rocksdb")]
mod source {
    use std::fs::File;
    use std::path::Path;

    use bytes::Bytes;
    use rocksdb::{DB, DBRawIterator, Options, ReadOptions};

    use super::rocksdb_row;
    use crate::item::SourceError;
    use crate::leveldb::{PAGE, copy_database, hash_of};
    use crate::tree::{Child, Row, Tree};
    use crate::value::is_hard_link;

    /// A store.
    pub struct RocksDbSource {
        place: String,
        db: DB,
    }

    impl RocksDbSource {
        /// Copies a store and opens the copy for reading.
        ///
        /// - `copy`: a directory that is not there yet; whoever calls removes it.
        ///
        /// # Errors
        ///
        /// `Io`, `Database`; `Other` when it is no RocksDB, or is in use.
        pub fn open(place: &Path, copy: &Path) -> Result<Self, SourceError> {
            let shown = place.display().to_string();
            if !place.join("CURRENT").is_file() {
                return Err(SourceError::Other {
                    place: shown,
                    what: "no RocksDB: there is no `CURRENT` in it".to_owned(),
                });
            }
            let lock = lock(place)?;
            copy_database(place, copy)?;
            drop(lock);
            let mut options = Options::default();
            options.set_paranoid_checks(true);
            let opened = DB::open_for_read_only(&options, copy, false);
            let db = opened.map_err(|source| wrong(&shown, source))?;
            Ok(Self { place: shown, db })
        }

        fn seek(&self, key: &[u8]) -> DBRawIterator<'_> {
            let mut cursor = self.db.raw_iterator_opt(read_once());
            cursor.seek(key);
            cursor
        }

        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
            let value = self.db.get_opt(key, &read_once());
            let value = value.map_err(|e| wrong(&self.place, e))?;
            Ok(value.map(Bytes::from))
        }
    }

    impl Tree for RocksDbSource {
        type Position = Vec<u8>;

        fn children(&self, directory: &str, after: &[u8]) -> Result<Vec<Child>, SourceError> {
            let prefix = hash_of(directory);
            let mut from = prefix.clone();
            if !after.is_empty() {
                from.extend_from_slice(after);
                from.push(0);
            }
            let mut cursor = self.seek(&from);
            let mut children = Vec::new();
            while let Some((key, value)) = cursor.item() {
                let Some(name) = key.strip_prefix(&prefix[..]) else {
                    break;
                };
                // Whose name is empty is no name but a pair with a key of this hash.
                let value = Bytes::copy_from_slice(value);
                if !name.is_empty() && !is_hard_link(key, &value) {
                    children.push((Bytes::copy_from_slice(name), value));
                }
                if children.len() >= PAGE {
                    break;
                }
                cursor.next();
            }
            cursor.status().map_err(|e| wrong(&self.place, e))?;
            Ok(children)
        }

        fn entry(&self, directory: &str, name: &str) -> Result<Option<Bytes>, SourceError> {
            let mut key = hash_of(directory);
            key.extend_from_slice(name.as_bytes());
            self.get(&key)
        }

        fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
            self.get(key)
        }

        fn rows(&self, position: &mut Option<Self::Position>) -> Result<Vec<Row>, SourceError> {
            let mut from = position.take().unwrap_or_default();
            let mut cursor = self.seek(&from);
            let mut rows = Vec::new();
            while let Some((key, value)) = cursor.item() {
                rows.push(rocksdb_row(key, value));
                from.clear();
                from.extend_from_slice(key);
                from.push(0);
                if rows.len() >= PAGE {
                    break;
                }
                cursor.next();
            }
            cursor.status().map_err(|e| wrong(&self.place, e))?;
            *position = Some(from);
            Ok(rows)
        }
    }

    /// Everything is read once or twice, in order, and damage must show.
    fn read_once() -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options
    }

    fn wrong(place: &str, source: rocksdb::Error) -> SourceError {
        SourceError::Database {
            place: place.to_owned(),
            source: source.into(),
        }
    }

    /// Keeps upstream's filer from opening a database; fails when it has it open. RocksDB's lock
    /// is one of `fcntl`.
    fn lock(dir: &Path) -> Result<Option<File>, SourceError> {
        let io = |source: std::io::Error| SourceError::Io {
            place: dir.display().to_string(),
            source,
        };
        let path = dir.join("LOCK");
        let file = match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            // A copy of a store may lack it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::fcntl_lock(&file, exclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(SourceError::Other {
                place: dir.display().to_string(),
                what: "in use by another process; stop upstream's filer, or give a copy".to_owned(),
            }),
            Err(e) => Err(io(e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_entry_by_its_value_and_else_a_pair() {
        // An entry whose attributes are there and empty.
        let entry = [0x22, 0x00];
        assert!(is_entry(&Bytes::copy_from_slice(&entry)));
        for (key, value, expect_entry) in [
            (&[7; 20][..], &entry[..], true),
            (&[7; 16], &entry, false),
            (&[7; 20], b"12345678", false),
            (b"filer.store.id", b"1234", false),
            (b"", b"", false),
        ] {
            let row = rocksdb_row(key, value);
            assert_eq!(row == Row::Hashed, expect_entry, "{key:?}: {row:?}");
            if let Row::Kv { key: kept, .. } = row {
                assert_eq!(kept, key);
            }
        }
    }
}
