// SPDX-License-Identifier: Apache-2.0
//! Where an entry or a key lies: upstream's keys, to the byte; see `docs/formats/etcd.md`.

use bytes::Bytes;
use dulse_store::ListRange;
use dulse_types::FullPath;

/// First bytes of the numbers of filers, behind the prefix of all keys.
const NUMBERS: &[u8] = b"dulse.up";

/// First bytes of the keys of lanes, behind that prefix.
const LANES: &[u8] = b"dulse.lane";

/// What keys of ours begin with that upstream's layout does not have.
const OURS: &[u8] = b"dulse.";

/// In front of pairs' keys that could be an entry's or ours.
const PAIRS_APART: &[u8] = b"dulse.pair.";

/// Keys under upstream's `key_prefix`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.as_bytes().to_vec(),
        }
    }

    /// The key of a path: its directory, a zero byte, its name. The root has none.
    pub(crate) fn path(&self, path: &FullPath) -> Option<Bytes> {
        let (directory, name) = path.split()?;
        Some(self.of(&[directory.as_bytes(), b"\0", name.as_bytes()]))
    }

    /// A key of the key-value space. Entries lie under texts that begin with a slash: pairs whose
    /// own key is one, or begins as ours do, lie apart from them, where upstream does not look.
    /// The ids of hard links are random bytes and no text.
    pub(crate) fn key(&self, key: &[u8]) -> Bytes {
        let is_path = key.starts_with(b"/") && std::str::from_utf8(key).is_ok();
        match is_path || key.starts_with(OURS) {
            true => self.of(&[PAIRS_APART, key]),
            false => self.of(&[key]),
        }
    }

    /// The number of a filer.
    pub(crate) fn number(&self, filer: u32) -> Bytes {
        self.of(&[NUMBERS, &filer.to_be_bytes()])
    }

    /// The numbers of all filers.
    pub(crate) fn numbers(&self) -> (Bytes, Bytes) {
        let first = self.of(&[NUMBERS]);
        let end = end_of(&first);
        (first, end)
    }

    /// The key of a lane, see `attempts`.
    pub(crate) fn lane(&self, lane: u128) -> Bytes {
        self.of(&[LANES, &lane.to_be_bytes()])
    }

    /// The filer that a number is of.
    pub(crate) fn filer_of(&self, key: &[u8]) -> Option<u32> {
        let rest = key.strip_prefix(&self.prefix[..])?;
        let rest = rest.strip_prefix(NUMBERS)?;
        rest.try_into().ok().map(u32::from_be_bytes)
    }

    /// First key of a page of a directory and the end of all of it, and how many bytes are before
    /// the names.
    pub(crate) fn page(&self, directory: &FullPath, range: &ListRange) -> (Bytes, Bytes, usize) {
        let head = [directory.as_str().as_bytes(), b"\0"].concat();
        let n_before = self.prefix.len() + head.len();
        // From the greater of both: a start before the prefix begins at the prefix itself.
        let is_before = range.start < range.prefix;
        let start = if is_before {
            &range.prefix
        } else {
            &range.start
        };
        // The least that is greater than a name is that name and a zero byte.
        let behind: &[u8] = match is_before || range.inclusive || range.start.is_empty() {
            true => b"",
            false => b"\0",
        };
        let first = self.of(&[&head, start.as_bytes(), behind]);
        let all = self.of(&[&head, range.prefix.as_bytes()]);
        (first, end_of(&all), n_before)
    }

    fn of(&self, parts: &[&[u8]]) -> Bytes {
        [&[&self.prefix[..]], parts].concat().concat().into()
    }
}

/// The least key that is greater than every one that begins so. Texts have no byte 255 and
/// numbers a head, so there is always one.
pub(crate) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    // To etcd: all behind the first.
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_upstream_was_seen_to_use() {
        let keys = Keys::new("sw.");
        let of = |path| keys.path(&FullPath::parse(path).unwrap()).unwrap();
        assert_eq!(of("/a"), &b"sw./\0a"[..]);
        assert_eq!(of("/a/b.txt"), &b"sw./a\0b.txt"[..]);
        assert_eq!(keys.key(b"filer.store.id"), &b"sw.filer.store.id"[..]);
        assert_eq!(keys.path(&FullPath::root()), None);
    }

    #[test]
    fn a_page_holds_the_directory_and_nothing_else() {
        let keys = Keys::new("");
        let page = |start: &str, inclusive, prefix: &str| {
            let range = ListRange {
                prefix: prefix.to_owned(),
                start: start.to_owned(),
                inclusive,
                limit: 1,
            };
            keys.page(&FullPath::parse("/d").unwrap(), &range)
        };
        assert_eq!(page("", false, ""), ("/d\0".into(), "/d\u{1}".into(), 3));
        assert_eq!(page("a", false, "").0, "/d\0a\0");
        assert_eq!(page("a", true, "").0, "/d\0a");
        assert_eq!(page("a", false, "b"), ("/d\0b".into(), "/d\0c".into(), 3));
        assert_eq!(page("bx", false, "b").0, "/d\0bx\0");
    }

    #[test]
    fn no_pair_lies_where_an_entry_may_lie() {
        let keys = Keys::new("p.");
        assert_eq!(keys.key(b"/d\0x"), &b"p.dulse.pair./d\0x"[..]);
        assert_eq!(keys.key(b"/\xff\x01"), &b"p./\xff\x01"[..]);
        let ours = keys.key(b"dulse.up\0\0\0\x01");
        assert_eq!(ours, &b"p.dulse.pair.dulse.up\0\0\0\x01"[..]);
        let apart = keys.key(b"dulse.pair./d");
        assert_eq!(apart, &b"p.dulse.pair.dulse.pair./d"[..]);
    }

    #[test]
    fn numbers_of_filers_are_told_apart() {
        let keys = Keys::new("p");
        assert_eq!(keys.filer_of(&keys.number(7)), Some(7));
        assert_eq!(keys.filer_of(b"pdulse.up"), None);
        assert_eq!(keys.filer_of(b"xdulse.up\0\0\0\x07"), None);
        let (first, end) = keys.numbers();
        assert!(keys.number(u32::MAX) < end && keys.number(0) > first);
    }
}
