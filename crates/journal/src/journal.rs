// SPDX-License-Identifier: Apache-2.0
//! The log as a whole: append, sync, read, drop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dulse_types::wire::WireError;
use dulse_types::{Origin, Stamp};

use crate::disk::{Disk, DiskError};
use crate::record::{HEADER_LEN as RECORD_HEADER_LEN, PAYLOAD_LEN_MAX, Record};
use crate::segment;

/// Bytes read at a time while scanning.
const READ_AHEAD: usize = 1 << 20;

/// Every how many records of an origin the index keeps a position.
const INDEX_EVERY: u32 = 32;

/// Name of the checkpoint file.
const CHECKPOINT: &str = "checkpoint";

/// Why the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("journal")]
    Disk(#[from] DiskError),
    /// A record before the tail does not check out.
    #[error("journal is damaged in `{file}` at byte {offset}")]
    Corrupt {
        /// The segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: WireError,
    },
    /// A segment is missing between two others.
    #[error("journal lacks its part from position {from} to {to}")]
    Gap {
        /// Where it ends.
        from: u64,
        /// Where it goes on.
        to: u64,
    },
    /// The segments belong to another store.
    #[error("journal belongs to store {found:016x}, expected {expected:016x}")]
    OtherStore {
        /// What the segment says.
        found: u64,
        /// What was asked for.
        expected: u64,
    },
    /// A record above the largest size.
    #[error("record of {0} bytes is larger than {PAYLOAD_LEN_MAX}")]
    TooLarge(usize),
    /// An earlier failed write left the tail unknown; the journal must be opened anew.
    #[error("journal is closed for writing after a failed write")]
    Poisoned,
}

impl JournalError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

/// How a journal is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// Whose log it is: written into segments and checked.
    pub store: u64,
    /// Bytes after which a new segment is begun.
    pub segment_size_bytes: u64,
}

/// What opening found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// Records found.
    pub n_records: u64,
}

/// The log. Appends are made by one writer; reads run beside it.
pub struct Journal {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// First positions of the segments, ascending; never empty once open.
    segments: Vec<u64>,
    end: u64,
    synced: u64,
    is_poisoned: bool,
    index: BTreeMap<Origin, OriginIndex>,
}

#[derive(Default)]
struct OriginIndex {
    n_since: u32,
    /// Of every so-many-th record, ascending.
    marks: Vec<Mark>,
    last: Stamp,
    /// Records noted so far, those dropped since included.
    n_records: u64,
}

/// Where one record of an origin lies.
#[derive(Clone, Copy)]
struct Mark {
    stamp: Stamp,
    position: u64,
    /// Records of the origin before it.
    n_before: u64,
}

impl Journal {
    /// Opens the log, cuts a torn tail and checks every record.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Gap`, `OtherStore`, `Disk`. Only a bad record at the very end is a
    /// torn tail; one with a good segment behind it is damage.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
    ) -> Result<(Self, Recovery), JournalError> {
        let journal = Self {
            disk,
            options,
            state: Mutex::default(),
        };
        let mut recovery = Recovery::default();
        let mut segments: Vec<u64> = journal
            .disk
            .list()?
            .iter()
            .filter_map(|name| segment::first_of(name))
            .collect();
        segments.sort_unstable();
        journal.drop_headless(&mut segments)?;
        let mut state = State {
            segments,
            ..State::default()
        };
        state.end = state.segments.first().copied().unwrap_or(0);
        for at in 0..state.segments.len() {
            let is_last = at + 1 == state.segments.len();
            journal.scan(&mut state, at, is_last, &mut recovery)?;
        }
        if state.segments.is_empty() {
            journal.begin_segment(&mut state)?;
        }
        state.synced = state.end;
        *journal.lock() = state;
        Ok((journal, recovery))
    }

    /// A last segment without a whole header was begun when the crash came.
    fn drop_headless(&self, segments: &mut Vec<u64>) -> Result<(), JournalError> {
        if let Some(&last) = segments.last() {
            let file = segment::name(last);
            if self.disk.len(&file)? < segment::HEADER_LEN as u64 {
                self.disk.remove(&file)?;
                segments.pop();
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        state: &mut State,
        at: usize,
        is_last: bool,
        recovery: &mut Recovery,
    ) -> Result<(), JournalError> {
        let first = state.segments[at];
        let file = segment::name(first);
        let corrupt = |offset, source| JournalError::Corrupt {
            file: file.clone(),
            offset,
            source,
        };
        let head = self.disk.read_at(&file, 0, segment::HEADER_LEN)?;
        let (store, said) = segment::parse(&head).map_err(|e| corrupt(0, e))?;
        if store != self.options.store {
            return Err(JournalError::OtherStore {
                found: store,
                expected: self.options.store,
            });
        }
        if said != first || first != state.end {
            return Err(JournalError::Gap {
                from: state.end,
                to: first,
            });
        }
        let mut scan = Scan::new(&*self.disk, file.clone(), first);
        loop {
            let position = scan.position;
            match scan.next() {
                Ok(Some(record)) => {
                    recovery.n_records += 1;
                    state.note(&record, position);
                    state.end = scan.position;
                }
                Ok(None) if scan.left() == 0 => return Ok(()),
                // A record that does not end before the file, or does not check out.
                result => {
                    let offset = position - first + segment::HEADER_LEN as u64;
                    let length = self.disk.len(&file)?;
                    if !is_last {
                        let source = match result {
                            Err(JournalError::Corrupt { source, .. }) => source,
                            Err(error) => return Err(error),
                            Ok(_) => WireError::Truncated { at: 0, needed: 0 },
                        };
                        return Err(corrupt(offset, source));
                    }
                    if let Err(error @ JournalError::Disk(_)) = result {
                        return Err(error);
                    }
                    self.refuse_damage(&file, offset, length)?;
                    self.disk.truncate(&file, offset)?;
                    recovery.torn_bytes = length - offset;
                    return Ok(());
                }
            }
        }
    }

    /// A whole good record behind a bad one shows that the bad one was no torn tail.
    fn refuse_damage(&self, file: &str, offset: u64, length: u64) -> Result<(), JournalError> {
        let rest = self
            .disk
            .read_at(file, offset, (length - offset).min(1 << 26) as usize)?;
        for at in 1..rest.len().saturating_sub(RECORD_HEADER_LEN) {
            // Cheap test first: a plausible length and a known kind.
            if rest[at] > 4 || !(1..=4).contains(&rest[at + 8]) || rest[at + 9] != 0 {
                continue;
            }
            if let Ok(Some(_)) = Record::read(&rest[at..]) {
                let value = u64::from(rest[0]);
                let source = WireError::BadValue {
                    what: "record",
                    value,
                };
                return Err(JournalError::Corrupt {
                    file: file.to_owned(),
                    offset,
                    source,
                });
            }
        }
        Ok(())
    }

    /// Appends records as one write; they are readable at once and durable after
    /// [`Journal::sync`]. Gives the position behind them.
    ///
    /// # Errors
    ///
    /// `TooLarge` before anything is written; `Disk`, after which the journal takes no
    /// more writes unless the disk was just full and nothing is left of this append.
    pub fn append(&self, records: &[Record]) -> Result<u64, JournalError> {
        let mut state = self.lock();
        if state.is_poisoned {
            return Err(JournalError::Poisoned);
        }
        let mut buffer = Vec::with_capacity(records.iter().map(|r| r.size() as usize).sum());
        for record in records {
            if record.payload.len() > PAYLOAD_LEN_MAX {
                return Err(JournalError::TooLarge(record.payload.len()));
            }
            record.write(&mut buffer);
        }
        let first = state.segments.last().copied().unwrap_or(0);
        if state.end - first >= self.options.segment_size_bytes {
            // Order: the old segment is durable before the new one begins, so that a
            // torn tail can only be in the last.
            self.disk.sync(&segment::name(first))?;
            state.synced = state.end;
            self.begin_segment(&mut state)?;
        }
        let first = state.segments.last().copied().unwrap_or(0);
        let file = segment::name(first);
        if let Err(error) = self.disk.append(&file, &buffer) {
            let length = state.end - first + segment::HEADER_LEN as u64;
            state.is_poisoned = self.disk.truncate(&file, length).is_err();
            return Err(error.into());
        }
        let mut position = state.end;
        for record in records {
            state.note(record, position);
            position += record.size();
        }
        state.end = position;
        Ok(position)
    }

    /// Makes everything appended so far durable; gives the position it is durable up to.
    ///
    /// # Errors
    ///
    /// `Disk`; what was appended may or may not be durable then, and the journal takes no
    /// more writes: a failed fsync cannot be repeated.
    pub fn sync(&self) -> Result<u64, JournalError> {
        let (file, end) = {
            let state = self.lock();
            if state.is_poisoned {
                return Err(JournalError::Poisoned);
            }
            (
                segment::name(state.segments.last().copied().unwrap_or(0)),
                state.end,
            )
        };
        if let Err(error) = self.disk.sync(&file) {
            self.lock().is_poisoned = true;
            return Err(error.into());
        }
        let mut state = self.lock();
        state.synced = state.synced.max(end);
        Ok(state.synced)
    }

    /// Position behind the last record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.lock().end
    }

    /// Position up to which all is durable.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.lock().synced
    }

    /// Position of the oldest record that is kept.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.lock().segments.first().copied().unwrap_or(0)
    }

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
        let mut out = Vec::new();
        let mut taken = 0;
        self.walk(from, until, |record, behind| {
            taken += record.size() as usize;
            out.push((record, behind));
            taken < max_bytes
        })?;
        Ok(out)
    }

    /// Reads changes of one origin behind `after`, in order, up to about `max_bytes`,
    /// durable ones only.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`]; `Gap` when the first of them is no longer kept is the
    /// caller's to see from its `prev`.
    pub fn read_origin_after(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<Record>, JournalError> {
        let (from, until) = {
            let state = self.lock();
            let Some(index) = state.index.get(&origin) else {
                return Ok(Vec::new());
            };
            if index.last <= after {
                return Ok(Vec::new());
            }
            let mark = index.mark_for(after);
            let begin = state.segments.first().copied().unwrap_or(0);
            (
                mark.map_or(begin, |mark| mark.position).max(begin),
                state.synced,
            )
        };
        let mut out = Vec::new();
        let mut taken = 0;
        self.walk(from, until, |record, _| {
            if record.origin == origin && record.stamp > after {
                taken += record.size() as usize;
                out.push(record);
            }
            taken < max_bytes
        })?;
        Ok(out)
    }

    /// How many records of one origin lie behind `after` in this log; those that are no longer
    /// kept do not count. Cost: none when there are none, else one read of at most
    /// [`INDEX_EVERY`] of the origin's records.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    pub fn count_after(&self, origin: Origin, after: Stamp) -> Result<u64, JournalError> {
        let (mark, n_records, end) = {
            let state = self.lock();
            let Some(index) = state.index.get(&origin).filter(|i| i.last > after) else {
                return Ok(0);
            };
            let Some(mark) = index.mark_for(after).copied() else {
                return Ok(0);
            };
            (mark, index.n_records, state.end)
        };
        let (mut n_up_to, mut last) = (mark.n_before, Stamp::ZERO);
        self.walk(mark.position, end, |record, _| {
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

    fn walk(
        &self,
        from: u64,
        until: u64,
        mut visit: impl FnMut(Record, u64) -> bool,
    ) -> Result<(), JournalError> {
        let segments = {
            let state = self.lock();
            if until > state.end {
                return Err(JournalError::Gap {
                    from: state.end,
                    to: until,
                });
            }
            state.segments.clone()
        };
        let at = segments.partition_point(|first| *first <= from);
        if at == 0 {
            let to = segments.first().copied().unwrap_or(0);
            return Err(JournalError::Gap { from, to });
        }
        let mut position = from;
        for &first in &segments[at - 1..] {
            let mut scan = Scan::new(&*self.disk, segment::name(first), first);
            scan.seek(position);
            while scan.position < until {
                let Some(record) = scan.next()? else { break };
                if !visit(record, scan.position) {
                    return Ok(());
                }
            }
            position = scan.position;
            if position >= until {
                break;
            }
        }
        Ok(())
    }

    /// Drops whole segments all of whose records lie before `position`; the last one stays.
    /// Gives the number of bytes freed.
    ///
    /// # Errors
    ///
    /// `Disk`.
    pub fn drop_before(&self, position: u64) -> Result<u64, JournalError> {
        let mut state = self.lock();
        let begin = state.segments.first().copied().unwrap_or(0);
        while state.segments.len() > 1 && state.segments[1] <= position {
            self.disk.remove(&segment::name(state.segments[0]))?;
            state.segments.remove(0);
        }
        let kept = state.segments.first().copied().unwrap_or(0);
        for index in state.index.values_mut() {
            index.marks.retain(|mark| mark.position >= kept);
        }
        Ok(kept - begin)
    }

    /// Forgets every record and goes on at the same position in a new segment.
    ///
    /// # Errors
    ///
    /// `Poisoned`, `Disk`.
    pub fn forget_all(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        if state.is_poisoned {
            return Err(JournalError::Poisoned);
        }
        let end = state.end;
        let last = state.segments.last().copied().unwrap_or(0);
        if last != end {
            // Order as in `append`: a crash before the old segments are removed must not find
            // a torn one that is not the last.
            if let Err(error) = self.disk.sync(&segment::name(last)) {
                state.is_poisoned = true;
                return Err(error.into());
            }
            self.begin_segment(&mut state)?;
        }
        state.synced = end;
        state.index.clear();
        drop(state);
        self.drop_before(end).map(drop)
    }

    /// Bytes the log takes on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let state = self.lock();
        state.end - state.segments.first().copied().unwrap_or(0)
    }

    /// Puts the checkpoint in place, atomically and durably.
    ///
    /// # Errors
    ///
    /// `Disk`.
    pub fn write_checkpoint(&self, content: &[u8]) -> Result<(), JournalError> {
        let mut bytes = crc32c::crc32c(content).to_be_bytes().to_vec();
        bytes.extend_from_slice(content);
        Ok(self.disk.replace(CHECKPOINT, &bytes)?)
    }

    /// The checkpoint, `None` when there was never one.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Disk`.
    pub fn read_checkpoint(&self) -> Result<Option<Vec<u8>>, JournalError> {
        let length = self.disk.len(CHECKPOINT)?;
        if length == 0 {
            return Ok(None);
        }
        let bytes = self.disk.read_at(CHECKPOINT, 0, length as usize)?;
        match bytes.split_first_chunk::<4>() {
            Some((sum, content)) if u32::from_be_bytes(*sum) == crc32c::crc32c(content) => {
                Ok(Some(content.to_vec()))
            }
            _ => Err(JournalError::Corrupt {
                file: CHECKPOINT.to_owned(),
                offset: 0,
                source: WireError::BadValue {
                    what: "checkpoint checksum",
                    value: 0,
                },
            }),
        }
    }

    fn begin_segment(&self, state: &mut State) -> Result<(), JournalError> {
        let file = segment::name(state.end);
        self.disk
            .append(&file, &segment::header(self.options.store, state.end))?;
        self.disk.sync(&file)?;
        state.segments.push(state.end);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OriginIndex {
    /// The last mark at or before a stamp, else the first.
    fn mark_for(&self, after: Stamp) -> Option<&Mark> {
        let at = self.marks.partition_point(|mark| mark.stamp <= after);
        self.marks.get(at.saturating_sub(1))
    }
}

impl State {
    fn note(&mut self, record: &Record, position: u64) {
        let index = self.index.entry(record.origin).or_default();
        if record.stamp <= index.last {
            return;
        }
        if index.n_since == 0 || index.marks.is_empty() {
            index.marks.push(Mark {
                stamp: record.stamp,
                position,
                n_before: index.n_records,
            });
        }
        index.n_since = (index.n_since + 1) % INDEX_EVERY;
        index.last = record.stamp;
        index.n_records += 1;
    }
}

/// Reads records of one segment in order.
struct Scan<'a> {
    disk: &'a dyn Disk,
    file: String,
    first: u64,
    position: u64,
    buffer: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl<'a> Scan<'a> {
    fn new(disk: &'a dyn Disk, file: String, first: u64) -> Self {
        let (buffer, at) = (Vec::new(), 0);
        Self {
            disk,
            file,
            first,
            position: first,
            buffer,
            at,
            is_at_end: false,
        }
    }

    fn seek(&mut self, position: u64) {
        self.position = position.max(self.first);
    }

    /// Bytes read but not parsed.
    fn left(&self) -> usize {
        self.buffer.len() - self.at
    }

    fn next(&mut self) -> Result<Option<Record>, JournalError> {
        loop {
            match Record::read(&self.buffer[self.at..]) {
                Ok(Some((record, size))) => {
                    self.at += size;
                    self.position += size as u64;
                    return Ok(Some(record));
                }
                Ok(None) if self.is_at_end => return Ok(None),
                Ok(None) => self.fill()?,
                Err(source) => {
                    let offset = self.position - self.first + segment::HEADER_LEN as u64;
                    return Err(JournalError::Corrupt {
                        file: self.file.clone(),
                        offset,
                        source,
                    });
                }
            }
        }
    }

    fn fill(&mut self) -> Result<(), JournalError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let behind = self.position + self.buffer.len() as u64;
        let offset = behind - self.first + segment::HEADER_LEN as u64;
        let read = self.disk.read_at(&self.file, offset, READ_AHEAD)?;
        self.is_at_end = read.is_empty();
        self.buffer.extend_from_slice(&read);
        Ok(())
    }
}
