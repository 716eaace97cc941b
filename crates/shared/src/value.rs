// SPDX-License-Identifier: Apache-2.0
//! Values as upstream's stores have them: an entry without its name, its chunks named by number
//! only, compressed where there are many. Bytes: `docs/formats/postgres.md`.

use std::io::{Read, Write};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::{Entry, EntryFields};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Entries with more chunks are compressed, if that saves a tenth.
const CHUNKS_PLAIN_MAX: usize = 50;

/// First bytes of a compressed value; no entry begins so.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Largest value that is read, uncompressed, in bytes: what is above it is damage, not data.
pub const VALUE_BYTES_MAX: usize = 256 << 20;

/// The value of an entry.
#[must_use]
pub fn encode(entry: &Entry) -> Bytes {
    if !entry.has_chunks() {
        return entry.raw().clone();
    }
    let Ok(mut fields) = entry.fields() else {
        return entry.raw().clone();
    };
    let n_chunks = fields.chunks.len();
    for chunk in &mut fields.chunks {
        chunk.fill_ids();
        // A name that is no file id has no other form: it stays.
        if chunk.fid.is_some() {
            chunk.file_id.clear();
        }
        if chunk.source_fid.is_some() {
            chunk.source_file_id.clear();
        }
    }
    let plain = fields.to_entry(&entry.unknown()).raw().clone();
    if n_chunks <= CHUNKS_PLAIN_MAX {
        return plain;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let small = encoder
        .write_all(&plain)
        .and_then(|()| encoder.finish())
        .unwrap_or_default();
    let saves = !small.is_empty() && small.len() * 10 <= plain.len() * 9;
    if saves { small.into() } else { plain }
}

/// The entry of a value.
///
/// # Errors
///
/// `Corrupt` for bytes that are no entry.
pub fn decode(value: Bytes) -> Result<Entry, Error> {
    let value = if value.starts_with(&GZIP) {
        let mut plain = Vec::new();
        let limit = VALUE_BYTES_MAX as u64 + 1;
        let mut decoder = GzDecoder::new(&value[..]).take(limit);
        decoder.read_to_end(&mut plain).map_err(corrupt)?;
        if plain.len() > VALUE_BYTES_MAX {
            return Err(Error::new(Operation::Find, ErrorKind::Corrupt)
                .with("because", "a compressed value is too large"));
        }
        Bytes::from(plain)
    } else {
        value
    };
    let (entry, _) = Entry::from_bytes(value)
        .and_then(|entry| entry.take_name())
        .map_err(corrupt)?;
    if !entry.has_chunks() {
        return Ok(entry);
    }
    let mut fields = fields(&entry)?;
    for chunk in &mut fields.chunks {
        chunk.fill_ids();
    }
    Ok(fields.to_entry(&entry.unknown()))
}

/// The fields of an entry that was read.
pub(crate) fn fields(entry: &Entry) -> Result<EntryFields, Error> {
    entry.fields().map_err(corrupt)
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Operation::Find, ErrorKind::Corrupt).source(error)
}

#[cfg(test)]
mod tests {
    use dulse_types::FileId;
    use dulse_types::entry::{FileChunk, UnknownFields};

    use super::*;

    fn chunked(n: u32) -> Entry {
        let chunk = |n: u32| {
            let mut chunk = FileChunk {
                offset: i64::from(n) * 8,
                size: 8,
                ..FileChunk::default()
            };
            let id: FileId = format!("{},{:x}00000001", n + 1, n + 1).parse().unwrap();
            chunk.set_id(id);
            chunk
        };
        let fields = EntryFields {
            chunks: (0..n).map(chunk).collect(),
            ..EntryFields::default()
        };
        fields.to_entry(&UnknownFields::default())
    }

    #[test]
    fn values_are_read_back_and_many_chunks_are_compressed() {
        for (n, is_small) in [
            (0, false),
            (1, false),
            (50, false),
            (51, true),
            (2_000, true),
        ] {
            let entry = chunked(n);
            let value = encode(&entry);
            assert_eq!(value.starts_with(&GZIP), is_small, "{n} chunks");
            assert_eq!(
                decode(value).unwrap().fields().unwrap(),
                entry.fields().unwrap()
            );
        }
    }

    #[test]
    fn stored_chunks_have_numbers_and_no_names() {
        let value = Entry::from_bytes(encode(&chunked(1))).unwrap();
        let chunk = value.fields().unwrap().chunks.remove(0);
        assert!(chunk.file_id.is_empty() && chunk.fid.is_some());
    }

    #[test]
    fn bytes_that_are_no_entry_are_corrupt() {
        for bytes in [
            &b"\x22\xff"[..],
            b"\x1f\x8b",
            b"\x1f\x8b\x08\x00junk",
            b"\x0a\x01\xff",
        ] {
            let error = decode(Bytes::copy_from_slice(bytes)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
