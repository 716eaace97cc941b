// SPDX-License-Identifier: Apache-2.0
//! Digests: sums of hashes that are equal where trees are equal.

use std::collections::BTreeMap;

use dulse_types::wire::{Reader, WireError, Writer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Buckets that directories are spread over.
pub const BUCKETS: u16 = 4096;

/// The directory under which contents of hard-linked inodes count.
pub const INODES_DIR: &[u8] = b"";
/// The directory under which key-value pairs count; no path can be it.
pub const KV_DIR: &[u8] = b"\x01kv";
/// The directory under which conflict records count; no path can be it.
pub const CONFLICTS_DIR: &[u8] = b"\x01conflicts";

/// Sum of the hashes of a directory's rows, modulo 2^128, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    /// The sum.
    pub sum: u128,
    /// The rows.
    pub count: i64,
}

impl Sum {
    /// Adds the hash of one row.
    pub fn add(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_add(hash);
        self.count += 1;
    }

    /// Takes the hash of one row off.
    pub fn sub(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_sub(hash);
        self.count -= 1;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count += other.count;
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.sum == 0 && self.count == 0
    }

    /// 24 bytes: sum, count, big-endian.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut out = Writer::with_capacity(24);
        out.u128_be(self.sum);
        out.i64_be(self.count);
        out.into_vec()
    }

    /// Reads what [`Sum::encode`] wrote.
    ///
    /// # Errors
    ///
    /// `Truncated` or `LeftOver`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let sum = Self {
            sum: input.u128_be()?,
            count: input.i64_be()?,
        };
        input.finish()?;
        Ok(sum)
    }
}

/// Differences of sums per directory, collected while changes are merged.
pub type Deltas = BTreeMap<Vec<u8>, Sum>;

/// The bucket of a directory.
#[must_use]
pub fn bucket_of(dir: &[u8]) -> u16 {
    (xxh3_64(dir) % u64::from(BUCKETS)) as u16
}

/// The hash of one row: of its canonical bytes.
#[must_use]
pub fn hash(canonical: &[u8]) -> u128 {
    xxh3_128(canonical)
}
