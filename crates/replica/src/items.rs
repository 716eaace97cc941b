// SPDX-License-Identifier: Apache-2.0
//! What the digest counts, item by item, from one engine snapshot.
//!
//! An item is one row that counts in a directory of the digest: a live name, the content of an
//! inode with several names, a key-value pair, an open conflict record. Its key orders the
//! items of a directory alike at every replica, so ranges of them can be compared by their
//! sums before any of them is sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_kv::{Read, ReadExt};
use dulse_merge::digest::{BUCKETS, CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum, hash};
use dulse_merge::keys::{self, Space};
use dulse_merge::repair::{is_covered, is_row_covered};
use dulse_merge::row::{ConflictRow, InodeRow, KvRow};
use dulse_merge::{NameRow, Txn, apply};
use dulse_store::{Error, Operation};
use dulse_types::wire::Reader;
use dulse_types::{Identity, Vector};

use crate::error;
use crate::shared::{EngineRows, Shared};

/// Rows read at once.
const READ_ROWS: usize = 1_000;

/// One row that counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    /// Of a name: the name, a NUL, its identity. Else the key-value pair's key, or the
    /// identity of the inode or of the conflict.
    pub key: Bytes,
    /// What it counts with; `None` for a row that is damaged: it does not decode, or says more
    /// than is applied.
    pub hash: Option<u128>,
}

/// The sum of some items; damaged rows count nothing.
#[must_use]
pub fn sum(items: &[Item]) -> Sum {
    let mut sum = Sum::default();
    for hash in items.iter().filter_map(|item| item.hash) {
        sum.add(hash);
    }
    sum
}

/// What is stored in one moment, for comparing it with another replica or with its digest.
pub struct Census {
    snapshot: Box<dyn Read>,
    vector: Vector,
}

impl Shared {
    /// Takes a snapshot.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn census(&self) -> Result<Census, Error> {
        let operation = Operation::Transfer;
        let snapshot = self.engine.snapshot();
        let snapshot = snapshot.map_err(|e| error::engine(operation, e))?;
        let vector = snapshot.get(&Space::Vector.key(b""));
        let vector = match vector.map_err(|e| error::engine(operation, e))? {
            Some(value) => Vector::read(&mut Reader::new(&value)),
            None => Ok(Vector::new()),
        };
        let vector = vector.map_err(|e| error::corrupt(operation, e))?;
        Ok(Census { snapshot, vector })
    }
}

impl Census {
    /// What is applied in it.
    #[must_use]
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The stored sum of one directory.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`. A digest row that does not decode counts as none.
    pub fn stored(&self, dir: &[u8]) -> Result<Sum, Error> {
        let row = self.get(&keys::digest(dir))?;
        Ok(row
            .and_then(|row| Sum::decode(&row).ok())
            .unwrap_or_default())
    }

    /// The digest rows of a bucket behind a directory, at most `limit`.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`.
    pub fn digest_rows(
        &self,
        bucket: u16,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Sum)>, Error> {
        let mut from = Space::Digest.key(&bucket.to_be_bytes());
        let to = match bucket.checked_add(1) {
            Some(next) if next < BUCKETS => Space::Digest.key(&next.to_be_bytes()),
            _ => Space::Digest.range().1,
        };
        if let Some(after) = after {
            from.extend_from_slice(after);
            from.push(0);
        }
        let rows = self.scan(&from, &to, limit)?.into_iter();
        let rows = rows.map(|(key, value)| {
            let sum = Sum::decode(&value).unwrap_or_default();
            (key.slice(3.min(key.len())..), sum)
        });
        Ok(rows.collect())
    }

    /// The sum of what is really there in one directory. Cost: one scan of it.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`.
    pub fn counted(&self, dir: &[u8]) -> Result<Sum, Error> {
        let (mut total, mut after) = (Sum::default(), None);
        loop {
            let page = self.items(dir, after.as_ref(), READ_ROWS)?;
            total.merge(sum(&page.items));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(total),
            }
        }
    }

    /// Whether what is there is what the digest says.
    ///
    /// # Errors
    ///
    /// As [`Census::counted`].
    pub fn is_consistent(&self, dir: &[u8]) -> Result<bool, Error> {
        Ok(self.counted(dir)? == self.stored(dir)?)
    }

    /// Items of a directory with keys behind `after`, ascending, about `limit`.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`. Rows that do not decode are items without a hash.
    pub fn items(&self, dir: &[u8], after: Option<&Bytes>, limit: usize) -> Result<Items, Error> {
        match dir {
            INODES_DIR => self.keyed(Space::Inodes, after, limit, |key, value| {
                let row = InodeRow::decode(value).ok()?;
                (row.inode.to_bytes() == key[..]).then(|| hash(&row.encode()))
            }),
            KV_DIR => self.keyed(Space::Kv, after, limit, |key, value| {
                let row = KvRow::decode(value).ok()?;
                row.value.is_some().then(|| apply::kv_hash(key, &row))
            }),
            CONFLICTS_DIR => self.keyed(Space::Conflicts, after, limit, |_, value| {
                let row = ConflictRow::decode(value).ok()?;
                Some(hash(&row.canonical()))
            }),
            dir => self.names(dir, after, limit),
        }
    }

    fn names(&self, dir: &[u8], after: Option<&Bytes>, limit: usize) -> Result<Items, Error> {
        let (first, end) = keys::children(Space::Entries, dir);
        // The name that the page before ended with was given whole.
        let behind = |first: &[u8], name: &[u8]| [first, name, &[1]].concat();
        let from = match after {
            Some(key) => [&first[..], name_of(key), &[0]].concat(),
            None => first.clone(),
        };
        let shown = self.scan(&from, &end, limit.max(1))?;
        let is_full = shown.len() == limit.max(1);
        let last = shown.last().map(|(key, _)| key.slice(first.len()..));
        let last = last.filter(|_| is_full);
        let (shadow, shadows_end) = keys::children(Space::Shadows, dir);
        let from = after.map_or_else(|| shadow.clone(), |key| behind(&shadow, name_of(key)));
        let to = last
            .as_ref()
            .map_or(shadows_end, |name| behind(&shadow, name));
        let hidden = self.scan(&from, &to, usize::MAX)?;
        let unsettled = self.unsettled(dir, &shown, &hidden)?;
        let mut items = Vec::with_capacity(shown.len() + hidden.len());
        for (key, value) in &shown {
            items.extend(self.shown_item(dir, &key[first.len()..], value));
        }
        for (key, value) in &hidden {
            let key = key.slice(shadow.len()..);
            let hash = self.shadow_hash(dir, &key, value);
            items.push(Item { key, hash });
        }
        items.sort();
        let next = last.map(|name| [&name[..], &[0], &[0xff; Identity::LEN]].concat().into());
        Ok(Items {
            items,
            next,
            unsettled,
        })
    }

    /// Names at which what shows does not follow from what lies there: in no digest.
    fn unsettled(
        &self,
        dir: &[u8],
        shown: &[(Bytes, Bytes)],
        hidden: &[(Bytes, Bytes)],
    ) -> Result<Vec<Bytes>, Error> {
        let at = dir.len() + 2;
        // Of each name that is hidden, whether something shows before it.
        let mut left: BTreeMap<&[u8], bool> = BTreeMap::new();
        for (key, value) in hidden {
            let name = key.get(at..).map(name_of).unwrap_or_default();
            let is_right = match NameRow::decode(value, b"") {
                Ok(row) => {
                    !row.has_shadows
                        && (!row.is_linked || self.is_link(&row, &keys::join_path(dir, name))?)
                }
                // It is told as damaged.
                Err(_) => true,
            };
            *left.entry(name).or_insert(true) &= is_right;
        }
        let mut unsettled = Vec::new();
        for (key, value) in shown {
            let name = key.get(at..).unwrap_or_default();
            let hides = left.remove(name);
            let Ok(row) = NameRow::decode(value, b"") else {
                continue;
            };
            let is_right = row.has_shadows == hides.is_some()
                && hides.unwrap_or(true)
                && (!row.is_implied || self.has_children(&keys::join_path(dir, name))?)
                && (!row.is_linked || self.is_link(&row, &keys::join_path(dir, name))?);
            if !is_right {
                unsettled.push(Bytes::copy_from_slice(name));
            }
        }
        unsettled.extend(left.into_keys().map(Bytes::copy_from_slice));
        Ok(unsettled)
    }

    /// Whether a directory has entries.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`.
    pub(crate) fn has_children(&self, dir: &[u8]) -> Result<bool, Error> {
        let (from, to) = keys::children(Space::Entries, dir);
        Ok(!self.scan(&from, &to, 1)?.is_empty())
    }

    /// Whether the links of an inode know of a name that shows.
    fn is_link(&self, row: &NameRow, path: &[u8]) -> Result<bool, Error> {
        let link = self.get(&keys::link(row.inode, row.name))?;
        Ok(link.is_some_and(|link| link.split_first() == Some((&1, path))))
    }

    fn keyed(
        &self,
        space: Space,
        after: Option<&Bytes>,
        limit: usize,
        hash: impl Fn(&[u8], &Bytes) -> Option<u128>,
    ) -> Result<Items, Error> {
        let (mut from, to) = space.range();
        if let Some(after) = after {
            from.extend_from_slice(after);
            from.push(0);
        }
        let rows = self.scan(&from, &to, limit.max(1))?;
        let is_full = rows.len() == limit.max(1);
        let next = rows
            .last()
            .filter(|_| is_full)
            .map(|(key, _)| key.slice(1..));
        let engine = EngineRows(&*self.snapshot);
        let txn = Txn::new(&engine);
        let mut items = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let key = key.slice(1..);
            let is_counted = match space {
                Space::Inodes => match Identity::read(&mut Reader::new(&key)) {
                    Ok(inode) => apply::is_counted(&txn, inode)
                        .map_err(|e| error::read(Operation::List, e))?,
                    Err(_) => true,
                },
                Space::Conflicts => ConflictRow::decode(&value).map_or(true, |row| row.is_open()),
                _ => true,
            };
            if is_counted {
                let whole = space.key(&key);
                let is_possible = is_row_covered(Some(&self.vector), &whole, &value);
                let hash = hash(&key, &value).filter(|_| is_possible);
                items.push(Item { key, hash });
            }
        }
        Ok(Items {
            items,
            next,
            unsettled: Vec::new(),
        })
    }

    /// Where some names lie, wherever that is: for making sure that a name that one side lacks
    /// at one path is not there at another (I6). Cost: one scan of all entries.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`.
    pub fn places_of(
        &self,
        names: &BTreeSet<Identity>,
    ) -> Result<BTreeMap<Identity, Vec<Bytes>>, Error> {
        let mut places: BTreeMap<Identity, Vec<Bytes>> = BTreeMap::new();
        for space in [Space::Entries, Space::Shadows] {
            let (mut from, to) = space.range();
            loop {
                let rows = self.scan(&from, &to, READ_ROWS)?;
                let Some((last, _)) = rows.last() else { break };
                from = [last, &[0][..]].concat();
                for (key, value) in &rows {
                    let row = NameRow::decode(value, b"").ok();
                    let row = row.filter(|row| !row.is_implied && names.contains(&row.name));
                    if let (Some(row), Some(path)) = (row, keys::path_of(key)) {
                        places.entry(row.name).or_default().push(path.into());
                    }
                }
            }
        }
        Ok(places)
    }

    /// One row by its whole key.
    ///
    /// # Errors
    ///
    /// `Corrupt` of the engine, `Io`.
    pub fn row(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.get(key)
    }

    pub(crate) fn read(&self) -> &dyn Read {
        &*self.snapshot
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.snapshot.get(key);
        value.map_err(|e| error::engine(Operation::List, e))
    }

    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let rows = self.snapshot.scan(from, to, limit);
        rows.map_err(|e| error::engine(Operation::List, e))
    }
}

/// Some items of a directory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Items {
    /// Ascending by key.
    pub items: Vec<Item>,
    /// What the next page goes on behind; `None` at the end.
    pub next: Option<Bytes>,
    /// Names at which what shows does not follow from what lies there.
    pub unsettled: Vec<Bytes>,
}

/// The name in an item's key.
#[must_use]
pub fn name_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The identity in the key of a name's item.
#[must_use]
pub fn identity_of(key: &[u8]) -> Option<Identity> {
    let rest = key.get(name_of(key).len() + 1..)?;
    let input = &mut Reader::new(rest);
    let identity = Identity::read(input).ok()?;
    input.finish().ok()?;
    Some(identity)
}

impl Census {
    /// None for a derived row, which does not count.
    fn shown_item(&self, dir: &[u8], name: &[u8], value: &Bytes) -> Option<Item> {
        let path = keys::join_path(dir, name);
        let row = NameRow::decode(value, &path).ok();
        let Some(row) = row.filter(|row| row.is_implied || self.is_possible(row)) else {
            let key = [name, &[0]].concat().into();
            return Some(Item { key, hash: None });
        };
        let key = [name, &[0], &row.name.to_bytes()].concat().into();
        let hash = Some(hash(&row.canonical()));
        (!row.is_implied).then_some(Item { key, hash })
    }

    fn shadow_hash(&self, dir: &[u8], key: &[u8], value: &Bytes) -> Option<u128> {
        let path = keys::join_path(dir, name_of(key));
        let row = NameRow::decode(value, &path).ok()?;
        let is_right = identity_of(key) == Some(row.name) && self.is_possible(&row);
        is_right.then(|| hash(&row.canonical()))
    }

    /// I3: a row that says more than is applied is no row.
    fn is_possible(&self, row: &NameRow) -> bool {
        is_covered(Some(&self.vector), row)
    }
}
