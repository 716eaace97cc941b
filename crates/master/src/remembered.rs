// SPDX-License-Identifier: Apache-2.0
//! The filers' clusters as the master remembers them: `dulse.cluster.v1`.

use std::sync::Arc;

use dulse_proto::cluster::cluster_server::Cluster;
use dulse_proto::cluster::{
    KnownMembersReply, KnownMembersRequest, Member, ReportMembersReply, ReportMembersRequest,
};
use dulse_types::ServerAddress;
use tonic::{Request, Response, Status};

use crate::service::State;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Remembered(pub(crate) Arc<State>);

#[tonic::async_trait]
impl Cluster for Remembered {
    async fn report_members(
        &self,
        request: Request<ReportMembersRequest>,
    ) -> Result<Response<ReportMembersReply>, Status> {
        let r = request.into_inner();
        let mut members = Vec::with_capacity(r.members.len());
        for member in r.members {
            let address: Result<ServerAddress, _> = member.address.parse();
            let address = address.map_err(|e| Status::invalid_argument(e.to_string()))?;
            if member.origin == 0 {
                return Err(Status::invalid_argument("a member's origin is not 0"));
            }
            members.push((member.origin, address.to_string()));
        }
        let remembered = self.0.stored.lock().remember(&r.group, &members, &r.gone);
        remembered.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(ReportMembersReply {}))
    }

    async fn known_members(
        &self,
        request: Request<KnownMembersRequest>,
    ) -> Result<Response<KnownMembersReply>, Status> {
        let members = self.0.stored.lock().members(&request.into_inner().group);
        let members = members.into_iter();
        Ok(Response::new(KnownMembersReply {
            members: members
                .map(|(origin, address)| Member { origin, address })
                .collect(),
        }))
    }
}
