// SPDX-License-Identifier: Apache-2.0
//! Where a path or a key lies. Upstream's, to the byte; see `docs/formats/cassandra.md`.
//!
//! A directory is a partition, its entries are the partition's rows in the order of their names.
//! An entry of a directory that is set to be super large is a partition of its own.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dulse_shared::sql::{dirhash, key_row};
use dulse_shared::{At, pair_key};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use md5::{Digest, Md5};

use crate::error::invalid;

/// The table.
pub(crate) const TABLE: &str = "filemeta";

/// Longest part of a key of the table: Cassandra's limit.
const KEY_LEN_MAX: usize = 65_535;

/// What keys of filers' numbers begin with, beside upstream's keys.
const NUMBERS: &[u8] = b"dulse.filer.stamp.";

/// Where one row lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// Hash of the directory.
    pub(crate) dirhash: i64,
    /// With it, the partition.
    pub(crate) directory: String,
    /// The row in the partition.
    pub(crate) name: String,
}

impl Place {
    fn of(directory: String, name: String) -> Self {
        Self {
            dirhash: dirhash(&directory),
            directory,
            name,
        }
    }

    /// Whether both lie in one partition.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.dirhash, &self.directory) == (other.dirhash, &other.directory)
    }
}

/// What tells names of one super large directory from those of another.
pub(crate) fn short_hash(directory: &str) -> String {
    let digest = Md5::digest(directory.as_bytes());
    format!("{:02x}{:02x}", digest[0], digest[1])
}

/// Where a row is; none for the root, which has none.
///
/// # Errors
///
/// `Invalid` for a path or a key that Cassandra cannot have.
pub(crate) fn place(super_large: &BTreeSet<String>, at: &At) -> Result<Option<Place>, Error> {
    let place = match at {
        At::Key(key) => key_place(&pair_key(key)),
        At::Path(path) => {
            let Some((directory, name)) = path.split() else {
                return Ok(None);
            };
            match super_large.contains(directory) {
                true => Place::of(short_hash(directory) + name, String::new()),
                false => Place::of(directory.to_owned(), name.to_owned()),
            }
        }
    };
    for part in [&place.directory, &place.name] {
        if part.len() > KEY_LEN_MAX {
            let text = format!(
                "a directory, name or key has at most {KEY_LEN_MAX} bytes in Cassandra, not {}",
                part.len()
            );
            return Err(invalid(Operation::Commit, text));
        }
    }
    Ok(Some(place))
}

/// Where a key lies: its first eight bytes are the directory, and the rest the name, each in base
/// 64. Unlike in SQL, it is hashed as any directory.
fn key_place(key: &[u8]) -> Place {
    let row = key_row(key);
    Place::of(row.directory, row.name)
}

/// The first name of a listing, and the first behind it.
pub(crate) fn bounds(range: &ListRange) -> (String, Option<String>) {
    let (first, is_inclusive) = match range.start < range.prefix {
        true => (&range.prefix, true),
        false => (&range.start, range.inclusive),
    };
    let mut first = first.clone();
    if !is_inclusive {
        first.push('\0');
    }
    let behind = match range.prefix.as_str() {
        "" => None,
        prefix => dulse_shared::sql::behind(prefix),
    };
    (first, behind)
}

/// Where the number of a filer lies.
pub(crate) fn number_place(filer: u32) -> Place {
    key_place(&[NUMBERS, &filer.to_be_bytes()].concat())
}

/// Where the numbers of all filers lie, among other keys.
pub(crate) fn numbers() -> Place {
    Place {
        name: String::new(),
        ..key_place(NUMBERS)
    }
}

/// A filer's number, from its row; none for the row of another key.
///
/// # Errors
///
/// `Corrupt` for a number that is none.
pub(crate) fn number(name: &str, value: &[u8]) -> Result<Option<(u32, i64)>, Error> {
    let Ok(rest) = STANDARD.decode(name) else {
        return Ok(None);
    };
    let filer = rest
        .strip_prefix(&NUMBERS[8..])
        .and_then(|filer| filer.try_into().ok());
    let Some(filer) = filer.map(u32::from_be_bytes) else {
        return Ok(None);
    };
    match value.try_into() {
        Ok(stamp) => Ok(Some((filer, i64::from_be_bytes(stamp)))),
        Err(_) => Err(Error::new(Operation::KvGet, ErrorKind::Corrupt)
            .with("because", "the number of a filer has not 8 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::FullPath;

    use super::*;

    fn large() -> BTreeSet<String> {
        BTreeSet::from(["/big".to_owned()])
    }

    fn placed(at: &str) -> (i64, String, String) {
        let at = At::Path(FullPath::parse(at).unwrap());
        let place = place(&large(), &at).unwrap().unwrap();
        (place.dirhash, place.directory, place.name)
    }

    #[test]
    fn rows_lie_where_upstream_was_seen_to_put_them() {
        for (at, dirhash, directory, name) in [
            ("/d", 7_378_810_950_367_401_542, "/", "d"),
            ("/d/a.txt", 891_835_429_839_113_700, "/d", "a.txt"),
            ("/big", 7_378_810_950_367_401_542, "/", "big"),
            ("/big/one", -6_052_401_445_023_078_420, "42deone", ""),
            ("/big/sub", 8_413_094_726_248_481_009, "42desub", ""),
            (
                "/big/sub/two",
                -7_609_772_745_376_848_251,
                "/big/sub",
                "two",
            ),
        ] {
            assert_eq!(placed(at), (dirhash, directory.into(), name.into()), "{at}");
        }
        assert_eq!(place(&large(), &At::Path(FullPath::root())).unwrap(), None);
    }

    #[test]
    fn keys_lie_where_upstream_was_seen_to_put_them() {
        let place = key_place(b"filer.store.id");
        assert_eq!(place.dirhash, 4_601_878_101_704_541_054);
        assert_eq!(
            (&place.directory[..], &place.name[..]),
            ("ZmlsZXIuc3Q=", "b3JlLmlk")
        );
        assert_eq!(key_place(b"a"), key_place(b"a\0"), "as upstream has it");
    }

    #[test]
    fn a_client_writes_no_number_of_a_filer() {
        let number = number_place(7);
        let key = [NUMBERS, &7_u32.to_be_bytes()].concat();
        let written = |key: Vec<u8>| place(&large(), &At::Key(key.into())).unwrap().unwrap();
        assert_ne!(written(key).directory, number.directory);
        let apart = written(b"dulse.pair.x".to_vec());
        assert_eq!(apart, key_place(b"dulse.pair.dulse.pair.x"));
        assert_eq!(written(b"dulse".to_vec()), key_place(b"dulse"));
    }

    #[test]
    fn what_is_too_long_for_a_key_is_refused() {
        let error = place(&large(), &At::Key(vec![7; 60_000].into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        place(&large(), &At::Key(vec![7; 40_000].into())).unwrap();
    }

    #[test]
    fn a_listing_has_bounds() {
        let range = |prefix: &str, start: &str, inclusive| ListRange {
            prefix: prefix.to_owned(),
            start: start.to_owned(),
            inclusive,
            limit: 1,
        };
        for (range, first, behind) in [
            (range("", "", false), "\0", None),
            (range("", "b", true), "b", None),
            (range("b", "a", false), "b", Some("c")),
            (range("b", "ba", false), "ba\0", Some("c")),
        ] {
            assert_eq!(bounds(&range), (first.into(), behind.map(str::to_owned)));
        }
    }

    #[test]
    fn numbers_are_read_back() {
        let place = number_place(7);
        assert_eq!(place.directory, numbers().directory);
        assert_eq!(place.dirhash, numbers().dirhash);
        let value = 9_i64.to_be_bytes();
        assert_eq!(number(&place.name, &value).unwrap(), Some((7, 9)));
        assert_eq!(
            number(&key_place(b"dulse.filth").name, &value).unwrap(),
            None
        );
        assert_eq!(number("no base", &value).unwrap(), None);
        let error = number(&place.name, b"short").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
