// SPDX-License-Identifier: Apache-2.0
//! Segment files: names and headers.

use dulse_types::wire::{Reader, WireError, Writer};

use crate::error::JournalError;

/// First bytes of every segment.
const MAGIC: &[u8; 8] = b"DULSEJNL";

/// Format of segments and records.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// Bytes before the first record: magic, version, reserved, store, first position, checksum.
pub(crate) const HEADER_LEN: usize = 32;

/// Name of the segment whose first record has this position.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// Name of the index of a sealed segment.
pub(crate) fn index_name(first: u64) -> String {
    format!("{first:020}.idx")
}

/// First position of a segment's name; `None` for other files.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    position_of(name, ".seg")
}

/// First position of an index's name; `None` for other files.
pub(crate) fn first_of_index(name: &str) -> Option<u64> {
    position_of(name, ".idx")
}

fn position_of(name: &str, suffix: &str) -> Option<u64> {
    name.strip_suffix(suffix)
        .filter(|digits| digits.len() == 20)?
        .parse()
        .ok()
}

/// Where in its file a position of a segment lies.
pub(crate) fn offset(first: u64, position: u64) -> u64 {
    position - first + HEADER_LEN as u64
}

/// The header of a segment.
pub(crate) fn header(store: u64, first: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(HEADER_LEN);
    out.raw(MAGIC);
    out.u16_be(FORMAT_VERSION);
    out.u16_be(0);
    out.u64_be(store);
    out.u64_be(first);
    let checksum = crc32c::crc32c(out.as_slice());
    out.u32_be(checksum);
    out.into_vec()
}

/// Checks a header; gives store and first position. The version is looked at before the
/// checksum, which a later version may have elsewhere.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<(u64, u64), JournalError> {
    let read = || {
        let input = &mut Reader::new(bytes);
        let magic = input.raw(8)? == MAGIC;
        let version = input.u16_be()?;
        input.u16_be()?;
        let (store, first) = (input.u64_be()?, input.u64_be()?);
        let checksum = input.u32_be()?;
        Ok((magic, version, store, first, checksum))
    };
    let corrupt = |source| JournalError::corrupt(file, 0, source);
    let bad = |what, value| corrupt(WireError::BadValue { what, value });
    let (magic, version, store, first, checksum) = read().map_err(corrupt)?;
    if !magic {
        return Err(bad("segment magic", 0));
    }
    if version != FORMAT_VERSION {
        return Err(JournalError::version(file, version, FORMAT_VERSION));
    }
    if crc32c::crc32c(&bytes[..HEADER_LEN - 4]) != checksum {
        return Err(bad("segment checksum", checksum.into()));
    }
    Ok((store, first))
}
