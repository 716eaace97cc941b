// SPDX-License-Identifier: Apache-2.0
//! Doors to the parsers of this crate for the fuzz targets; not for anybody else.

use bytes::Bytes;
use dulse_types::FileChunk;
use prost::Message;

/// The chunks that a manifest lists.
#[must_use]
pub fn manifest(input: &[u8]) -> Option<Vec<FileChunk>> {
    let manifest = crate::manifest::Manifest::decode(Bytes::copy_from_slice(input));
    let mut chunks = manifest.ok()?.chunks;
    chunks.iter_mut().for_each(FileChunk::fill_ids);
    Some(chunks)
}

/// What a chunk that was compressed before it was sealed holds, at most `limit` bytes.
#[must_use]
pub fn unzipped(input: &[u8], limit: usize) -> Option<Vec<u8>> {
    crate::sealed::unzip(input, limit).ok()
}

/// The clear bytes of a sealed chunk.
#[must_use]
pub fn opened(key: &[u8], is_compressed: bool, needle: &[u8], limit: usize) -> Option<Bytes> {
    let seal = crate::Seal {
        key: Bytes::copy_from_slice(key),
        is_compressed,
    };
    seal.open(needle, limit).ok()
}
