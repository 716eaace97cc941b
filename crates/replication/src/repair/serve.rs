// SPDX-License-Identifier: Apache-2.0
//! What a filer answers those who repair themselves from it: pure reading.

use bytes::Bytes;
use dulse_merge::digest::{BUCKETS, CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum};
use dulse_merge::keys::{Space, join_path};
use dulse_proto::repair::{
    Bucket, BucketsReply, Differing, DirectoriesReply, DirectoriesRequest, Directory, Found, Item,
    ItemsReply, ItemsRequest, KnownRequest, Row, RowsReply, RowsRequest,
};
use dulse_replica::{Census, ImportRow, Shared, name_of, sum};
use dulse_store::Error;
use dulse_types::Identity;
use dulse_types::wire::Reader;

use super::{RANGES_MAX, REPLY_BYTES_MAX, components, sum_bytes, sum_of};

/// Directories of one reply.
const DIRECTORIES_MAX: usize = 10_000;

/// Ranges that differ in one reply.
const DIFFERING_MAX: usize = 256;

/// Items of one range in a reply: where the asker has few, there may be a million.
const CUT_ITEMS: usize = 8_192;

/// Names asked for at once.
pub const WANTED_MAX: usize = 1_000;

/// Items read at once.
pub(super) const READ_ITEMS: usize = 1_000;

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

/// The items of those ranges of a directory that differ from the asker's; the numbers alone
/// where only those are asked for. Cost: one scan of the directory where its sums are asked
/// for, else of the ranges.
///
/// # Errors
///
/// `Corrupt` of the engine, `Io`.
pub fn items(shared: &Shared, request: &ItemsRequest) -> Result<ItemsReply, Error> {
    let census = shared.census()?;
    let dir = &request.directory;
    let mut reply = ItemsReply {
        vector: components(census.vector()),
        ..ItemsReply::default()
    };
    let (differing_max, cut) = match request.without_items {
        true => (RANGES_MAX, usize::MAX),
        false => (DIFFERING_MAX, CUT_ITEMS),
    };
    let mut reader = ItemReader::new(&census, dir, &request.after, READ_ITEMS);
    let mut n_bytes = 0;
    for (n, range) in (0..).zip(&request.ranges) {
        if reply.differing.len() >= differing_max || n_bytes >= REPLY_BYTES_MAX {
            break;
        }
        let Section { items, sum, is_cut } =
            reader.until(&range.until, cut, !request.without_items)?;
        reply.n_compared = n + 1;
        if !is_cut && sum.is_some() && sum == sum_of(&range.sum, range.count) {
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
    if !request.without_sums {
        let stored = census.stored(dir)?;
        let counted = match request.after.is_empty() {
            true => reader.counted()?,
            false => census.counted(dir)?,
        };
        reply.stored_sum = sum_bytes(stored);
        reply.stored_count = stored.count;
        reply.counted_sum = sum_bytes(counted);
        reply.counted_count = counted.count;
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

/// Some items of a directory.
struct Section {
    /// Nothing where only the sum was asked for.
    items: Vec<dulse_replica::Item>,
    /// `None` where one of them is damaged.
    sum: Option<Sum>,
    /// There are more of them than a section may have.
    is_cut: bool,
}

/// Reads a directory's items range by range, in bounded memory.
pub(super) struct ItemReader<'a> {
    census: &'a Census,
    dir: &'a [u8],
    page_items: usize,
    page: std::collections::VecDeque<dulse_replica::Item>,
    after: Option<Bytes>,
    is_over: bool,
    /// Of all that was read.
    total: Sum,
}

impl<'a> ItemReader<'a> {
    /// Items behind `after`, read `page_items` at a time.
    pub(super) fn new(census: &'a Census, dir: &'a [u8], after: &Bytes, page_items: usize) -> Self {
        Self {
            census,
            dir,
            page_items,
            page: std::collections::VecDeque::new(),
            after: (!after.is_empty()).then(|| after.clone()),
            is_over: false,
            total: Sum::default(),
        }
    }

    /// The next item.
    pub(super) fn next(&mut self) -> Result<Option<dulse_replica::Item>, Error> {
        self.fill()?;
        Ok(self.page.pop_front())
    }

    /// The items up to `until`, included, at most `limit`; all that are left where it is empty.
    fn until(&mut self, until: &Bytes, limit: usize, is_kept: bool) -> Result<Section, Error> {
        let (mut items, mut n_items) = (Vec::new(), 0);
        let (mut total, mut is_whole) = (Sum::default(), true);
        let mut is_cut = false;
        loop {
            self.fill()?;
            let front = self.page.front();
            if front.is_none_or(|item| !until.is_empty() && item.key > *until) {
                break;
            }
            if n_items >= limit {
                is_cut = true;
                break;
            }
            let Some(item) = self.page.pop_front() else {
                break;
            };
            n_items += 1;
            match item.hash {
                Some(hash) => total.add(hash),
                None => is_whole = false,
            }
            if is_kept {
                items.push(item);
            }
        }
        Ok(Section {
            items,
            sum: is_whole.then_some(total),
            is_cut,
        })
    }

    /// The sum of all items behind where it began, those included that were read before.
    fn counted(mut self) -> Result<Sum, Error> {
        loop {
            self.page.clear();
            self.fill()?;
            if self.page.is_empty() {
                return Ok(self.total);
            }
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.page.is_empty() && !self.is_over {
            let found = self
                .census
                .items(self.dir, self.after.as_ref(), self.page_items)?;
            self.total.merge(sum(&found.items));
            self.page.extend(found.items);
            self.is_over = found.next.is_none();
            self.after = found.next;
        }
        Ok(())
    }
}
