// SPDX-License-Identifier: Apache-2.0
//! Which bytes a file shows where its chunks overlap.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use dulse_types::{FileChunk, FileId};

use crate::Error;
use crate::sealed::Seal;

/// Where the bytes of a view come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Part of a chunk.
    Chunk {
        /// The chunk.
        id: FileId,
        /// First byte within the chunk.
        start: u64,
        /// Length of the whole chunk.
        chunk_len: u64,
        /// How to open it when it is encrypted; then it is fetched whole.
        seal: Option<Seal>,
    },
    /// Bytes at hand.
    Inline(Bytes),
    /// A hole: zeros.
    Zeros,
}

/// A run of bytes of a file that comes from one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// First byte within the file.
    pub offset: u64,
    /// Length, not 0.
    pub len: u64,
    /// Where the bytes are.
    pub source: Source,
}

/// The views that make up `range` of a file, in order and without gaps.
///
/// Of chunks that overlap, the one with the greater `modified_ts_ns` shows; of
/// equal ones, the later in the list. What no chunk covers is a hole. Manifest
/// chunks must have been resolved before. Cost: O(n log n) in chunks.
///
/// # Errors
///
/// `BadChunk` for chunks that `range` shows; hidden ones do not matter.
pub fn views_of(chunks: &[FileChunk], range: Range<u64>) -> Result<Vec<View>, Error> {
    let mut out = Vec::new();
    let mut at = range.start;
    for (shown, index) in visible(chunks) {
        let start = shown.start.max(at);
        let end = shown.end.min(range.end);
        if start >= end {
            continue;
        }
        push_hole(&mut out, at..start);
        let chunk = &chunks[index];
        let id = chunk
            .id()
            .ok_or_else(|| Error::BadChunk(chunk.file_id.clone()))?;
        out.push(View {
            offset: start,
            len: end - start,
            source: Source::Chunk {
                id,
                start: start - offset_of(chunk),
                chunk_len: chunk.size,
                seal: Seal::of(chunk),
            },
        });
        at = end;
    }
    push_hole(&mut out, at..range.end);
    Ok(out)
}

fn push_hole(out: &mut Vec<View>, hole: Range<u64>) {
    if hole.start < hole.end {
        out.push(View {
            offset: hole.start,
            len: hole.end - hole.start,
            source: Source::Zeros,
        });
    }
}

fn offset_of(chunk: &FileChunk) -> u64 {
    u64::try_from(chunk.offset).unwrap_or(0)
}

/// Disjoint ranges in order, each with the index of the chunk it shows.
fn visible(chunks: &[FileChunk]) -> Vec<(Range<u64>, usize)> {
    if are_disjoint_in_order(chunks) {
        let all = chunks.iter().enumerate().filter(|(_, c)| c.size > 0);
        return all.map(|(i, c)| (offset_of(c)..c.end(), i)).collect();
    }
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    order.sort_by_key(|&i| chunks[i].modified_ts_ns);
    let mut shown: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    for index in order {
        let chunk = &chunks[index];
        if chunk.size > 0 {
            cover(&mut shown, offset_of(chunk)..chunk.end(), index);
        }
    }
    let ranges = shown.into_iter();
    ranges.map(|(start, (end, i))| (start..end, i)).collect()
}

/// The common case: chunks as one upload leaves them.
fn are_disjoint_in_order(chunks: &[FileChunk]) -> bool {
    chunks
        .windows(2)
        .all(|pair| pair[0].end() <= offset_of(&pair[1]))
}

/// Lays `range` over what is shown so far, cutting what lies below it.
fn cover(shown: &mut BTreeMap<u64, (u64, usize)>, range: Range<u64>, index: usize) {
    let before = shown.range(..range.start).next_back();
    if let Some((&start, &(end, below))) = before
        && end > range.start
    {
        shown.insert(start, (range.start, below));
        if end > range.end {
            shown.insert(range.end, (end, below));
        }
    }
    let inside = shown.range(range.clone()).map(|(&s, &v)| (s, v));
    for (start, (end, below)) in inside.collect::<Vec<_>>() {
        shown.remove(&start);
        if end > range.end {
            shown.insert(range.end, (end, below));
        }
    }
    shown.insert(range.start, (range.end, index));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(key: u64, range: Range<u64>, modified_ts_ns: i64) -> FileChunk {
        let mut chunk = FileChunk {
            offset: range.start as i64,
            size: range.end - range.start,
            modified_ts_ns,
            ..FileChunk::default()
        };
        chunk.set_id(FileId {
            volume_id: 1,
            key,
            cookie: 7,
        });
        chunk
    }

    /// Paints byte by byte: key of the chunk shown, 0 for a hole.
    fn naive(chunks: &[FileChunk], range: Range<u64>) -> Vec<(u64, u64)> {
        let mut order: Vec<_> = chunks.iter().collect();
        order.sort_by_key(|c| c.modified_ts_ns);
        range
            .map(|at| {
                let over = order
                    .iter()
                    .rev()
                    .find(|c| (c.offset as u64..c.end()).contains(&at));
                over.map_or((0, 0), |c| (c.id().unwrap().key, at - c.offset as u64))
            })
            .collect()
    }

    fn painted(chunks: &[FileChunk], range: Range<u64>) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        let mut at = range.start;
        for view in views_of(chunks, range).unwrap() {
            assert_eq!(view.offset, at);
            for i in 0..view.len {
                out.push(match &view.source {
                    Source::Chunk { id, start, .. } => (id.key, start + i),
                    _ => (0, 0),
                });
            }
            at += view.len;
        }
        out
    }

    #[test]
    fn the_newest_chunk_shows_and_holes_are_zeros() {
        let chunks = [
            chunk(1, 0..10, 1),
            chunk(2, 4..6, 5),
            chunk(3, 5..20, 3),
            chunk(4, 30..40, 2),
        ];
        assert_eq!(painted(&chunks, 0..45), naive(&chunks, 0..45));
        assert_eq!(painted(&chunks, 3..7), naive(&chunks, 3..7));
    }

    #[test]
    fn of_equal_times_the_later_in_the_list_shows() {
        let chunks = [chunk(1, 0..4, 1), chunk(2, 0..4, 1)];
        assert_eq!(painted(&chunks, 0..1), vec![(2, 0)]);
    }

    #[test]
    fn random_overlaps_equal_the_naive_painting() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        for _ in 0..500 {
            let n = next(9);
            let chunks: Vec<_> = (1..=n)
                .map(|key| {
                    let start = next(40);
                    chunk(key, start..start + next(20), next(5) as i64)
                })
                .collect();
            let start = next(30);
            let range = start..start + next(50);
            assert_eq!(
                painted(&chunks, range.clone()),
                naive(&chunks, range),
                "{chunks:?}"
            );
        }
    }

    #[test]
    fn a_view_of_an_encrypted_chunk_carries_its_seal() {
        let mut secret = chunk(1, 0..4, 1);
        secret.cipher_key = Bytes::from_static(b"k");
        let views = views_of(&[secret, chunk(2, 2..4, 2)], 0..4).unwrap();
        let seals = views.iter().map(|view| match &view.source {
            Source::Chunk { seal, .. } => seal.is_some(),
            _ => panic!("{view:?}"),
        });
        assert_eq!(seals.collect::<Vec<_>>(), [true, false]);
    }
}
