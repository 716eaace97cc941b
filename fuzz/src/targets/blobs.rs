// SPDX-License-Identifier: Apache-2.0
//! What a file's chunks say, and what lies in those that list others or were sealed.

use bytes::Bytes;
use dulse_blobs::{Source, fuzz, views_of};
use dulse_types::FileChunk;

use super::types::halves;

/// More chunks would only make it slow.
const CHUNKS_MAX: usize = 200;

/// A manifest, and what a file of its chunks shows.
pub(crate) fn chunks(input: &[u8]) {
    let Some(mut chunks) = fuzz::manifest(input) else {
        return;
    };
    chunks.truncate(CHUNKS_MAX);
    for range in [0..1 << 20, 5..u64::MAX, u64::MAX - 1..u64::MAX, 7..7] {
        let Ok(views) = views_of(&chunks, range.clone()) else {
            continue;
        };
        let mut at = range.start;
        for view in &views {
            assert!(view.offset == at && view.len > 0, "{view:?} at {at}");
            if let Source::Chunk {
                start, chunk_len, ..
            } = view.source
            {
                assert!(start + view.len <= chunk_len, "{view:?}");
            }
            at += view.len;
        }
        assert!(at == range.end || range.is_empty(), "{at} of {range:?}");
    }
    let _ = chunks.iter().map(FileChunk::end).max();
}

/// A key and a sealed chunk; and the same bytes as what was compressed.
pub(crate) fn sealed(input: &[u8]) {
    const LIMIT: usize = 1 << 16;
    let (key, needle) = halves(input);
    for is_compressed in [false, true] {
        let clear = fuzz::opened(key, is_compressed, needle, LIMIT);
        assert!(clear.as_ref().map_or(0, Bytes::len) <= LIMIT);
    }
    let unzipped = fuzz::unzipped(needle, LIMIT);
    assert!(unzipped.map_or(0, |bytes| bytes.len()) <= LIMIT + 1);
}
