// SPDX-License-Identifier: Apache-2.0
//! Who is a member, and removing one: `dulse.members.v1`.

use std::sync::Arc;

use dulse_proto::members::members_server::Members;
use dulse_proto::members::{ListReply, ListRequest, Member, RemoveReply, RemoveRequest};
use dulse_replication::{MemberState, MemberStatus, RemoveError};
use dulse_types::Origin;
use tonic::{Request, Response, Status};

use crate::state::FilerState;

/// The service.
#[derive(Clone)]
pub struct MembersService {
    state: Arc<FilerState>,
}

impl MembersService {
    /// A service over the filer's state.
    #[must_use]
    pub fn new(state: Arc<FilerState>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl Members for MembersService {
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let own = self.state.embedded()?;
        let members = own.replicator.members().into_iter().map(member);
        let members = members.collect();
        Ok(Response::new(ListReply { members }))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveReply>, Status> {
        let RemoveRequest { origin, is_forced } = request.into_inner();
        let own = self.state.embedded()?;
        let removed = own.replicator.remove(Origin(origin), is_forced);
        let stamp = removed.await.map_err(|error| status(&error))?;
        Ok(Response::new(RemoveReply { stamp: stamp.0 }))
    }
}

fn member(of: MemberStatus) -> Member {
    Member {
        origin: of.origin.0,
        address: of.address.map(|a| a.to_string()).unwrap_or_default(),
        state: of.state.as_str().to_owned(),
        silent_seconds: of.silent_for.map(|silent| silent.as_secs_f64()),
        holds_back: of.holds_back.map(|stamp| stamp.0),
        last_known: of.last_known.0,
        is_self: of.state == MemberState::Own,
    }
}

fn status(error: &RemoveError) -> Status {
    let text = error.to_string();
    match error {
        RemoveError::Unknown(_) => Status::not_found(text),
        RemoveError::Own(_) | RemoveError::Live(_) => Status::failed_precondition(text),
        RemoveError::NotReady(_) => Status::unavailable(text),
        RemoveError::Store(source) => Status::internal(format!("{text}: {source}")),
    }
}
