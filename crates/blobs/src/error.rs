// SPDX-License-Identifier: Apache-2.0
//! Why a chunk could not be written, read or deleted.

use dulse_types::FileId;

/// A failed operation on chunks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No master answered with a place in time.
    #[error("no volume was assigned: {0}")]
    Assign(String),
    /// No master said where the volume is.
    #[error("volume {volume_id} not found: {reason}")]
    Lookup {
        /// The volume.
        volume_id: u32,
        /// What the masters said.
        reason: String,
    },
    /// Every attempt to write a chunk failed.
    #[error("chunk was not written after {attempts} attempts: {reason}")]
    Upload {
        /// How often it was tried.
        attempts: u32,
        /// What the last volume server said.
        reason: String,
    },
    /// No replica returned the bytes.
    #[error("chunk {id} was not read: {reason}")]
    Read {
        /// The chunk.
        id: FileId,
        /// What the last replica said.
        reason: String,
    },
    /// A master knows that there is no such volume, or of no server that has it now.
    #[error("volume {volume_id} not found: {reason}")]
    NoVolume {
        /// The volume.
        volume_id: u32,
        /// What the master said.
        reason: String,
    },
    /// The chunk is encrypted and does not open with the key in its entry.
    #[error("chunk {id} is sealed: {reason}")]
    Sealed {
        /// The chunk.
        id: FileId,
        /// What does not fit.
        reason: String,
    },
    /// A chunk names no place.
    #[error("chunk has no readable file id: `{0}`")]
    BadChunk(String),
    /// A manifest chunk does not decode or nests too deep.
    #[error("chunk manifest `{id}` is damaged: {reason}")]
    BadManifest {
        /// The chunk.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A volume server refused to delete.
    #[error("chunks were not deleted at {server}: {reason}")]
    Delete {
        /// The gRPC address.
        server: String,
        /// What it said.
        reason: String,
    },
}
