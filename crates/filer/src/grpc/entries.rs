// SPDX-License-Identifier: Apache-2.0
//! Calls on entries.

use dulse_namespace::{Caller, Change, CreateOptions, DeleteOptions, Error, UpdateOptions, texts};
use dulse_proto::filer as pb;
use dulse_replica::Shared;
use dulse_types::{Entry, FullPath};
use tonic::{Response, Status};

use super::{FilerService, convert};
use crate::errors;
use crate::state::Kept;

/// Most lookups of one call.
const LOOKUPS_MAX: usize = 10_000;

/// Events of a filer with a stamp at or below it are in what is read after it was taken: a
/// client drops them when they arrive late. The wall clock would not do, since a change that is
/// stamped already may not be visible yet.
fn fence(shared: &Shared) -> i64 {
    shared.promise().0
}

impl FilerService {
    fn fence(&self, path: &FullPath) -> i64 {
        match (self.state.shared_of(path), &self.state.kept) {
            (None, Kept::Embedded(own)) => fence(own.store.shared()),
            (Some(on), _) | (None, Kept::Shared(on)) => on.promise_now().0,
        }
    }

    fn signature(&self) -> i32 {
        self.state.namespace.origin().signature()
    }

    pub(crate) fn lookup(
        &self,
        r: &pb::LookupDirectoryEntryRequest,
    ) -> Result<pb::LookupDirectoryEntryResponse, Status> {
        let path = convert::path(&r.directory, &r.name)?;
        let log_ts_ns = self.fence(&path);
        let entry = self
            .state
            .namespace
            .find(&path)
            .map_err(|e| errors::status(&e))?;
        Ok(pb::LookupDirectoryEntryResponse {
            entry: Some(entry.with_name(path.name())),
            log_ts_ns,
            log_signature: self.signature(),
        })
    }

    pub(crate) fn lookup_many(
        &self,
        r: &pb::LookupDirectoryEntriesRequest,
    ) -> Result<pb::LookupDirectoryEntriesResponse, Status> {
        if r.requests.len() > LOOKUPS_MAX {
            let text = format!(
                "{} lookups in one call; at most {LOOKUPS_MAX}",
                r.requests.len()
            );
            return Err(Status::invalid_argument(text));
        }
        let result = |request| match self.lookup(request) {
            Ok(found) => pb::LookupDirectoryEntryResult {
                found: true,
                entry: found.entry,
                log_ts_ns: found.log_ts_ns,
                log_signature: found.log_signature,
                error: String::new(),
            },
            Err(status) if status.message() == texts::NOT_FOUND => {
                pb::LookupDirectoryEntryResult::default()
            }
            Err(status) => pb::LookupDirectoryEntryResult {
                error: status.message().to_owned(),
                ..pb::LookupDirectoryEntryResult::default()
            },
        };
        Ok(pb::LookupDirectoryEntriesResponse {
            results: r.requests.iter().map(result).collect(),
            ..pb::LookupDirectoryEntriesResponse::default()
        })
    }

    pub(crate) async fn create(
        &self,
        r: pb::CreateEntryRequest,
    ) -> Result<Response<pb::CreateEntryResponse>, Status> {
        let (entry, name) = take_name(r.entry)?;
        // One that is no path is told as an error of the call below.
        let path = FullPath::of(&r.directory, &name);
        let mut answer = pb::CreateEntryResponse {
            log_ts_ns: self.fence(path.as_ref().unwrap_or(&FullPath::root())),
            log_signature: self.signature(),
            ..pb::CreateEntryResponse::default()
        };
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: r.is_from_other_cluster,
        };
        let options = CreateOptions {
            is_exclusive: r.o_excl,
            condition: convert::condition(r.condition),
            skip_parents: r.skip_check_parent_directory,
            keeps_file_parents: false,
            caller: caller.clone(),
        };
        let created = match path {
            Ok(path) => self.state.namespace.create(&path, &entry, options).await,
            Err(error) => Err(error.into()),
        };
        match created {
            Ok(change) => {
                answer.metadata_event = self.event(&change, &caller);
                Ok(self.with_token(answer, change.position))
            }
            Err(error) => {
                answer.error = in_answer(&error)?;
                let number = errors::row(error.kind()).create;
                answer.error_code = number.map_or(0, i32::from);
                Ok(Response::new(answer))
            }
        }
    }

    fn event(&self, change: &Change, caller: &Caller) -> Option<pb::SubscribeMetadataResponse> {
        let last = change.events.last()?;
        let own = self.state.namespace.origin();
        let (origin, _) = change.position.unwrap_or((own, last.stamp));
        let mut event = convert::event(
            last,
            origin,
            &caller.signatures,
            caller.is_from_other_cluster,
        );
        // As subscribers are told it, whichever store has it.
        if let Some(told) = &mut event.event_notification
            && !told.signatures.contains(&own.signature())
        {
            told.signatures.push(own.signature());
        }
        Some(event)
    }

    pub(crate) async fn update(
        &self,
        r: pb::UpdateEntryRequest,
    ) -> Result<Response<pb::UpdateEntryResponse>, Status> {
        let (entry, name) = take_name(r.entry)?;
        let path = convert::path(&r.directory, &name)?;
        let log_ts_ns = self.fence(&path);
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
        let change = change.map_err(|e| errors::status(&e))?;
        let answer = pb::UpdateEntryResponse {
            metadata_event: self.event(&change, &caller),
            log_ts_ns,
            log_signature: self.signature(),
        };
        Ok(self.with_token(answer, change.position))
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
        let change = change.map_err(|e| errors::status(&e))?;
        Ok(self.with_token(pb::AppendToEntryResponse {}, change.position))
    }

    pub(crate) async fn delete(
        &self,
        r: pb::DeleteEntryRequest,
    ) -> Result<Response<pb::DeleteEntryResponse>, Status> {
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: r.is_from_other_cluster,
        };
        let options = DeleteOptions {
            is_recursive: r.is_recursive,
            ignores_errors_below: r.ignore_recursive_error,
            keep_chunks: !r.is_delete_data,
            if_not_modified_after: r.if_not_modified_after,
            caller: caller.clone(),
        };
        let mut answer = pb::DeleteEntryResponse::default();
        let path = match FullPath::of(&r.directory, &r.name) {
            Ok(path) => path,
            Err(error) => {
                answer.error = error.to_string();
                return Ok(Response::new(answer));
            }
        };
        match self.state.namespace.delete(&path, options).await {
            Ok(change) => {
                answer.metadata_event = self.event(&change, &caller);
                Ok(self.with_token(answer, change.position))
            }
            Err(error) => {
                answer.error = format!("delete directory {path}: {}", in_answer(&error)?);
                Ok(Response::new(answer))
            }
        }
    }
}

/// The entry of a request and its name.
fn take_name(entry: Option<Entry>) -> Result<(Entry, String), Status> {
    let entry = entry.ok_or_else(|| Status::invalid_argument("the request has no entry"))?;
    let taken = entry.take_name();
    taken.map_err(|e| Status::invalid_argument(e.to_string()))
}

/// The text of an error that goes into a good answer; others are the call's status.
fn in_answer(error: &Error) -> Result<String, Status> {
    if errors::row(error.kind()).is_in_answer {
        Ok(error.to_string())
    } else {
        Err(errors::status(error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dulse_journal::MemDisk;
    use dulse_kv::MemoryEngine;
    use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};

    use super::*;

    /// Whoever may have been set back has changes to come that are stamped long ago.
    #[test]
    fn an_answer_says_no_more_of_events_than_is_promised() {
        let replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: Arc::new(SystemClock),
            random: 1 << 32 | 1,
            durability: Durability::Fsync,
            limits: Limits::STANDARD,
        });
        let shared = replica.unwrap().shared();
        shared.hold_verdicts(true);
        assert_eq!(fence(&shared), 0, "it has stamped nothing yet");
    }
}
