// SPDX-License-Identifier: Apache-2.0
//! Digests page by page, for comparing filers in bounded memory.

use bytes::Bytes;
use dulse_kv::ReadExt;
use dulse_merge::digest::{BUCKETS, Sum, bucket_of};
use dulse_merge::keys::{self, Space};
use dulse_merge::txn::decode_name;
use dulse_store::{Error, Operation};
use dulse_types::{Identity, Vector};

use crate::error;
use crate::shared::Shared;

/// Rows of one page.
const PAGE_ROWS: usize = 1_000;

/// First byte behind all keys of one name's shadows; names hold no NUL, which ends them.
const BEHIND_NAME: u8 = 1;

/// A page, and where the next one begins; `None` behind the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T, C> {
    /// In order.
    pub rows: Vec<T>,
    /// To be passed on as it is.
    pub next: Option<C>,
}

/// Bucket, directory and sum of one directory.
pub type DirectorySum = (u16, Bytes, Sum);

/// Name, identity and hash of one row.
pub type NameHash = (Bytes, Identity, u128);

/// Rows of one range, how many were found, and the name of the last one found.
struct Found {
    rows: Vec<NameHash>,
    n_found: usize,
    last: Option<Bytes>,
}

impl Shared {
    /// The sums of the buckets that hold something. Cost: one lock, no reads.
    #[must_use]
    pub fn bucket_digests(&self) -> Vec<(u16, Sum)> {
        let sums = self.sums.lock();
        let rows = (0..BUCKETS).map(|bucket| (bucket, sums.buckets[usize::from(bucket)]));
        rows.filter(|(_, sum)| !sum.is_empty()).collect()
    }

    /// Vector and sums of buckets of one moment.
    #[must_use]
    pub fn vector_and_buckets(&self) -> (Vector, Vec<(u16, Sum)>) {
        let vectors = self.vectors.read();
        (vectors.applied.clone(), self.bucket_digests())
    }

    /// A page of the digest rows of buckets `from..until`: bucket, directory and sum, in that
    /// order. `at` is where the page before said.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn digests_page(
        &self,
        from: u16,
        until: u16,
        at: Option<Vec<u8>>,
    ) -> Result<Page<DirectorySum, Vec<u8>>, Error> {
        let from = at.unwrap_or_else(|| Space::Digest.key(&from.to_be_bytes()));
        let to = match until {
            until if until >= BUCKETS => Space::Digest.range().1,
            until => Space::Digest.key(&until.to_be_bytes()),
        };
        let found = self.engine.scan(&from, &to, PAGE_ROWS);
        let found = found.map_err(|e| error::engine(Operation::List, e))?;
        let is_full = found.len() == PAGE_ROWS;
        let next = found.last().filter(|_| is_full);
        let next = next.map(|(key, _)| [key, &[0][..]].concat());
        let rows = found.into_iter().map(|(key, value)| {
            let dir = key.slice(3.min(key.len())..);
            // A damaged digest row says nothing; counting the rows finds it.
            let sum = Sum::decode(&value).unwrap_or_default();
            Ok((bucket_of(&dir), dir, sum))
        });
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Page { rows, next })
    }

    /// A page of the live rows of one directory, shadows included, in order of name and
    /// identity. `after` is the name that the page before ended with.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn names_page(
        &self,
        dir: &[u8],
        after: Option<Bytes>,
    ) -> Result<Page<NameHash, Bytes>, Error> {
        let (first, end) = keys::children(Space::Entries, dir);
        let from = match &after {
            Some(name) => [&first[..], name, &[0]].concat(),
            None => first,
        };
        let found = self.name_hashes(Space::Entries, &from, &end, PAGE_ROWS)?;
        let mut rows = found.rows;
        let next = found.last.filter(|_| found.n_found == PAGE_ROWS);
        // A shadow lies where another name shows, so each is on the page of that name.
        let (first, end) = keys::children(Space::Shadows, dir);
        let behind = |name: &[u8]| [&first[..], name, &[BEHIND_NAME]].concat();
        let from = after.as_deref().map_or_else(|| first.clone(), behind);
        let to = next.as_deref().map_or(end, behind);
        let shadows = self.name_hashes(Space::Shadows, &from, &to, usize::MAX)?;
        rows.extend(shadows.rows);
        rows.sort_unstable();
        Ok(Page { rows, next })
    }

    /// Hashes of the rows of one range.
    fn name_hashes(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Found, Error> {
        let found = self.engine.scan(from, to, limit);
        let found = found.map_err(|e| error::engine(Operation::List, e))?;
        let (mut rows, mut last, n_found) = (Vec::with_capacity(found.len()), None, found.len());
        for (key, value) in found {
            let Some(path) = keys::path_of(&key) else {
                continue;
            };
            let name = Bytes::copy_from_slice(keys::split_path(&path).1);
            last = Some(name.clone());
            let row = decode_name(space, &value, &path);
            let row = row.map_err(|e| error::read(Operation::List, e))?;
            if !row.is_implied {
                let hash = dulse_merge::digest::hash(&row.canonical());
                rows.push((name, row.name, hash));
            }
        }
        Ok(Found {
            rows,
            n_found,
            last,
        })
    }
}
