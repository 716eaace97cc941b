// SPDX-License-Identifier: Apache-2.0
//! LevelDB's log format, which logs and manifests have: records in blocks of 32 KiB.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | masked CRC-32C of the type and the bytes, little endian |
//! | 2 | number of bytes, little endian |
//! | 1 | type: 1 whole record, 2 its first, 3 a middle, 4 its last fragment |
//! | n | the bytes |
//!
//! No header spans two blocks: fewer than 7 bytes at the end of a block are left out. (LevelDB's
//! `doc/log_format.md`.)

/// A block, in bytes.
pub const BLOCK_BYTES: usize = 32 << 10;

/// A fragment's header, in bytes.
const HEADER_BYTES: usize = 7;

/// Added to a rotated checksum, so that the checksum of bytes that hold checksums is no trap.
const MASK: u32 = 0xa282_ead8;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A record and where it ends in its file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its bytes, of all fragments.
    pub bytes: Vec<u8>,
    /// The offset behind it.
    pub end: usize,
}

/// The whole records at the start of a file; it ends at the first that does not check out.
pub struct Records<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// From the first on.
    #[must_use]
    pub fn of(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let mut bytes = Vec::new();
        let mut at = self.at;
        let mut is_begun = false;
        loop {
            let fragment = fragment(self.file, at)?;
            match (fragment.kind, is_begun) {
                (FULL | FIRST, false) | (MIDDLE | LAST, true) => {}
                _ => return None,
            }
            bytes.extend_from_slice(fragment.bytes);
            at = fragment.end;
            is_begun = true;
            if fragment.kind == FULL || fragment.kind == LAST {
                self.at = at;
                return Some(Record { bytes, end: at });
            }
        }
    }
}

/// Whether a record begins anywhere behind `at`: then what is damaged there is not the end.
#[must_use]
pub fn goes_on_behind(file: &[u8], at: usize) -> bool {
    (at + 1..file.len()).any(|at| {
        let is_start = file.get(at + 6).is_some_and(|k| *k == FULL || *k == FIRST);
        is_start && fragment(file, at).is_some_and(|fragment| !fragment.bytes.is_empty())
    })
}

struct Fragment<'a> {
    kind: u8,
    bytes: &'a [u8],
    end: usize,
}

/// The fragment at an offset, or at the next block where the rest of this one is too short.
fn fragment(file: &[u8], at: usize) -> Option<Fragment<'_>> {
    let left = BLOCK_BYTES - at % BLOCK_BYTES;
    let at = if left < HEADER_BYTES { at + left } else { at };
    let left = BLOCK_BYTES - at % BLOCK_BYTES;
    let header = file.get(at..at.checked_add(HEADER_BYTES)?)?;
    let (crc, rest) = header.split_first_chunk::<4>()?;
    let (length, kind) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    if length > left - HEADER_BYTES {
        return None;
    }
    let end = at + HEADER_BYTES + length;
    let summed = file.get(at + HEADER_BYTES - 1..end)?;
    let crc32 = crc32c::crc32c(summed);
    if crc32.rotate_right(15).wrapping_add(MASK) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some(Fragment {
        kind: *kind.first()?,
        bytes: summed.get(1..)?,
        end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes records as LevelDB does.
    pub(crate) fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for record in records {
            let (mut rest, mut is_first) = (&record[..], true);
            loop {
                let left = BLOCK_BYTES - file.len() % BLOCK_BYTES;
                if left < HEADER_BYTES {
                    file.resize(file.len() + left, 0);
                    continue;
                }
                let (now, behind) = rest.split_at(rest.len().min(left - HEADER_BYTES));
                let kind = match (is_first, behind.is_empty()) {
                    (true, true) => FULL,
                    (true, false) => FIRST,
                    (false, false) => MIDDLE,
                    (false, true) => LAST,
                };
                let mut summed = vec![kind];
                summed.extend_from_slice(now);
                let crc = crc32c::crc32c(&summed).rotate_right(15).wrapping_add(MASK);
                file.extend_from_slice(&crc.to_le_bytes());
                file.extend_from_slice(&(now.len() as u16).to_le_bytes());
                file.extend_from_slice(&summed);
                (rest, is_first) = (behind, false);
                if rest.is_empty() {
                    break;
                }
            }
        }
        file
    }

    fn records() -> Vec<Vec<u8>> {
        let lens = [0, 1, 32_700, 40, 100_000, 32_753, 9, 32_768 * 2];
        let record = |(n, len): (u8, &usize)| vec![n + 1; *len];
        (0..).zip(&lens).map(record).collect()
    }

    #[test]
    fn records_of_any_length_are_read_back() {
        let file = written(&records());
        let read: Vec<_> = Records::of(&file).map(|record| record.bytes).collect();
        assert_eq!(read, records());
        assert_eq!(Records::of(&file).last().unwrap().end, file.len());
    }

    #[test]
    fn reading_ends_before_the_first_damage_wherever_it_is() {
        let whole = written(&records());
        let ends: Vec<_> = Records::of(&whole).map(|record| record.end).collect();
        for at in (0..whole.len()).step_by(97) {
            let expect = ends.iter().filter(|end| **end <= at).count();
            let cut = Records::of(&whole[..at]).count();
            assert_eq!(cut, expect, "cut at {at}");
            let mut file = whole.clone();
            file[at] ^= 0x40;
            let n = Records::of(&file).count();
            // Bytes between a block's last fragment and its end say nothing.
            let is_filler = BLOCK_BYTES - at % BLOCK_BYTES < HEADER_BYTES && whole[at] == 0;
            assert!(n == expect || is_filler, "{n} of {expect}, damaged at {at}");
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(Records::of(&[0; 2 * BLOCK_BYTES]).count(), 0);
    }

    #[test]
    fn a_damaged_middle_is_told_from_a_damaged_end() {
        let mut file = written(&[vec![1; 100], vec![2; 100], vec![3; 100]]);
        file[150] ^= 1;
        assert!(goes_on_behind(&file, 107));
        let mut file = written(&[vec![1; 100], vec![2; 100]]);
        file[150] ^= 1;
        assert!(!goes_on_behind(&file, 107));
    }
}
