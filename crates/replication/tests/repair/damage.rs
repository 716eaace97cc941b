// SPDX-License-Identifier: Apache-2.0
//! What a disk, or a defect, may do to rows.

use bytes::Bytes;
use dulse_merge::keys::{self, Space};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::world::Filer;

/// Damages a few rows of what the digest counts, or digest rows; says which.
pub(crate) fn some(filer: &Filer, rng: &mut StdRng) -> Vec<String> {
    let mut writes = Vec::new();
    let mut told = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let space = *[
            Space::Entries,
            Space::Entries,
            Space::Shadows,
            Space::Kv,
            Space::Links,
            Space::Inodes,
            Space::Digest,
        ]
        .choose(rng)
        .unwrap();
        let rows = filer.rows(space);
        let Some((key, value)) = rows.choose(rng).cloned() else {
            continue;
        };
        let kind = rng.random_range(0..4);
        told.push(format!("{space:?} {key:?} {kind}"));
        match kind {
            0 => writes.push((key.to_vec(), None)),
            1 => {
                let mut flipped = value.to_vec();
                let at = rng.random_range(0..flipped.len());
                flipped[at] ^= 1 << rng.random_range(0..8);
                writes.push((key.to_vec(), Some(Bytes::from(flipped))));
            }
            2 => writes.push((key.to_vec(), Some("not a row".into()))),
            _ if space == Space::Entries => {
                let names = ["/a/new", "/c/q", "/zz/y", "/b"];
                let at = keys::entry(names.choose(rng).unwrap().as_bytes());
                writes.push((at, Some(value)));
            }
            _ => writes.push((key.to_vec(), None)),
        }
    }
    filer.damage(writes);
    told
}
