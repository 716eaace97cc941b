// SPDX-License-Identifier: Apache-2.0
//! Values of upstream's stores: an entry as protobuf, or that compressed.

use std::io::Read;

use bytes::Bytes;
use dulse_types::{Entry, EntryFields};
use flate2::read::GzDecoder;

/// How compressed values begin; no entry does, as its first byte would be field 3 of a wire type
/// that there is not.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Most bytes of an entry, uncompressed. Above it, a value is no entry but an attack.
const ENTRY_LEN_MAX: u64 = 64 << 20;

/// Upstream's key of the store id.
const STORE_ID: &[u8] = b"filer.store.id";

/// Upstream's prefix of offsets in peers' logs; four bytes of a signature follow.
const PEER_OFFSET: &[u8] = b"Meta";

/// Length of a hard link id, and its last byte.
const HARD_LINK_ID: (usize, u8) = (17, 1);

/// Reads the value of an entry: with both forms of its chunks' file ids, as clients get it.
///
/// # Errors
///
/// Why it is none, for people.
pub fn decode_value(value: &Bytes) -> Result<Entry, String> {
    let bytes = if value.starts_with(&GZIP) {
        let mut bytes = Vec::new();
        let mut decoder = GzDecoder::new(&value[..]).take(ENTRY_LEN_MAX + 1);
        let read = decoder.read_to_end(&mut bytes);
        read.map_err(|e| format!("does not decompress: {e}"))?;
        if bytes.len() as u64 > ENTRY_LEN_MAX {
            return Err(format!("has more than {ENTRY_LEN_MAX} bytes"));
        }
        bytes.into()
    } else {
        value.clone()
    };
    let entry = Entry::from_bytes(bytes).map_err(|e| e.to_string())?;
    // Known fields must have their types: whoever reads it later relies on that.
    entry.fields().map_err(|e| e.to_string())?;
    let (entry, _) = entry.take_name().map_err(|e| e.to_string())?;
    entry.with_file_ids().map_err(|e| e.to_string())
}

/// Whether a pair of the key-value space means nothing in another store.
#[must_use]
pub fn is_local_key(key: &[u8], value: &Bytes) -> bool {
    let is_offset = key.len() == PEER_OFFSET.len() + 4 && key.starts_with(PEER_OFFSET);
    key == STORE_ID || is_offset || is_hard_link(key, value)
}

/// Whether a pair is the shared content of a hard link.
pub(crate) fn is_hard_link(key: &[u8], value: &Bytes) -> bool {
    let (len, last) = HARD_LINK_ID;
    let fits = key.len() == len && key.last() == Some(&last);
    let names_itself = |fields: EntryFields| fields.hard_link_id == key;
    fits && decode_value(value)
        .and_then(|entry| entry.fields().map_err(|e| e.to_string()))
        .is_ok_and(names_itself)
}

#[cfg(test)]
mod tests {
    use dulse_types::UnknownFields;

    use super::*;

    /// Field 2000, a length and three bytes: of a version that this one does not know.
    const LATER: &[u8] = b"\x82\x7d\x03new";

    #[test]
    fn fields_of_a_later_version_are_taken_over() {
        let mut fields = EntryFields {
            name: "file".to_owned(),
            ..EntryFields::default()
        };
        fields.attrs_mut().file_mode = 0o644;
        let known = fields.to_entry(&UnknownFields::default());
        let value: Bytes = [&known.raw()[..], LATER].concat().into();
        let later = Entry::from_bytes(Bytes::from_static(LATER)).unwrap();
        assert!(!later.unknown().is_empty());
        let mut gzip = flate2::read::GzEncoder::new(&value[..], flate2::Compression::fast());
        let mut compressed = Vec::new();
        gzip.read_to_end(&mut compressed).unwrap();
        for value in [value, compressed.into()] {
            let entry = decode_value(&value).unwrap();
            assert_eq!(entry.fields().unwrap().attrs().file_mode, 0o644);
            assert_eq!(entry.unknown(), later.unknown());
        }
    }
}
