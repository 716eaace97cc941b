// SPDX-License-Identifier: Apache-2.0
//! The typed view of an entry. Field numbers are upstream's (protocol table `filer`).

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use super::pb::{Field, fields_of, put_field};
use super::raw::{Entry, EntryError};
use crate::FileId;

/// The directory bit of `file_mode`, which follows Go's `os.FileMode`.
pub const MODE_DIRECTORY: u32 = 1 << 31;
/// The symbolic link bit of `file_mode`.
pub const MODE_SYMLINK: u32 = 1 << 27;

/// All known fields of an entry.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "upstream's field names; spec table `filer`")]
pub struct EntryFields {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bool, tag = "2")]
    pub is_directory: bool,
    #[prost(message, repeated, tag = "3")]
    pub chunks: Vec<FileChunk>,
    #[prost(message, optional, tag = "4")]
    pub attributes: Option<FuseAttributes>,
    #[prost(map = "string, bytes", tag = "5")]
    pub extended: HashMap<String, Bytes>,
    #[prost(bytes = "bytes", tag = "7")]
    pub hard_link_id: Bytes,
    #[prost(int32, tag = "8")]
    pub hard_link_counter: i32,
    #[prost(bytes = "bytes", tag = "9")]
    pub content: Bytes,
    #[prost(message, optional, tag = "10")]
    pub remote_entry: Option<RemoteEntry>,
    #[prost(int64, tag = "11")]
    pub quota: i64,
    #[prost(int64, tag = "12")]
    pub worm_enforced_at_ts_ns: i64,
}

/// Owner, mode, times and the like.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "upstream's field names; spec table `filer`")]
pub struct FuseAttributes {
    #[prost(uint64, tag = "1")]
    pub file_size: u64,
    #[prost(int64, tag = "2")]
    pub mtime: i64,
    #[prost(uint32, tag = "3")]
    pub file_mode: u32,
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    #[prost(int64, tag = "6")]
    pub crtime: i64,
    #[prost(string, tag = "7")]
    pub mime: String,
    #[prost(int32, tag = "10")]
    pub ttl_sec: i32,
    #[prost(string, tag = "11")]
    pub user_name: String,
    #[prost(string, repeated, tag = "12")]
    pub group_name: Vec<String>,
    #[prost(string, tag = "13")]
    pub symlink_target: String,
    #[prost(bytes = "bytes", tag = "14")]
    pub md5: Bytes,
    #[prost(uint32, tag = "16")]
    pub rdev: u32,
    #[prost(uint64, tag = "17")]
    pub inode: u64,
    #[prost(int64, tag = "18")]
    pub ctime: i64,
    #[prost(int32, tag = "19")]
    pub mtime_ns: i32,
    #[prost(int32, tag = "20")]
    pub ctime_ns: i32,
    #[prost(int32, tag = "21")]
    pub crtime_ns: i32,
    #[prost(int64, tag = "22")]
    pub atime: i64,
    #[prost(int32, tag = "23")]
    pub atime_ns: i32,
}

/// One piece of a file's content.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "upstream's field names; spec table `filer`")]
pub struct FileChunk {
    #[prost(string, tag = "1")]
    pub file_id: String,
    #[prost(int64, tag = "2")]
    pub offset: i64,
    #[prost(uint64, tag = "3")]
    pub size: u64,
    #[prost(int64, tag = "4")]
    pub modified_ts_ns: i64,
    #[prost(string, tag = "5")]
    pub e_tag: String,
    #[prost(string, tag = "6")]
    pub source_file_id: String,
    #[prost(message, optional, tag = "7")]
    pub fid: Option<FileIdMessage>,
    #[prost(message, optional, tag = "8")]
    pub source_fid: Option<FileIdMessage>,
    #[prost(bytes = "bytes", tag = "9")]
    pub cipher_key: Bytes,
    #[prost(bool, tag = "10")]
    pub is_compressed: bool,
    #[prost(bool, tag = "11")]
    pub is_chunk_manifest: bool,
    #[prost(enumeration = "SseType", tag = "12")]
    pub sse_type: i32,
    #[prost(bytes = "bytes", tag = "13")]
    pub sse_metadata: Bytes,
}

/// A file id as a message.
#[derive(Clone, Copy, PartialEq, Message)]
#[expect(missing_docs, reason = "upstream's field names; spec table `filer`")]
pub struct FileIdMessage {
    #[prost(uint32, tag = "1")]
    pub volume_id: u32,
    #[prost(uint64, tag = "2")]
    pub file_key: u64,
    #[prost(fixed32, tag = "3")]
    pub cookie: u32,
}

impl From<FileIdMessage> for FileId {
    fn from(message: FileIdMessage) -> Self {
        Self {
            volume_id: message.volume_id,
            key: message.file_key,
            cookie: message.cookie,
        }
    }
}

impl From<FileId> for FileIdMessage {
    fn from(id: FileId) -> Self {
        Self {
            volume_id: id.volume_id,
            file_key: id.key,
            cookie: id.cookie,
        }
    }
}

/// The copy of an object in a remote storage.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "upstream's field names; spec table `filer`")]
pub struct RemoteEntry {
    #[prost(string, tag = "1")]
    pub storage_name: String,
    #[prost(int64, tag = "2")]
    pub last_local_sync_ts_ns: i64,
    #[prost(string, tag = "3")]
    pub remote_e_tag: String,
    #[prost(int64, tag = "4")]
    pub remote_mtime: i64,
    #[prost(int64, tag = "5")]
    pub remote_size: i64,
    #[prost(string, optional, tag = "6")]
    pub remote_content_encoding: Option<String>,
}

/// Server side encryption of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "upstream's value names; spec table `filer`")]
pub enum SseType {
    None = 0,
    SseC = 1,
    SseKms = 2,
    SseS3 = 3,
}

impl FileChunk {
    /// Where the chunk lies, from whichever form is filled.
    #[must_use]
    pub fn id(&self) -> Option<FileId> {
        match self.fid {
            Some(message) => Some(message.into()),
            None => self.file_id.parse().ok(),
        }
    }

    /// Reads an encoded chunk.
    ///
    /// # Errors
    ///
    /// `Malformed`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        let chunk = <Self as Message>::decode(bytes);
        let mut chunk = chunk.map_err(|e| EntryError::Malformed(e.to_string()))?;
        chunk.fill_ids();
        Ok(chunk)
    }

    /// Fills both forms of the file id, and of the source's, from the one that is there.
    pub fn fill_ids(&mut self) {
        if let Some(id) = self.id() {
            self.set_id(id);
        }
        match self.source_fid {
            Some(message) => self.source_file_id = FileId::from(message).to_string(),
            None => {
                self.source_fid = self
                    .source_file_id
                    .parse::<FileId>()
                    .ok()
                    .map(FileIdMessage::from)
            }
        }
    }

    /// Sets both forms of the file id.
    pub fn set_id(&mut self, id: FileId) {
        self.file_id = id.to_string();
        self.fid = Some(id.into());
    }

    /// First byte behind the chunk; saturating.
    #[must_use]
    pub fn end(&self) -> u64 {
        u64::try_from(self.offset)
            .unwrap_or(0)
            .saturating_add(self.size)
    }
}

impl EntryFields {
    /// Attributes, all default where none are given.
    #[must_use]
    pub fn attrs(&self) -> FuseAttributes {
        self.attributes.clone().unwrap_or_default()
    }

    /// Attributes to change, made where none are given.
    pub fn attrs_mut(&mut self) -> &mut FuseAttributes {
        self.attributes.get_or_insert_with(FuseAttributes::default)
    }

    /// Whether the mode says directory. The boolean of a request is not trusted.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.attributes
            .as_ref()
            .is_some_and(|a| a.file_mode & MODE_DIRECTORY != 0)
    }

    /// The effective size: the greatest of attribute, chunk end and inline bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let attr = self.attributes.as_ref().map_or(0, |a| a.file_size);
        let chunks = self.chunks.iter().map(FileChunk::end).max().unwrap_or(0);
        attr.max(chunks).max(self.content.len() as u64)
    }

    /// The bytes of these fields followed by the fields we do not know.
    ///
    /// The boolean `is_directory` is made to follow the mode.
    #[must_use]
    pub fn to_entry(&self, unknown: &UnknownFields) -> Entry {
        let mut out = Vec::with_capacity(self.encoded_len() + unknown.0.len() + 2);
        if self.is_directory == self.is_dir() {
            self.encode_raw(&mut out);
        } else {
            let fixed = Self {
                is_directory: self.is_dir(),
                ..self.clone()
            };
            fixed.encode_raw(&mut out);
        }
        out.extend_from_slice(&unknown.0);
        Entry::from_checked(Bytes::from(out))
    }
}

/// Fields of an entry and of its attributes that this version does not know, as bytes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UnknownFields(pub(super) Bytes);

impl UnknownFields {
    /// Collects them from checked bytes.
    pub(super) fn collect(raw: &[u8]) -> Self {
        let mut out = Vec::new();
        let mut attributes = Vec::new();
        for field in fields_of(raw).flatten() {
            match field.number {
                4 => collect_attributes(&field, &mut attributes),
                1 | 2 | 3 | 5 | 7..=12 => {}
                _ => out.extend_from_slice(field.whole),
            }
        }
        if !attributes.is_empty() {
            put_field(&mut out, 4, &attributes);
        }
        Self(Bytes::from(out))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn collect_attributes(field: &Field<'_>, out: &mut Vec<u8>) {
    for inner in fields_of(field.payload).flatten() {
        if !matches!(inner.number, 1..=7 | 10..=14 | 16..=23) {
            out.extend_from_slice(inner.whole);
        }
    }
}

impl Entry {
    /// Decodes the known fields.
    ///
    /// # Errors
    ///
    /// `Malformed` when a known field has another type than expected.
    pub fn fields(&self) -> Result<EntryFields, EntryError> {
        EntryFields::decode(self.raw().clone()).map_err(|e| EntryError::Malformed(e.to_string()))
    }

    /// The fields this version does not know.
    #[must_use]
    pub fn unknown(&self) -> UnknownFields {
        UnknownFields::collect(self.raw())
    }
}
