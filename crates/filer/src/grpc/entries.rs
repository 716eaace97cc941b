// SPDX-License-Identifier: Apache-2.0
//! Calls on entries.

use dulse_blobs::Placement;
use dulse_namespace::{
    Caller, Change, CreateOptions, DeleteOptions, ErrorKind, NOT_FOUND, UpdateOptions,
};
use dulse_proto::filer as pb;
use dulse_store::{LIST_MAX, ListRange};
use dulse_types::{FullPath, Stamp};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::session::SessionToken;

use super::{Answers, FilerService, convert, now_ns, required};

/// Entries of one page of a listing, read at once.
const PAGE: usize = 1024;

/// Answers that wait for a slow reader.
const ANSWERS_AHEAD: usize = 256;

/// Most entries a listing without a limit yields, as upstream's default.
const LIST_LIMIT: u32 = 100_000;

/// Metadata key of the session token: origin and stamp of the write.
const TOKEN: &str = "dulse-token";

impl FilerService {
    /// An answer with the session token of the write.
    pub(crate) fn with_token<T>(&self, message: T, stamp: Option<Stamp>) -> Response<T> {
        let mut response = Response::new(message);
        let origin = self.state.namespace.origin();
        let token = stamp.map(|stamp| SessionToken { origin, stamp }.to_string());
        if let Some(Ok(token)) = token.map(|token| token.parse()) {
            response.metadata_mut().insert(TOKEN, token);
        }
        response
    }

    fn signature(&self) -> i32 {
        self.state.namespace.origin().signature()
    }

    pub(crate) fn lookup(
        &self,
        r: &pb::LookupDirectoryEntryRequest,
    ) -> Result<pb::LookupDirectoryEntryResponse, Status> {
        let log_ts_ns = now_ns();
        let path = convert::path(&r.directory, &r.name)?;
        let entry = self
            .state
            .namespace
            .find(&path)
            .map_err(|e| convert::status(&e))?;
        Ok(pb::LookupDirectoryEntryResponse {
            entry: Some(entry.with_name(path.name())),
            log_ts_ns,
            log_signature: self.signature(),
        })
    }

    pub(crate) fn lookup_many(
        &self,
        r: &pb::LookupDirectoryEntriesRequest,
    ) -> pb::LookupDirectoryEntriesResponse {
        let result = |request| match self.lookup(request) {
            Ok(found) => pb::LookupDirectoryEntryResult {
                found: true,
                entry: found.entry,
                log_ts_ns: found.log_ts_ns,
                log_signature: found.log_signature,
                error: String::new(),
            },
            Err(status) if status.message() == NOT_FOUND => {
                pb::LookupDirectoryEntryResult::default()
            }
            Err(status) => pb::LookupDirectoryEntryResult {
                error: status.message().to_owned(),
                ..pb::LookupDirectoryEntryResult::default()
            },
        };
        let results = r.requests.iter().map(result).collect();
        pb::LookupDirectoryEntriesResponse {
            results,
            ..pb::LookupDirectoryEntriesResponse::default()
        }
    }

    pub(crate) fn list(&self, r: pb::ListEntriesRequest) -> Answers<pb::ListEntriesResponse> {
        let (send, receive) = mpsc::channel(ANSWERS_AHEAD);
        let namespace = self.state.namespace.clone();
        tokio::spawn(async move {
            let Ok(directory) = FullPath::parse(&r.directory) else {
                return;
            };
            let mut left = if r.limit == 0 { LIST_LIMIT } else { r.limit } as usize;
            let mut snapshot_ts_ns = if r.snapshot_ts_ns == 0 {
                now_ns()
            } else {
                r.snapshot_ts_ns
            };
            let mut range = ListRange {
                prefix: r.prefix,
                start: r.start_from_file_name,
                inclusive: r.inclusive_start_from,
                limit: 0,
            };
            while left > 0 {
                range.limit = left.min(PAGE);
                let rows = match namespace.list(&directory, &range) {
                    Ok(rows) => rows,
                    Err(error) => {
                        let _ = send.send(Err(convert::status(&error))).await;
                        return;
                    }
                };
                let is_end = rows.len() < range.limit;
                left -= rows.len();
                if let Some(last) = rows.last() {
                    range.start.clone_from(&last.name);
                    range.inclusive = false;
                }
                for row in rows {
                    let entry = if r.omit_chunks {
                        without_chunks(&row.entry)
                    } else {
                        row.entry
                    };
                    let answer = pb::ListEntriesResponse {
                        entry: Some(entry.with_name(&row.name)),
                        snapshot_ts_ns: std::mem::take(&mut snapshot_ts_ns),
                    };
                    if send.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                if is_end {
                    return;
                }
            }
        });
        ReceiverStream::new(receive).boxed()
    }

    pub(crate) async fn create(
        &self,
        r: pb::CreateEntryRequest,
    ) -> Result<Response<pb::CreateEntryResponse>, Status> {
        let (entry, name) = required(r.entry)?
            .take_name()
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let path = convert::path(&r.directory, &name)?;
        let log_ts_ns = now_ns();
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: r.is_from_other_cluster,
        };
        let options = CreateOptions {
            is_exclusive: r.o_excl,
            condition: convert::condition(r.condition),
            skip_parents: r.skip_check_parent_directory,
            caller: caller.clone(),
        };
        let mut answer = pb::CreateEntryResponse {
            log_ts_ns,
            log_signature: self.signature(),
            ..pb::CreateEntryResponse::default()
        };
        match self.state.namespace.create(&path, &entry, options).await {
            Ok(change) => {
                answer.metadata_event = self.event(&change, &caller);
                Ok(self.with_token(answer, change.stamp))
            }
            Err(error) => {
                let Some(code) = convert::create_code(&error) else {
                    return Err(convert::status(&error));
                };
                answer.error = error.to_string();
                answer.error_code = code.into();
                Ok(Response::new(answer))
            }
        }
    }

    fn event(&self, change: &Change, caller: &Caller) -> Option<pb::SubscribeMetadataResponse> {
        let last = change.events.last()?;
        let origin = self.state.namespace.origin();
        Some(convert::event(
            last,
            origin,
            &caller.signatures,
            caller.is_from_other_cluster,
        ))
    }

    pub(crate) async fn update(
        &self,
        r: pb::UpdateEntryRequest,
    ) -> Result<Response<pb::UpdateEntryResponse>, Status> {
        let (entry, name) = required(r.entry)?
            .take_name()
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let path = convert::path(&r.directory, &name)?;
        let log_ts_ns = now_ns();
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: r.is_from_other_cluster,
        };
        let options = UpdateOptions {
            expected_extended: r.expected_extended,
            condition: convert::condition(r.condition),
            caller: caller.clone(),
        };
        let change = self.state.namespace.update(&path, &entry, options).await;
        let change = change.map_err(|e| convert::status(&e))?;
        let answer = pb::UpdateEntryResponse {
            metadata_event: self.event(&change, &caller),
            log_ts_ns,
            log_signature: self.signature(),
        };
        Ok(self.with_token(answer, change.stamp))
    }

    pub(crate) async fn append(
        &self,
        r: pb::AppendToEntryRequest,
    ) -> Result<Response<pb::AppendToEntryResponse>, Status> {
        let path = convert::path(&r.directory, &r.entry_name)?;
        let change = self
            .state
            .namespace
            .append(&path, r.chunks, Caller::default())
            .await;
        let change = change.map_err(|e| convert::status(&e))?;
        Ok(self.with_token(pb::AppendToEntryResponse {}, change.stamp))
    }

    pub(crate) async fn delete(
        &self,
        r: pb::DeleteEntryRequest,
    ) -> Result<Response<pb::DeleteEntryResponse>, Status> {
        let path = convert::path(&r.directory, &r.name)?;
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: r.is_from_other_cluster,
        };
        let options = DeleteOptions {
            is_recursive: r.is_recursive,
            keep_chunks: !r.is_delete_data,
            if_not_modified_after: r.if_not_modified_after,
            caller: caller.clone(),
        };
        match self.state.namespace.delete(&path, options).await {
            Ok(change) => {
                let metadata_event = self.event(&change, &caller);
                let answer = pb::DeleteEntryResponse {
                    metadata_event,
                    ..pb::DeleteEntryResponse::default()
                };
                Ok(self.with_token(answer, change.stamp))
            }
            Err(error) if error.kind() == ErrorKind::NotEmpty => {
                let error = format!("delete directory {path}: {error}");
                let answer = pb::DeleteEntryResponse {
                    error,
                    ..pb::DeleteEntryResponse::default()
                };
                Ok(Response::new(answer))
            }
            Err(error) => Err(convert::status(&error)),
        }
    }

    pub(crate) async fn rename(
        &self,
        from: (String, String),
        to: (String, String),
        signatures: Vec<i32>,
    ) -> Result<Change, Status> {
        let from = convert::path(&from.0, &from.1)?;
        let to = convert::path(&to.0, &to.1)?;
        let caller = Caller {
            signatures,
            is_from_other_cluster: false,
        };
        let renamed = self.state.namespace.rename(&from, &to, caller).await;
        renamed.map_err(|e| convert::status(&e))
    }

    /// Progress notes for a mount's cache: what moved where, then that the old name is gone.
    pub(crate) async fn stream_rename(
        &self,
        r: pb::StreamRenameEntryRequest,
    ) -> Result<Response<Answers<pb::StreamRenameEntryResponse>>, Status> {
        let from = (r.old_directory, r.old_name);
        let to = (r.new_directory, r.new_name);
        let caller = Caller {
            signatures: r.signatures.clone(),
            is_from_other_cluster: false,
        };
        let change = self.rename(from, to, r.signatures).await?;
        let mut answers = Vec::new();
        if let Some(event) = self.event(&change, &caller) {
            answers.push(Ok(pb::StreamRenameEntryResponse {
                directory: event.directory.clone(),
                event_notification: event.event_notification.clone(),
                ts_ns: event.ts_ns,
            }));
            let old_entry = event.event_notification.and_then(|n| n.old_entry);
            answers.push(Ok(pb::StreamRenameEntryResponse {
                directory: event.directory,
                event_notification: Some(pb::EventNotification {
                    old_entry,
                    ..pb::EventNotification::default()
                }),
                ts_ns: event.ts_ns,
            }));
        }
        Ok(self.with_token(futures::stream::iter(answers).boxed(), change.stamp))
    }

    pub(crate) async fn assign(&self, r: pb::AssignVolumeRequest) -> pb::AssignVolumeResponse {
        let placement = Placement {
            collection: r.collection.clone(),
            replication: r.replication.clone(),
            ttl: if r.ttl_sec > 0 {
                format!("{}m", (r.ttl_sec + 59) / 60)
            } else {
                String::new()
            },
            disk_type: r.disk_type,
            data_center: r.data_center,
            rack: r.rack,
            data_node: r.data_node,
        };
        let count = u64::try_from(r.count).unwrap_or(1).max(1);
        match self.state.blobs.control().assign(&placement, count).await {
            Ok(assigned) => {
                let mut locations = assigned.locations.into_iter().map(convert::location);
                pb::AssignVolumeResponse {
                    file_id: assigned.base.to_string(),
                    count: i32::try_from(assigned.count).unwrap_or(i32::MAX),
                    auth: assigned.auth,
                    collection: r.collection,
                    replication: r.replication,
                    location: locations.next(),
                    replicas: locations.collect(),
                    ..pb::AssignVolumeResponse::default()
                }
            }
            Err(error) => pb::AssignVolumeResponse {
                error: format!("assign volume: {error}"),
                ..pb::AssignVolumeResponse::default()
            },
        }
    }

    pub(crate) fn traverse(
        &self,
        r: pb::TraverseBfsMetadataRequest,
    ) -> Result<Response<Answers<pb::TraverseBfsMetadataResponse>>, Status> {
        let top = convert::path(&r.directory, "")?;
        let found = self.state.namespace.find(&top);
        let entry = found.map_err(|e| Status::unknown(format!("find dir {top}: {e}")))?;
        let namespace = self.state.namespace.clone();
        let (send, receive) = mpsc::channel(ANSWERS_AHEAD);
        tokio::spawn(async move {
            let parent = top.parent().map_or_else(String::new, |p| p.to_string());
            let first = pb::TraverseBfsMetadataResponse {
                directory: parent,
                entry: Some(entry.with_name(top.name())),
            };
            if send.send(Ok(first)).await.is_err() {
                return;
            }
            let mut open = std::collections::VecDeque::from([top]);
            while let Some(dir) = open.pop_front() {
                let mut range = ListRange {
                    prefix: String::new(),
                    start: String::new(),
                    inclusive: false,
                    limit: LIST_MAX,
                };
                loop {
                    let Ok(rows) = namespace.list(&dir, &range) else {
                        return;
                    };
                    let is_end = rows.len() < range.limit;
                    for row in rows {
                        range.start.clone_from(&row.name);
                        let Ok(path) = FullPath::of(dir.as_str(), &row.name) else {
                            continue;
                        };
                        let is_excluded = |prefix: &String| {
                            FullPath::parse(prefix).is_ok_and(|p| p == path || path.is_below(&p))
                        };
                        if r.excluded_prefixes.iter().any(is_excluded) {
                            continue;
                        }
                        if row.entry.is_dir() {
                            open.push_back(path);
                        }
                        let answer = pb::TraverseBfsMetadataResponse {
                            directory: dir.to_string(),
                            entry: Some(row.entry.with_name(&row.name)),
                        };
                        if send.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                    if is_end {
                        break;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive).boxed()))
    }
}

/// The entry without chunks, its size kept in the attributes.
fn without_chunks(entry: &dulse_types::Entry) -> dulse_types::Entry {
    let Ok(mut fields) = entry.fields() else {
        return entry.clone();
    };
    let size = fields.size();
    fields.chunks.clear();
    fields.attrs_mut().file_size = size;
    fields.to_entry(&entry.unknown())
}
