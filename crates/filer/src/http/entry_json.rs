// SPDX-License-Identifier: Apache-2.0
//! Entries as JSON, with the names that upstream's clients read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dulse_types::{EntryFields, FileChunk, FileIdMessage, RemoteEntry};
use jiff::Timestamp;
use serde::Serialize;

/// Upstream's text of a time that was never set.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// One entry.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EntryJson {
    full_path: String,
    mtime: String,
    crtime: String,
    ctime: String,
    atime: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mime: String,
    ttl_sec: i32,
    user_name: String,
    group_names: Option<Vec<String>>,
    symlink_target: String,
    md5: Option<String>,
    file_size: u64,
    rdev: u32,
    inode: u64,
    extended: Option<BTreeMap<String, String>>,
    #[serde(rename = "chunks", skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<ChunkJson>,
    hard_link_id: Option<String>,
    hard_link_counter: i32,
    content: Option<String>,
    remote: Option<RemoteJson>,
    quota: i64,
    #[serde(rename = "WORMEnforcedAtTsNs")]
    worm_enforced_at_ts_ns: i64,
}

#[derive(Serialize)]
struct ChunkJson {
    #[serde(skip_serializing_if = "String::is_empty")]
    file_id: String,
    #[serde(skip_serializing_if = "is_default")]
    offset: i64,
    #[serde(skip_serializing_if = "is_default")]
    size: u64,
    #[serde(skip_serializing_if = "is_default")]
    modified_ts_ns: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    e_tag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_file_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fid: Option<FidJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_fid: Option<FidJson>,
    #[serde(skip_serializing_if = "is_default")]
    is_compressed: bool,
    #[serde(skip_serializing_if = "is_default")]
    is_chunk_manifest: bool,
}

#[derive(Serialize)]
struct FidJson {
    #[serde(skip_serializing_if = "is_default")]
    volume_id: u32,
    #[serde(skip_serializing_if = "is_default")]
    file_key: u64,
    #[serde(skip_serializing_if = "is_default")]
    cookie: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RemoteJson {
    storage_name: String,
    last_local_sync_ts_ns: i64,
    remote_e_tag: String,
    remote_mtime: i64,
    remote_size: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl EntryJson {
    /// The entry at `path`; the root's path is empty, as upstream has it.
    ///
    /// Keys of encrypted chunks are left out: a listing is no place for secrets.
    pub(super) fn of(path: &str, fields: EntryFields) -> Self {
        let attrs = fields.attrs();
        let file_size = if fields.is_dir() {
            attrs.file_size
        } else {
            fields.size()
        };
        Self {
            full_path: path.to_owned(),
            mtime: time(attrs.mtime, attrs.mtime_ns),
            crtime: time(attrs.crtime, attrs.crtime_ns),
            ctime: time(attrs.ctime, attrs.ctime_ns),
            atime: time(attrs.atime, attrs.atime_ns),
            mode: attrs.file_mode,
            uid: attrs.uid,
            gid: attrs.gid,
            mime: attrs.mime,
            ttl_sec: attrs.ttl_sec,
            user_name: attrs.user_name,
            group_names: (!attrs.group_name.is_empty()).then_some(attrs.group_name),
            symlink_target: attrs.symlink_target,
            md5: base64(&attrs.md5),
            file_size,
            rdev: attrs.rdev,
            inode: attrs.inode,
            extended: extended(fields.extended),
            chunks: fields.chunks.into_iter().map(ChunkJson::of).collect(),
            hard_link_id: base64(&fields.hard_link_id),
            hard_link_counter: fields.hard_link_counter,
            content: base64(&fields.content),
            remote: fields.remote_entry.map(RemoteJson::of),
            quota: fields.quota,
            worm_enforced_at_ts_ns: fields.worm_enforced_at_ts_ns,
        }
    }
}

impl ChunkJson {
    fn of(mut chunk: FileChunk) -> Self {
        chunk.fill_ids();
        Self {
            file_id: chunk.file_id,
            offset: chunk.offset,
            size: chunk.size,
            modified_ts_ns: chunk.modified_ts_ns,
            e_tag: chunk.e_tag,
            source_file_id: chunk.source_file_id,
            fid: chunk.fid.map(FidJson::of),
            source_fid: chunk.source_fid.map(FidJson::of),
            is_compressed: chunk.is_compressed,
            is_chunk_manifest: chunk.is_chunk_manifest,
        }
    }
}

impl FidJson {
    fn of(fid: FileIdMessage) -> Self {
        Self {
            volume_id: fid.volume_id,
            file_key: fid.file_key,
            cookie: fid.cookie,
        }
    }
}

impl RemoteJson {
    fn of(remote: RemoteEntry) -> Self {
        Self {
            storage_name: remote.storage_name,
            last_local_sync_ts_ns: remote.last_local_sync_ts_ns,
            remote_e_tag: remote.remote_e_tag,
            remote_mtime: remote.remote_mtime,
            remote_size: remote.remote_size,
        }
    }
}

fn base64(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| STANDARD.encode(bytes))
}

fn extended(
    extended: std::collections::HashMap<String, bytes::Bytes>,
) -> Option<BTreeMap<String, String>> {
    let pairs = extended.into_iter().map(|(k, v)| (k, STANDARD.encode(v)));
    let pairs: BTreeMap<_, _> = pairs.collect();
    (!pairs.is_empty()).then_some(pairs)
}

fn time(seconds: i64, nanos: i32) -> String {
    if seconds == 0 && nanos == 0 {
        return ZERO_TIME.to_owned();
    }
    let time = Timestamp::new(seconds, nanos);
    time.map_or_else(|_| ZERO_TIME.to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn fields_have_upstreams_names_and_order() {
        let mut fields = EntryFields::default();
        let attrs = fields.attrs_mut();
        attrs.file_mode = 0o660;
        attrs.mtime = 1_795_350_755;
        attrs.mtime_ns = 105_791_126;
        attrs.mime = "text/plain".to_owned();
        fields
            .extended
            .insert("Seaweed-A".to_owned(), Bytes::from_static(b"x"));
        let mut chunk = FileChunk {
            size: 12,
            ..FileChunk::default()
        };
        chunk.set_id("3,02efc2db58".parse().unwrap());
        fields.chunks.push(chunk);
        let text = serde_json::to_string(&EntryJson::of("/d/a.txt", fields)).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"FullPath":"/d/a.txt","Mtime":"2026-11-22T12:32:35.105791126Z","#,
                r#""Crtime":"0001-01-01T00:00:00Z","Ctime":"0001-01-01T00:00:00Z","#,
                r#""Atime":"0001-01-01T00:00:00Z","Mode":432,"Uid":0,"Gid":0,"#,
                r#""Mime":"text/plain","TtlSec":0,"UserName":"","GroupNames":null,"#,
                r#""SymlinkTarget":"","Md5":null,"FileSize":12,"Rdev":0,"Inode":0,"#,
                r#""Extended":{"Seaweed-A":"eA=="},"chunks":[{"file_id":"3,02efc2db58","#,
                r#""size":12,"fid":{"volume_id":3,"file_key":2,"cookie":4022524760}}],"#,
                r#""HardLinkId":null,"HardLinkCounter":0,"Content":null,"Remote":null,"#,
                r#""Quota":0,"WORMEnforcedAtTsNs":0}"#
            )
        );
    }
}
