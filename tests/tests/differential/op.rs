// SPDX-License-Identifier: Apache-2.0
//! One operation, and its answer in a form that two filers can share.

use std::collections::HashMap;

use bytes::Bytes;
use dulse_proto::filer as pb;
use dulse_types::{Entry, EntryFields, FileChunk, FuseAttributes, UnknownFields};

use tonic::Code;

use crate::{Filer, seen};

/// The directory bit of a mode.
pub(crate) const DIR: u32 = 1 << 31;

/// What is written.
#[derive(Clone, Default, Debug)]
pub(crate) struct What {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) ttl_sec: i32,
    pub(crate) mtime: i64,
    pub(crate) crtime: i64,
    pub(crate) mime: &'static str,
    pub(crate) symlink: &'static str,
    pub(crate) content: &'static str,
    /// Chunks: key of the file id and size, one behind the other.
    pub(crate) chunks: Vec<(u64, u64)>,
    pub(crate) extended: Vec<(&'static str, &'static str)>,
    pub(crate) link: &'static str,
    pub(crate) links: i32,
}

/// An operation on paths relative to the case's directory.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(String, What, How),
    /// Directory and name as they are.
    CreateRaw(&'static str, &'static str),
    Update(String, What, Vec<(&'static str, &'static str)>),
    Append(String, Vec<(u64, u64)>),
    Delete(String, Kill),
    Rename(String, String),
    StreamRename(String, String),
    Lookup(String),
    List(String, Range),
    Traverse(String, Vec<String>),
    KvPut(&'static str, &'static str),
    KvGet(&'static str),
}

/// How something is created.
#[derive(Clone, Default, Debug)]
pub(crate) struct How {
    pub(crate) exclusive: bool,
    pub(crate) skip_parents: bool,
    pub(crate) signatures: Vec<i32>,
    pub(crate) other_cluster: bool,
    /// Kind of a condition, 0 for none.
    pub(crate) condition: i32,
}

/// How something is deleted.
#[derive(Clone, Default, Debug)]
pub(crate) struct Kill {
    pub(crate) recursive: bool,
    pub(crate) data: bool,
    pub(crate) not_after: i64,
    pub(crate) signatures: Vec<i32>,
}

/// How far something is listed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Range {
    pub(crate) prefix: &'static str,
    pub(crate) start: &'static str,
    pub(crate) inclusive: bool,
    pub(crate) limit: u32,
    pub(crate) omit_chunks: bool,
}

impl What {
    pub(crate) fn file() -> Self {
        Self {
            mode: 0o640,
            mtime: 1_600_000_000,
            crtime: 1_500_000_000,
            ..Self::default()
        }
    }

    pub(crate) fn dir() -> Self {
        Self {
            mode: DIR | 0o750,
            ..Self::file()
        }
    }

    fn entry(&self, name: &str) -> Entry {
        let fields = EntryFields {
            name: name.to_owned(),
            chunks: chunks(&self.chunks),
            attributes: Some(FuseAttributes {
                file_mode: self.mode,
                uid: self.uid,
                ttl_sec: self.ttl_sec,
                mtime: self.mtime,
                // As mounts send them; what becomes of 0 differs.
                ctime: self.mtime,
                atime: self.mtime,
                crtime: self.crtime,
                mime: self.mime.to_owned(),
                symlink_target: self.symlink.to_owned(),
                ..FuseAttributes::default()
            }),
            extended: map(&self.extended),
            hard_link_id: Bytes::from_static(self.link.as_bytes()),
            hard_link_counter: self.links,
            content: Bytes::from_static(self.content.as_bytes()),
            ..EntryFields::default()
        };
        fields.to_entry(&UnknownFields::default())
    }
}

fn map(pairs: &[(&'static str, &'static str)]) -> HashMap<String, Bytes> {
    let pair =
        |(k, v): &(&'static str, &'static str)| ((*k).to_owned(), Bytes::from_static(v.as_bytes()));
    pairs.iter().map(pair).collect()
}

fn chunks(keys: &[(u64, u64)]) -> Vec<FileChunk> {
    let mut end = 0;
    let made = keys.iter().map(|(key, size)| {
        let chunk = FileChunk {
            file_id: format!("7,{key:x}00000001"),
            offset: end,
            size: *size,
            modified_ts_ns: 1_600_000_000_000_000_000 + end,
            ..FileChunk::default()
        };
        end += *size as i64;
        chunk
    });
    made.collect()
}

/// Directory and name of a relative path.
fn split(case: &str, path: &str) -> (String, String) {
    let full = full(case, path);
    match full.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => (full, String::new()),
    }
}

fn full(case: &str, path: &str) -> String {
    match path {
        "" => format!("/{case}"),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{case}/{path}"),
    }
}

impl Op {
    pub(crate) fn mkdir(path: &str) -> Self {
        Self::Create(path.to_owned(), What::dir(), How::default())
    }

    pub(crate) fn file(path: &str) -> Self {
        Self::Create(path.to_owned(), What::file(), How::default())
    }

    /// Does it and shows the answer.
    pub(crate) async fn run(&self, filer: &mut Filer, case: &str) -> String {
        match self.try_run(filer, case).await {
            Ok(answer) => answer,
            Err(status) => {
                let class = match self {
                    Self::StreamRename(..) => seen::class_of_stream(status.message()),
                    _ => seen::class(status.message()),
                };
                // Upstream has no code of its own for what cannot be meant.
                match status.code() {
                    Code::InvalidArgument | Code::Unknown => class,
                    code => format!("{code:?} {class}"),
                }
            }
        }
    }

    async fn try_run(&self, filer: &mut Filer, case: &str) -> Result<String, tonic::Status> {
        Ok(match self {
            Self::Create(path, what, how) => {
                let (directory, name) = split(case, path);
                create(filer, directory, what.entry(&name), how).await?
            }
            Self::CreateRaw(directory, name) => {
                let directory = (*directory).to_owned();
                create(filer, directory, What::file().entry(name), &How::default()).await?
            }
            Self::Update(path, what, expected) => {
                let (directory, name) = split(case, path);
                let request = pb::UpdateEntryRequest {
                    directory,
                    entry: Some(what.entry(&name)),
                    expected_extended: map(expected),
                    ..pb::UpdateEntryRequest::default()
                };
                let answer = filer.update_entry(request).await?.into_inner();
                format!("ok, event {}", answer.metadata_event.is_some())
            }
            Self::Append(path, keys) => {
                let (directory, entry_name) = split(case, path);
                let request = pb::AppendToEntryRequest {
                    directory,
                    entry_name,
                    chunks: chunks(keys),
                };
                filer.append_to_entry(request).await?;
                "ok".to_owned()
            }
            Self::Delete(path, kill) => {
                let (directory, name) = split(case, path);
                let request = pb::DeleteEntryRequest {
                    directory,
                    name,
                    is_recursive: kill.recursive,
                    is_delete_data: kill.data,
                    if_not_modified_after: kill.not_after,
                    signatures: kill.signatures.clone(),
                    ..pb::DeleteEntryRequest::default()
                };
                let answer = filer.delete_entry(request).await?.into_inner();
                seen::class(&answer.error)
            }
            Self::Rename(from, to) => {
                let ((old_directory, old_name), (new_directory, new_name)) =
                    (split(case, from), split(case, to));
                let request = pb::AtomicRenameEntryRequest {
                    old_directory,
                    old_name,
                    new_directory,
                    new_name,
                    ..pb::AtomicRenameEntryRequest::default()
                };
                filer.atomic_rename_entry(request).await?;
                "ok".to_owned()
            }
            Self::StreamRename(from, to) => {
                let ((old_directory, old_name), (new_directory, new_name)) =
                    (split(case, from), split(case, to));
                let request = pb::StreamRenameEntryRequest {
                    old_directory,
                    old_name,
                    new_directory,
                    new_name,
                    ..pb::StreamRenameEntryRequest::default()
                };
                let mut notes = filer.stream_rename_entry(request).await?.into_inner();
                let mut shown = Vec::new();
                while let Some(note) = notes.message().await? {
                    shown.push(seen::note(&note));
                }
                shown.join(" ")
            }
            Self::Lookup(path) => {
                let (directory, name) = split(case, path);
                let request = pb::LookupDirectoryEntryRequest { directory, name };
                let found = filer.lookup_directory_entry(request).await?.into_inner();
                found.entry.map_or_else(String::new, |e| seen::entry(&e))
            }
            Self::List(dir, range) => list(filer, full(case, dir), range).await?,
            Self::Traverse(dir, excluded) => {
                let request = pb::TraverseBfsMetadataRequest {
                    directory: full(case, dir),
                    excluded_prefixes: excluded.iter().map(|p| full(case, p)).collect(),
                };
                let mut walk = filer.traverse_bfs_metadata(request).await?.into_inner();
                let mut shown = Vec::new();
                while let Some(row) = walk.message().await? {
                    let name = row
                        .entry
                        .map_or_else(String::new, |e| e.name().into_owned());
                    shown.push(format!("{}:{name}", row.directory));
                }
                shown.join(" ")
            }
            Self::KvPut(key, value) => {
                let request = pb::KvPutRequest {
                    key: Bytes::from_static(key.as_bytes()),
                    value: Bytes::from_static(value.as_bytes()),
                };
                seen::class(&filer.kv_put(request).await?.into_inner().error)
            }
            Self::KvGet(key) => {
                let key = Bytes::from_static(key.as_bytes());
                let answer = filer.kv_get(pb::KvGetRequest { key }).await?.into_inner();
                let value = String::from_utf8_lossy(&answer.value).into_owned();
                format!("`{value}` {}", seen::class(&answer.error))
            }
        })
    }
}

async fn create(
    filer: &mut Filer,
    directory: String,
    entry: Entry,
    how: &How,
) -> Result<String, tonic::Status> {
    let clause = pb::write_condition::Clause {
        kind: how.condition,
        ..pb::write_condition::Clause::default()
    };
    let request = pb::CreateEntryRequest {
        directory,
        entry: Some(entry),
        o_excl: how.exclusive,
        skip_check_parent_directory: how.skip_parents,
        signatures: how.signatures.clone(),
        is_from_other_cluster: how.other_cluster,
        condition: (how.condition != 0).then(|| pb::WriteCondition {
            clauses: vec![clause],
        }),
        ..pb::CreateEntryRequest::default()
    };
    let answer = filer.create_entry(request).await?.into_inner();
    let event = answer.metadata_event.is_some();
    Ok(format!(
        "{} code {} event {event}",
        seen::class(&answer.error),
        answer.error_code
    ))
}

async fn list(
    filer: &mut Filer,
    directory: String,
    range: &Range,
) -> Result<String, tonic::Status> {
    let request = pb::ListEntriesRequest {
        directory,
        prefix: range.prefix.to_owned(),
        start_from_file_name: range.start.to_owned(),
        inclusive_start_from: range.inclusive,
        limit: range.limit,
        snapshot_ts_ns: 77,
        omit_chunks: range.omit_chunks,
    };
    let mut rows = filer.list_entries(request).await?.into_inner();
    let (mut shown, mut first) = (Vec::new(), None);
    while let Some(row) = rows.message().await? {
        first.get_or_insert(row.snapshot_ts_ns);
        shown.push(row.entry.map_or_else(String::new, |e| seen::entry(&e)));
    }
    let trailer = rows.trailers().await?;
    let trailer = trailer
        .as_ref()
        .and_then(|t| t.get("sw-list-snapshot-ts-ns"))
        .and_then(|value| value.to_str().ok())
        // Upstream's answer without rows has no trailers.
        .filter(|_| !shown.is_empty())
        .unwrap_or("none");
    Ok(format!(
        "{} rows, snapshot {first:?} {trailer}: {}",
        shown.len(),
        shown.join("; ")
    ))
}
