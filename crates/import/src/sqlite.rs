// SPDX-License-Identifier: Apache-2.0
//! Upstream's SQLite store: table `filemeta`, and one for each bucket with paths within it.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow, params};

use crate::item::SourceError;
use crate::tree::{BUCKETS, Child, Row, Tree};

/// The table of everything outside of buckets.
const MAIN: &str = "filemeta";

/// Rows read at a time.
const PAGE: i64 = 1_000;

/// Bytes of a key that are its row's hash and directory.
const KEY_HEAD: usize = 8;

/// A store, read in one transaction.
pub struct SqliteSource {
    place: String,
    connection: Connection,
    /// Names of the buckets' tables.
    buckets: BTreeSet<String>,
}

/// Behind which row of which table rows go on.
pub struct Position {
    table: String,
    row: Option<(i64, Bytes)>,
}

impl SqliteSource {
    /// Opens a store for reading.
    ///
    ///
    /// # Errors
    ///
    /// `Io`, `Database`, and `Other` for a database without such a table.
    pub fn open(file: &Path) -> Result<Self, SourceError> {
        let place = file.display().to_string();
        // SQLite's own error names no file.
        std::fs::File::open(file).map_err(|source| SourceError::Io {
            place: place.clone(),
            source,
        })?;
        let wrong = |source: rusqlite::Error| SourceError::Database {
            place: place.clone(),
            source: source.into(),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).map_err(wrong)?;
        // Everything is read of one moment.
        connection.execute_batch("BEGIN").map_err(wrong)?;
        let mut tables = connection
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
            .map_err(wrong)?;
        let names = tables.query_map([], |row| row.get(0)).map_err(wrong)?;
        let mut buckets: BTreeSet<String> = names.collect::<Result<_, _>>().map_err(wrong)?;
        drop(tables);
        // A table without these columns is none of upstream's filer.
        buckets.retain(|table| {
            let sql = format!(
                "SELECT dirhash, name, directory, meta FROM {}",
                quoted(table)
            );
            connection.prepare(&sql).is_ok()
        });
        if !buckets.remove(MAIN) {
            let what = "a database without a table `filemeta`; expected one of upstream's filer";
            return Err(SourceError::Other {
                place,
                what: what.to_owned(),
            });
        }
        Ok(Self {
            place,
            connection,
            buckets,
        })
    }

    fn wrong(&self, source: rusqlite::Error) -> SourceError {
        SourceError::Database {
            place: self.place.clone(),
            source: source.into(),
        }
    }

    /// The table of a directory, and what it is called there.
    fn table_of<'a>(&'a self, directory: &'a str) -> (&'a str, &'a str) {
        let below = directory.strip_prefix(BUCKETS);
        // Of a bucket whose name begins with a dot there is a table, too, and nothing in it.
        let Some(below) = below.filter(|below| !below.is_empty() && !below.starts_with('.')) else {
            return (MAIN, directory);
        };
        let (bucket, rest) = match below.find('/') {
            Some(at) => below.split_at(at),
            None => (below, "/"),
        };
        match self.buckets.contains(bucket) {
            true => (bucket, rest),
            false => (MAIN, directory),
        }
    }

    fn page(&self, position: &Position) -> Result<Vec<Columns>, SourceError> {
        let behind = match &position.row {
            None => "",
            Some(_) => "WHERE (dirhash, name) > (?2, CAST(?3 AS TEXT))",
        };
        let table = quoted(&position.table);
        let sql = format!(
            "SELECT dirhash, name, directory, meta FROM {table} {behind} \
             ORDER BY dirhash, name LIMIT ?1"
        );
        let row = |row: &SqlRow<'_>| {
            Ok(Columns {
                hash: row.get(0)?,
                name: blob(row, 1)?,
                directory: text(row, 2)?,
                value: blob(row, 3)?,
            })
        };
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = match &position.row {
                None => statement.query_map(params![PAGE], row)?,
                Some((hash, name)) => statement.query_map(params![PAGE, hash, &name[..]], row)?,
            };
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.wrong(e))
    }
}

impl Tree for SqliteSource {
    type Position = Position;

    fn children(&self, directory: &str, after: &[u8]) -> Result<Vec<Child>, SourceError> {
        let (table, within) = self.table_of(directory);
        let sql = format!(
            "SELECT name, meta FROM {} WHERE dirhash = ?1 AND directory = ?2 \
             AND name > CAST(?3 AS TEXT) ORDER BY name LIMIT ?4",
            quoted(table)
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let bound = params![hash_of(within), within, after, PAGE];
            let rows = statement.query_map(bound, |row| Ok((blob(row, 0)?, blob(row, 1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.wrong(e))
    }

    fn entry(&self, directory: &str, name: &str) -> Result<Option<Bytes>, SourceError> {
        let (table, within) = self.table_of(directory);
        let sql = format!(
            "SELECT meta FROM {} WHERE dirhash = ?1 AND directory = ?2 AND name = ?3",
            quoted(table)
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let bound = params![hash_of(within), within, name];
            statement.query_row(bound, |row| blob(row, 0)).optional()
        };
        read().map_err(|e| self.wrong(e))
    }

    fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        let (hash, directory, name) = place_of(key);
        let sql = "SELECT meta FROM filemeta WHERE dirhash = ?1 AND directory = ?2 AND name = ?3";
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let bound = params![hash, directory, name];
            statement.query_row(bound, |row| blob(row, 0)).optional()
        };
        read().map_err(|e| self.wrong(e))
    }

    fn rows(&self, position: &mut Option<Position>) -> Result<Vec<Row>, SourceError> {
        let mut at = position.take().unwrap_or(Position {
            table: MAIN.to_owned(),
            row: None,
        });
        loop {
            let rows = self.page(&at)?;
            if let Some(last) = rows.last() {
                at.row = Some((last.hash, last.name.clone()));
                let rows = rows.into_iter();
                let rows = rows.map(|row| sqlite_row(&at.table, row));
                let rows = rows.collect();
                *position = Some(at);
                return Ok(rows);
            }
            let next = match at.table.as_str() {
                MAIN => self.buckets.first(),
                table => {
                    let behind = (std::ops::Bound::Excluded(table), std::ops::Bound::Unbounded);
                    self.buckets.range::<str, _>(behind).next()
                }
            };
            let Some(next) = next else {
                *position = Some(at);
                return Ok(Vec::new());
            };
            at = Position {
                table: next.clone(),
                row: None,
            };
        }
    }
}

/// A row as its columns are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns {
    /// `dirhash`.
    pub hash: i64,
    /// `name`, as its bytes are.
    pub name: Bytes,
    /// `directory`.
    pub directory: String,
    /// `meta`.
    pub value: Bytes,
}

/// Understands a row; any columns give one.
///
/// - `table`: `filemeta`, or a bucket's name.
#[must_use]
pub fn sqlite_row(table: &str, columns: Columns) -> Row {
    let Columns {
        hash,
        name,
        directory,
        value,
    } = columns;
    if directory.starts_with('/') && hash == hash_of(&directory) {
        let directory = match table {
            MAIN => directory,
            bucket => format!("{BUCKETS}{bucket}{directory}"),
        };
        return Row::Entry {
            directory: match directory.trim_end_matches('/') {
                "" => Bytes::from_static(b"/"),
                trimmed => Bytes::copy_from_slice(trimmed.as_bytes()),
            },
            name,
            value,
        };
    }
    match key_of(hash, &directory, &name).filter(|_| table == MAIN) {
        Some(key) => Row::Kv { key, value },
        None => Row::Odd(format!(
            "`{}` of `{directory}` in table {table}",
            name.escape_ascii()
        )),
    }
}

fn quoted(table: &str) -> String {
    format!("\"{}\"", table.replace('"', "\"\""))
}

/// The first eight bytes of the MD5, big-endian.
fn hash_of(directory: &str) -> i64 {
    head(&Md5::digest(directory.as_bytes()))
}

fn head(bytes: &[u8]) -> i64 {
    let first = bytes.iter().take(KEY_HEAD);
    first.fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// Hash, directory and name under which a key lies.
fn place_of(key: &[u8]) -> (i64, String, String) {
    let mut padded = key.to_vec();
    padded.resize(key.len().max(KEY_HEAD), 0);
    let (first, rest) = padded.split_at(KEY_HEAD);
    let (first_text, rest) = (BASE64_STANDARD.encode(first), BASE64_STANDARD.encode(rest));
    (head(first), first_text, rest)
}

/// The key that lies there; `None` when none does.
///
/// A key of fewer than eight bytes was padded with NUL, which nobody can tell from its own. It is
/// taken for padding where the rest can be read: keys in use that end in NUL are numbers behind a
/// longer text.
fn key_of(hash: i64, directory: &str, name: &[u8]) -> Option<Bytes> {
    let mut key = BASE64_STANDARD.decode(directory).ok()?;
    if key.len() != KEY_HEAD || head(&key) != hash {
        return None;
    }
    key.extend(BASE64_STANDARD.decode(name).ok()?);
    if key.len() == KEY_HEAD {
        let end = key
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        if key
            .iter()
            .take(end)
            .all(|byte| (b' '..=b'~').contains(byte))
        {
            key.truncate(end);
        }
    }
    Some(key.into())
}

fn text(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<String> {
    let bytes = match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    };
    // No path is made of what is no UTF-8: U+FFFD has another hash.
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn blob(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Bytes> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
        _ => Bytes::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_upstream_puts_them_and_come_back() {
        // As upstream's filer wrote its store id.
        let (hash, directory, name) = place_of(b"filer.store.id");
        assert_eq!(hash, 7_379_548_647_386_411_892);
        assert_eq!(
            (directory.as_str(), name.as_str()),
            ("ZmlsZXIuc3Q=", "b3JlLmlk")
        );
        for key in [
            &b"filer.store.id"[..],
            b"abc",
            b"12345678",
            b"\x01\0\0\0\0\0\0\0",
            b"x\0\0\0\0\0\0\0\0",
        ] {
            let (hash, directory, name) = place_of(key);
            assert_eq!(
                key_of(hash, &directory, name.as_bytes()).as_deref(),
                Some(key)
            );
        }
    }

    #[test]
    fn a_row_is_an_entry_or_a_pair_by_its_hash() {
        let columns = |hash, directory: &str| Columns {
            hash,
            name: Bytes::from_static(b"n"),
            directory: directory.to_owned(),
            value: Bytes::new(),
        };
        let hash = hash_of("/x");
        for (table, expect) in [(MAIN, "/x"), ("b", "/buckets/b/x")] {
            let row = sqlite_row(table, columns(hash, "/x"));
            assert!(matches!(row, Row::Entry { directory, .. } if directory == expect));
        }
        let row = sqlite_row("b", columns(hash_of("/"), "/"));
        assert!(matches!(row, Row::Entry { directory, .. } if directory == "/buckets/b"));
        assert!(matches!(sqlite_row(MAIN, columns(1, "/x")), Row::Odd(_)));
    }
}
