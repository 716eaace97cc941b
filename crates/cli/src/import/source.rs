// SPDX-License-Identifier: Apache-2.0
//! What is imported: `KIND:PLACE`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "rocksdb")]
use dulse_import::RocksDbSource;
use dulse_import::{
    Counts, Failed, Layout, LevelDbSource, Problems, SourceError, SqliteSource, fill, items, meta,
    verify,
};
use dulse_registry::UpstreamKind;
use dulse_store::EntryStore;

use super::with_suffix;

/// What is read, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// A store.
    Store(UpstreamKind, PathBuf),
    /// A file that `fs.meta.save` wrote.
    Meta(PathBuf),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, place) = text.split_once(':').unwrap_or((text, ""));
        let expected = "expected leveldb:DIR, leveldb2:DIR, leveldb3:DIR, rocksdb:DIR, sqlite:FILE \
                        or meta:FILE";
        if place.is_empty() {
            return Err(format!("`{text}` names no place; {expected}"));
        }
        let place = PathBuf::from(place);
        if kind == "meta" {
            return Ok(Self::Meta(place));
        }
        let found = UpstreamKind::ALL.into_iter().find(|k| k.name() == kind);
        match found {
            #[cfg(not(feature = "rocksdb"))]
            Some(UpstreamKind::RocksDb) => Err(
                "this program cannot read RocksDB; build one with `cargo build --release \
                     --features rocksdb`, or have upstream's filer write a file with \
                     `fs.meta.save` and import that with meta:FILE"
                    .to_owned(),
            ),
            Some(kind) => Ok(Self::Store(kind, place)),
            None => Err(format!("unknown kind `{kind}`; {expected}")),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Store(kind, _) => kind.name(),
            Self::Meta(_) => "meta",
        };
        write!(f, "{kind}:{}", self.place().display())
    }
}

impl From {
    pub(super) fn place(&self) -> &Path {
        match self {
            Self::Store(_, place) | Self::Meta(place) => place,
        }
    }

    /// The engine that `filer.toml` would select.
    pub(super) fn engine(&self) -> &'static str {
        match self {
            Self::Store(kind, _) => kind.engine(),
            Self::Meta(_) => "redb",
        }
    }

    /// Whether a copy of it is opened: its own program's library writes to what it opens.
    pub(super) fn is_copied(&self) -> bool {
        !matches!(self, Self::Meta(_) | Self::Store(UpstreamKind::Sqlite, _))
    }

    /// A place beside another.
    pub(super) fn beside(&self, place: &Path, suffix: &str) -> PathBuf {
        with_suffix(place, suffix)
    }

    /// Opens it for reading; LevelDB and RocksDB as a copy in `copy`.
    pub(super) fn open(&self, copy: &Path) -> Result<Opened, SourceError> {
        let leveldb = |place: &Path, layout| {
            let opened = LevelDbSource::open(place, layout, copy);
            opened.map(|source| Opened::LevelDb(Box::new(source)))
        };
        match self {
            Self::Meta(file) => {
                meta::open(file)?;
                Ok(Opened::Meta(file.clone()))
            }
            Self::Store(UpstreamKind::Sqlite, file) => {
                let opened = SqliteSource::open(file);
                opened.map(|source| Opened::Sqlite(Box::new(source)))
            }
            Self::Store(UpstreamKind::LevelDb, dir) => leveldb(dir, Layout::One),
            Self::Store(UpstreamKind::LevelDb2, dir) => leveldb(dir, Layout::Parts),
            Self::Store(UpstreamKind::LevelDb3, dir) => leveldb(dir, Layout::Buckets),
            #[cfg(feature = "rocksdb")]
            Self::Store(UpstreamKind::RocksDb, dir) => {
                let opened = RocksDbSource::open(dir, copy);
                opened.map(|source| Opened::RocksDb(Box::new(source)))
            }
            #[cfg(not(feature = "rocksdb"))]
            Self::Store(UpstreamKind::RocksDb, dir) => Err(SourceError::Other {
                place: dir.display().to_string(),
                what: "a RocksDB, which this program cannot read".to_owned(),
            }),
        }
    }
}

/// An opened source.
pub(super) enum Opened {
    Sqlite(Box<SqliteSource>),
    LevelDb(Box<LevelDbSource>),
    #[cfg(feature = "rocksdb")]
    RocksDb(Box<RocksDbSource>),
    Meta(PathBuf),
}

/// What came of filling a store.
pub(super) struct Filled {
    pub(super) counts: Counts,
    pub(super) refused: Problems,
    /// Entries that no directory leads to and whose path nobody knows.
    pub(super) n_unreached: u64,
    /// Names of hard links whose shared content is not there.
    pub(super) n_apart: u64,
}

impl Opened {
    pub(super) fn fill(
        &self,
        store: &dyn EntryStore,
        progress: &mut dyn FnMut(&Counts),
    ) -> Result<Filled, Failed> {
        let ((counts, refused), n_unreached, n_apart) = match self {
            Self::Sqlite(source) => {
                let mut items = items(&**source);
                let filled = fill(store, &mut items, progress)?;
                (filled, items.n_unreached(), items.n_apart())
            }
            Self::LevelDb(source) => {
                let mut items = items(&**source);
                let filled = fill(store, &mut items, progress)?;
                (filled, items.n_unreached(), items.n_apart())
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(source) => {
                let mut items = items(&**source);
                let filled = fill(store, &mut items, progress)?;
                (filled, items.n_unreached(), items.n_apart())
            }
            Self::Meta(file) => {
                let mut items = meta::open(file)?;
                (fill(store, &mut items, progress)?, 0, items.n_apart())
            }
        };
        Ok(Filled {
            counts,
            refused,
            n_unreached,
            n_apart,
        })
    }

    pub(super) fn verify(
        &self,
        store: &dyn EntryStore,
        progress: &mut dyn FnMut(&Counts),
    ) -> Result<(Counts, Problems), Failed> {
        match self {
            Self::Sqlite(source) => verify(store, &mut items(&**source), progress),
            Self::LevelDb(source) => verify(store, &mut items(&**source), progress),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(source) => verify(store, &mut items(&**source), progress),
            Self::Meta(file) => verify(store, &mut meta::open(file)?, progress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_as_they_print_and_others_say_what_was_expected() {
        for text in [
            "leveldb:a",
            "leveldb2:./d:e",
            "leveldb3:/x",
            #[cfg(feature = "rocksdb")]
            "rocksdb:./r",
            "sqlite:f.db",
            "meta:x.gz",
        ] {
            assert_eq!(text.parse::<From>().unwrap().to_string(), text);
        }
        for (text, says) in [
            ("leveldb2", "names no place; expected leveldb:DIR"),
            ("redis2:x", "unknown kind `redis2`; expected"),
            #[cfg(not(feature = "rocksdb"))]
            ("rocksdb:x", "fs.meta.save"),
        ] {
            let error = text.parse::<From>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
