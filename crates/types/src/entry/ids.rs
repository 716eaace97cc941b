// SPDX-License-Identifier: Apache-2.0
//! Both forms of the file ids of an entry's chunks.

use bytes::Bytes;
use prost::Message;

use super::fields::FileChunk;
use super::pb::{fields_of, put_field};
use super::raw::{Entry, EntryError};

/// Numbers of a file id as text and as a message, of the chunk and of its source.
const FORMS: [(u32, u32); 2] = [(1, 7), (6, 8)];

impl Entry {
    /// The same entry with the text and the message of every chunk's file ids; upstream's stores
    /// keep the message alone. All other bytes stay as they are, those of chunks included.
    ///
    /// # Errors
    ///
    /// `Malformed` when a chunk does not decode.
    pub fn with_file_ids(&self) -> Result<Self, EntryError> {
        let is_whole = |chunk: &[u8]| {
            let has = |number| fields_of(chunk).flatten().any(|f| f.number == number);
            FORMS
                .iter()
                .all(|(text, message)| has(*text) == has(*message))
        };
        let mut out = Vec::with_capacity(self.raw().len());
        for field in fields_of(self.raw()).flatten() {
            if field.number != 3 || field.wire_type != 2 || is_whole(field.payload) {
                out.extend_from_slice(field.whole);
                continue;
            }
            let malformed = |e: prost::DecodeError| EntryError::Malformed(e.to_string());
            let mut chunk = FileChunk::decode(field.payload).map_err(malformed)?;
            let given = chunk.clone();
            chunk.fill_ids();
            let added = FileChunk {
                file_id: only(chunk.file_id, !given.file_id.is_empty()),
                fid: chunk.fid.filter(|_| given.fid.is_none()),
                source_file_id: only(chunk.source_file_id, !given.source_file_id.is_empty()),
                source_fid: chunk.source_fid.filter(|_| given.source_fid.is_none()),
                ..FileChunk::default()
            };
            // Concatenation is merging, so what the chunk has stays.
            let mut payload = field.payload.to_vec();
            payload.extend_from_slice(&added.encode_to_vec());
            put_field(&mut out, 3, &payload);
        }
        Ok(Self::from_checked(Bytes::from(out)))
    }
}

fn only(text: String, is_there: bool) -> String {
    if is_there { String::new() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryFields;

    #[test]
    fn a_missing_form_of_a_file_id_is_added_and_unknown_bytes_stay() {
        let id = "3,01637037d6".parse::<crate::FileId>().unwrap();
        // Field 99 of a chunk and field 98 of the entry, which nobody knows.
        let mut chunk = FileChunk {
            fid: Some(id.into()),
            size: 5,
            ..FileChunk::default()
        }
        .encode_to_vec();
        put_field(&mut chunk, 99, b"later");
        let mut bytes = Vec::new();
        put_field(&mut bytes, 3, &chunk);
        put_field(&mut bytes, 98, b"still later");
        let entry = Entry::from_bytes(bytes.into()).unwrap();
        let filled = entry.with_file_ids().unwrap();
        let fields: EntryFields = filled.fields().unwrap();
        assert_eq!(fields.chunks[0].file_id, "3,01637037d6");
        assert_eq!(fields.chunks[0].fid, Some(id.into()));
        assert_eq!(fields.chunks[0].size, 5);
        for later in [&b"later"[..], b"still later"] {
            assert!(filled.raw().windows(later.len()).any(|w| w == later));
        }
        assert_eq!(
            filled.with_file_ids().unwrap(),
            filled,
            "nothing is added twice"
        );
    }
}
