// SPDX-License-Identifier: Apache-2.0
//! What a filer answers those who repair themselves from it: pure reading.

use bytes::Bytes;
use dulse_merge::digest::{BUCKETS, CONFLICTS_DIR, INODES_DIR, KV_DIR};
use dulse_merge::keys::{Space, join_path};
use dulse_proto::repair::{
    Bucket, BucketsReply, Differing, DirectoriesReply, DirectoriesRequest, Directory, Found, Item,
    ItemsReply, ItemsRequest, KnownRequest, Row, RowsReply, RowsRequest,
};
use dulse_replica::{Census, ImportRow, Shared, name_of, sum};
use dulse_store::Error;
use dulse_types::Identity;
use dulse_types::wire::Reader;

use super::{REPLY_BYTES_MAX, components, sum_bytes, sum_of};

/// Directories of one reply.
const DIRECTORIES_MAX: usize = 10_000;

/// Ranges that differ in one reply.
const DIFFERING_MAX: usize = 256;

/// Items of one range in a reply: where the asker has few, there may be a million.
const CUT_ITEMS: usize = 8_192;

/// Names asked for at once.
pub const WANTED_MAX: usize = 1_000;

/// Items read at once.
const READ_ITEMS: usize = 1_000;

/// The sums of all buckets.
#[must_use]
pub fn buckets(shared: &Shared) -> BucketsReply {
    let (vector, sums) = shared.vector_and_buckets();
    let buckets = sums.into_iter().map(|(bucket, sum)| Bucket {
        bucket: bucket.into(),
        sum: sum_bytes(sum),
        count: sum.count,
    });
    BucketsReply {
        vector: components(&vector),
        buckets: buckets.collect(),
    }
}

/// The digest rows of some buckets.
///
/// # Errors
///
/// `Corrupt` of the engine, `Io`.
pub fn directories(
    shared: &Shared,
    request: &DirectoriesRequest,
) -> Result<DirectoriesReply, Error> {
    let census = shared.census()?;
    let mut reply = DirectoriesReply {
        vector: components(census.vector()),
        is_last: true,
        ..DirectoriesReply::default()
    };
    let mut after = request.after.as_ref();
    for bucket in &request.buckets {
        let Some(bucket) = u16::try_from(*bucket).ok().filter(|b| *b < BUCKETS) else {
            continue;
        };
        let at = match after {
            Some(last) if last.bucket > bucket.into() => continue,
            Some(last) if last.bucket == u32::from(bucket) => Some(last.directory.clone()),
            _ => None,
        };
        after = None;
        let room = DIRECTORIES_MAX - reply.directories.len();
        let rows = census.digest_rows(bucket, at.as_ref(), room)?;
        let is_full = rows.len() == room;
        let rows = rows.into_iter().map(|(directory, sum)| Directory {
            bucket: bucket.into(),
            directory,
            sum: sum_bytes(sum),
            count: sum.count,
        });
        reply.directories.extend(rows);
        if is_full {
            reply.is_last = false;
            break;
        }
    }
    Ok(reply)
}

/// The items of those ranges of a directory that differ from the asker's.
///
/// # Errors
///
/// `Corrupt` of the engine, `Io`.
pub fn items(shared: &Shared, request: &ItemsRequest) -> Result<ItemsReply, Error> {
    let census = shared.census()?;
    let dir = &request.directory;
    let (stored, counted) = (census.stored(dir)?, census.counted(dir)?);
    let mut reply = ItemsReply {
        vector: components(census.vector()),
        stored_sum: sum_bytes(stored),
        stored_count: stored.count,
        counted_sum: sum_bytes(counted),
        counted_count: counted.count,
        ..ItemsReply::default()
    };
    let mut reader = ItemReader::new(&census, dir, &request.after);
    let mut n_bytes = 0;
    for (n, range) in (0..).zip(&request.ranges) {
        if reply.differing.len() >= DIFFERING_MAX || n_bytes >= REPLY_BYTES_MAX {
            break;
        }
        let (items, is_cut) = reader.until(&range.until)?;
        reply.n_compared = n + 1;
        let is_whole = items.iter().all(|item| item.hash.is_some());
        if is_whole && !is_cut && Some(sum(&items)) == sum_of(&range.sum, range.count) {
            continue;
        }
        n_bytes += items.iter().map(|item| item.key.len() + 24).sum::<usize>();
        reply.differing.push(Differing {
            range: n,
            items: items.into_iter().map(message).collect(),
            is_cut,
        });
        if is_cut {
            break;
        }
    }
    Ok(reply)
}

fn message(item: dulse_replica::Item) -> Item {
    let hash = item.hash.map(|hash| hash.to_be_bytes().to_vec());
    Item {
        key: item.key,
        hash: hash.unwrap_or_default().into(),
    }
}

/// The rows of some items: of names all that lies at their paths.
///
/// # Errors
///
/// `Corrupt` of the engine, `Io`.
pub fn rows(shared: &Shared, request: &RowsRequest) -> Result<RowsReply, Error> {
    let census = shared.census()?;
    let dir = &request.directory[..];
    answer(&census, &request.keys, |key| match dir {
        INODES_DIR => census.rows_by_key(&[Space::Inodes], key),
        KV_DIR => census.rows_by_key(&[Space::Kv, Space::KvGraves], key),
        CONFLICTS_DIR => census.rows_by_key(&[Space::Conflicts], key),
        dir => census.rows_at(&join_path(dir, name_of(key))),
    })
}

/// What is known of some names or keys.
///
/// # Errors
///
/// `Corrupt` of the engine, `Io`.
pub fn known(shared: &Shared, request: &KnownRequest) -> Result<RowsReply, Error> {
    /// Spaces of which rows are told by key; the others are a filer's own.
    const TOLD: [Space; 10] = [
        Space::Moved,
        Space::Partial,
        Space::Graves,
        Space::Inodes,
        Space::Links,
        Space::Kv,
        Space::KvGraves,
        Space::Conflicts,
        Space::Garbage,
        Space::Members,
    ];
    let census = shared.census()?;
    answer(&census, &request.wanted, |wanted| {
        if wanted.identity.is_empty() {
            let space = TOLD
                .iter()
                .find(|s| wanted.key.first() == Some(&(**s as u8)));
            return match space {
                Some(space) => census.rows_by_key(&[*space], &wanted.key[1..]),
                None => Ok(Vec::new()),
            };
        }
        match Identity::read(&mut Reader::new(&wanted.identity)) {
            Ok(name) => census.rows_of(name, &wanted.paths),
            Err(_) => Ok(Vec::new()),
        }
    })
}

fn answer<T>(
    census: &Census,
    asked: &[T],
    find: impl Fn(&T) -> Result<Vec<ImportRow>, Error>,
) -> Result<RowsReply, Error> {
    let mut reply = RowsReply {
        vector: components(census.vector()),
        found: Vec::new(),
    };
    let mut n_bytes = 0;
    for asked in asked.iter().take(WANTED_MAX) {
        let rows = find(asked)?;
        n_bytes += rows.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let rows = rows.into_iter().map(|(key, value)| Row { key, value });
        reply.found.push(Found {
            rows: rows.collect(),
        });
        if n_bytes >= REPLY_BYTES_MAX {
            break;
        }
    }
    Ok(reply)
}

/// Reads a directory's items range by range, in bounded memory.
pub(super) struct ItemReader<'a> {
    census: &'a Census,
    dir: &'a [u8],
    page: std::collections::VecDeque<dulse_replica::Item>,
    after: Option<Bytes>,
    is_over: bool,
}

impl<'a> ItemReader<'a> {
    pub(super) fn new(census: &'a Census, dir: &'a [u8], after: &Bytes) -> Self {
        Self {
            census,
            dir,
            page: std::collections::VecDeque::new(),
            after: (!after.is_empty()).then(|| after.clone()),
            is_over: false,
        }
    }

    /// The next item.
    pub(super) fn next(&mut self) -> Result<Option<dulse_replica::Item>, Error> {
        self.fill()?;
        Ok(self.page.pop_front())
    }

    /// The items up to `until`, included; all that are left where it is empty. Whether there
    /// are more of them than one range may have.
    fn until(&mut self, until: &Bytes) -> Result<(Vec<dulse_replica::Item>, bool), Error> {
        let mut items = Vec::new();
        loop {
            self.fill()?;
            let Some(front) = self.page.front() else {
                return Ok((items, false));
            };
            if !until.is_empty() && front.key > *until {
                return Ok((items, false));
            }
            if items.len() >= CUT_ITEMS {
                return Ok((items, true));
            }
            items.extend(self.page.pop_front());
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.page.is_empty() && !self.is_over {
            let found = self
                .census
                .items(self.dir, self.after.as_ref(), READ_ITEMS)?;
            self.page.extend(found.items);
            self.is_over = found.next.is_none();
            self.after = found.next;
        }
        Ok(())
    }
}
