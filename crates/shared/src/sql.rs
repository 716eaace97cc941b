// SPDX-License-Identifier: Apache-2.0
//! Where a path or a key lies in a database that speaks SQL: table, `dirhash`, `name`,
//! `directory`. Upstream's, to the byte, and the same for all of them; see
//! `docs/formats/postgres.md` and `docs/formats/mysql.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::FullPath;
use md5::{Digest, Md5};

/// Which of upstream's two layouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
    /// Everything in `filemeta`: `postgres`, `mysql`.
    One,
    /// Each bucket in a table of its own: `postgres2`, `mysql2`.
    PerBucket,
}

/// The table of everything that is in no bucket's.
pub const MAIN_TABLE: &str = "filemeta";

/// Buckets that have tables of their own are below it. Upstream's `buckets_folder` moves the
/// buckets and not this: with `/data`, 4.48 has what is in `/data/b` in `filemeta`, and an empty
/// table `b`.
const BUCKETS: &str = "/buckets/";

/// Lengths of buckets' names, in bytes.
const BUCKET_LEN: std::ops::RangeInclusive<usize> = 3..=63;

/// Bytes of a key that are hashed, as they are.
const KEY_HASHED_LEN: usize = 8;

/// Where one row lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The table, safe to be quoted as it is.
    pub table: String,
    /// Hash of the directory.
    pub dirhash: i64,
    /// The name.
    pub name: String,
    /// The directory, inside the table.
    pub directory: String,
}

impl Place {
    /// What messages call it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.table.as_str() {
            MAIN_TABLE => format!("{}/{}", self.directory, self.name),
            table => format!("{table}:{}/{}", self.directory, self.name),
        }
    }
}

/// Upstream's hash of a directory: the first eight bytes of its MD5, big-endian and signed.
#[must_use]
pub fn dirhash(directory: &str) -> i64 {
    let digest = Md5::digest(directory.as_bytes());
    let first = digest.iter().take(8);
    let hash = first.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    hash.cast_signed()
}

/// Where the row of a path lies.
///
/// # Errors
///
/// `Invalid` for the root, which has no row, and below buckets whose names cannot be tables'.
pub fn place_of(tables: Tables, path: &FullPath) -> Result<Place, Error> {
    let (directory, name) = path.split().ok_or_else(|| {
        Error::new(Operation::Find, ErrorKind::Invalid).with("because", "the root has no row")
    })?;
    let (table, directory) = directory_of(tables, directory)?;
    Ok(Place {
        table,
        dirhash: dirhash(directory),
        name: name.to_owned(),
        directory: directory.to_owned(),
    })
}

/// In which table the rows of a directory are, and what it is called there.
///
/// # Errors
///
/// `Invalid` in buckets whose names cannot be tables'.
pub fn directory_of(tables: Tables, directory: &str) -> Result<(String, &str), Error> {
    let main = || Ok((MAIN_TABLE.to_owned(), directory));
    let Some((bucket, rest)) = bucket_of(tables, directory) else {
        return main();
    };
    if bucket_is_valid(bucket) {
        return Ok((bucket.to_owned(), if rest.is_empty() { "/" } else { rest }));
    }
    let text = format!(
        "`{bucket}` cannot be the name of a bucket's table; expected 3 to 63 of a-z, 0-9, `.` \
         and `-`, a letter or digit at both ends, no address, not `{MAIN_TABLE}`"
    );
    Err(Error::new(Operation::Find, ErrorKind::Invalid).with("because", text))
}

/// A statement of a configuration with the table's name for `%s`; `None` unless that stands in it
/// once.
#[must_use]
pub fn naming(statement: &str, table: &str) -> Option<String> {
    let (before, behind) = statement.split_once("%s")?;
    (!behind.contains("%s")).then(|| format!("{before}{table}{behind}"))
}

/// The bucket that a directory is or lies in, and the rest of its path; none where buckets have
/// no tables, and for those that begin with a dot, whose rows are among the others.
#[must_use]
pub fn bucket_of(tables: Tables, directory: &str) -> Option<(&str, &str)> {
    if tables == Tables::One {
        return None;
    }
    let inside = directory.strip_prefix(BUCKETS)?;
    let at = inside.find('/').unwrap_or(inside.len());
    let (bucket, rest) = inside.split_at(at);
    (!bucket.starts_with('.')).then_some((bucket, rest))
}

/// Whether upstream takes a bucket of this name.
#[must_use]
pub fn bucket_is_valid(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    BUCKET_LEN.contains(&name.len())
        && name.chars().all(|c| is_plain(c) || c == '.' || c == '-')
        && name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && !name.contains("..")
        && !is_address
        && name != MAIN_TABLE
}

/// Where a key of the key-value space lies: among the entries, under a hash that is its first
/// eight bytes, the rest in base 64. Shorter keys are filled up with zeros, so `a` and `a\0` are
/// one key, as they are upstream.
#[must_use]
pub fn key_row(key: &[u8]) -> Place {
    let mut first = [0; KEY_HASHED_LEN];
    let n = key.len().min(KEY_HASHED_LEN);
    first[..n].copy_from_slice(&key[..n]);
    Place {
        table: MAIN_TABLE.to_owned(),
        dirhash: i64::from_be_bytes(first),
        name: STANDARD.encode(&key[n..]),
        directory: STANDARD.encode(first),
    }
}

/// The least text that is greater than every one with the prefix; none when there is none.
#[must_use]
pub fn behind(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tables: Tables, path: &str) -> Place {
        place_of(tables, &FullPath::parse(path).unwrap()).unwrap()
    }

    #[test]
    fn rows_lie_where_upstream_was_seen_to_put_them() {
        let one = |path| {
            let at = place(Tables::One, path);
            (at.table, at.dirhash, at.name, at.directory)
        };
        let row = |table: &str, hash, name: &str, directory: &str| {
            (
                table.to_owned(),
                hash,
                name.to_owned(),
                directory.to_owned(),
            )
        };
        let deep = row("filemeta", 8348033863280399382, "z.txt", "/buckets/bk1/x");
        assert_eq!(
            one("/buckets"),
            row("filemeta", 7378810950367401542, "buckets", "/")
        );
        assert_eq!(
            one("/buckets/bk1"),
            row("filemeta", 6793468351665586313, "bk1", "/buckets")
        );
        assert_eq!(one("/buckets/bk1/x/z.txt"), deep);
        let two = |path| {
            let at = place(Tables::PerBucket, path);
            (at.table, at.dirhash, at.name, at.directory)
        };
        assert_eq!(
            two("/buckets/bk1"),
            row("filemeta", 6793468351665586313, "bk1", "/buckets")
        );
        assert_eq!(
            two("/buckets/bk1/x"),
            row("bk1", 7378810950367401542, "x", "/")
        );
        assert_eq!(
            two("/buckets/bk1/x/z.txt"),
            row("bk1", -3708901894713370524, "z.txt", "/x")
        );
        // Of a filer whose buckets are in `/data`.
        assert_eq!(two("/data/bk1/z.txt").0, "filemeta");
        let hidden = row("filemeta", -1813020645701509148, "y.txt", "/buckets/.hid/x");
        assert_eq!(two("/buckets/.hid/x/y.txt"), hidden);
    }

    #[test]
    fn keys_lie_where_upstream_was_seen_to_put_them() {
        let id = key_row(b"filer.store.id");
        assert_eq!(
            (id.dirhash, &*id.name, &*id.directory),
            (7379548647386411892, "b3JlLmlk", "ZmlsZXIuc3Q=")
        );
        assert_eq!(key_row(b"a").directory, "YQAAAAAAAAA=");
    }

    #[test]
    fn only_names_that_upstream_takes_are_tables() {
        for name in ["abc", "a.b", "1ab", &"a".repeat(63), "a-b"] {
            assert!(bucket_is_valid(name), "{name}");
        }
        for name in [
            "Bk1",
            "b_1",
            "ab",
            "-ab",
            "ab-",
            "a..b",
            "192.168.1.1",
            "filemeta",
            "a\"b",
            "",
        ] {
            assert!(!bucket_is_valid(name), "{name}");
        }
        assert!(!bucket_is_valid(&"a".repeat(64)));
        let path = FullPath::parse("/buckets/Bk/x").unwrap();
        let error = place_of(Tables::PerBucket, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn what_is_behind_a_prefix_is_behind_all_that_have_it() {
        assert_eq!(behind("a").as_deref(), Some("b"));
        assert_eq!(behind("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(behind("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(behind("\u{10ffff}"), None);
        assert_eq!(behind(""), None);
    }
}
