// SPDX-License-Identifier: Apache-2.0
//! Calls that are passed on: volumes, collections, statistics, pings.

use std::collections::HashMap;
use std::time::Duration;

use dulse_blobs::Placement;
use dulse_namespace::texts;
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::master as mpb;
use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_transport::{Dial, Transport};
use dulse_types::ServerAddress;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{FilerService, convert, now_ns};

/// How long a pinged server may take.
const PING_TIME_MAX: Duration = Duration::from_secs(5);

/// Units of a volume's time to live in seconds, from the smallest. Each counts to 255.
const TTL_UNITS: [(i32, char); 6] = [
    (60, 'm'),
    (3_600, 'h'),
    (86_400, 'd'),
    (7 * 86_400, 'w'),
    (30 * 86_400, 'M'),
    (365 * 86_400, 'y'),
];

/// A volume's time to live that is at least so many seconds; empty for none.
fn volume_ttl(ttl_sec: i32) -> String {
    if ttl_sec <= 0 {
        return String::new();
    }
    let units = TTL_UNITS.into_iter().map(|(unit, name)| {
        let n_units = (ttl_sec - 1) / unit + 1;
        (n_units, name)
    });
    let fits = units.into_iter().find(|(n_units, _)| *n_units <= 255);
    fits.map_or_else(
        || "255y".to_owned(),
        |(n_units, name)| format!("{n_units}{name}"),
    )
}

impl FilerService {
    pub(crate) async fn assign(&self, r: pb::AssignVolumeRequest) -> pb::AssignVolumeResponse {
        let rule = self.state.namespace.rule_of(&r.path).unwrap_or_default();
        if rule.read_only {
            return pb::AssignVolumeResponse {
                error: format!("{} {}", texts::READ_ONLY, rule.location_prefix),
                ..pb::AssignVolumeResponse::default()
            };
        }
        let first = |asked: String, ruled: String| if asked.is_empty() { ruled } else { asked };
        let own = &self.state.options.http;
        let bucket = self.bucket_of(&r.path);
        let ruled = first(
            first(rule.collection.clone(), bucket),
            own.collection.clone(),
        );
        let collection = first(r.collection, ruled);
        let ruled = first(rule.replication.clone(), own.replication.clone());
        let replication = first(r.replication, ruled);
        let ttl_sec = if r.ttl_sec == 0 {
            rule.ttl_sec()
        } else {
            r.ttl_sec
        };
        let placement = Placement {
            collection: collection.clone(),
            replication: replication.clone(),
            ttl: volume_ttl(ttl_sec),
            disk_type: first(first(r.disk_type, rule.disk_type), own.disk_type.clone()),
            data_center: first(
                first(r.data_center, rule.data_center),
                own.data_center.clone(),
            ),
            rack: first(first(r.rack, rule.rack), own.rack.clone()),
            data_node: first(r.data_node, rule.data_node),
        };
        let count = u64::try_from(r.count).unwrap_or(1).max(1);
        match self.state.blobs.control().assign(&placement, count).await {
            Ok(assigned) => {
                let mut locations = assigned.locations.into_iter().map(convert::location);
                pb::AssignVolumeResponse {
                    file_id: assigned.base.to_string(),
                    count: i32::try_from(assigned.count).unwrap_or(i32::MAX),
                    auth: assigned.auth,
                    collection,
                    replication,
                    fsync: rule.fsync,
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

    /// The bucket that a path lies in: each has a collection of its name.
    fn bucket_of(&self, path: &str) -> String {
        let folder = &self.state.namespace.options().buckets_folder;
        let below = path.strip_prefix(folder.as_str());
        let below = below.and_then(|rest| rest.strip_prefix('/'));
        let bucket = below.and_then(|rest| rest.split_once('/'));
        bucket.map_or_else(String::new, |(bucket, _)| bucket.to_owned())
    }

    /// The volumes that are found; the others are left out, since with an error the client
    /// would get none.
    pub(crate) async fn locate(&self, volume_ids: Vec<String>) -> pb::LookupVolumeResponse {
        let mut locations_map = HashMap::new();
        for id in volume_ids {
            let Ok(volume_id) = id.split(',').next().unwrap_or(&id).parse() else {
                continue;
            };
            if let Ok(copies) = self.state.blobs.control().lookup(volume_id).await {
                let locations = copies.into_iter().map(convert::location).collect();
                locations_map.insert(id, pb::Locations { locations });
            }
        }
        pb::LookupVolumeResponse { locations_map }
    }

    pub(crate) async fn collections(
        &self,
        r: pb::CollectionListRequest,
    ) -> Result<Response<pb::CollectionListResponse>, Status> {
        let asked = mpb::CollectionListRequest {
            include_normal_volumes: r.include_normal_volumes,
            include_ec_volumes: r.include_ec_volumes,
        };
        let reply = self.state.master().await?.collection_list(asked).await?;
        let collections = reply.into_inner().collections.into_iter();
        let collections = collections.map(|c| pb::Collection { name: c.name });
        Ok(Response::new(pb::CollectionListResponse {
            collections: collections.collect(),
        }))
    }

    pub(crate) async fn total(
        &self,
        r: pb::StatisticsRequest,
    ) -> Result<Response<pb::StatisticsResponse>, Status> {
        let asked = mpb::StatisticsRequest {
            replication: r.replication,
            collection: r.collection,
            ttl: r.ttl,
            disk_type: r.disk_type,
        };
        let reply = self.state.master().await?.statistics(asked).await?;
        let s = reply.into_inner();
        Ok(Response::new(pb::StatisticsResponse {
            total_size: s.total_size,
            used_size: s.used_size,
            file_count: s.file_count,
            logical_total_size: s.logical_total_size,
            logical_used_size: s.logical_used_size,
        }))
    }

    /// Asks this filer, a peer or a master for its clock. Others are refused: a filer is no
    /// means to reach addresses of the caller's choice.
    pub(crate) async fn pong(&self, r: pb::PingRequest) -> Result<pb::PingResponse, Status> {
        let start_time_ns = now_ns();
        let options = &self.state.options;
        let remote_time_ns = if r.target.is_empty() || r.target == options.address.to_string() {
            now_ns()
        } else {
            let known = |address: &ServerAddress| address.to_string() == r.target;
            let peers = self.state.peer_addresses();
            let peer = peers.iter().find(|a| known(a));
            let master = options.masters.iter().find(|a| known(a));
            match (r.target_type.as_str(), peer, master) {
                ("filer", Some(peer), _) => {
                    let asked = pb::PingRequest::default();
                    let mut client = SeaweedFilerClient::new(
                        connect(&self.state.options.transport, peer).await?,
                    );
                    client.ping(asked).await?.into_inner().remote_time_ns
                }
                ("master", _, Some(master)) => {
                    let asked = mpb::PingRequest::default();
                    let mut client =
                        SeaweedClient::new(connect(&self.state.options.transport, master).await?);
                    client.ping(asked).await?.into_inner().remote_time_ns
                }
                _ => {
                    let (target, kind) = (r.target, r.target_type);
                    let text = format!("unknown ping target {target} of type {kind}");
                    return Err(Status::invalid_argument(text));
                }
            }
        };
        Ok(pb::PingResponse {
            start_time_ns,
            remote_time_ns,
            stop_time_ns: now_ns(),
        })
    }
}

async fn connect(transport: &Transport, address: &ServerAddress) -> Result<Channel, Status> {
    let dial = Dial::within(PING_TIME_MAX).calls_within(PING_TIME_MAX);
    let connected = transport.connect(&address.grpc(), dial).await;
    connected.map_err(|e| Status::unavailable(format!("ping {address}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volumes_time_to_live_is_never_shorter_than_asked_and_fits_one_byte() {
        for (seconds, expect) in [
            (0, ""),
            (-1, ""),
            (1, "1m"),
            (60, "1m"),
            (61, "2m"),
            (255 * 60, "255m"),
            (255 * 60 + 1, "5h"),
            (30 * 86_400, "30d"),
            (365 * 86_400, "53w"),
            (i32::MAX, "69y"),
        ] {
            assert_eq!(volume_ttl(seconds), expect, "{seconds}");
        }
    }
}
