// SPDX-License-Identifier: Apache-2.0
//! Reading the records of one segment in order.

use dulse_types::wire::WireError;

use crate::disk::Disk;
use crate::error::JournalError;
use crate::record::{HEADER_LEN, Record, RecordKind};
use crate::segment;

/// Bytes read at a time.
const READ_AHEAD: usize = 1 << 20;

/// Reads records of one segment in order.
pub(crate) struct Scan<'a> {
    disk: &'a dyn Disk,
    file: String,
    first: u64,
    /// Position of the next record.
    pub(crate) position: u64,
    /// Nothing behind it is read from the disk; records end there.
    until: u64,
    buffer: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

impl<'a> Scan<'a> {
    /// From a position in the segment on.
    pub(crate) fn new(disk: &'a dyn Disk, first: u64, position: u64) -> Self {
        Self {
            disk,
            file: segment::name(first),
            first,
            position: position.max(first),
            until: u64::MAX,
            buffer: Vec::new(),
            at: 0,
            is_at_end: false,
        }
    }

    /// The same up to a position at which a record ends: whoever follows the log reads the
    /// little that is new and no more.
    pub(crate) fn until(mut self, until: u64) -> Self {
        self.until = until;
        self
    }

    /// Whether bytes were read that are no whole record.
    pub(crate) fn is_torn(&self) -> bool {
        self.buffer.len() > self.at
    }

    /// The next record; `None` where the file or its last whole record ends.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, JournalError> {
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
                    let offset = segment::offset(self.first, self.position);
                    return Err(JournalError::corrupt(&self.file, offset, source));
                }
            }
        }
    }

    /// The error that a whole record was expected where the file ends.
    pub(crate) fn cut(&self) -> JournalError {
        let offset = segment::offset(self.first, self.position);
        let at = self.buffer.len() - self.at;
        let source = WireError::Truncated { at, needed: 1 };
        JournalError::corrupt(&self.file, offset, source)
    }

    fn fill(&mut self) -> Result<(), JournalError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let behind = self.position + self.buffer.len() as u64;
        let offset = segment::offset(self.first, behind);
        let left = self.until.saturating_sub(behind);
        let wanted = usize::try_from(left).map_or(READ_AHEAD, |left| left.min(READ_AHEAD));
        let read = self.disk.read_at(&self.file, offset, wanted)?;
        self.is_at_end = read.is_empty();
        self.buffer.extend_from_slice(&read);
        Ok(())
    }
}

/// Whether behind `position`, where a record does not check out, a later record says that
/// everything beyond it was on disk once. Then it is damage and no torn tail.
pub(crate) fn was_synced_beyond(
    disk: &dyn Disk,
    store: u64,
    first: u64,
    position: u64,
) -> Result<bool, JournalError> {
    let file = segment::name(first);
    let mut from = position;
    loop {
        let read = disk.read_at(&file, segment::offset(first, from), READ_AHEAD)?;
        if read.len() < HEADER_LEN {
            return Ok(false);
        }
        for at in 0..=read.len() - HEADER_LEN {
            let here = from + at as u64;
            if mark_at(&read[at..at + HEADER_LEN], store, here).is_some_and(|to| to > position) {
                return Ok(true);
            }
        }
        // Order: a mark may lie across two reads.
        from += (read.len() - HEADER_LEN + 1) as u64;
    }
}

/// The position that a mark at `here` vouches for, if these bytes are one.
fn mark_at(bytes: &[u8], store: u64, here: u64) -> Option<u64> {
    // Cheap test first: no payload, the kind, no flags.
    let is_like = bytes[..4] == [0; 4] && bytes[8] == RecordKind::Synced as u8 && bytes[9] == 0;
    if !is_like {
        return None;
    }
    let (record, _) = Record::read(bytes).ok()??;
    // What a payload holds by chance or malice is at another position.
    let is_mark = record.origin.0 == store && record.prev.0 as u64 == here;
    is_mark.then_some(record.stamp.0 as u64)
}
