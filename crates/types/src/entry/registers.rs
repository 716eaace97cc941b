// SPDX-License-Identifier: Apache-2.0
//! The two registers of an inode, as parts of an entry's bytes.
//!
//! *Data*: chunks (3), content (9), remote entry (10), and of the attributes
//! size (1), mtime (2, 19) and md5 (14). *Attributes*: everything else, fields
//! that we do not know included, without name (1) and `is_directory` (2), which
//! follow from key and mode. Joining is concatenation: protobuf defines it as
//! merging, so no field is decoded.

use bytes::Bytes;

use super::fields::FileChunk;
use super::pb::{fields_of, put_field, varint_of};
use super::raw::{Entry, EntryError};
use crate::FileId;

/// The value of a data register.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DataPart(pub Bytes);

impl DataPart {
    /// The chunks named here.
    ///
    /// # Errors
    ///
    /// `Malformed` when a chunk does not decode.
    pub fn chunks(&self) -> Result<Vec<FileChunk>, EntryError> {
        let chunks = fields_of(&self.0).flatten().filter(|f| f.number == 3);
        chunks
            .map(|f| {
                <FileChunk as prost::Message>::decode(f.payload)
                    .map_err(|e| EntryError::Malformed(e.to_string()))
            })
            .collect()
    }

    /// Where the chunks named here lie, those without a readable id left out.
    #[must_use]
    pub fn file_ids(&self) -> Vec<FileId> {
        self.chunks()
            .unwrap_or_default()
            .iter()
            .filter_map(FileChunk::id)
            .collect()
    }

    /// Whether any chunk is named, without decoding one.
    #[must_use]
    pub fn has_chunks(&self) -> bool {
        fields_of(&self.0).flatten().any(|f| f.number == 3)
    }
}

/// The mode bits in the value of an attribute register; 0 when absent.
#[must_use]
pub fn mode_of(attributes: &[u8]) -> u32 {
    let inner = fields_of(attributes).flatten().filter(|f| f.number == 4);
    let modes = inner.flat_map(|f| fields_of(f.payload).flatten());
    let mode = modes.filter(|f| f.number == 3 && f.wire_type == 0).last();
    mode.map_or(0, |f| u32::try_from(varint_of(f.payload)).unwrap_or(0))
}

/// Upstream's hard link id in the value of an attribute register, where there is one.
#[must_use]
pub fn hard_link_id_of(attributes: &[u8]) -> Option<&[u8]> {
    let ids = fields_of(attributes)
        .flatten()
        .filter(|f| f.number == 7 && f.wire_type == 2);
    ids.map(|f| f.payload).filter(|id| !id.is_empty()).last()
}

/// Splits an entry into the values of its attribute and data registers.
#[must_use]
pub fn split(entry: &Entry) -> (Bytes, DataPart) {
    let mut attributes = Vec::with_capacity(entry.raw().len());
    let mut data = Vec::with_capacity(entry.raw().len());
    let (mut attr_inner, mut data_inner) = (Vec::new(), Vec::new());
    for field in fields_of(entry.raw()).flatten() {
        match field.number {
            1 | 2 => {}
            3 | 9 | 10 => data.extend_from_slice(field.whole),
            4 => {
                for inner in fields_of(field.payload).flatten() {
                    match inner.number {
                        1 | 2 | 14 | 19 => data_inner.extend_from_slice(inner.whole),
                        _ => attr_inner.extend_from_slice(inner.whole),
                    }
                }
            }
            _ => attributes.extend_from_slice(field.whole),
        }
    }
    if !attr_inner.is_empty() {
        put_field(&mut attributes, 4, &attr_inner);
    }
    if !data_inner.is_empty() {
        put_field(&mut data, 4, &data_inner);
    }
    (Bytes::from(attributes), DataPart(Bytes::from(data)))
}

/// Joins the values of an attribute and a data register into an entry.
///
/// `is_directory` follows the mode, so it is put back for directories.
#[must_use]
pub fn join(attributes: &[u8], data: &DataPart) -> Entry {
    let mut out = Vec::with_capacity(attributes.len() + data.0.len() + 2);
    out.extend_from_slice(attributes);
    out.extend_from_slice(&data.0);
    let entry = Entry::from_checked(Bytes::from(out));
    if entry.is_dir() {
        let mut out = vec![0x10, 1];
        out.extend_from_slice(entry.raw());
        return Entry::from_checked(Bytes::from(out));
    }
    entry
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::entry::fields::{EntryFields, FuseAttributes, MODE_DIRECTORY, UnknownFields};

    fn sample() -> EntryFields {
        let mut chunk = FileChunk {
            size: 12,
            e_tag: "x".into(),
            ..Default::default()
        };
        chunk.set_id("3,02efc2db58".parse().unwrap());
        EntryFields {
            chunks: vec![chunk],
            attributes: Some(FuseAttributes {
                file_size: 12,
                mtime: 7,
                mtime_ns: 9,
                file_mode: 0o660,
                uid: 5,
                crtime: 3,
                md5: Bytes::from_static(b"m"),
                ..Default::default()
            }),
            extended: [("k".to_owned(), Bytes::from_static(b"v"))].into(),
            ..Default::default()
        }
    }

    #[test]
    fn split_and_join_keep_every_field() {
        let entry = sample().to_entry(&UnknownFields::default());
        let (attributes, data) = split(&entry);
        assert_eq!(join(&attributes, &data).fields().unwrap(), sample());
        assert_eq!(data.file_ids().len(), 1);
        let only_attrs = join(&attributes, &DataPart::default()).fields().unwrap();
        assert_eq!(only_attrs.attrs().uid, 5);
        assert_eq!(only_attrs.attrs().file_size, 0);
        assert!(only_attrs.chunks.is_empty());
    }

    #[test]
    fn unknown_fields_survive_read_change_write() {
        let mut raw = sample().encode_to_vec();
        put_field(&mut raw, 999, b"future");
        put_field(&mut raw, 4, &{
            let mut inner = Vec::new();
            put_field(&mut inner, 888, b"attr");
            inner
        });
        let entry = Entry::from_bytes(Bytes::from(raw)).unwrap();
        let mut fields = entry.fields().unwrap();
        fields.attrs_mut().uid = 77;
        let changed = fields.to_entry(&entry.unknown());
        assert_eq!(changed.fields().unwrap().attrs().uid, 77);
        assert_eq!(changed.unknown(), entry.unknown());
        let (attributes, data) = split(&changed);
        assert_eq!(join(&attributes, &data).unknown(), entry.unknown());
    }

    #[test]
    fn the_wire_form_carries_the_name() {
        let entry = sample().to_entry(&UnknownFields::default());
        let named = entry.with_name("a.txt");
        let decoded = <Entry as Message>::decode(named.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded, named);
        assert_eq!(decoded.take_name().unwrap(), (entry, "a.txt".to_owned()));
    }

    #[test]
    fn directories_say_so() {
        let mut fields = EntryFields::default();
        fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
        let entry = fields.to_entry(&UnknownFields::default());
        let (attributes, data) = split(&entry);
        let joined = join(&attributes, &data);
        assert!(joined.is_dir() && joined.fields().unwrap().is_directory);
    }

    #[test]
    fn garbage_is_refused() {
        for raw in [&[0x0f][..], &[0x22, 5, 1], &[0x22, 1, 0xff], &[0xff; 12]] {
            assert!(
                Entry::from_bytes(Bytes::copy_from_slice(raw)).is_err(),
                "{raw:?}"
            );
        }
    }
}
