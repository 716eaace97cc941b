// SPDX-License-Identifier: Apache-2.0
//! Making new volumes on volume servers.

use std::time::Duration;

use dulse_proto::volume::AllocateVolumeRequest;
use dulse_proto::volume::volume_server_client::VolumeServerClient;
use tonic::transport::Endpoint;

use crate::service::State;
use crate::topology::{Layout, Volume, copies};

/// How long one server may take to make a volume.
const ALLOCATE_TIME_MAX: Duration = Duration::from_secs(30);

/// Volumes made when a kind has none, by copies: as upstream.
fn wanted(replication: u8) -> usize {
    match copies(replication) {
        1 => 7,
        2 => 6,
        3 => 3,
        _ => 1,
    }
}

/// Makes volumes of a kind, as many as are usual or fit; gives how many were made.
///
/// # Errors
///
/// When not one could be made.
pub(crate) async fn grow(
    state: &State,
    layout: &Layout,
    ttl: &str,
    count: Option<usize>,
) -> Result<usize, String> {
    let _one_at_a_time = state.growing.lock().await;
    // Whoever held the lock before may have made them.
    let limit = state.options.volume_size_limit_bytes;
    if count.is_none() && !state.topology.lock().writable(layout, limit).is_empty() {
        return Ok(0);
    }
    let mut made = 0;
    let mut last = "No writable volumes and no free volumes left".to_owned();
    for _ in 0..count.unwrap_or_else(|| wanted(layout.replication)) {
        match grow_one(state, layout, ttl).await {
            Ok(()) => made += 1,
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    if made == 0 { Err(last) } else { Ok(made) }
}

async fn grow_one(state: &State, layout: &Layout, ttl: &str) -> Result<(), String> {
    let nodes = state.topology.lock().place(layout);
    let Some(nodes) = nodes else {
        return Err("No writable volumes and no free volumes left".to_owned());
    };
    // Order: the id is on disk before a server hears of it, so none is given twice.
    let id = {
        let mut stored = state.stored.lock();
        let id = stored.max_volume_id() + 1;
        stored.raise(id).map_err(|e| e.to_string())?;
        id
    };
    for node in &nodes {
        let grpc = {
            let topology = state.topology.lock();
            let Some(node) = topology.nodes.get(node) else {
                return Err(format!("volume server {node} went away"));
            };
            let host = node
                .url
                .rsplit_once(':')
                .map_or(node.url.as_str(), |(host, _)| host);
            format!("http://{host}:{}", node.grpc_port)
        };
        let endpoint = Endpoint::from_shared(grpc).map_err(|e| e.to_string())?;
        let endpoint = endpoint
            .connect_timeout(ALLOCATE_TIME_MAX)
            .timeout(ALLOCATE_TIME_MAX);
        let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
        let request = AllocateVolumeRequest {
            volume_id: id,
            collection: layout.collection.clone(),
            replication: format!("{:03}", layout.replication),
            ttl: ttl.to_owned(),
            disk_type: layout.disk_type.clone(),
            version: 3,
            ..AllocateVolumeRequest::default()
        };
        let allocated = VolumeServerClient::new(channel)
            .allocate_volume(request)
            .await;
        let result = if allocated.is_ok() {
            "success"
        } else {
            "failure"
        };
        crate::metrics::GROWN
            .counter(&[("result", result)])
            .increment(1);
        allocated.map_err(|status| status.message().to_owned())?;
    }
    for node in &nodes {
        let volume = Volume {
            layout: layout.clone(),
            ..Volume::default()
        };
        if let Some(node) = state.topology.lock().nodes.get_mut(node) {
            node.volumes.entry(id).or_insert(volume);
        }
        state.announce(node, &[id], &[]);
    }
    Ok(())
}
