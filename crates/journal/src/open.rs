// SPDX-License-Identifier: Apache-2.0
//! Opening a log: what is read, what is cut, what is refused.

use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::index::SegmentIndex;
use crate::journal::{Journal, JournalOptions, State};
use crate::record::RecordKind;
use crate::scan::{Scan, was_synced_beyond};
use crate::segment;

/// Bytes written again at a time.
const REWRITE_BYTES: u64 = 1 << 20;

/// What opening found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// Bytes of log that were read: of segments without an index, and of the last.
    pub scanned_bytes: u64,
    /// What the engine holds durably; `None` in a log that never had a checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

impl Journal {
    /// Opens the log: reads the last segment, cuts a torn tail, and makes what is left durable.
    ///
    /// Segments before the last are known by their index; one without is read whole. A record
    /// of the last segment that does not check out is a torn tail, unless the checkpoint or a
    /// mark behind it says that it was on disk: then it is damage.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Version`, `Gap`, `Ahead`, `OtherStore`, `Disk`.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
    ) -> Result<(Self, Recovery), JournalError> {
        let mut recovery = Recovery {
            checkpoint: Checkpoint::read(&*disk)?,
            ..Recovery::default()
        };
        let floor = recovery.checkpoint.as_ref().map_or(0, |c| c.position);
        let opening = Opening {
            disk: &*disk,
            store: options.store,
            floor,
        };
        let firsts = opening.firsts()?;
        let mut state = State::default();
        if let Some((&last, sealed)) = firsts.split_last() {
            for (at, &first) in sealed.iter().enumerate() {
                opening.sealed(&mut state, first, firsts[at + 1], &mut recovery)?;
            }
            opening.last(&mut state, last, &mut recovery)?;
        }
        let end = state.segments.last().map_or(0, |segment| segment.end);
        if floor > end {
            return Err(JournalError::Ahead {
                checkpoint: floor,
                end,
            });
        }
        let journal = Self::new(disk, options, state);
        if firsts.is_empty() {
            journal.begin_segment(0)?;
        }
        Ok((journal, recovery))
    }
}

/// Whose log lies on a disk, from the header of its first segment; `None` where there is none.
///
/// # Errors
///
/// `Corrupt`, `Version`, `Disk`.
pub fn store_of(disk: &dyn Disk) -> Result<Option<u64>, JournalError> {
    let names = disk.list()?;
    let first = names.iter().find(|name| segment::first_of(name).is_some());
    let Some(name) = first else { return Ok(None) };
    let header = disk.read_at(name, 0, segment::HEADER_LEN)?;
    Ok(Some(segment::parse(name, &header)?.0))
}

/// The same of a log that is damaged: from the first header of a segment that checks out.
#[must_use]
pub fn any_store_of(disk: &dyn Disk) -> Option<u64> {
    let names = disk.list().ok()?;
    let mut segments = names
        .iter()
        .filter(|name| segment::first_of(name).is_some());
    segments.find_map(|name| {
        let header = disk.read_at(name, 0, segment::HEADER_LEN).ok()?;
        Some(segment::parse(name, &header).ok()?.0)
    })
}

/// A log that is being opened.
struct Opening<'a> {
    disk: &'a dyn Disk,
    store: u64,
    /// Everything before it was on disk when the checkpoint was written.
    floor: u64,
}

impl Opening<'_> {
    /// First positions of the segments, ascending. One that was just being begun when the
    /// crash came is removed, and so are indexes without a segment.
    fn firsts(&self) -> Result<Vec<u64>, JournalError> {
        let names = self.disk.list()?;
        let mut firsts: Vec<u64> = names
            .iter()
            .filter_map(|name| segment::first_of(name))
            .collect();
        firsts.sort_unstable();
        if let Some(&last) = firsts.last()
            && self.is_headless(last)?
        {
            self.disk.remove(&segment::name(last))?;
            firsts.pop();
        }
        for name in &names {
            if segment::first_of_index(name).is_some_and(|first| !firsts.contains(&first)) {
                self.disk.remove(name)?;
            }
        }
        Ok(firsts)
    }

    /// The header is synced before the first record is written.
    fn is_headless(&self, first: u64) -> Result<bool, JournalError> {
        let file = segment::name(first);
        let len = self.disk.len(&file)?;
        if len < segment::HEADER_LEN as u64 {
            return Ok(true);
        }
        let is_bare = len == segment::HEADER_LEN as u64;
        let head = self.disk.read_at(&file, 0, segment::HEADER_LEN)?;
        let is_bad = matches!(
            segment::parse(&file, &head),
            Err(JournalError::Corrupt { .. })
        );
        Ok(is_bare && is_bad)
    }

    fn check_header(&self, state: &State, first: u64) -> Result<(), JournalError> {
        let file = segment::name(first);
        let head = self.disk.read_at(&file, 0, segment::HEADER_LEN)?;
        let (store, said) = segment::parse(&file, &head)?;
        if store != self.store {
            return Err(JournalError::OtherStore {
                found: store,
                expected: self.store,
            });
        }
        let end = state.segments.last().map_or(first, |segment| segment.end);
        if said != first || first != end {
            return Err(JournalError::Gap {
                from: end,
                to: first,
            });
        }
        Ok(())
    }

    /// A segment before the last: it was synced before the next began.
    fn sealed(
        &self,
        state: &mut State,
        first: u64,
        next: u64,
        recovery: &mut Recovery,
    ) -> Result<(), JournalError> {
        self.check_header(state, first)?;
        let file = segment::name(first);
        let len = self.disk.len(&file)?;
        let index = match self.index(first)? {
            Some(index) if segment::offset(first, index.end) == len => index,
            _ => self.read_sealed(first, len, recovery)?,
        };
        if index.end > next {
            return Err(JournalError::Gap {
                from: index.end,
                to: next,
            });
        }
        state.segments.push(index);
        Ok(())
    }

    /// A stored index; `None` when there is none that checks out, as it can be made anew.
    fn index(&self, first: u64) -> Result<Option<SegmentIndex>, JournalError> {
        let file = segment::index_name(first);
        let len = self.disk.len(&file)?;
        if len == 0 {
            return Ok(None);
        }
        let bytes = self.disk.read_at(&file, 0, len as usize)?;
        match SegmentIndex::decode(&file, &bytes) {
            Ok((store, index)) => {
                Ok((store == self.store && index.first == first).then_some(index))
            }
            Err(error @ JournalError::Version { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn read_sealed(
        &self,
        first: u64,
        len: u64,
        recovery: &mut Recovery,
    ) -> Result<SegmentIndex, JournalError> {
        let mut index = SegmentIndex::new(first);
        let mut scan = Scan::new(self.disk, first, first);
        while let Some(record) = scan.next()? {
            index.note(&record);
        }
        if scan.is_torn() {
            return Err(scan.cut());
        }
        recovery.scanned_bytes += len;
        index.seal();
        // Without it the segment is read again next time, no more.
        let file = segment::index_name(first);
        let _ = self.disk.replace(&file, &index.encode(self.store));
        Ok(index)
    }

    /// The last segment: all of it is read, a torn tail cut.
    fn last(
        &self,
        state: &mut State,
        first: u64,
        recovery: &mut Recovery,
    ) -> Result<(), JournalError> {
        self.check_header(state, first)?;
        let file = segment::name(first);
        let len = self.disk.len(&file)?;
        let mut index = SegmentIndex::new(first);
        let mut synced = self.floor.max(first);
        let mut scan = Scan::new(self.disk, first, first);
        loop {
            match scan.next() {
                Ok(Some(record)) => {
                    index.note(&record);
                    if record.kind == RecordKind::Synced {
                        synced = synced.max(record.stamp.0 as u64);
                    }
                }
                Ok(None) if !scan.is_torn() => break,
                Err(error @ JournalError::Disk(_)) => return Err(error),
                torn => {
                    let offset = segment::offset(first, index.end);
                    let is_damage = index.end < self.floor
                        || was_synced_beyond(self.disk, self.store, first, index.end)?;
                    if is_damage {
                        return Err(torn.err().unwrap_or_else(|| scan.cut()));
                    }
                    self.disk.truncate(&file, offset)?;
                    recovery.torn_bytes = len - offset;
                    break;
                }
            }
        }
        recovery.scanned_bytes += len;
        self.write_again(first, synced, index.end)?;
        state.marked = synced.min(index.end);
        state.synced = index.end;
        state.segments.push(index);
        Ok(())
    }

    /// ⚠ What is not known to be on disk may be in memory only, and after a failed sync the
    /// system holds it for clean: only writing it again makes the next sync mean it.
    fn write_again(&self, first: u64, from: u64, end: u64) -> Result<(), JournalError> {
        let file = segment::name(first);
        let mut position = from;
        while position < end {
            let n = (end - position).min(REWRITE_BYTES);
            let offset = segment::offset(first, position);
            let bytes = self.disk.read_at(&file, offset, n as usize)?;
            self.disk.rewrite(&file, offset, &bytes)?;
            position += n;
        }
        if from < end {
            self.disk.sync(&file)?;
        }
        Ok(())
    }
}
