// SPDX-License-Identifier: Apache-2.0
//! Records that may not be on disk in the journal: the engine batch that they belong to
//! carries them. ⚠ So the engine is never ahead of the log: what it has and the log lost is
//! appended again when the store is opened.
//!
//! One row for each group: `position behind it` → format, the records as in the journal.

use std::collections::VecDeque;

use bytes::Bytes;
use dulse_journal::{Journal, Record};
use dulse_kv::{Engine, ReadExt};
use dulse_merge::keys::Space;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::wire::WireError;

use crate::error;

/// First byte of each row.
const FORMAT: u8 = 1;

/// Bytes of records carried at once. Where a group would exceed it, syncing the journal
/// costs less than writing so much twice.
pub(crate) const TAIL_BYTES_MAX: u64 = 256 << 10;

/// Writes of a batch.
type Writes = Vec<(Vec<u8>, Option<Bytes>)>;

/// The rows that the engine holds.
#[derive(Default, Debug)]
pub(crate) struct Tail {
    /// Position behind the group, and its size.
    rows: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Tail {
    /// Bytes of records that are carried.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is carried.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Has a batch carry the records of one append.
    pub(crate) fn carry(&mut self, records: &[Record], behind: u64, writes: &mut Writes) {
        let size: u64 = records.iter().map(Record::size).sum();
        let mut row = Vec::with_capacity(1 + size as usize);
        row.push(FORMAT);
        for record in records {
            record.write(&mut row);
        }
        writes.push((key(behind), Some(row.into())));
        self.rows.push_back((behind, size));
        self.bytes += size;
    }

    /// Has a batch remove the rows of what is on disk in the journal by now.
    pub(crate) fn drop_synced(&mut self, synced: u64, writes: &mut Writes) {
        while let Some(&(behind, size)) = self.rows.front() {
            if behind > synced {
                return;
            }
            self.rows.pop_front();
            self.bytes -= size;
            writes.push((key(behind), None));
        }
    }

    /// The rows as the engine holds them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, Error> {
        let mut tail = Self::default();
        for (behind, records) in read(engine)? {
            let size = records.iter().map(Record::size).sum();
            tail.rows.push_back((behind, size));
            tail.bytes += size;
        }
        Ok(tail)
    }
}

/// Appends to the log what the engine has and the log lost, and makes it durable.
///
/// # Errors
///
/// `Corrupt` when the log lost more than that; `DiskFull`, `Io`.
pub(crate) fn restore(journal: &Journal, engine: &dyn Engine) -> Result<usize, Error> {
    let operation = Operation::Open;
    let mut lasts = journal.lasts();
    let mut lost = Vec::new();
    for (_, records) in read(engine)? {
        for record in records {
            let last = lasts.get(record.origin);
            if record.stamp <= last {
                continue;
            }
            // An origin of which the log holds nothing may have been dropped from it.
            if record.prev != last && last.0 != 0 {
                return Err(Error::new(operation, ErrorKind::Corrupt)
                    .with("origin", record.origin)
                    .with("log ends at", last)
                    .with("the engine goes on behind", record.prev)
                    .with("because", "the journal lost what was on disk"));
            }
            lasts.set(record.origin, record.stamp);
            lost.push(record);
        }
    }
    if lost.is_empty() {
        return Ok(0);
    }
    let appended = journal.append(&lost).and_then(|_| journal.sync());
    appended.map_err(|e| error::journal(operation, e))?;
    Ok(lost.len())
}

fn key(behind: u64) -> Vec<u8> {
    Space::Tail.key(&behind.to_be_bytes())
}

/// The rows, ascending.
fn read(engine: &dyn Engine) -> Result<Vec<(u64, Vec<Record>)>, Error> {
    let operation = Operation::Open;
    let (from, to) = Space::Tail.range();
    let rows = engine.scan(&from, &to, usize::MAX);
    let rows = rows.map_err(|e| error::engine(operation, e))?;
    let rows = rows.iter().map(|(key, value)| decode(key, value));
    let rows: Result<Vec<_>, WireError> = rows.collect();
    rows.map_err(|e| error::corrupt(operation, e))
}

fn decode(key: &[u8], value: &[u8]) -> Result<(u64, Vec<Record>), WireError> {
    let bad = |what, value: u64| WireError::BadValue { what, value };
    let position = key.get(1..).and_then(|rest| rest.try_into().ok());
    let position = position.ok_or_else(|| bad("tail key", key.len() as u64))?;
    let Some((&FORMAT, mut rest)) = value.split_first() else {
        let format = value.first().copied().unwrap_or(0);
        return Err(bad("tail format", format.into()));
    };
    let mut records = Vec::new();
    while !rest.is_empty() {
        let Some((record, size)) = Record::read(rest)? else {
            return Err(WireError::LeftOver { left: rest.len() });
        };
        records.push(record);
        rest = &rest[size..];
    }
    Ok((u64::from_be_bytes(position), records))
}
