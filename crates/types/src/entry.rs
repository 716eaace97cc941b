// SPDX-License-Identifier: Apache-2.0
//! Entries: what the namespace stores under a name.
//!
//! An [`Entry`] keeps the protobuf bytes of upstream's message as they came, so
//! fields that we do not know survive being read, changed and written back.
//! [`EntryFields`] is the typed view of the known ones.

mod etag;
mod expiry;
mod fields;
mod ids;
mod pb;
mod raw;
mod registers;

pub use etag::etag;
pub use expiry::{S3_EXPIRY_KEY, S3_VERSION_KEY};
pub use fields::{
    EntryFields, FileChunk, FileIdMessage, FuseAttributes, MODE_DIRECTORY, MODE_SYMLINK,
    RemoteEntry, SseType, UnknownFields,
};
pub use raw::{Entry, EntryError};
pub use registers::{
    ATIME_NEVER, DataPart, Parts, file_id_of, hard_link_id_of, join, mode_of, split, ttl_of,
};
