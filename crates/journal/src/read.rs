// SPDX-License-Identifier: Apache-2.0
//! Reading the log: in its own order, or one origin's changes.

use dulse_types::{Origin, Stamp};

use crate::error::JournalError;
use crate::journal::Journal;
use crate::record::{Record, RecordKind};
use crate::scan::Scan;

/// A part of one segment to read.
#[derive(Clone, Copy)]
struct Part {
    first: u64,
    from: u64,
    until: u64,
}

impl Journal {
    /// Reads records from a position on, up to about `max_bytes` and never beyond `until`;
    /// gives them with the position behind each.
    ///
    /// # Errors
    ///
    /// `Gap` when the position is no longer kept, `Corrupt`, `Disk`.
    pub fn read(
        &self,
        from: u64,
        until: u64,
        max_bytes: usize,
    ) -> Result<Vec<(Record, u64)>, JournalError> {
        let parts = self.parts(from, until)?;
        let mut out = Vec::new();
        let mut taken = 0;
        self.walk(&parts, |record, behind| {
            taken += record.size() as usize;
            out.push((record, behind));
            taken < max_bytes
        })?;
        Ok(out)
    }

    /// Reads changes of one origin behind `after`, in order, up to about `max_bytes`,
    /// durable ones only.
    ///
    /// Whether the first of them is the one behind `after` is the caller's to see from its
    /// `prev`: what lies between may have been dropped.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    pub fn read_origin_after(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<Record>, JournalError> {
        let parts: Vec<Part> = {
            let state = self.state();
            let synced = state.synced;
            let holding = state.segments.iter().filter_map(|segment| {
                let begin = segment.begin(origin, after)?;
                Some(Part {
                    first: segment.first,
                    from: begin.position,
                    until: segment.end.min(synced),
                })
            });
            holding.collect()
        };
        let mut out = Vec::new();
        let mut taken = 0;
        self.walk(&parts, |record, _| {
            if record.origin == origin && record.stamp > after {
                taken += record.size() as usize;
                out.push(record);
            }
            taken < max_bytes
        })?;
        Ok(out)
    }

    /// How many records of one origin lie behind `after` in this log; those that are no longer
    /// kept do not count. Cost: none when there are none, else a read of at most the distance
    /// of two marks.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    pub fn count_after(&self, origin: Origin, after: Stamp) -> Result<u64, JournalError> {
        let (part, n_before, n_records) = {
            let state = self.state();
            let mut holding = state.segments.iter().filter(|s| s.last(origin) > after);
            let Some((segment, begin)) = holding
                .next()
                .and_then(|first| Some((first, first.begin(origin, after)?)))
            else {
                return Ok(0);
            };
            let part = Part {
                first: segment.first,
                from: begin.position,
                until: segment.end,
            };
            let n_later: u64 = holding.map(|s| s.n_records(origin)).sum();
            (part, begin.n_before, segment.n_records(origin) + n_later)
        };
        let (mut n_up_to, mut last) = (n_before, Stamp::ZERO);
        self.walk(&[part], |record, _| {
            // As the index counts: a record that does not go on counts for nothing.
            if record.origin != origin || record.stamp <= last {
                return true;
            }
            last = record.stamp;
            n_up_to += u64::from(record.stamp <= after);
            record.stamp <= after
        })?;
        Ok(n_records.saturating_sub(n_up_to))
    }

    fn parts(&self, from: u64, until: u64) -> Result<Vec<Part>, JournalError> {
        let state = self.state();
        let (begin, end) = (state.begin(), state.end());
        if until > end {
            return Err(JournalError::Gap {
                from: end,
                to: until,
            });
        }
        if from < begin {
            return Err(JournalError::Gap { from, to: begin });
        }
        let within = state
            .segments
            .iter()
            .filter(|s| s.end > from && s.first < until);
        let parts = within.map(|segment| Part {
            first: segment.first,
            from: segment.first.max(from),
            until: segment.end.min(until),
        });
        Ok(parts.collect())
    }

    fn walk(
        &self,
        parts: &[Part],
        mut visit: impl FnMut(Record, u64) -> bool,
    ) -> Result<(), JournalError> {
        for part in parts {
            let mut scan = Scan::new(&*self.disk, part.first, part.from).until(part.until);
            while scan.position < part.until {
                let record = match scan.next() {
                    Ok(Some(record)) => record,
                    // What the log says it has is whole: the bytes are not what they were.
                    Ok(None) => return Err(self.dropped(part, scan.cut())),
                    Err(error) => return Err(self.dropped(part, error)),
                };
                if record.kind != RecordKind::Synced && !visit(record, scan.position) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A segment that was dropped while it was read is a gap and no failure of the disk.
    fn dropped(&self, part: &Part, error: JournalError) -> JournalError {
        let begin = self.begin();
        if part.first >= begin {
            return error;
        }
        JournalError::Gap {
            from: part.from,
            to: begin,
        }
    }
}
