// SPDX-License-Identifier: Apache-2.0
//! Segment files: names and headers.

use dulse_types::wire::{Reader, WireError, Writer};

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

/// First position of a segment's name; `None` for other files.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")
        .filter(|digits| digits.len() == 20)?
        .parse()
        .ok()
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

/// Checks a header; gives store and first position.
pub(crate) fn parse(bytes: &[u8]) -> Result<(u64, u64), WireError> {
    let input = &mut Reader::new(bytes);
    if input.raw(8)? != MAGIC {
        return Err(WireError::BadValue {
            what: "segment magic",
            value: 0,
        });
    }
    let version = input.u16_be()?;
    if version != FORMAT_VERSION {
        return Err(WireError::BadValue {
            what: "segment version",
            value: version.into(),
        });
    }
    input.u16_be()?;
    let (store, first) = (input.u64_be()?, input.u64_be()?);
    let checksum = input.u32_be()?;
    if crc32c::crc32c(&bytes[..HEADER_LEN - 4]) != checksum {
        return Err(WireError::BadValue {
            what: "segment checksum",
            value: checksum.into(),
        });
    }
    Ok((store, first))
}
