// SPDX-License-Identifier: Apache-2.0
//! Contents of files: chunks on volume servers.
//!
//! [`Blobs`] assigns ids at the master, uploads, reads, folds and deletes chunks.
//! [`View`]s say which bytes of which chunk a file shows where. Not here: the
//! entries that name the chunks, and when a chunk may be freed.

mod assign;
mod blobs;
mod control;
mod delete;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod grpc;
mod locations;
mod manifest;
pub mod metrics;
mod read;
mod retries;
mod sealed;
mod strays;
mod upload;
mod view;
mod wire;

pub use blobs::Blobs;
pub use control::{Answer, Assigned, Control, Location, Placement};
pub use delete::Deleted;
pub use error::Error;
pub use grpc::GrpcControl;
pub use locations::Locations;
pub use manifest::{MANIFEST_CHUNKS_MAX, MANIFEST_DEPTH_MAX, Resolved};
pub use read::{PIECE_LEN_MAX, Piece};
pub use retries::{GONE_AFTER, Retries};
pub use sealed::Seal;
pub use upload::{Sync, Uploaded, md5_of};
pub use view::{Source, View, views_of};

pub use dulse_types::entry::etag;
