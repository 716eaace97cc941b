// SPDX-License-Identifier: Apache-2.0
//! The own items of a directory in ranges with their sums, to be compared with a peer's.
//!
//! Two sizes: a directory of a million has 245 coarse ranges, so that one that differs there
//! costs 10 KB to find; then the fine ranges of a coarse one that differs, and the items of a
//! fine one. More levels would save little and cost a round trip each.

use bytes::Bytes;
use dulse_merge::digest::Sum;
use dulse_proto::repair::Range;
use dulse_replica::{Census, Item};

use super::super::serve::{ItemReader, READ_ITEMS};
use super::super::{COARSE_ITEMS, RANGE_ITEMS, RANGES_MAX, sum_bytes};

/// A directory, gone through once.
pub(super) struct Survey {
    /// What its rows are.
    pub(super) counted: Sum,
    /// All of it in coarse ranges.
    pub(super) coarse: Vec<Range>,
}

/// Goes through a directory. Cost: one scan of it; memory for one range in 4,096 items.
pub(super) fn survey(census: &Census, dir: &Bytes) -> Result<Survey, String> {
    let mut reader = ItemReader::new(census, dir, &Bytes::new(), READ_ITEMS);
    let (mut counted, mut coarse) = (Sum::default(), Vec::new());
    loop {
        let mut open = Open::default();
        while open.n_items < COARSE_ITEMS
            && let Some(item) = reader.next().map_err(|e| e.to_string())?
        {
            open.add(item);
        }
        counted.merge(open.sum);
        let is_end = open.n_items < COARSE_ITEMS;
        coarse.push(open.range(is_end.then(Bytes::new)));
        if is_end {
            return Ok(Survey { counted, coarse });
        }
    }
}

/// The own items behind a key up to another one in fine ranges, at most [`RANGES_MAX`];
/// whether they reach that end.
pub(super) fn fine(
    census: &Census,
    dir: &Bytes,
    after: &Bytes,
    until: &Bytes,
) -> Result<(Vec<Range>, bool), String> {
    let mut reader = ItemReader::new(census, dir, after, READ_ITEMS);
    let mut ranges = Vec::new();
    loop {
        let mut open = Open::default();
        let mut is_end = false;
        while open.n_items < RANGE_ITEMS && !is_end {
            match reader.next().map_err(|e| e.to_string())? {
                Some(item) if until.is_empty() || item.key <= *until => open.add(item),
                _ => is_end = true,
            }
        }
        ranges.push(open.range(is_end.then(|| until.clone())));
        if is_end || ranges.len() >= RANGES_MAX {
            return Ok((ranges, is_end));
        }
    }
}

/// A range that is being filled.
#[derive(Default)]
struct Open {
    n_items: usize,
    sum: Sum,
    last: Bytes,
    is_damaged: bool,
}

impl Open {
    fn add(&mut self, item: Item) {
        self.n_items += 1;
        match item.hash {
            Some(hash) => self.sum.add(hash),
            None => self.is_damaged = true,
        }
        self.last = item.key;
    }

    /// The range, up to its last item or where it is said to end.
    fn range(self, until: Option<Bytes>) -> Range {
        // Equal to nothing: what does not decode counts nothing, and must be looked at.
        let count = match self.is_damaged {
            true => i64::MIN,
            false => self.sum.count,
        };
        Range {
            until: until.unwrap_or(self.last),
            sum: sum_bytes(self.sum),
            count,
        }
    }
}
