// SPDX-License-Identifier: Apache-2.0
//! Facts about single entries: expiry, ETags, defaults.

use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FullPath, UnknownFields};

use crate::Options;

/// Extended key that holds an ETag.
const ETAG_KEY: &str = "Seaweed-ETag";

/// The root: a directory that nobody made.
#[must_use]
pub fn root_entry(options: &Options) -> Entry {
    let mut fields = EntryFields::default();
    let attributes = fields.attrs_mut();
    attributes.file_mode = MODE_DIRECTORY | 0o755;
    (attributes.uid, attributes.gid) = options.owner;
    fields.to_entry(&UnknownFields::default())
}

/// Whether an entry's time to live is over.
#[must_use]
pub fn is_expired(entry: &Entry, now_s: i64) -> bool {
    entry.expires_after_s().is_some_and(|end| end < now_s)
}

/// The entry's ETag without quotes: stored one, else md5 of the whole, else of the chunks.
#[must_use]
pub fn etag(fields: &EntryFields) -> String {
    if let Some(stored) = fields.extended.get(ETAG_KEY) {
        return String::from_utf8_lossy(stored).trim_matches('"').to_owned();
    }
    let md5 = fields.attrs().md5;
    if !md5.is_empty() {
        return md5.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    match fields.chunks.as_slice() {
        [] => String::new(),
        [only] => only.e_tag.clone(),
        many => format!("{}-{}", many[0].e_tag, many.len()),
    }
}

/// The inode number of a new entry: a hash of path and birth.
pub(crate) fn inode_number(path: &FullPath, crtime_s: i64, hard_link_id: &[u8]) -> u64 {
    let seed = crtime_s.cast_unsigned().wrapping_mul(37);
    let hash = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    if hard_link_id.is_empty() {
        hash(path.as_str().as_bytes()).wrapping_add(seed)
    } else {
        hash(hard_link_id)
    }
}
