// SPDX-License-Identifier: Apache-2.0
//! Values of the system: stamps, origins, paths, entries, chunks. No IO.
//!
//! Everything here is checked when it is built, so the other crates may trust it.

pub mod address;
pub mod entry;
pub mod file_id;
pub mod path;
pub mod stamp;
pub mod vector;
pub mod wire;

pub use address::ServerAddress;
pub use entry::{
    Entry, EntryFields, FileChunk, FileIdMessage, FuseAttributes, RemoteEntry, SseType,
    UnknownFields,
};
pub use file_id::FileId;
pub use path::{EntryName, FullPath, PathError};
pub use stamp::{Identity, Origin, Stamp, Version};
pub use vector::Vector;
