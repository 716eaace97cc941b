// SPDX-License-Identifier: Apache-2.0
//! Where in a segment an origin's changes lie: kept in memory, and beside each sealed segment
//! so that opening need not read it. Byte layout: `docs/formats/journal.md`.

use std::collections::BTreeMap;

use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Origin, Stamp, Vector};

use crate::error::JournalError;
use crate::record::{Record, RecordKind};

/// First bytes of every index file.
const MAGIC: &[u8; 8] = b"DULSEIDX";

/// Format of index files.
const FORMAT_VERSION: u16 = 1;

/// Every how many records of an origin the segment that is written to has a mark: a reader at
/// the end decodes at most so many that it has.
const RECORDS_PER_MARK: u32 = 32;

/// Bytes between two marks of an origin in a sealed segment: a read of the disk is no smaller.
const MARK_EVERY_BYTES: u64 = 64 << 10;

/// Most marks or origins of one index that is read; a segment has fewer bytes than that.
const COUNT_MAX: u64 = 1 << 24;

/// One segment: its range of positions, and marks per origin.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SegmentIndex {
    /// Position of its first record.
    pub(crate) first: u64,
    /// Position behind its last record.
    pub(crate) end: u64,
    /// Greatest stamp or ceiling in it: how old it is.
    pub(crate) newest: Stamp,
    origins: BTreeMap<Origin, Marks>,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Marks {
    last: Stamp,
    /// Records in all.
    n_records: u64,
    /// Of the first record and of some later ones, ascending.
    marks: Vec<Mark>,
    n_since: u32,
}

/// Where one record of an origin lies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Mark {
    pub(crate) stamp: Stamp,
    pub(crate) position: u64,
    /// Records of the origin before it in the segment.
    pub(crate) n_before: u64,
}

impl SegmentIndex {
    /// An empty segment.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            end: first,
            ..Self::default()
        }
    }

    /// Takes note of the record at the end.
    pub(crate) fn note(&mut self, record: &Record) {
        let position = self.end;
        self.end += record.size();
        match record.kind {
            RecordKind::Synced => return,
            RecordKind::ClockCeiling => self.newest = self.newest.max(record.prev),
            RecordKind::Change | RecordKind::Intent | RecordKind::Kept => {
                self.newest = self.newest.max(record.stamp);
            }
        }
        let marks = self.origins.entry(record.origin).or_default();
        if record.stamp <= marks.last {
            return;
        }
        if marks.n_since == 0 {
            marks.marks.push(Mark {
                stamp: record.stamp,
                position,
                n_before: marks.n_records,
            });
        }
        marks.n_records += 1;
        marks.n_since = (marks.n_since + 1) % RECORDS_PER_MARK;
        marks.last = record.stamp;
    }

    /// The last stamp of an origin; zero when it has none here.
    pub(crate) fn last(&self, origin: Origin) -> Stamp {
        self.origins.get(&origin).map_or(Stamp::ZERO, |m| m.last)
    }

    /// The last stamp of every origin.
    pub(crate) fn lasts(&self) -> Vector {
        let rows = self.origins.iter();
        rows.map(|(origin, marks)| (*origin, marks.last)).collect()
    }

    /// How many records of an origin it has.
    pub(crate) fn n_records(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |m| m.n_records)
    }

    /// Where to begin to read for an origin's changes behind `after`; `None` when it has none.
    pub(crate) fn begin(&self, origin: Origin, after: Stamp) -> Option<Mark> {
        let marks = &self.origins.get(&origin).filter(|m| m.last > after)?.marks;
        let at = marks.partition_point(|mark| mark.stamp <= after);
        marks.get(at.saturating_sub(1)).copied()
    }

    /// Nothing is written to it any more: fewer marks do.
    pub(crate) fn seal(&mut self) {
        for marks in self.origins.values_mut() {
            let mut next = 0;
            marks.marks.retain(|mark| {
                let is_kept = mark.position >= next;
                if is_kept {
                    next = mark.position + MARK_EVERY_BYTES;
                }
                is_kept
            });
            marks.n_since = 0;
            marks.marks.shrink_to_fit();
        }
    }

    /// The file's bytes.
    pub(crate) fn encode(&self, store: u64) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.u16_be(FORMAT_VERSION);
        out.u16_be(0);
        out.u64_be(store);
        out.u64_be(self.first);
        out.u64_be(self.end);
        out.i64_be(self.newest.0);
        out.varint(self.origins.len() as u64);
        for (origin, marks) in &self.origins {
            out.u64_be(origin.0);
            out.i64_be(marks.last.0);
            out.varint(marks.n_records);
            out.varint(marks.marks.len() as u64);
            let mut before = Mark {
                position: self.first,
                ..Mark::default()
            };
            for mark in &marks.marks {
                out.varint(mark.stamp.0.wrapping_sub(before.stamp.0) as u64);
                out.varint(mark.position - before.position);
                out.varint(mark.n_before - before.n_before);
                before = *mark;
            }
        }
        let checksum = crc32c::crc32c(out.as_slice());
        out.u32_be(checksum);
        out.into_vec()
    }

    /// Reads a file's bytes; gives the store, too.
    ///
    /// # Errors
    ///
    /// `Version`, `Corrupt`.
    pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<(u64, Self), JournalError> {
        let corrupt = |source| JournalError::corrupt(file, 0, source);
        let version = version(bytes).map_err(corrupt)?;
        if version != FORMAT_VERSION {
            return Err(JournalError::version(file, version, FORMAT_VERSION));
        }
        let Some((content, checksum)) = bytes.split_last_chunk::<4>() else {
            return Err(corrupt(WireError::Truncated { at: 0, needed: 4 }));
        };
        let checksum = u32::from_be_bytes(*checksum);
        if crc32c::crc32c(content) != checksum {
            return Err(corrupt(WireError::BadValue {
                what: "index checksum",
                value: checksum.into(),
            }));
        }
        read(&content[12..]).map_err(corrupt)
    }
}

fn version(bytes: &[u8]) -> Result<u16, WireError> {
    let input = &mut Reader::new(bytes);
    if input.raw(8)? != MAGIC {
        return Err(WireError::BadValue {
            what: "index magic",
            value: 0,
        });
    }
    let version = input.u16_be()?;
    input.u16_be()?;
    Ok(version)
}

fn read(content: &[u8]) -> Result<(u64, SegmentIndex), WireError> {
    let input = &mut Reader::new(content);
    let store = input.u64_be()?;
    let mut index = SegmentIndex::new(input.u64_be()?);
    index.end = input.u64_be()?;
    index.newest = Stamp(input.i64_be()?);
    for _ in 0..count(input)? {
        let origin = Origin(input.u64_be()?);
        let mut marks = Marks {
            last: Stamp(input.i64_be()?),
            n_records: input.varint()?,
            ..Marks::default()
        };
        let mut mark = Mark {
            position: index.first,
            ..Mark::default()
        };
        for _ in 0..count(input)? {
            mark.stamp = Stamp(mark.stamp.0.wrapping_add(input.varint()? as i64));
            mark.position = mark.position.saturating_add(input.varint()?);
            mark.n_before = mark.n_before.saturating_add(input.varint()?);
            marks.marks.push(mark);
        }
        index.origins.insert(origin, marks);
    }
    Ok((store, index))
}

fn count(input: &mut Reader<'_>) -> Result<u64, WireError> {
    let count = input.varint()?;
    if count > COUNT_MAX {
        return Err(WireError::TooLong {
            what: "index",
            len: count,
        });
    }
    Ok(count)
}
