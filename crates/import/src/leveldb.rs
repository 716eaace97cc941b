// SPDX-License-Identifier: Apache-2.0
//! Upstream's LevelDB stores: one database, eight by a hash of the directory, or one for each
//! bucket.
//!
//! Opening a LevelDB writes to it. So what is opened is a copy: tables, which never change, are
//! linked into it where the file system allows, the rest is copied.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use dulse_leveldb::{Cursor, Db, Options, ReadOptions};
use md5::{Digest, Md5};

use crate::item::SourceError;
use crate::tree::{BUCKETS, Child, Row, Tree};
use crate::value::{decode_value, is_hard_link};

/// Rows read at a time.
pub(crate) const PAGE: usize = 1_000;

/// Bytes of an MD5.
pub(crate) const HASH_LEN: usize = 16;

/// Databases of `leveldb2`.
const N_PARTS: u8 = 8;

/// The database of `leveldb3` of everything outside of buckets.
const MAIN: &str = "_main";

/// Names of a database's tables; they are written once.
const TABLES: [&str; 2] = ["ldb", "sst"];

/// Everything is read once or twice, in order, and damage must show.
const READ: ReadOptions = ReadOptions {
    verifies_checksums: true,
    fills_cache: false,
};

/// Which of the three layouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `leveldb`: one database, keys begin with the directory.
    One,
    /// `leveldb2`: databases `00` to `07`, keys begin with a hash of the directory.
    Parts,
    /// `leveldb3`: database `_main` and one for each bucket.
    Buckets,
}

/// A store.
pub struct LevelDbSource {
    layout: Layout,
    place: String,
    /// By name; one without a name of `leveldb`.
    databases: BTreeMap<String, Db>,
}

impl LevelDbSource {
    /// Copies a store and opens the copy.
    ///
    /// - `copy`: a directory that is not there yet; whoever calls removes it.
    ///
    /// # Errors
    ///
    /// `Io`, `Database`; `Other` when it is no such store, or is in use.
    pub fn open(place: &Path, layout: Layout, copy: &Path) -> Result<Self, SourceError> {
        let shown = place.display().to_string();
        let names = names(place, layout).map_err(|source| SourceError::Io {
            place: shown.clone(),
            source,
        })?;
        let is_whole = layout != Layout::Parts || names.len() == usize::from(N_PARTS);
        if names.is_empty() || !is_whole {
            let what = match layout {
                Layout::One => "no LevelDB: there is no `CURRENT` in it",
                Layout::Parts => {
                    "no store of upstream's `leveldb2`; expected databases `00` to `07`"
                }
                Layout::Buckets => "no store of upstream's `leveldb3`; expected a database `_main`",
            };
            return Err(SourceError::Other {
                place: shown,
                what: what.to_owned(),
            });
        }
        // All are locked before the first is copied, so that they are of one moment.
        let locks = names.iter().map(|name| lock(&place.join(name)));
        let locks = locks.collect::<Result<Vec<_>, _>>()?;
        for name in &names {
            copy_database(&place.join(name), &copy.join(name))?;
        }
        drop(locks);
        let mut databases = BTreeMap::new();
        for name in names {
            let opened = Db::open(&copy.join(&name), &Options::existing());
            let db = opened.map_err(|source| SourceError::Database {
                place: place.join(&name).display().to_string(),
                source: source.into(),
            })?;
            databases.insert(name, db);
        }
        Ok(Self {
            layout,
            place: shown,
            databases,
        })
    }

    fn wrong(&self, source: dulse_leveldb::Error) -> SourceError {
        SourceError::Database {
            place: self.place.clone(),
            source: source.into(),
        }
    }

    /// The database of a directory, and how keys of its names begin there.
    fn place_of(&self, directory: &str) -> (Option<&Db>, Vec<u8>) {
        match self.layout {
            Layout::One => {
                let mut prefix = directory.as_bytes().to_vec();
                prefix.push(0);
                (self.databases.get(""), prefix)
            }
            Layout::Parts => {
                let hash = hash_of(directory);
                (self.databases.get(&part_of(&hash)), hash)
            }
            Layout::Buckets => {
                let below = directory.strip_prefix(BUCKETS);
                let below = below.filter(|below| !below.is_empty() && !below.starts_with('.'));
                let (bucket, within) = match below {
                    None => (MAIN, directory),
                    Some(below) => match below.find('/') {
                        Some(at) => below.split_at(at),
                        None => (below, "/"),
                    },
                };
                match self.databases.get(bucket) {
                    Some(db) if bucket != MAIN || below.is_none() => (Some(db), hash_of(within)),
                    _ => (self.databases.get(MAIN), hash_of(directory)),
                }
            }
        }
    }

    fn seek(&self, db: &Db, key: &[u8]) -> Result<Cursor, SourceError> {
        let mut cursor = db.cursor(READ, None).map_err(|e| self.wrong(e))?;
        cursor.seek(key);
        Ok(cursor)
    }
}

impl Tree for LevelDbSource {
    type Position = (String, Vec<u8>);

    fn children(&self, directory: &str, after: &[u8]) -> Result<Vec<Child>, SourceError> {
        let (Some(db), prefix) = self.place_of(directory) else {
            return Ok(Vec::new());
        };
        let mut from = prefix.clone();
        if !after.is_empty() {
            from.extend_from_slice(after);
            from.push(0);
        }
        let mut cursor = self.seek(db, &from)?;
        let mut children = Vec::new();
        while let Some((key, value)) = cursor.row() {
            let Some(name) = key.strip_prefix(&prefix[..]) else {
                break;
            };
            // Whose name is empty is no name: in `leveldb2` a pair with a key of this hash.
            if !name.is_empty() && !is_hard_link(key, &Bytes::copy_from_slice(value)) {
                let name = Bytes::copy_from_slice(name);
                children.push((name, Bytes::copy_from_slice(value)));
            }
            if children.len() >= PAGE {
                break;
            }
            cursor.next();
        }
        cursor.status().map_err(|e| self.wrong(e))?;
        Ok(children)
    }

    fn entry(&self, directory: &str, name: &str) -> Result<Option<Bytes>, SourceError> {
        let (Some(db), mut key) = self.place_of(directory) else {
            return Ok(None);
        };
        key.extend_from_slice(name.as_bytes());
        let value = db.get(&key, READ, None).map_err(|e| self.wrong(e))?;
        Ok(value.map(Bytes::from))
    }

    fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        let name = match self.layout {
            Layout::One => String::new(),
            Layout::Parts => name_of(key.last().copied().unwrap_or(0)),
            Layout::Buckets => MAIN.to_owned(),
        };
        let Some(db) = self.databases.get(&name) else {
            return Ok(None);
        };
        let value = db.get(key, READ, None).map_err(|e| self.wrong(e))?;
        Ok(value.map(Bytes::from))
    }

    fn rows(&self, position: &mut Option<Self::Position>) -> Result<Vec<Row>, SourceError> {
        let start = position.take();
        let (mut name, mut from) = match start {
            Some(at) => at,
            None => match self.databases.first_key_value() {
                Some((name, _)) => (name.clone(), Vec::new()),
                None => return Ok(Vec::new()),
            },
        };
        let mut rows = Vec::new();
        while let Some(db) = self.databases.get(&name) {
            let mut cursor = self.seek(db, &from)?;
            while let Some((key, value)) = cursor.row() {
                rows.push(leveldb_row(self.layout, &name, key, value));
                from.clear();
                from.extend_from_slice(key);
                from.push(0);
                if rows.len() >= PAGE {
                    break;
                }
                cursor.next();
            }
            cursor.status().map_err(|e| self.wrong(e))?;
            if !rows.is_empty() {
                break;
            }
            let behind = (
                std::ops::Bound::Excluded(name.as_str()),
                std::ops::Bound::Unbounded,
            );
            let next = self.databases.range::<str, _>(behind).next();
            let Some((next, _)) = next else { break };
            (name, from) = (next.clone(), Vec::new());
        }
        *position = Some((name, from));
        Ok(rows)
    }
}

/// Understands a row of a database; any bytes give one.
#[must_use]
pub fn leveldb_row(layout: Layout, database: &str, key: &[u8], value: &[u8]) -> Row {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    let (may_be_entry, may_be_pair) = match layout {
        Layout::One => {
            let at = key.iter().position(|byte| *byte == 0);
            let at = at.filter(|_| key.starts_with(b"/"));
            let parts = at.map(|at| (&key[..at], &key[at + 1..]));
            return match parts {
                Some((directory, name)) => Row::Entry {
                    directory: Bytes::copy_from_slice(directory),
                    name: Bytes::copy_from_slice(name),
                    value,
                },
                None => Row::Kv { key, value },
            };
        }
        Layout::Parts => {
            let hash = key.get(..HASH_LEN).filter(|_| key.len() > HASH_LEN);
            let in_part = |byte: Option<&u8>| byte.is_some_and(|b| name_of(*b) == database);
            (
                hash.is_some_and(|hash| in_part(hash.last())),
                in_part(key.last()),
            )
        }
        Layout::Buckets => (key.len() > HASH_LEN, database == MAIN),
    };
    // A pair's key can be as long as an entry's; its value says what it is then.
    if may_be_entry && !is_hard_link(&key, &value) && is_entry(&value) {
        return Row::Hashed;
    }
    match may_be_pair {
        true => Row::Kv { key, value },
        false => Row::Odd(format!("a row of database {database}")),
    }
}

/// Whether a value is an entry: it decodes, and has the attributes that every entry has.
pub(crate) fn is_entry(value: &Bytes) -> bool {
    let fields = decode_value(value)
        .ok()
        .and_then(|entry| entry.fields().ok());
    fields.is_some_and(|fields| fields.attributes.is_some())
}

pub(crate) fn hash_of(directory: &str) -> Vec<u8> {
    Md5::digest(directory.as_bytes()).to_vec()
}

/// The database of a hash.
fn part_of(hash: &[u8]) -> String {
    name_of(hash.last().copied().unwrap_or(0))
}

/// The database of a last byte.
fn name_of(last: u8) -> String {
    format!("{:02}", last % N_PARTS)
}

/// The databases that are there.
fn names(place: &Path, layout: Layout) -> std::io::Result<Vec<String>> {
    let is_there = |name: &str| place.join(name).join("CURRENT").is_file();
    Ok(match layout {
        Layout::One => vec![String::new()],
        Layout::Parts => (0..N_PARTS).map(name_of).collect(),
        Layout::Buckets if is_there(MAIN) => {
            let mut names = Vec::new();
            for item in std::fs::read_dir(place)? {
                names.extend(item?.file_name().into_string().ok());
            }
            names.sort();
            names
        }
        Layout::Buckets => Vec::new(),
    }
    .into_iter()
    .filter(|name| is_there(name))
    .collect())
}

/// Keeps upstream's filer from opening a database; fails when it has it open.
fn lock(dir: &Path) -> Result<std::fs::File, SourceError> {
    let wrong = |source| SourceError::Io {
        place: dir.display().to_string(),
        source,
    };
    // The file that both programs lock; a copy of a store may lack it.
    let options = std::fs::OpenOptions::new()
        .write(true)
        .open(dir.join("LOCK"));
    let file = match options {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return std::fs::File::open(dir).map_err(wrong);
        }
        Err(e) => return Err(wrong(e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SourceError::Other {
            place: dir.display().to_string(),
            what: "in use by another process; stop upstream's filer, or give a copy".to_owned(),
        }),
        Err(std::fs::TryLockError::Error(e)) => Err(wrong(e)),
    }
}

/// Copies a stopped database; its tables, which never change, are linked where that works.
pub(crate) fn copy_database(from: &Path, to: &Path) -> Result<(), SourceError> {
    let copy = || {
        std::fs::create_dir_all(to)?;
        for item in std::fs::read_dir(from)? {
            let file = item?.path();
            let Some(name) = file.file_name().filter(|name| *name != "LOCK") else {
                continue;
            };
            let target = to.join(name);
            let is_table = file
                .extension()
                .is_some_and(|e| TABLES.iter().any(|t| e == *t));
            // Another file system, or one without links: copied.
            if !(is_table && std::fs::hard_link(&file, &target).is_ok()) {
                std::fs::copy(&file, &target)?;
            }
        }
        Ok(())
    };
    copy().map_err(|source| SourceError::Io {
        place: from.display().to_string(),
        source,
    })
}
