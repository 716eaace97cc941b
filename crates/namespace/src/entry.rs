// SPDX-License-Identifier: Apache-2.0
//! Facts about single entries: defaults, S3's expiry mark, inode numbers.

use bytes::Bytes;
use dulse_types::entry::{MODE_DIRECTORY, S3_EXPIRY_KEY, S3_VERSION_KEY};
use dulse_types::{Entry, EntryFields, FullPath, UnknownFields};
use md5::{Digest, Md5};

use crate::Options;
use crate::clock::Moment;

/// Extended keys by which an entry is known as an object of the S3 gateway.
const S3_KEYS: [&str; 2] = ["Seaweed-X-Amz-Owner", "Seaweed-X-Amz-ETag"];

/// Prefix of the user metadata of such objects, in any case.
const S3_PREFIX: &str = "x-amz";

/// Upstream's factor between birth and inode number.
const INODE_FACTOR: u64 = 37;

/// The root: a directory that nobody made.
#[must_use]
pub fn root_entry(options: &Options) -> Entry {
    let mut fields = EntryFields::default();
    let attributes = fields.attrs_mut();
    attributes.file_mode = MODE_DIRECTORY | 0o755;
    (attributes.uid, attributes.gid) = options.owner;
    fields.to_entry(&UnknownFields::default())
}

/// Marks an S3 object with a time to live, so that it counts from its last write.
pub(crate) fn mark_s3_expiry(fields: &mut EntryFields) {
    let ttl_sec = fields.attributes.as_ref().map_or(0, |a| a.ttl_sec);
    if ttl_sec == 0 || fields.extended.contains_key(S3_VERSION_KEY) {
        return;
    }
    let is_s3 = |key: &String| {
        S3_KEYS.contains(&key.as_str())
            || key
                .get(..S3_PREFIX.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(S3_PREFIX))
    };
    if fields.extended.keys().any(is_s3) {
        let mark = Bytes::from_static(b"true");
        fields.extended.insert(S3_EXPIRY_KEY.to_owned(), mark);
    }
}

/// The inode number of a new entry: a hash of path and birth, or of the hard link id.
pub(crate) fn inode_number(path: &FullPath, crtime_s: i64, hard_link_id: &[u8]) -> u64 {
    if !hard_link_id.is_empty() {
        return hash(hard_link_id);
    }
    let birth = crtime_s.cast_unsigned().wrapping_mul(INODE_FACTOR);
    hash(path.as_str().as_bytes()).wrapping_add(birth)
}

/// The first eight bytes of the MD5, big-endian, as upstream has it.
fn hash(bytes: &[u8]) -> u64 {
    let digest = Md5::digest(bytes);
    let first = digest.iter().take(8);
    first.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Fills what a stored entry always has: times, inode number, both forms of file ids.
///
/// An update keeps birth and inode number, and a change time that is not given: a write
/// of the content alone must not write the attributes, too.
pub(crate) fn complete(
    fields: &mut EntryFields,
    path: &FullPath,
    there: Option<&EntryFields>,
    now: Moment,
) {
    for chunk in &mut fields.chunks {
        chunk.fill_ids();
    }
    let size = fields.size();
    let is_dir = fields.is_dir();
    let is_remote = fields.remote_entry.is_some();
    let hard_link_id = fields.hard_link_id.clone();
    let attributes = fields.attrs_mut();
    attributes.file_size = if is_dir { 0 } else { size };
    if attributes.mime == "application/octet-stream" && !is_dir {
        attributes.mime.clear();
    }
    if is_dir || is_remote {
        attributes.ttl_sec = 0;
    }
    if attributes.mtime == 0 {
        (attributes.mtime, attributes.mtime_ns) = (now.s, now.ns);
    }
    match there.and_then(|there| there.attributes.as_ref()) {
        Some(there) => {
            attributes.crtime = there.crtime;
            attributes.crtime_ns = there.crtime_ns;
            attributes.inode = there.inode;
            if attributes.ctime == 0 {
                (attributes.ctime, attributes.ctime_ns) = (there.ctime, there.ctime_ns);
            }
            if attributes.atime == 0 {
                (attributes.atime, attributes.atime_ns) = (there.atime, there.atime_ns);
            }
        }
        None => {
            if attributes.crtime == 0 {
                attributes.crtime = now.s;
            }
            // Only whole seconds are kept.
            attributes.crtime_ns = 0;
            if attributes.inode == 0 {
                attributes.inode = inode_number(path, attributes.crtime, &hard_link_id);
            }
            if attributes.ctime == 0 {
                (attributes.ctime, attributes.ctime_ns) = (attributes.mtime, attributes.mtime_ns);
            }
            if attributes.atime == 0 {
                (attributes.atime, attributes.atime_ns) = (attributes.mtime, attributes.mtime_ns);
            }
        }
    }
}
