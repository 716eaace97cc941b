// SPDX-License-Identifier: Apache-2.0
//! The log as a whole: append, sync, drop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dulse_types::{Origin, Stamp, Vector};

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::index::SegmentIndex;
use crate::record::{PAYLOAD_LEN_MAX, Record};
use crate::segment;

/// A buffer that a large group left is not kept above this.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// How a journal is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// Whose log it is: written into segments and checked.
    pub store: u64,
    /// Bytes after which a new segment is begun.
    pub segment_size_bytes: u64,
}

/// One segment that may go as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Oldest {
    /// Position behind its last record.
    pub end: u64,
    /// Greatest stamp in it: how old it is.
    pub newest: Stamp,
    /// The last stamp of every origin in it.
    pub lasts: Vector,
}

/// The log. Appends are made by one writer; reads and syncs run beside it.
pub struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    options: JournalOptions,
    /// The writer's buffer, kept from group to group. Order: before `syncing`.
    writer: Mutex<Vec<u8>>,
    /// Held while syncing. ⚠ One at a time: the system reports a failed sync to one caller
    /// only. Order: before `state`.
    syncing: Mutex<()>,
    /// Never held over IO.
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Ascending, without gaps; never empty once open. The last is written to.
    pub(crate) segments: Vec<SegmentIndex>,
    /// Position up to which all is on disk.
    pub(crate) synced: u64,
    /// What the last mark in the log says of `synced`.
    pub(crate) marked: u64,
    is_poisoned: bool,
}

impl State {
    pub(crate) fn begin(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.first)
    }

    pub(crate) fn end(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    fn last_first(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.first)
    }
}

impl Journal {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: JournalOptions, state: State) -> Self {
        Self {
            disk,
            options,
            writer: Mutex::default(),
            syncing: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// Appends records as one write; they are readable at once and durable after
    /// [`Journal::sync`]. Gives the position behind them.
    ///
    /// # Errors
    ///
    /// `TooLarge` before anything is written; `Disk`, after which the journal takes no
    /// more writes unless nothing is left of this append.
    pub fn append(&self, records: &[Record]) -> Result<u64, JournalError> {
        let mut buffer = lock(&self.writer);
        if let Some(large) = records.iter().find(|r| r.payload.len() > PAYLOAD_LEN_MAX) {
            return Err(JournalError::TooLarge(large.payload.len()));
        }
        self.rotate_when_due()?;
        let (first, end, mark) = {
            let state = self.state();
            let is_due = state.synced > state.marked;
            let mark = is_due.then_some(state.synced);
            (state.last_first(), state.end(), mark)
        };
        buffer.clear();
        let mark = mark.map(|synced| Record::synced(self.options.store, synced, end));
        for record in mark.iter().chain(records) {
            record.write(&mut buffer);
        }
        let file = segment::name(first);
        if let Err(error) = self.disk.append(&file, &buffer) {
            let _syncing = lock(&self.syncing);
            let is_undone = self
                .disk
                .truncate(&file, segment::offset(first, end))
                .is_ok();
            self.state().is_poisoned |= !is_undone;
            return Err(error.into());
        }
        if buffer.capacity() > BUFFER_KEPT_BYTES {
            *buffer = Vec::new();
        }
        let state = &mut *self.state();
        if let Some(mark) = &mark {
            state.marked = mark.stamp.0 as u64;
        }
        if let Some(segment) = state.segments.last_mut() {
            for record in mark.iter().chain(records) {
                segment.note(record);
            }
        }
        Ok(state.end())
    }

    /// Seals a full segment and begins the next.
    fn rotate_when_due(&self) -> Result<(), JournalError> {
        let (first, end) = {
            let state = self.state();
            if state.is_poisoned {
                return Err(JournalError::Poisoned);
            }
            (state.last_first(), state.end())
        };
        if !self.is_full(first, end) {
            return Ok(());
        }
        self.rotate(first, end)
    }

    /// Order: the old segment is durable before the new one begins, so that a torn tail can
    /// only be in the last.
    fn rotate(&self, first: u64, end: u64) -> Result<(), JournalError> {
        self.sync()?;
        self.begin_segment(end)?;
        let index = {
            let mut state = self.state();
            let at = state.segments.partition_point(|s| s.first < first);
            state.segments.get_mut(at).map(|segment| {
                segment.seal();
                segment.encode(self.options.store)
            })
        };
        // Without it the segment is read when the log is opened next time, no more.
        if let Some(index) = index {
            let _ = self.disk.replace(&segment::index_name(first), &index);
        }
        Ok(())
    }

    pub(crate) fn begin_segment(&self, first: u64) -> Result<(), JournalError> {
        let file = segment::name(first);
        let header = segment::header(self.options.store, first);
        let made = self
            .disk
            .append(&file, &header)
            .and_then(|()| self.disk.sync(&file));
        if let Err(error) = made {
            // ⚠ The next try must not find half a header there and write behind it.
            let is_there = self.disk.len(&file).map_or(true, |len| len > 0);
            let is_undone = !is_there || self.disk.remove(&file).is_ok();
            self.state().is_poisoned |= !is_undone;
            return Err(error.into());
        }
        self.state().segments.push(SegmentIndex::new(first));
        Ok(())
    }

    /// Makes everything appended so far durable; gives the position it is durable up to.
    ///
    /// # Errors
    ///
    /// `Disk`; what was appended may or may not be durable then, and the journal takes no
    /// more writes: a failed sync cannot be repeated, since the system forgets what it could
    /// not write.
    pub fn sync(&self) -> Result<u64, JournalError> {
        let _syncing = lock(&self.syncing);
        let (file, end) = {
            let state = self.state();
            if state.is_poisoned {
                return Err(JournalError::Poisoned);
            }
            if state.synced == state.end() {
                return Ok(state.synced);
            }
            (segment::name(state.last_first()), state.end())
        };
        let synced = self.disk.sync(&file);
        let mut state = self.state();
        match synced {
            Ok(()) => {
                state.synced = state.synced.max(end);
                Ok(state.synced)
            }
            Err(error) => {
                state.is_poisoned = true;
                Err(error.into())
            }
        }
    }

    /// Position behind the last record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.state().end()
    }

    /// Where the segment begins that the next [`Journal::append`] writes to.
    #[must_use]
    pub fn next_segment(&self) -> u64 {
        let state = self.state();
        let (first, end) = (state.last_first(), state.end());
        if self.is_full(first, end) { end } else { first }
    }

    fn is_full(&self, first: u64, end: u64) -> bool {
        end - first >= self.options.segment_size_bytes
    }

    /// Position up to which all is durable.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.state().synced
    }

    /// Position of the oldest record that is kept.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.state().begin()
    }

    /// Whether a failed write or sync closed it for writing.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state().is_poisoned
    }

    /// The last stamp of every origin that the kept log holds.
    #[must_use]
    pub fn lasts(&self) -> Vector {
        let state = self.state();
        let mut lasts = Vector::new();
        for segment in &state.segments {
            lasts.merge_max(&segment.lasts());
        }
        lasts
    }

    /// The last stamp of one origin that the kept log holds; zero when it holds none.
    #[must_use]
    pub fn last(&self, origin: Origin) -> Stamp {
        let state = self.state();
        let mut newest_first = state.segments.iter().rev();
        let last = newest_first.find_map(|segment| {
            let last = segment.last(origin);
            (last > Stamp::ZERO).then_some(last)
        });
        last.unwrap_or(Stamp::ZERO)
    }

    /// The oldest segment; `None` when it is the one that is written to.
    #[must_use]
    pub fn oldest(&self) -> Option<Oldest> {
        let state = self.state();
        let segment = state
            .segments
            .first()
            .filter(|_| state.segments.len() > 1)?;
        Some(Oldest {
            end: segment.end,
            newest: segment.newest,
            lasts: segment.lasts(),
        })
    }

    /// Drops whole segments all of whose records lie before `position`; the last one stays.
    /// Gives the number of bytes freed.
    ///
    /// # Errors
    ///
    /// `Disk`.
    pub fn drop_before(&self, position: u64) -> Result<u64, JournalError> {
        let begin = self.begin();
        loop {
            let oldest = {
                let mut state = self.state();
                let is_due = state.segments.len() > 1 && state.segments[0].end <= position;
                if !is_due {
                    return Ok(state.begin() - begin);
                }
                // Order: readers that come now are told, those that read it see the file go.
                state.segments.remove(0)
            };
            let (file, index) = (
                segment::name(oldest.first),
                segment::index_name(oldest.first),
            );
            if let Err(error) = self.disk.remove(&file) {
                // ⚠ A later one must not go before it: that would be a gap.
                self.state().segments.insert(0, oldest);
                return Err(error.into());
            }
            // Without its segment it is removed when the log is opened.
            let _ = self.disk.remove(&index);
        }
    }

    /// Forgets every record and goes on at the same position in a new segment.
    ///
    /// # Errors
    ///
    /// `Poisoned`, `Disk`.
    pub fn forget_all(&self) -> Result<(), JournalError> {
        let writer = lock(&self.writer);
        let (first, end) = {
            let state = self.state();
            (state.last_first(), state.end())
        };
        if self.is_poisoned() {
            return Err(JournalError::Poisoned);
        }
        if first != end {
            // Order as in `append`: a crash before the old segments are removed must not find
            // a torn one that is not the last.
            self.rotate(first, end)?;
        }
        drop(writer);
        self.drop_before(end).map(drop)
    }

    /// Bytes the log takes on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let state = self.state();
        state.end() - state.begin()
    }

    /// Puts the checkpoint in place, atomically and durably.
    ///
    /// # Errors
    ///
    /// `Disk`.
    pub fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), JournalError> {
        checkpoint.write(&*self.disk)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
