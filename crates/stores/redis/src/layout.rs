// SPDX-License-Identifier: Apache-2.0
//! Under which keys rows, names and pairs lie. Upstream's, to the byte; see
//! `docs/formats/redis.md`.

use dulse_types::FullPath;

use crate::config::Config;

/// Behind a directory's path, in the key of its names.
const NAMES_SUFFIX: u8 = 0;

/// Behind the key of a directory's names: upstream's lock.
const LOCK_SUFFIX: &[u8] = b"lock";

/// Behind the key of an element: its names.
const SET_SUFFIX: u8 = b'm';

/// What keys of ours begin with that upstream's layout does not have.
const OURS: &str = "dulse.";

/// In front of pairs' keys that could be a row's or ours.
const PAIRS_APART: &str = "dulse.pair.";

impl Config {
    /// The key of a path's row.
    pub(crate) fn row_key(&self, path: &FullPath) -> Vec<u8> {
        [self.key_prefix.as_bytes(), path.as_str().as_bytes()].concat()
    }

    /// The key of a directory's names.
    pub(crate) fn names_key(&self, directory: &str) -> Vec<u8> {
        let mut key = [self.key_prefix.as_bytes(), directory.as_bytes()].concat();
        key.push(NAMES_SUFFIX);
        key
    }

    /// The key of upstream's lock on a list of names.
    pub(crate) fn lock_key(&self, directory: &str) -> Vec<u8> {
        let mut key = self.names_key(directory);
        key.extend_from_slice(LOCK_SUFFIX);
        key
    }

    /// The key of an element of a list of names.
    pub(crate) fn element_key(&self, directory: &str, id: i64) -> Vec<u8> {
        let mut key = self.names_key(directory);
        key.extend_from_slice(id.to_string().as_bytes());
        key
    }

    /// The key of an element's names.
    pub(crate) fn set_key(&self, directory: &str, id: i64) -> Vec<u8> {
        let mut key = self.element_key(directory, id);
        key.push(SET_SUFFIX);
        key
    }

    /// What the keys of the rows in a directory begin with.
    pub(crate) fn rows_prefix(&self, directory: &str) -> Vec<u8> {
        let mut key = [self.key_prefix.as_bytes(), directory.as_bytes()].concat();
        if directory != "/" {
            key.push(b'/');
        }
        key
    }

    /// The key of a pair. Rows and names lie under texts that begin with a slash: pairs whose own
    /// key is one, or begins as ours do, lie apart from them, where upstream does not look. The
    /// ids of hard links are random bytes and no text.
    pub(crate) fn pair_key(&self, key: &[u8]) -> Vec<u8> {
        let is_path = key.starts_with(b"/") && std::str::from_utf8(key).is_ok();
        let is_apart = is_path || key.starts_with(OURS.as_bytes());
        let apart = if is_apart { PAIRS_APART } else { "" };
        [self.key_prefix.as_bytes(), apart.as_bytes(), key].concat()
    }

    /// The key that says what became of an attempt.
    pub(crate) fn ticket_key(&self, ticket: i64) -> Vec<u8> {
        let number = ticket.cast_unsigned();
        format!("{}{OURS}ticket.{number:016x}", self.key_prefix).into_bytes()
    }

    /// Whether the names in a directory are not kept.
    pub(crate) fn is_super_large(&self, directory: &str) -> bool {
        self.super_large.contains(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Names, Servers};

    #[test]
    fn rows_lie_where_upstream_was_seen_to_put_them() {
        let mut config = Config::at(Names::SortedSet, Servers::One("h:1".to_owned()));
        let path = FullPath::parse("/d/x.txt").unwrap();
        assert_eq!(config.row_key(&path), b"/d/x.txt");
        assert_eq!(config.names_key("/d"), b"/d\0");
        assert_eq!(config.names_key("/"), b"/\0");
        assert_eq!(config.lock_key("/d"), b"/d\0lock");
        assert_eq!(config.element_key("/d", 17), b"/d\x0017");
        assert_eq!(config.set_key("/d", 17), b"/d\x0017m");
        assert_eq!(config.pair_key(b"filer.store.id"), b"filer.store.id");
        "p:".clone_into(&mut config.key_prefix);
        assert_eq!(config.row_key(&path), b"p:/d/x.txt");
        assert_eq!(config.names_key("/d"), b"p:/d\0");
        assert_eq!(config.pair_key(b"k"), b"p:k");
        assert_eq!(config.rows_prefix("/"), b"p:/");
        assert_eq!(config.rows_prefix("/d"), b"p:/d/");
        assert_eq!(config.ticket_key(-1), b"p:dulse.ticket.ffffffffffffffff");
    }

    #[test]
    fn no_pair_lies_where_a_row_may_lie() {
        let config = Config::at(Names::SortedSet, Servers::One("h:1".to_owned()));
        assert_eq!(config.pair_key(b"/d/x"), b"dulse.pair./d/x");
        assert_eq!(config.pair_key(b"/d\0"), b"dulse.pair./d\0");
        assert_eq!(config.pair_key(b"/\xff\x01"), b"/\xff\x01");
        assert_eq!(
            config.pair_key(b"dulse.ticket.1"),
            b"dulse.pair.dulse.ticket.1"
        );
        assert_eq!(
            config.pair_key(b"dulse.pair./d/x"),
            b"dulse.pair.dulse.pair./d/x"
        );
    }
}
