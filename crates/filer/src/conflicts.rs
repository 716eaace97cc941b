// SPDX-License-Identifier: Apache-2.0
//! What lost in conflicts, for operators: list, show, read, restore, dismiss.

mod content;
mod place;

use std::sync::Arc;

use bytes::Bytes;
use dulse_namespace::{Caller, Change, ErrorKind};
use dulse_proto::conflicts as pb;
use dulse_proto::conflicts::conflicts_server::Conflicts;
use dulse_replica::Conflict;
use dulse_types::wire::Reader;
use dulse_types::{FullPath, Identity};
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status};

use crate::errors;
use crate::grpc::{Answers, FilerService};
use crate::state::FilerState;

/// Rows looked at for one page unless the caller says so, and at most.
const PAGE_ROWS: usize = 1_000;

/// The service.
#[derive(Clone)]
pub(crate) struct ConflictsService {
    filer: FilerService,
}

impl ConflictsService {
    /// A service over the filer's state.
    #[must_use]
    pub(crate) fn new(state: Arc<FilerState>) -> Self {
        let filer = FilerService::new(state);
        Self { filer }
    }

    fn state(&self) -> &Arc<FilerState> {
        &self.filer.state
    }

    fn find(&self, id: &Bytes) -> Result<Conflict, Status> {
        let parsed = Identity::read(&mut Reader::new(id)).ok();
        let Some(id) = parsed.filter(|_| id.len() == Identity::LEN) else {
            return Err(Status::invalid_argument(format!(
                "an id of {} bytes; expected {}",
                id.len(),
                Identity::LEN
            )));
        };
        let own = self.state().embedded()?;
        let found = own.store.shared().conflict(id).map_err(internal)?;
        found.ok_or_else(|| {
            Status::not_found(format!(
                "no conflict {id}: it was restored, dismissed or withdrawn, is too old, or has \
                 not arrived here"
            ))
        })
    }

    /// One that is recorded: a pending one may still come to nothing.
    fn find_recorded(&self, id: &Bytes) -> Result<Conflict, Status> {
        let found = self.find(id)?;
        if found.is_pending {
            return Err(Status::failed_precondition(format!(
                "the conflict {} is pending: some filer has not said yet what it has of it; try \
                 again once it is recorded",
                found.id
            )));
        }
        Ok(found)
    }

    /// In place where the file that lost is shown, else a copy.
    async fn restore_to(
        &self,
        conflict: &Conflict,
        to: Option<FullPath>,
    ) -> Result<(FullPath, bool, Change), Status> {
        let namespace = &self.state().namespace;
        let own = path_of(conflict)?;
        let wanted = to.clone().unwrap_or_else(|| own.clone());
        if conflict.is_data {
            let caller = Caller::default();
            let done = namespace.restore_in_place(conflict.id, &wanted, caller);
            match done.await {
                Ok(change) => return Ok((wanted, true, change)),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Exists) => {}
                Err(error) => return Err(status(&error)),
            }
        }
        let candidates = match to {
            Some(to) => vec![to],
            None => place::candidates(&own, conflict),
        };
        let mut last = None;
        let mut copy = None;
        for candidate in candidates {
            if namespace
                .find_opt(&candidate)
                .map_err(|e| status(&e))?
                .is_some()
            {
                last = Some(candidate);
                continue;
            }
            if copy.is_none() {
                copy = Some(content::copy(self.state(), &conflict.loser, &candidate).await?);
            }
            let Some(copied) = &copy else { break };
            let caller = Caller::default();
            let made = namespace.restore_copy(conflict.id, &candidate, &copied.entry, caller);
            match made.await {
                Ok(change) => {
                    copy.into_iter().for_each(content::Copy::keep);
                    return Ok((candidate, false, change));
                }
                Err(error) if error.kind() == ErrorKind::Exists => last = Some(candidate),
                Err(error) => {
                    if error.may_be_applied() {
                        copy.into_iter().for_each(content::Copy::keep);
                    }
                    return Err(status(&error));
                }
            }
        }
        let at = last.unwrap_or(own);
        Err(Status::already_exists(format!(
            "something else is at {at}; say where to restore to"
        )))
    }
}

fn path_of(conflict: &Conflict) -> Result<FullPath, Status> {
    let text = std::str::from_utf8(&conflict.path).ok();
    let path = text.and_then(|text| FullPath::parse(text).ok());
    path.ok_or_else(|| Status::internal("the path of the conflict is none"))
}

fn internal(error: dulse_store::Error) -> Status {
    Status::internal(error.to_string())
}

/// As everywhere, but that absent and present have codes: nobody compares texts here.
fn status(error: &dulse_namespace::Error) -> Status {
    let code = match error.kind() {
        ErrorKind::NotFound => tonic::Code::NotFound,
        ErrorKind::Exists => tonic::Code::AlreadyExists,
        kind => errors::row(kind).grpc,
    };
    Status::new(code, error.to_string())
}

fn to_proto(conflict: &Conflict) -> pb::Conflict {
    let fields = conflict.loser.fields().unwrap_or_default();
    pb::Conflict {
        id: Bytes::copy_from_slice(&conflict.id.to_bytes()),
        kind: match conflict.is_data {
            true => pb::Kind::Data.into(),
            false => pb::Kind::Shadow.into(),
        },
        pending: conflict.is_pending,
        path: String::from_utf8_lossy(&conflict.path).into_owned(),
        lost_origin: conflict.lost.origin.0,
        lost_ns: conflict.lost.stamp.0,
        won_origin: conflict.winner.origin.0,
        won_ns: conflict.winner.stamp.0,
        recorded_by: conflict.recorded.origin.0,
        recorded_ns: conflict.recorded.stamp.0,
        size_bytes: fields.size(),
        chunks: u32::try_from(fields.chunks.len()).unwrap_or(u32::MAX),
    }
}

#[tonic::async_trait]
impl Conflicts for ConflictsService {
    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListReply>, Status> {
        self.filer.ready(&request).await?;
        let r = request.into_inner();
        let limit = match r.limit as usize {
            0 => PAGE_ROWS,
            given => given.min(PAGE_ROWS),
        };
        let after = (!r.after.is_empty()).then_some(r.after);
        let shared = Arc::clone(self.state().embedded()?.store.shared());
        let read = move || shared.conflicts(r.prefix.as_bytes(), after.as_ref(), limit);
        let page = tokio::task::spawn_blocking(read).await;
        let page = page.map_err(|e| Status::internal(e.to_string()))?;
        let page = page.map_err(internal)?;
        Ok(Response::new(pb::ListReply {
            conflicts: page.conflicts.iter().map(to_proto).collect(),
            next: page.next.unwrap_or_default(),
        }))
    }

    async fn show(
        &self,
        request: Request<pb::ShowRequest>,
    ) -> Result<Response<pb::ShowReply>, Status> {
        self.filer.ready(&request).await?;
        let conflict = self.find(&request.into_inner().id)?;
        let path = path_of(&conflict)?;
        let current = self.state().namespace.find_opt(&path);
        Ok(Response::new(pb::ShowReply {
            current: current.map_err(|e| status(&e))?.map(|found| found.entry),
            conflict: Some(to_proto(&conflict)),
            loser: Some(conflict.loser),
        }))
    }

    type ReadStream = Answers<pb::ReadReply>;

    async fn read(
        &self,
        request: Request<pb::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.filer.ready(&request).await?;
        let conflict = self.find(&request.into_inner().id)?;
        let content = content::stream(self.state(), &conflict.loser).await?;
        let parts = content.map_ok(|content| pb::ReadReply { content });
        Ok(Response::new(parts.boxed()))
    }

    async fn restore(
        &self,
        request: Request<pb::RestoreRequest>,
    ) -> Result<Response<pb::RestoreReply>, Status> {
        self.filer.ready(&request).await?;
        let r = request.into_inner();
        let conflict = self.find_recorded(&r.id)?;
        let to = match r.to.as_str() {
            "" => None,
            to => {
                let parsed = FullPath::parse(to);
                Some(parsed.map_err(|e| Status::invalid_argument(e.to_string()))?)
            }
        };
        let (path, in_place, change) = self.restore_to(&conflict, to).await?;
        let path = path.to_string();
        let reply = pb::RestoreReply { path, in_place };
        Ok(self.filer.with_token(reply, change.position))
    }

    async fn dismiss(
        &self,
        request: Request<pb::DismissRequest>,
    ) -> Result<Response<pb::DismissReply>, Status> {
        self.filer.ready(&request).await?;
        let conflict = self.find_recorded(&request.into_inner().id)?;
        let done = self
            .state()
            .namespace
            .dismiss(conflict.id, Caller::default());
        let change = done.await.map_err(|e| status(&e))?;
        Ok(self.filer.with_token(pb::DismissReply {}, change.position))
    }
}
