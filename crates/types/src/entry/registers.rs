// SPDX-License-Identifier: Apache-2.0
//! The registers of an inode, as parts of an entry's bytes.
//!
//! *Data*: chunks (3), content (9), remote entry (10), and of the attributes
//! size (1), mtime (2, 19) and md5 (14). *Access time*: of the attributes 22 and 23.
//! *Attributes*: everything else, fields that we do not know included, without name (1)
//! and `is_directory` (2), which follow from key and mode. Joining is concatenation:
//! protobuf defines it as merging, so no field is decoded.

use bytes::Bytes;

use super::fields::{FileChunk, MODE_DIRECTORY};
use super::pb::{fields_of, put_field, varint_of};
use super::raw::{Entry, EntryError};
use crate::FileId;
use crate::wire::Writer;

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
        let chunks = fields_of(&self.0).flatten().filter(|f| f.number == 3);
        chunks
            .filter_map(|chunk| file_id_of(chunk.payload))
            .collect()
    }

    /// The same without the chunks that `is_kept` does not want, and how many those are. A
    /// chunk without a readable id stays.
    #[must_use]
    pub fn with_chunks(&self, is_kept: impl Fn(FileId) -> bool) -> (Self, usize) {
        let mut kept = Vec::with_capacity(self.0.len());
        let mut n_gone = 0;
        for field in fields_of(&self.0).flatten() {
            let id = (field.number == 3).then(|| file_id_of(field.payload));
            if id.flatten().is_some_and(|id| !is_kept(id)) {
                n_gone += 1;
            } else {
                kept.extend_from_slice(field.whole);
            }
        }
        (Self(Bytes::from(kept)), n_gone)
    }

    /// The encoded chunks named here that are manifests: their content lists further chunks.
    #[must_use]
    pub fn manifests(&self) -> Vec<Bytes> {
        let chunks = fields_of(&self.0).flatten().filter(|f| f.number == 3);
        chunks
            .filter(|chunk| is_manifest(chunk.payload))
            .map(|chunk| Bytes::copy_from_slice(chunk.payload))
            .collect()
    }

    /// Whether any chunk is named, without decoding one.
    #[must_use]
    pub fn has_chunks(&self) -> bool {
        fields_of(&self.0).flatten().any(|f| f.number == 3)
    }
}

/// Whether an encoded chunk is a manifest, read without decoding the rest of it.
fn is_manifest(chunk: &[u8]) -> bool {
    let flags = fields_of(chunk)
        .flatten()
        .filter(|f| f.number == 11 && f.wire_type == 0);
    flags.last().is_some_and(|f| varint_of(f.payload) != 0)
}

/// Where an encoded chunk lies, read without decoding the rest of it.
#[must_use]
pub fn file_id_of(chunk: &[u8]) -> Option<FileId> {
    let mut text = None;
    for field in fields_of(chunk).flatten().filter(|f| f.wire_type == 2) {
        match field.number {
            1 => text = std::str::from_utf8(field.payload).ok(),
            7 => return Some(fid_of(field.payload)),
            _ => {}
        }
    }
    text.and_then(|text| text.parse().ok())
}

fn fid_of(message: &[u8]) -> FileId {
    let mut id = FileId {
        volume_id: 0,
        key: 0,
        cookie: 0,
    };
    for field in fields_of(message).flatten() {
        match (field.number, field.wire_type) {
            (1, 0) => id.volume_id = varint_of(field.payload) as u32,
            (2, 0) => id.key = varint_of(field.payload),
            (3, 5) => {
                let bytes = field.payload.try_into().unwrap_or_default();
                id.cookie = u32::from_le_bytes(bytes);
            }
            _ => {}
        }
    }
    id
}

/// The mode bits in the value of an attribute register; 0 when absent.
#[must_use]
pub fn mode_of(attributes: &[u8]) -> u32 {
    let inner = fields_of(attributes).flatten().filter(|f| f.number == 4);
    let modes = inner.flat_map(|f| fields_of(f.payload).flatten());
    let mode = modes.filter(|f| f.number == 3 && f.wire_type == 0).last();
    mode.map_or(0, |f| u32::try_from(varint_of(f.payload)).unwrap_or(0))
}

/// The time to live in the value of an attribute register, in seconds; 0 when absent.
#[must_use]
pub fn ttl_of(attributes: &[u8]) -> i32 {
    let inner = fields_of(attributes).flatten().filter(|f| f.number == 4);
    let inner = inner.flat_map(|f| fields_of(f.payload).flatten());
    let ttl = inner
        .filter(|f| f.number == 10 && f.wire_type == 0)
        .last()
        .map_or(0, |f| varint_of(f.payload));
    let bits = ttl.to_le_bytes();
    i32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]])
}

/// Upstream's hard link id in the value of an attribute register, where there is one.
#[must_use]
pub fn hard_link_id_of(attributes: &[u8]) -> Option<&[u8]> {
    let ids = fields_of(attributes)
        .flatten()
        .filter(|f| f.number == 7 && f.wire_type == 2);
    ids.map(|f| f.payload).filter(|id| !id.is_empty()).last()
}

/// An entry taken apart: the values of its registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Everything but data, access time, name and `is_directory`.
    pub attributes: Bytes,
    /// The data.
    pub data: DataPart,
    /// Access time in nanoseconds since 1970; [`ATIME_NEVER`] when there is none.
    pub atime_ns: i64,
}

/// The access time of what was never accessed: below every other, as it merges by maximum.
pub const ATIME_NEVER: i64 = i64::MIN;

const NS_PER_S: i64 = 1_000_000_000;

/// Splits an entry into the values of its registers.
#[must_use]
pub fn split(entry: &Entry) -> Parts {
    let mut attributes = Vec::with_capacity(entry.raw().len());
    let mut data = Vec::with_capacity(entry.raw().len());
    let (mut attr_inner, mut data_inner) = (Vec::new(), Vec::new());
    let (mut atime_s, mut atime_ns) = (0, 0);
    for field in fields_of(entry.raw()).flatten() {
        match field.number {
            1 | 2 => {}
            3 | 9 | 10 => data.extend_from_slice(field.whole),
            4 => {
                for inner in fields_of(field.payload).flatten() {
                    match inner.number {
                        1 | 2 | 14 | 19 => data_inner.extend_from_slice(inner.whole),
                        22 => atime_s = varint_of(inner.payload).cast_signed(),
                        23 => atime_ns = varint_of(inner.payload).cast_signed(),
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
    let atime_ns = match (atime_s, atime_ns) {
        (0, 0) => ATIME_NEVER,
        (s, ns) => s.saturating_mul(NS_PER_S).saturating_add(ns),
    };
    Parts {
        attributes: Bytes::from(attributes),
        data: DataPart(Bytes::from(data)),
        atime_ns,
    }
}

/// Joins the values of an inode's registers into an entry.
///
/// `is_directory` follows the mode, so it is put back for directories.
#[must_use]
pub fn join(attributes: &[u8], data: &DataPart, atime_ns: i64) -> Entry {
    let mut out = Vec::with_capacity(attributes.len() + data.0.len() + 24);
    if mode_of(attributes) & MODE_DIRECTORY != 0 {
        out.extend_from_slice(&[0x10, 1]);
    }
    out.extend_from_slice(attributes);
    out.extend_from_slice(&data.0);
    if atime_ns != ATIME_NEVER {
        put_atime(&mut out, atime_ns);
    }
    Entry::from_checked(Bytes::from(out))
}

fn put_atime(out: &mut Vec<u8>, atime_ns: i64) {
    let mut inner = Writer::with_capacity(20);
    for (number, value) in [
        (22_u64, atime_ns.div_euclid(NS_PER_S)),
        (23, atime_ns.rem_euclid(NS_PER_S)),
    ] {
        if value != 0 {
            inner.varint(number << 3);
            inner.varint(value.cast_unsigned());
        }
    }
    put_field(out, 4, inner.as_slice());
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

    fn joined(parts: &Parts) -> Entry {
        join(&parts.attributes, &parts.data, parts.atime_ns)
    }

    #[test]
    fn the_access_time_is_a_register_of_its_own() {
        for (s, ns, expect) in [
            (0, 0, ATIME_NEVER),
            (0, 5, 5),
            (7, 0, 7 * NS_PER_S),
            (-1, 999_999_999, -1),
            (1_700_000_000, 123, 1_700_000_000_000_000_123),
        ] {
            let mut fields = sample();
            (fields.attrs_mut().atime, fields.attrs_mut().atime_ns) = (s, ns);
            let parts = split(&fields.to_entry(&UnknownFields::default()));
            assert_eq!(parts.atime_ns, expect);
            let without = split(&sample().to_entry(&UnknownFields::default()));
            assert_eq!(parts.attributes, without.attributes);
            let read = joined(&parts).fields().unwrap().attrs();
            assert_eq!((read.atime, read.atime_ns), (s, ns));
        }
    }

    #[test]
    fn split_and_join_keep_every_field() {
        let entry = sample().to_entry(&UnknownFields::default());
        let parts = split(&entry);
        assert_eq!(joined(&parts).fields().unwrap(), sample());
        assert_eq!(parts.data.file_ids().len(), 1);
        let only_attrs = join(&parts.attributes, &DataPart::default(), ATIME_NEVER);
        let only_attrs = only_attrs.fields().unwrap();
        assert_eq!(only_attrs.attrs().uid, 5);
        assert_eq!(only_attrs.attrs().file_size, 0);
        assert!(only_attrs.chunks.is_empty());
    }

    #[test]
    fn file_ids_are_read_as_the_whole_chunk_would_tell_them() {
        let ids = ["3,02efc2db58", "4294967295,ffffffffffffffffffffffff"];
        let mut fields = EntryFields::default();
        for id in ids {
            let mut both = FileChunk::default();
            both.set_id(id.parse().unwrap());
            let text = FileChunk {
                fid: None,
                ..both.clone()
            };
            let message = FileChunk {
                file_id: String::new(),
                ..both.clone()
            };
            let none = FileChunk::default();
            fields.chunks.extend([both, text, message, none]);
        }
        let data = split(&fields.to_entry(&UnknownFields::default())).data;
        let whole: Vec<FileId> = data
            .chunks()
            .unwrap()
            .iter()
            .filter_map(FileChunk::id)
            .collect();
        assert_eq!(data.file_ids(), whole);
        assert_eq!(whole.len(), 6);
        assert_eq!(data.manifests(), [] as [Bytes; 0]);
    }

    #[test]
    fn manifests_are_told_from_other_chunks() {
        let mut fields = EntryFields::default();
        for is_chunk_manifest in [false, true, false] {
            let mut chunk = FileChunk {
                is_chunk_manifest,
                cipher_key: Bytes::from_static(b"key"),
                ..FileChunk::default()
            };
            chunk.set_id("3,02efc2db58".parse().unwrap());
            fields.chunks.push(chunk);
        }
        let data = split(&fields.to_entry(&UnknownFields::default())).data;
        let found = data.manifests();
        assert_eq!(found, [Bytes::from(fields.chunks[1].encode_to_vec())]);
        assert_eq!(file_id_of(&found[0]), fields.chunks[1].id());
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
        assert_eq!(joined(&split(&changed)).unknown(), entry.unknown());
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
        let joined = joined(&split(&entry));
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
