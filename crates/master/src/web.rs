// SPDX-License-Identifier: Apache-2.0
//! The master over HTTP: assign, look up, status, health.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use dulse_proto::master as pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::service::State;

type Parameters = Query<HashMap<String, String>>;

/// Routes of the master.
pub(crate) fn router(state: Arc<State>) -> Router {
    let ok = || async { StatusCode::OK };
    Router::new()
        .route("/healthz", get(ok))
        .route("/readyz", get(ok))
        .route("/cluster/healthz", get(ok))
        .route("/cluster/status", get(cluster_status))
        .route("/dir/assign", get(assign).post(assign))
        .route("/dir/lookup", get(lookup))
        .route("/dir/status", get(dir_status))
        .with_state(state)
}

async fn cluster_status(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let max = state.stored.lock().max_volume_id();
    let leader = state.options.address.to_string();
    Json(json!({ "IsLeader": true, "Leader": leader, "MaxVolumeId": max }))
}

async fn assign(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let text = |key: &str| q.get(key).cloned().unwrap_or_default();
    let request = pb::AssignRequest {
        count: text("count").parse().unwrap_or(1),
        replication: text("replication"),
        collection: text("collection"),
        ttl: text("ttl"),
        data_center: text("dataCenter"),
        rack: text("rack"),
        data_node: text("dataNode"),
        disk_type: text("disk"),
        ..pb::AssignRequest::default()
    };
    match state.assign(request).await {
        Ok(assigned) => {
            let first = assigned.locations.first().cloned().unwrap_or_default();
            let body = Json(json!({
                "fid": assigned.fid,
                "url": first.url,
                "publicUrl": first.public_url,
                "count": assigned.count,
            }));
            if assigned.auth.is_empty() {
                return body.into_response();
            }
            let bearer = format!("Bearer {}", assigned.auth);
            ([(header::AUTHORIZATION, bearer)], body).into_response()
        }
        Err(status) => {
            let code = match status.code() {
                Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::NOT_ACCEPTABLE,
            };
            (code, Json(json!({ "error": status.message() }))).into_response()
        }
    }
}

async fn lookup(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let id = q
        .get("volumeId")
        .or_else(|| q.get("fileId"))
        .cloned()
        .unwrap_or_default();
    let volume_id = id.split(',').next().unwrap_or(&id).to_owned();
    let topology = state.topology.lock();
    let nodes = volume_id
        .parse()
        .map(|v| topology.locate(v))
        .unwrap_or_default();
    if nodes.is_empty() {
        let error = format!("volume id {volume_id} not found");
        let body = Json(json!({ "volumeOrFileId": id, "error": error }));
        return (StatusCode::NOT_FOUND, body).into_response();
    }
    let locations: Vec<Value> = nodes
        .into_iter()
        .map(|n| {
            json!({
                "url": n.url,
                "publicUrl": n.public_url,
                "dataCenter": n.data_center,
                "grpcPort": n.grpc_port,
            })
        })
        .collect();
    Json(json!({ "volumeOrFileId": id, "locations": locations })).into_response()
}

async fn dir_status(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let topology = state.topology.lock();
    let nodes: Vec<Value> = topology
        .nodes
        .values()
        .map(|n| {
            json!({
                "Url": n.url,
                "PublicUrl": n.public_url,
                "Volumes": n.volumes.len(),
                "Max": n.max_volumes.values().sum::<u32>(),
                "VolumeIds": format!("{:?}", n.volumes.keys().collect::<Vec<_>>()),
            })
        })
        .collect();
    let id = state.stored.lock().topology_id().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "Topology": { "DataNodes": nodes }, "TopologyId": id, "Version": version }))
}

/// The tree of data centers, racks, servers, disks and volumes.
pub(crate) fn volume_list(state: &State) -> pb::VolumeListResponse {
    let topology = state.topology.lock();
    let mut centers: BTreeMap<String, BTreeMap<String, Vec<pb::DataNodeInfo>>> = BTreeMap::new();
    for (id, node) in &topology.nodes {
        let mut disks: HashMap<String, pb::DiskInfo> = HashMap::new();
        for (disk, max) in &node.max_volumes {
            let info = disks.entry(disk.clone()).or_default();
            info.r#type.clone_from(disk);
            info.max_volume_count = i64::from(*max);
        }
        for volume in node.volumes.values() {
            let info = disks.entry(volume.layout.disk_type.clone()).or_default();
            info.volume_count += 1;
            info.active_volume_count += i64::from(!volume.is_read_only);
            info.volume_infos.push(volume.info.clone());
        }
        for info in disks.values_mut() {
            info.free_volume_count = info.max_volume_count - info.volume_count;
        }
        let row = pb::DataNodeInfo {
            id: id.clone(),
            disk_infos: disks,
            grpc_port: node.grpc_port,
            address: node.url.clone(),
        };
        let racks = centers.entry(node.data_center.clone()).or_default();
        racks.entry(node.rack.clone()).or_default().push(row);
    }
    let data_center_infos = centers.into_iter().map(|(id, racks)| pb::DataCenterInfo {
        id,
        rack_infos: racks
            .into_iter()
            .map(|(id, data_node_infos)| pb::RackInfo {
                id,
                data_node_infos,
                ..pb::RackInfo::default()
            })
            .collect(),
        ..pb::DataCenterInfo::default()
    });
    pb::VolumeListResponse {
        topology_info: Some(pb::TopologyInfo {
            id: "topo".to_owned(),
            data_center_infos: data_center_infos.collect(),
            ..pb::TopologyInfo::default()
        }),
        volume_size_limit_mb: state.options.volume_size_limit_bytes >> 20,
    }
}
