// SPDX-License-Identifier: Apache-2.0
//! When an entry's time to live is over.

use super::raw::Entry;

/// Extended key by which the time to live counts from the last write, as S3 has it.
pub const S3_EXPIRY_KEY: &str = "X-Seaweedfs-Expires-S3";

/// Extended key of an object version: those never expire by a time to live.
pub const S3_VERSION_KEY: &str = "Seaweed-X-Amz-Version-Id";

impl Entry {
    /// The last second since 1970 at which the entry is still there; `None` when it does
    /// not expire. Directories never do. Cost: a scan of the attributes; entries with a
    /// time to live are decoded.
    #[must_use]
    pub fn expires_after_s(&self) -> Option<i64> {
        let ttl = self.ttl_sec();
        if ttl <= 0 {
            return None;
        }
        let fields = self.fields().ok()?;
        let is_s3 = fields.extended.contains_key(S3_EXPIRY_KEY);
        if fields.is_dir() || is_s3 && fields.extended.contains_key(S3_VERSION_KEY) {
            return None;
        }
        let attributes = fields.attributes.as_ref()?;
        let since = if is_s3 {
            attributes.mtime
        } else {
            attributes.crtime
        };
        Some(since.saturating_add(i64::from(ttl)))
    }

    /// Whether the entry's time to live is over.
    #[must_use]
    pub fn is_expired(&self, now_s: i64) -> bool {
        self.expires_after_s().is_some_and(|last| last < now_s)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::{EntryFields, FuseAttributes, MODE_DIRECTORY, UnknownFields};

    fn entry(ttl_sec: i32, file_mode: u32, extended: &[&str]) -> Entry {
        let fields = EntryFields {
            attributes: Some(FuseAttributes {
                crtime: 100,
                mtime: 200,
                ttl_sec,
                file_mode,
                ..FuseAttributes::default()
            }),
            extended: extended
                .iter()
                .map(|key| ((*key).to_owned(), Bytes::from_static(b"true")))
                .collect(),
            ..EntryFields::default()
        };
        fields.to_entry(&UnknownFields::default())
    }

    #[test]
    fn plain_entries_expire_from_birth_and_s3_objects_from_their_last_write() {
        assert_eq!(entry(0, 0o644, &[]).expires_after_s(), None);
        assert_eq!(entry(-5, 0o644, &[]).expires_after_s(), None);
        assert_eq!(entry(10, 0o644, &[]).expires_after_s(), Some(110));
        let s3 = entry(10, 0o644, &[S3_EXPIRY_KEY]);
        assert_eq!(s3.expires_after_s(), Some(210));
        assert!(!s3.is_expired(210) && s3.is_expired(211));
        let version = entry(10, 0o644, &[S3_EXPIRY_KEY, S3_VERSION_KEY]);
        assert_eq!(version.expires_after_s(), None);
        assert_eq!(entry(10, MODE_DIRECTORY, &[]).expires_after_s(), None);
    }
}
