// SPDX-License-Identifier: Apache-2.0
//! The filers' clusters as the master remembers them: `dulse.cluster.v1`.

use std::time::{SystemTime, UNIX_EPOCH};

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
        let mut stored = self.0.stored.lock();
        if let Some(founding) = r.founding {
            may_found(&stored.members(&r.group), &members, &founding.beside)?;
        }
        let remembered = stored.remember(&r.group, &members, &r.gone);
        drop(stored);
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
            now_ns: now_ns(),
        }))
    }
}

/// The wall clock, for filers that judge their own by it; 0 before 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(0))
}

/// ⚠ Founding is decided on a list that may be old by now, by a process that may have stood
/// still: whoever was remembered meanwhile founded first. Looked at under the same lock that
/// remembers.
fn may_found(
    remembered: &[(u64, String)],
    founders: &[(u64, String)],
    beside: &[u64],
) -> Result<(), Status> {
    let is_known = |origin: &u64| {
        beside.contains(origin) || founders.iter().any(|(founder, _)| founder == origin)
    };
    match remembered.iter().find(|(origin, _)| !is_known(origin)) {
        None => Ok(()),
        Some((_, address)) => Err(Status::failed_precondition(format!(
            "{address} is remembered as a member of this cluster: it is to be joined"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_founds_on_an_old_list_is_refused() {
        let at = |origin: u64| (origin, format!("h:{origin}.1"));
        assert!(may_found(&[], &[at(1)], &[]).is_ok());
        assert!(may_found(&[at(1)], &[at(1)], &[]).is_ok(), "it tries again");
        assert!(
            may_found(&[at(2)], &[at(1)], &[2]).is_ok(),
            "it has no history"
        );
        let refused = may_found(&[at(2), at(3)], &[at(1)], &[2]).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    }
}
