// SPDX-License-Identifier: Apache-2.0
//! One state of the store, and how rows are read.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Error, Order, Read, Visitor};
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;

use crate::error::fail;

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    /// A snapshot with the database that it is of.
    struct Owned {
        owner: Arc<DB>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// One state of the store.
pub(crate) struct RocksdbSnapshot {
    owned: Owned,
    /// Order: dropped behind the database.
    _counted: Arc<File>,
}

impl RocksdbSnapshot {
    /// Fixes the present state; `counted` lives as long as it does.
    pub(crate) fn take(db: &Arc<DB>, counted: &Arc<File>) -> Self {
        Self {
            owned: Owned::new(Arc::clone(db), |db| Snapshot::new(db)),
            _counted: Arc::clone(counted),
        }
    }

    fn options(&self) -> ReadOptions {
        let mut options = read_options();
        options.set_snapshot(self.owned.borrow_dependent());
        options
    }
}

impl Read for RocksdbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        get(self.owned.borrow_owner(), key, &self.options())
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        let options = self.options();
        visit(self.owned.borrow_owner(), options, range, order, visitor)
    }
}

/// Every block that comes from a file is checked.
pub(crate) fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

/// The value of a key.
pub(crate) fn get(db: &DB, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>, Error> {
    let value = db.get_pinned_opt(key, options);
    let value = value.map_err(|e| fail("read a row", e))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

/// Shows rows without copying them.
pub(crate) fn visit(
    db: &DB,
    mut options: ReadOptions,
    range: Range<&[u8]>,
    order: Order,
    visitor: &mut Visitor<'_>,
) -> Result<(), Error> {
    if range.start >= range.end {
        return Ok(());
    }
    options.set_iterate_lower_bound(range.start);
    options.set_iterate_upper_bound(range.end);
    let mut cursor = db.raw_iterator_opt(options);
    match order {
        Order::Ascending => cursor.seek_to_first(),
        Order::Descending => cursor.seek_to_last(),
    }
    while let Some((key, value)) = cursor.item() {
        if visitor(key, value).is_break() {
            break;
        }
        match order {
            Order::Ascending => cursor.next(),
            Order::Descending => cursor.prev(),
        }
    }
    // A cursor that met damage ends like one that came to the end.
    cursor.status().map_err(|e| fail("scan rows", e))
}
