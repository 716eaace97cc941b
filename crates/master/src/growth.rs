// SPDX-License-Identifier: Apache-2.0
//! Making new volumes on volume servers.

use std::time::Duration;

use dulse_proto::volume::volume_server_client::VolumeServerClient;
use dulse_proto::volume::{AllocateVolumeRequest, VolumeDeleteRequest};
use dulse_transport::Dial;
use tonic::transport::Channel;

use crate::assign::Wish;
use crate::metrics;
use crate::service::{State, now_ns};
use crate::topology::{Node, Volume, copies};

/// How long one server may take to make a volume.
const ALLOCATE_TIME_MAX: Duration = Duration::from_secs(30);

/// Most volumes made at once, whatever is asked for.
const COUNT_MAX: usize = 100;

/// Why no volume was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowthError {
    /// The placement fits nowhere.
    #[error("No writable volumes and no free volumes left")]
    NoRoom,
    /// The id could not be stored, and may be given twice.
    #[error("volume ids cannot be stored")]
    Id(#[from] crate::stored::StoredError),
    /// A server refused or did not answer.
    #[error("volume server {node}: {why}")]
    Server {
        /// Which.
        node: String,
        /// What it said.
        why: String,
    },
}

/// How many volumes to make, and whether to make them although some take writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// As many as are usual when `None`.
    pub(crate) count: Option<usize>,
    /// Make them when all are nearly full, not only when none takes writes.
    pub(crate) is_early: bool,
}

/// Volumes made when a kind has none, by copies: as upstream.
fn wanted(replication: u8) -> usize {
    match copies(replication) {
        1 => 7,
        2 => 6,
        3 => 3,
        _ => 1,
    }
}

/// Makes volumes of a kind, as many as are wanted or fit; gives how many were made. None when
/// somebody else made them meanwhile.
///
/// # Errors
///
/// When not one could be made.
pub(crate) async fn grow(state: &State, wish: &Wish, growth: Growth) -> Result<usize, GrowthError> {
    let _one_at_a_time = state.growing.lock().await;
    let limit = state.options.volume_size_limit_bytes;
    let has_any = || {
        let topology = state.topology.lock();
        !topology
            .writable(&wish.layout, limit, &wish.filter)
            .is_empty()
    };
    let is_made = match growth.is_early {
        true => !state.is_crowded(wish),
        false => has_any(),
    };
    if is_made {
        return Ok(0);
    }
    grow_locked(state, wish, growth.count).await
}

/// Makes as many volumes as an operator asks for.
///
/// # Errors
///
/// As [`grow`].
pub(crate) async fn grow_by(
    state: &State,
    wish: &Wish,
    count: Option<usize>,
) -> Result<usize, GrowthError> {
    let _one_at_a_time = state.growing.lock().await;
    grow_locked(state, wish, count).await
}

async fn grow_locked(
    state: &State,
    wish: &Wish,
    count: Option<usize>,
) -> Result<usize, GrowthError> {
    let count = count.unwrap_or_else(|| wanted(wish.layout.replication));
    let mut made = 0;
    for _ in 0..count.min(COUNT_MAX) {
        match grow_one(state, wish).await {
            Ok(()) => made += 1,
            Err(error) if made == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(%error, made, "fewer volumes were made than wanted");
                break;
            }
        }
    }
    Ok(made)
}

async fn grow_one(state: &State, wish: &Wish) -> Result<(), GrowthError> {
    let mut random = |below: u64| rand::random_range(0..below.max(1));
    let nodes = {
        let topology = state.topology.lock();
        topology.place(&wish.layout, &wish.filter, &mut random)
    };
    let nodes = nodes.ok_or(GrowthError::NoRoom)?;
    // Order: the id is on disk before a server hears of it, so none is given twice.
    let id = {
        let mut stored = state.stored.lock();
        let id = stored.max_volume_id() + 1;
        stored.raise(id)?;
        id
    };
    let mut made = Vec::new();
    for node in &nodes {
        let allocated = allocate(state, node, id, wish).await;
        let result = match allocated {
            Ok(()) => "success",
            Err(_) => "failure",
        };
        metrics::GROWN.counter(&[("result", result)]).increment(1);
        if let Err(why) = allocated {
            for node in made {
                undo(state, node, id).await;
            }
            let node = node.clone();
            return Err(GrowthError::Server { node, why });
        }
        made.push(node);
    }
    for node in &nodes {
        let volume = Volume {
            layout: wish.layout.clone(),
            made_ns: now_ns(),
            ..Volume::default()
        };
        if let Some(node) = state.topology.lock().nodes.get_mut(node) {
            node.volumes.entry(id).or_insert(volume);
        }
        state.announce(node, &[id], &[]);
    }
    Ok(())
}

async fn allocate(state: &State, node: &str, id: u32, wish: &Wish) -> Result<(), String> {
    let request = AllocateVolumeRequest {
        volume_id: id,
        collection: wish.layout.collection.clone(),
        replication: format!("{:03}", wish.layout.replication),
        ttl: wish.ttl.clone(),
        disk_type: wish.layout.disk_type.clone(),
        version: 3,
        ..AllocateVolumeRequest::default()
    };
    let mut client = connect(state, node).await?;
    let allocated = client.allocate_volume(request).await;
    allocated.map(drop).map_err(|s| s.message().to_owned())
}

/// Takes back one copy of a volume whose other copies could not be made.
async fn undo(state: &State, node: &str, id: u32) {
    let request = VolumeDeleteRequest {
        volume_id: id,
        only_empty: true,
        ..VolumeDeleteRequest::default()
    };
    let undone = match connect(state, node).await {
        Ok(mut client) => client
            .volume_delete(request)
            .await
            .map(drop)
            .map_err(|s| s.message().to_owned()),
        Err(error) => Err(error),
    };
    if let Err(error) = undone {
        tracing::warn!(node, volume = id, %error, "a copy of a volume that was given up stays");
    }
}

async fn connect(state: &State, node: &str) -> Result<VolumeServerClient<Channel>, String> {
    let grpc = match state.topology.lock().nodes.get(node) {
        Some(node) => grpc_address(node),
        None => return Err("it went away".to_owned()),
    };
    let dial = Dial::within(ALLOCATE_TIME_MAX).calls_within(ALLOCATE_TIME_MAX);
    let channel = state.options.transport.connect(&grpc, dial).await;
    Ok(VolumeServerClient::new(channel.map_err(|e| e.to_string())?))
}

/// Where a volume server's gRPC is.
pub(crate) fn grpc_address(node: &Node) -> String {
    let host = node
        .url
        .rsplit_once(':')
        .map_or(&*node.url, |(host, _)| host);
    format!("{host}:{}", node.grpc_port)
}
