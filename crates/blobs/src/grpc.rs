// SPDX-License-Identifier: Apache-2.0
//! The control calls over gRPC.

use std::time::Duration;

use dulse_client::{Ask, Channels, MasterClient, Masters};
use dulse_proto::master::{AssignRequest, LookupVolumeRequest};
use dulse_proto::volume::BatchDeleteRequest;
use dulse_transport::{Dial, Transport};
use dulse_types::{FileId, ServerAddress};
use tonic::metadata::MetadataMap;

use crate::Error;
use crate::control::{Answer, Assigned, Control, Location, Placement};

/// How long masters are asked for a place before a write fails; growing a volume takes 10 s.
const ASSIGN_BUDGET: Duration = Duration::from_secs(30);

/// How long masters are asked where a volume is.
const LOOKUP_BUDGET: Duration = Duration::from_secs(5);

/// How long connecting to a volume server may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one call of a volume server may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// Status of a deleted needle, as in HTTP; below 400 it is gone.
const DELETE_STATUS_FAILED: i32 = 400;

/// Status of a needle that was not there.
const DELETE_STATUS_MISSING: i32 = 404;

/// What masters say of a data center that they do not know (upstream 4.48).
const NO_SUCH_PLACE: &str = "not found in topology";

/// Asks masters and volume servers over gRPC.
pub struct GrpcControl {
    masters: Masters,
    /// To volume servers.
    channels: Channels,
}

impl GrpcControl {
    /// Knows these masters; connects when it must.
    #[must_use]
    pub fn new(masters: Vec<ServerAddress>, transport: &Transport) -> Self {
        let dial = Dial::within(CONNECT_TIME_MAX).calls_within(CALL_TIME_MAX);
        Self {
            masters: Masters::new(transport.clone(), masters),
            channels: Channels::new(transport.clone(), dial),
        }
    }

    /// Asks one master after the other, the last that answered first, within `budget`.
    async fn ask<T>(&self, budget: Duration, call: impl AsyncCall<T>) -> Result<T, Unanswered> {
        let ask = Ask { budget, is_final };
        let answer = self.masters.ask(ask, |master| call.run(master)).await;
        answer.map_err(|status| Unanswered {
            is_missing: status.code() == tonic::Code::NotFound,
            reason: status.message().to_owned(),
        })
    }
}

/// Why no master gave an answer.
struct Unanswered {
    reason: String,
    /// A master did answer: what was asked for does not exist.
    is_missing: bool,
}

/// Whether asking again or elsewhere cannot help: the request itself is refused.
///
/// Masters answer bad parameters, a full cluster and "not the leader" alike with
/// `Unknown`, so the texts decide (upstream 4.48).
fn is_final(status: &tonic::Status) -> bool {
    let text = status.message();
    matches!(
        status.code(),
        tonic::Code::InvalidArgument | tonic::Code::NotFound
    ) || text.starts_with("unexpected replication type")
        || text.contains("no free volumes left")
        || text.contains(NO_SUCH_PLACE)
}

/// A call of one master; a trait since closures cannot yet promise futures that are `Send`.
trait AsyncCall<T> {
    fn run(&self, master: MasterClient) -> impl Future<Output = Result<T, tonic::Status>> + Send;
}

struct AssignCall<'a>(&'a Placement, u64);

impl AsyncCall<Assigned> for AssignCall<'_> {
    async fn run(&self, mut master: MasterClient) -> Result<Assigned, tonic::Status> {
        let placement = self.0;
        let request = AssignRequest {
            count: self.1,
            replication: placement.replication.clone(),
            collection: placement.collection.clone(),
            ttl: placement.ttl.clone(),
            data_center: placement.data_center.clone(),
            rack: placement.rack.clone(),
            data_node: placement.data_node.clone(),
            disk_type: placement.disk_type.clone(),
            ..AssignRequest::default()
        };
        let answer = master.assign(named(request)).await?.into_inner();
        if !answer.error.is_empty() {
            return Err(tonic::Status::unknown(answer.error));
        }
        let base = answer
            .fid
            .parse()
            .map_err(|e| tonic::Status::unknown(format!("master assigned a bad id: {e}")))?;
        let locations: Vec<_> = answer.location.into_iter().chain(answer.replicas).collect();
        if locations.is_empty() {
            return Err(tonic::Status::unknown(
                "master assigned an id without a place",
            ));
        }
        Ok(Assigned {
            base,
            count: answer.count.max(1),
            locations: locations.into_iter().map(location_of).collect(),
            auth: answer.auth,
        })
    }
}

struct LookupCall(u32);

impl AsyncCall<Vec<Location>> for LookupCall {
    async fn run(&self, mut master: MasterClient) -> Result<Vec<Location>, tonic::Status> {
        let request = LookupVolumeRequest {
            volume_or_file_ids: vec![self.0.to_string()],
            ..LookupVolumeRequest::default()
        };
        let answer = master.lookup_volume(named(request)).await?.into_inner();
        let found = answer.volume_id_locations.into_iter().next();
        let found = found.ok_or_else(|| tonic::Status::unavailable("empty answer"))?;
        if found.locations.is_empty() {
            return Err(tonic::Status::not_found(found.error));
        }
        Ok(found.locations.into_iter().map(location_of).collect())
    }
}

/// A call that carries the id of the request it is made for.
fn named<T>(message: T) -> tonic::Request<T> {
    let metadata = MetadataMap::from_headers(dulse_telemetry::request::headers());
    tonic::Request::from_parts(metadata, tonic::Extensions::default(), message)
}

fn location_of(location: dulse_proto::master::Location) -> Location {
    Location {
        url: location.url,
        public_url: location.public_url,
        grpc_port: location.grpc_port,
        data_center: location.data_center,
    }
}

impl Control for GrpcControl {
    fn assign<'a>(&'a self, placement: &'a Placement, count: u64) -> Answer<'a, Assigned> {
        Box::pin(async move {
            let assigned = self.ask(ASSIGN_BUDGET, AssignCall(placement, count)).await;
            let assigned = match assigned {
                // As upstream: a data center that does not exist is a wish, not a condition.
                Err(e) if e.reason.contains(NO_SUCH_PLACE) => {
                    let anywhere = Placement {
                        data_center: String::new(),
                        rack: String::new(),
                        data_node: String::new(),
                        ..placement.clone()
                    };
                    self.ask(ASSIGN_BUDGET, AssignCall(&anywhere, count)).await
                }
                other => other,
            };
            assigned.map_err(|e| Error::Assign(e.reason))
        })
    }

    fn lookup(&self, volume_id: u32) -> Answer<'_, Vec<Location>> {
        Box::pin(async move {
            let found = self.ask(LOOKUP_BUDGET, LookupCall(volume_id)).await;
            found.map_err(|Unanswered { reason, is_missing }| match is_missing {
                true => Error::NoVolume { volume_id, reason },
                false => Error::Lookup { volume_id, reason },
            })
        })
    }

    fn batch_delete<'a>(
        &'a self,
        location: &'a Location,
        ids: &'a [FileId],
    ) -> Answer<'a, Vec<FileId>> {
        Box::pin(async move {
            let server = grpc_of(location);
            let failed = |reason: String| Error::Delete {
                server: server.clone(),
                reason,
            };
            let channel = self.channels.to(&server);
            let channel = channel.map_err(|e| failed(e.to_string()))?;
            let request = BatchDeleteRequest {
                file_ids: ids.iter().map(FileId::to_string).collect(),
                skip_cookie_check: true,
            };
            let answer = dulse_client::volume_server(channel)
                .batch_delete(named(request))
                .await;
            let answer = answer.map_err(|status| failed(status.message().to_owned()))?;
            let left =
                answer.into_inner().results.into_iter().filter(|r| {
                    r.status >= DELETE_STATUS_FAILED && r.status != DELETE_STATUS_MISSING
                });
            Ok(left.filter_map(|r| r.file_id.parse().ok()).collect())
        })
    }
}

/// `host:port` of a volume server's gRPC listener.
fn grpc_of(location: &Location) -> String {
    let (host, port) = location
        .url
        .rsplit_once(':')
        .unwrap_or((&location.url, "0"));
    match location.grpc_port {
        0 => {
            let port = port.parse::<u32>().unwrap_or(0);
            format!(
                "{host}:{}",
                port + u32::from(dulse_types::address::GRPC_PORT_OFFSET)
            )
        }
        port => format!("{host}:{port}"),
    }
}
