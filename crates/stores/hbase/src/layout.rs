// SPDX-License-Identifier: Apache-2.0
//! Where a path or a key lies. Upstream's, to the byte; see `docs/formats/hbase.md`.
//!
//! The row of an entry is its path. All rows below a directory come behind it, those of its own
//! entries in the order of their names, with what is below each of them in between: whoever
//! lists a directory skips from `/d/sub/…` to `/d/sub0`, the first row that cannot be below it.

use bytes::Bytes;
use dulse_hbase_client::Family;
use dulse_shared::pair_key;
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;

use crate::error::invalid;

/// Families of columns: of entries, and of keys.
pub(crate) const ENTRIES: &[u8] = b"meta";
pub(crate) const KEYS: &[u8] = b"kv";

/// The one column of each.
pub(crate) const COLUMN: &[u8] = b"a";

/// Longest row, in bytes: HBase's limit.
const ROW_LEN_MAX: usize = 32_767;

/// What upstream's client sets of a family that it makes.
const SETTINGS: &[(&str, &str)] = &[
    ("BLOOMFILTER", "ROW"),
    ("VERSIONS", "3"),
    ("IN_MEMORY", "false"),
    ("KEEP_DELETED_CELLS", "false"),
    ("DATA_BLOCK_ENCODING", "FAST_DIFF"),
    ("TTL", "2147483647"),
    ("COMPRESSION", "NONE"),
    ("MIN_VERSIONS", "0"),
    ("BLOCKCACHE", "true"),
    ("BLOCKSIZE", "65536"),
    ("REPLICATION_SCOPE", "0"),
];

/// The families of a table.
pub(crate) const FAMILIES: [Family; 2] = [
    Family {
        name: "kv",
        settings: SETTINGS,
    },
    Family {
        name: "meta",
        settings: SETTINGS,
    },
];

/// What a table that is made here has beside that: cells as large as entries may be.
pub(crate) const TABLE_SETTINGS: [(&str, &str); 1] =
    [("hbase.server.keyvalue.maxsize", "33554432")];

/// The row of a path.
///
/// # Errors
///
/// `Invalid` for one that is longer than a row may be.
pub fn row_of(path: &FullPath) -> Result<Bytes, Error> {
    checked(path.as_str().as_bytes())
}

/// The row of a key of the key-value space: no number of a filer.
///
/// # Errors
///
/// `Invalid` for one that is empty, or longer than a row may be.
pub(crate) fn key_row(key: &[u8]) -> Result<Bytes, Error> {
    checked(&pair_key(key))
}

fn checked(row: &[u8]) -> Result<Bytes, Error> {
    if (1..=ROW_LEN_MAX).contains(&row.len()) {
        return Ok(Bytes::copy_from_slice(row));
    }
    let text = format!(
        "a row of HBase has 1 to {ROW_LEN_MAX} bytes, this one {}",
        row.len()
    );
    Err(invalid(Operation::Find, text))
}

/// The rows that a listing looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inside {
    /// What all of them begin with: the directory and a slash.
    pub prefix: Bytes,
    /// First row.
    pub start: Bytes,
    /// First row behind them.
    pub stop: Bytes,
}

/// What one of those rows is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// An entry of the directory.
    Name(String),
    /// Below one of its entries; nothing else is before this row.
    Below(Bytes),
    /// No row of a path.
    Foreign,
}

/// Which rows to look at for a listing.
#[must_use]
pub fn inside(directory: &FullPath, range: &ListRange) -> Inside {
    let mut prefix = directory.as_str().as_bytes().to_vec();
    if !directory.is_root() {
        prefix.push(b'/');
    }
    // From the greater of both: a start before the prefix begins at the prefix itself.
    let (first, is_inclusive) = match range.start < range.prefix {
        true => (&range.prefix, true),
        false => (&range.start, range.inclusive),
    };
    let mut start = [&prefix[..], first.as_bytes()].concat();
    if !is_inclusive {
        start.push(0);
    }
    let stop = behind([&prefix[..], range.prefix.as_bytes()].concat());
    Inside {
        prefix: prefix.into(),
        start: start.into(),
        stop,
    }
}

impl Inside {
    /// What a row is.
    #[must_use]
    pub fn find(&self, row: &[u8]) -> Found {
        let Some(rest) = row.strip_prefix(&self.prefix[..]) else {
            return Found::Foreign;
        };
        if let Some(at) = rest.iter().position(|byte| *byte == b'/') {
            let below = row.len() - rest.len() + at + 1;
            return Found::Below(behind(row[..below].to_vec()));
        }
        match std::str::from_utf8(rest) {
            Ok(name) if !name.is_empty() => Found::Name(name.to_owned()),
            _ => Found::Foreign,
        }
    }
}

/// The first row behind all that begin with these bytes; empty where there is none.
pub(crate) fn behind(mut prefix: Vec<u8>) -> Bytes {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            break;
        }
    }
    prefix.into()
}

/// The key of a filer's number, beside upstream's keys.
pub(crate) const NUMBERS: &[u8] = b"dulse.filer.stamp.";

/// The key of the number of one filer.
pub(crate) fn number_key(filer: u32) -> Bytes {
    [NUMBERS, &filer.to_be_bytes()].concat().into()
}

/// A filer's number, from its row.
///
/// # Errors
///
/// `Corrupt` for a row that is none.
pub(crate) fn number(row: &[u8], value: &[u8]) -> Result<(u32, i64), Error> {
    let filer = row
        .strip_prefix(NUMBERS)
        .and_then(|rest| rest.try_into().ok());
    let stamp = value.try_into().ok();
    match (filer, stamp) {
        (Some(filer), Some(stamp)) => Ok((u32::from_be_bytes(filer), i64::from_be_bytes(stamp))),
        _ => Err(Error::new(Operation::KvGet, ErrorKind::Corrupt).with(
            "because",
            "the number of a filer has not 4 bytes of key and 8 of value",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(prefix: &str, start: &str, inclusive: bool) -> ListRange {
        ListRange {
            prefix: prefix.to_owned(),
            start: start.to_owned(),
            inclusive,
            limit: 10,
        }
    }

    fn path(text: &str) -> FullPath {
        FullPath::parse(text).unwrap()
    }

    #[test]
    fn a_listing_looks_at_the_rows_of_its_directory() {
        for (directory, range, start, stop) in [
            ("/", range("", "", false), &b"/\0"[..], &b"0"[..]),
            ("/d", range("", "", false), b"/d/\0", b"/d0"),
            ("/d", range("", "b", false), b"/d/b\0", b"/d0"),
            ("/d", range("", "b", true), b"/d/b", b"/d0"),
            ("/d", range("x", "b", false), b"/d/x", b"/d/y"),
            ("/d", range("x", "xa", false), b"/d/xa\0", b"/d/y"),
            ("/d", range("\u{7f}", "", false), b"/d/\x7f", b"/d/\x80"),
        ] {
            let inside = inside(&path(directory), &range);
            assert_eq!(
                (&inside.start[..], &inside.stop[..]),
                (start, stop),
                "{range:?}"
            );
        }
    }

    #[test]
    fn what_is_below_an_entry_is_skipped_at_once() {
        let inside = inside(&path("/d"), &range("", "", false));
        for (row, expect) in [
            (&b"/d/a"[..], Found::Name("a".to_owned())),
            ("/d/é".as_bytes(), Found::Name("é".to_owned())),
            (b"/d/a/b/c", Found::Below(Bytes::from_static(b"/d/a0"))),
            (b"/d/", Found::Foreign),
            (b"/d/\xff", Found::Foreign),
            (b"/e", Found::Foreign),
        ] {
            assert_eq!(inside.find(row), expect);
        }
        // Nothing of the directory lies between what is skipped and where it goes on.
        assert!(b"/d/a-"[..] < b"/d/a/"[..] && b"/d/a/\xff\xff"[..] < b"/d/a0"[..]);
    }

    #[test]
    fn a_client_writes_no_number_of_a_filer() {
        let number = number_key(7);
        assert!(!key_row(&number).unwrap().starts_with(NUMBERS));
        assert_eq!(key_row(b"dulse.pair.x").unwrap(), "dulse.pair.dulse.pair.x");
        assert_eq!(key_row(b"dulse").unwrap(), "dulse");
    }

    #[test]
    fn rows_have_a_length() {
        assert_eq!(key_row(b"").unwrap_err().kind(), ErrorKind::Invalid);
        key_row(&[1; ROW_LEN_MAX]).unwrap();
        assert_eq!(
            key_row(&[1; ROW_LEN_MAX + 1]).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert_eq!(row_of(&path("/a")).unwrap(), "/a");
    }

    #[test]
    fn numbers_are_read_back() {
        let key = number_key(7);
        assert_eq!(number(&key, &9_i64.to_be_bytes()).unwrap(), (7, 9));
        for (row, value) in [(&key[..], &b"short"[..]), (b"dulse.filer.stamp.", &[0; 8])] {
            assert_eq!(number(row, value).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!(behind(vec![1, 0xff, 0xff]), Bytes::from_static(&[2]));
        assert_eq!(behind(vec![0xff]), Bytes::new());
    }
}
