// SPDX-License-Identifier: Apache-2.0
//! What is written: the n-th name and the n-th entry, the same in every run.

use dulse_types::{Entry, EntryFields, FileChunk, UnknownFields};

/// Files of one directory.
pub(crate) const FILES_PER_DIRECTORY: u64 = 1000;

/// Seed of everything that looks random.
pub(crate) const SEED: u64 = 0x5eed_d015;

/// A number that looks random, the same for the same `n`.
pub(crate) fn scatter(n: u64) -> u64 {
    let mut x = (n ^ SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The directory of the n-th file of a set.
pub(crate) fn directory(set: &str, n: u64) -> String {
    format!("/bench/{set}/d{:05}", n / FILES_PER_DIRECTORY)
}

/// The name of the n-th file.
pub(crate) fn name(n: u64) -> String {
    format!("f{:04}", n % FILES_PER_DIRECTORY)
}

/// A file as an upload of 4 KiB leaves it: one chunk, an MD5, times. About 170 bytes.
/// `revision` changes its times and nothing else.
pub(crate) fn file(n: u64, revision: u64) -> Entry {
    let mut fields = EntryFields {
        name: name(n),
        ..EntryFields::default()
    };
    let second = 1_700_000_000 + i64::try_from(revision).unwrap_or(0);
    fields.chunks.push(FileChunk {
        file_id: format!("3,{:x}{:08x}", n + 1, scatter(n) & 0xffff_ffff),
        size: 4096,
        modified_ts_ns: 1_700_000_000_000_000_000,
        e_tag: "1B2M2Y8AsgTpgAmY7PhCfg==".to_owned(),
        ..FileChunk::default()
    });
    let attributes = fields.attributes.get_or_insert_default();
    attributes.file_size = 4096;
    attributes.file_mode = 0o660;
    attributes.uid = 1000;
    attributes.gid = 1000;
    attributes.crtime = 1_700_000_000;
    attributes.mtime = second;
    attributes.mime = "application/octet-stream".to_owned();
    attributes.md5 = bytes::Bytes::copy_from_slice(&[7; 16]);
    fields.to_entry(&UnknownFields::default())
}

/// The content of a file of 4 KiB; each differs.
pub(crate) fn content(n: u64) -> Vec<u8> {
    let words = (0..512).map(|i| scatter(n * 512 + i).to_le_bytes());
    words.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_bytes_and_another_gives_others() {
        assert_eq!(file(7, 0), file(7, 0));
        assert_ne!(file(7, 0), file(8, 0));
        assert_ne!(file(7, 0), file(7, 1));
        assert_eq!(content(7).len(), 4096);
        assert_ne!(content(7), content(8));
    }
}
