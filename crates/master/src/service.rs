// SPDX-License-Identifier: Apache-2.0
//! The master over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dulse_proto::master as pb;
use dulse_proto::master::seaweed_server::Seaweed;
use dulse_transport::{Dial, Guarded};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::MasterOptions;
use crate::cluster::Members;
use crate::growth::grow_by;
use crate::metrics;
use crate::stored::Stored;
use crate::topology::{Delta, Node, Topology, copies, disk_type};

/// A boxed answer stream.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for one client; a slower one is cut off and gets the whole state when
/// it connects again.
const MESSAGES_AHEAD: usize = 10_000;

/// How long volume servers may take to report after a restart: three of their pulses.
const WARM_UP: Duration = Duration::from_secs(15);

/// How long one volume server may take to delete a collection.
const DELETE_TIME_MAX: Duration = Duration::from_secs(60);

/// What all requests share.
pub struct State {
    pub(crate) options: MasterOptions,
    pub(crate) topology: Mutex<Topology>,
    pub(crate) members: Mutex<Members>,
    pub(crate) stored: Mutex<Stored>,
    /// Held while volumes are made, so that a rush makes them once.
    pub(crate) growing: tokio::sync::Mutex<()>,
    news: broadcast::Sender<pb::KeepConnectedResponse>,
    started: Instant,
    /// Whether volumes were made before this start.
    had_volumes: bool,
    /// Versions of lock rings: strictly increasing, also over restarts.
    ring_version: Mutex<i64>,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct MasterService {
    state: Arc<State>,
}

impl MasterService {
    /// A service over stored state.
    #[must_use]
    pub(crate) fn new(options: MasterOptions, stored: Stored) -> Self {
        let mut topology = Topology::default();
        topology.saw_key(stored.key_ceiling().saturating_sub(1));
        Self {
            state: Arc::new(State {
                had_volumes: stored.max_volume_id() > 0,
                started: Instant::now(),
                ring_version: Mutex::default(),
                options,
                topology: Mutex::new(topology),
                members: Mutex::default(),
                stored: Mutex::new(stored),
                growing: tokio::sync::Mutex::default(),
                news: broadcast::Sender::new(MESSAGES_AHEAD),
            }),
        }
    }

    /// What all requests share.
    #[must_use]
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn location(node: &Node) -> pb::Location {
    pb::Location {
        url: node.url.clone(),
        public_url: node.public_url.clone(),
        grpc_port: node.grpc_port,
        data_center: node.data_center.clone(),
        ..pb::Location::default()
    }
}

impl State {
    /// Tells every client that volumes came to or went from a server.
    pub(crate) fn announce(&self, node: &str, new: &[u32], deleted: &[u32]) {
        let message = {
            let topology = self.topology.lock();
            let Some(node) = topology.nodes.get(node) else {
                return;
            };
            news_of(node, new.to_vec(), deleted.to_vec())
        };
        // Nobody may be listening.
        let _ = self.news.send(message);
    }

    fn leader(&self) -> String {
        self.options.address.to_string()
    }

    /// Whether volumes that this master knew before its start may still be unreported: until
    /// then none is made, or there would be more with each restart.
    pub(crate) fn is_warming_up(&self) -> bool {
        self.had_volumes && self.started.elapsed() < WARM_UP
    }

    /// A token that lets its bearer write this file id; empty without a key.
    pub(crate) fn sign(&self, fid: &str) -> String {
        let tokens = self.options.transport.tokens();
        tokens.sign_file(Guarded::VolumeWrite, fid)
    }

    /// A server connected. One whose directories another live server has is refused: the same
    /// volumes would be written by two.
    fn met(&self, beat: &pb::Heartbeat, id: &str) -> Result<(), pb::HeartbeatResponse> {
        let mut topology = self.topology.lock();
        let others = topology.nodes.iter().filter(|(other, _)| *other != id);
        let taken: Vec<String> = others
            .flat_map(|(_, node)| &node.directories)
            .filter(|uuid| beat.location_uuids.contains(uuid))
            .cloned()
            .collect();
        if !taken.is_empty() {
            tracing::error!(volume_server = id, directories = ?taken,
                "a volume server runs on the directories of another and is refused");
            return Err(pb::HeartbeatResponse {
                duplicated_uuids: taken,
                ..pb::HeartbeatResponse::default()
            });
        }
        let node = topology.nodes.entry(id.to_owned()).or_default();
        node.n_streams += 1;
        node.directories.clone_from(&beat.location_uuids);
        node.url = format!("{}:{}", beat.ip, beat.port);
        node.public_url = if beat.public_url.is_empty() {
            node.url.clone()
        } else {
            beat.public_url.clone()
        };
        node.grpc_port = if beat.grpc_port == 0 {
            beat.port.saturating_add(10_000)
        } else {
            beat.grpc_port
        };
        let or = |text: &str, default: &str| {
            if text.is_empty() {
                default.to_owned()
            } else {
                text.to_owned()
            }
        };
        node.data_center = or(&beat.data_center, "DefaultDataCenter");
        node.rack = or(&beat.rack, "DefaultRack");
        Ok(())
    }

    fn beat(&self, beat: &pb::Heartbeat, id: &str) {
        let delta = {
            let mut topology = self.topology.lock();
            topology.saw_key(beat.max_file_key);
            if let Some(node) = topology.nodes.get_mut(id)
                && !beat.max_volume_counts.is_empty()
            {
                node.max_volumes = beat
                    .max_volume_counts
                    .iter()
                    .map(|(disk, max)| (disk_type(disk), *max))
                    .collect();
            }
            let mut delta = topology.deltas(id, beat);
            if !beat.volumes.is_empty() || beat.has_no_volumes {
                let full = topology.full_list(id, &beat.volumes, now_ns());
                delta.new.extend(full.new);
                delta.deleted.extend(full.deleted);
            }
            delta
        };
        let greatest = beat.volumes.iter().map(|v| v.id).max().unwrap_or(0);
        if let Err(error) = self.stored.lock().raise(greatest) {
            tracing::error!(%error, "the greatest volume id was not stored");
        }
        if !delta.is_empty() {
            self.announce(id, &delta.new, &delta.deleted);
        }
    }

    fn left(&self, id: &str) {
        let gone = {
            let mut topology = self.topology.lock();
            let Some(node) = topology.nodes.get_mut(id) else {
                return;
            };
            node.n_streams = node.n_streams.saturating_sub(1);
            if node.n_streams > 0 {
                return;
            }
            let Some(node) = topology.nodes.remove(id) else {
                return;
            };
            let delta = Delta {
                new: Vec::new(),
                deleted: node.volumes.keys().copied().collect(),
            };
            news_of(&node, delta.new, delta.deleted)
        };
        tracing::warn!(volume_server = id, "a volume server is gone");
        let _ = self.news.send(gone);
    }

    /// What every client gets first: all volumes, then all filers of its group.
    fn whole(&self, request: &pb::KeepConnectedRequest) -> Vec<pb::KeepConnectedResponse> {
        let topology = self.topology.lock();
        let mut out: Vec<_> = topology
            .nodes
            .values()
            .map(|node| news_of(node, node.volumes.keys().copied().collect(), Vec::new()))
            .collect();
        if out.is_empty() {
            out.push(pb::KeepConnectedResponse {
                volume_location: Some(pb::VolumeLocation::default()),
                ..pb::KeepConnectedResponse::default()
            });
        }
        if let Some(first) = out[0].volume_location.as_mut() {
            first.leader = self.leader();
        }
        let members = self.members.lock();
        let group = &request.filer_group;
        for (address, member) in members.of("filer", group) {
            out.push(node_news(
                "filer",
                address,
                group,
                Some(member.created_at_ns),
            ));
        }
        drop(members);
        if has_ring(&request.client_type) {
            out.push(self.ring(group));
        }
        out
    }

    /// The filers of a group that share out its locks.
    fn ring(&self, group: &str) -> pb::KeepConnectedResponse {
        let members = self.members.lock();
        let servers = members
            .of("filer", group)
            .map(|(address, _)| address.to_owned());
        let mut version = self.ring_version.lock();
        *version = (*version + 1).max(now_ns());
        pb::KeepConnectedResponse {
            lock_ring_update: Some(pb::LockRingUpdate {
                filer_group: group.to_owned(),
                servers: servers.collect(),
                version: *version,
            }),
            ..pb::KeepConnectedResponse::default()
        }
    }

    /// Tells everyone of the group that a client came or, without a time, went.
    fn announce_client(&self, hello: &pb::KeepConnectedRequest, since_ns: Option<i64>) {
        let (kind, address) = (&hello.client_type, &hello.client_address);
        // Nobody may be listening.
        let _ = self
            .news
            .send(node_news(kind, address, &hello.filer_group, since_ns));
        if kind == "filer" {
            let _ = self.news.send(self.ring(&hello.filer_group));
        }
    }
}

impl State {
    /// Has every volume server drop a collection; one that fails does not keep the others.
    ///
    /// # Errors
    ///
    /// The first failure, after all were asked.
    pub(crate) async fn delete_collection(&self, name: &str) -> Result<(), Status> {
        use dulse_proto::volume::DeleteCollectionRequest;
        use dulse_proto::volume::volume_server_client::VolumeServerClient;
        let servers: Vec<String> = {
            let topology = self.topology.lock();
            topology
                .nodes
                .values()
                .map(crate::growth::grpc_address)
                .collect()
        };
        let mut failure = None;
        for server in servers {
            let request = DeleteCollectionRequest {
                collection: name.to_owned(),
            };
            let dial = Dial::within(DELETE_TIME_MAX).calls_within(DELETE_TIME_MAX);
            let deleted = match self.options.transport.connect(&server, dial).await {
                Ok(channel) => {
                    let mut client = VolumeServerClient::new(channel);
                    client.delete_collection(request).await.map(drop)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(status) = deleted {
                failure.get_or_insert(status);
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn news_of(node: &Node, new_vids: Vec<u32>, deleted_vids: Vec<u32>) -> pb::KeepConnectedResponse {
    pb::KeepConnectedResponse {
        volume_location: Some(pb::VolumeLocation {
            url: node.url.clone(),
            public_url: node.public_url.clone(),
            data_center: node.data_center.clone(),
            grpc_port: node.grpc_port,
            new_vids,
            deleted_vids,
            ..pb::VolumeLocation::default()
        }),
        ..pb::KeepConnectedResponse::default()
    }
}

fn node_news(
    node_type: &str,
    address: &str,
    group: &str,
    since_ns: Option<i64>,
) -> pb::KeepConnectedResponse {
    pb::KeepConnectedResponse {
        cluster_node_update: Some(pb::ClusterNodeUpdate {
            node_type: node_type.to_owned(),
            address: address.to_owned(),
            is_add: since_ns.is_some(),
            filer_group: group.to_owned(),
            created_at_ns: since_ns.unwrap_or(0),
        }),
        ..pb::KeepConnectedResponse::default()
    }
}

/// Who shares out locks by the ring.
fn has_ring(client_type: &str) -> bool {
    matches!(client_type, "filer" | "s3")
}

/// Whether a message is for this client: volumes are everybody's, members their group's.
fn is_for(message: &pb::KeepConnectedResponse, hello: &pb::KeepConnectedRequest) -> bool {
    let (node, ring) = (&message.cluster_node_update, &message.lock_ring_update);
    node.as_ref()
        .is_none_or(|n| n.filer_group == hello.filer_group)
        && ring
            .as_ref()
            .is_none_or(|r| r.filer_group == hello.filer_group && has_ring(&hello.client_type))
}

fn unserved<T>(name: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{name} is not served by this version"
    )))
}

#[tonic::async_trait]
impl Seaweed for MasterService {
    type SendHeartbeatStream = Answers<pb::HeartbeatResponse>;

    async fn send_heartbeat(
        &self,
        request: Request<Streaming<pb::Heartbeat>>,
    ) -> Result<Response<Self::SendHeartbeatStream>, Status> {
        let mut beats = request.into_inner();
        let (send, receive) = mpsc::channel(16);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let mut id: Option<String> = None;
            while let Ok(Some(beat)) = beats.message().await {
                if id.is_none() && beat.ip.is_empty() {
                    continue;
                }
                if id.is_none() {
                    let new = match beat.id.as_str() {
                        "" => format!("{}:{}", beat.ip, beat.port),
                        id => id.to_owned(),
                    };
                    if let Err(refusal) = state.met(&beat, &new) {
                        let _ = send.send(Ok(refusal)).await;
                        let why = "its data directories are those of another volume server";
                        let _ = send.send(Err(Status::already_exists(why))).await;
                        break;
                    }
                    id = Some(new);
                }
                let Some(id) = &id else { continue };
                state.beat(&beat, id);
                metrics::HEARTBEATS
                    .counter(&[("type", "total")])
                    .increment(1);
                let answer = pb::HeartbeatResponse {
                    volume_size_limit: state.options.volume_size_limit_bytes,
                    ..pb::HeartbeatResponse::default()
                };
                if send.send(Ok(answer)).await.is_err() {
                    break;
                }
            }
            if let Some(id) = id {
                state.left(&id);
            }
        });
        Ok(Response::new(ReceiverStream::new(receive).boxed()))
    }

    type KeepConnectedStream = Answers<pb::KeepConnectedResponse>;

    async fn keep_connected(
        &self,
        request: Request<Streaming<pb::KeepConnectedRequest>>,
    ) -> Result<Response<Self::KeepConnectedStream>, Status> {
        let mut requests = request.into_inner();
        let Some(mut hello) = requests.message().await? else {
            return Err(Status::invalid_argument("expected one message"));
        };
        if hello.client_address.is_empty() {
            hello.client_address = format!("{:032x}", rand::random::<u128>());
        }
        let state = Arc::clone(&self.state);
        let mut news = state.news.subscribe();
        let since_ns = now_ns();
        if state.members.lock().add(&hello, since_ns) {
            state.announce_client(&hello, Some(since_ns));
        }
        let whole = state.whole(&hello);
        let (send, receive) = mpsc::channel(64);
        tokio::spawn(async move {
            let feed = async {
                for message in whole {
                    if send.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                // A client that lags behind the queue is cut off and asks for everything.
                while let Ok(message) = news.recv().await {
                    if !is_for(&message, &hello) {
                        continue;
                    }
                    if send.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            };
            let gone = async { while let Ok(Some(_)) = requests.message().await {} };
            tokio::select! {
                () = feed => {}
                () = gone => {}
            }
            if state.members.lock().remove(&hello) {
                state.announce_client(&hello, None);
            }
        });
        Ok(Response::new(ReceiverStream::new(receive).boxed()))
    }

    async fn lookup_volume(
        &self,
        request: Request<pb::LookupVolumeRequest>,
    ) -> Result<Response<pb::LookupVolumeResponse>, Status> {
        let topology = self.state.topology.lock();
        let answer = |id: String| {
            let volume_id = id.split(',').next().and_then(|v| v.parse::<u32>().ok());
            let nodes = volume_id.map(|v| topology.locate(v)).unwrap_or_default();
            let error = if nodes.is_empty() {
                format!(
                    "volume id {} not found",
                    id.split(',').next().unwrap_or(&id)
                )
            } else {
                String::new()
            };
            let auth = if id.contains(',') {
                self.state.sign(&id)
            } else {
                String::new()
            };
            pb::lookup_volume_response::VolumeIdLocation {
                locations: nodes.into_iter().map(location).collect(),
                volume_or_file_id: id,
                error,
                auth,
            }
        };
        let ids = request.into_inner().volume_or_file_ids;
        let volume_id_locations = ids.into_iter().map(answer).collect();
        Ok(Response::new(pb::LookupVolumeResponse {
            volume_id_locations,
        }))
    }

    async fn assign(
        &self,
        request: Request<pb::AssignRequest>,
    ) -> Result<Response<pb::AssignResponse>, Status> {
        let assigned = self.state.assign(request.into_inner()).await?;
        let mut locations = assigned.locations.into_iter();
        Ok(Response::new(pb::AssignResponse {
            fid: assigned.fid,
            count: assigned.count,
            auth: assigned.auth,
            location: locations.next(),
            replicas: locations.collect(),
            error: String::new(),
        }))
    }

    type StreamAssignStream = Answers<pb::AssignResponse>;

    async fn stream_assign(
        &self,
        _: Request<Streaming<pb::AssignRequest>>,
    ) -> Result<Response<Self::StreamAssignStream>, Status> {
        unserved("StreamAssign")
    }

    async fn statistics(
        &self,
        request: Request<pb::StatisticsRequest>,
    ) -> Result<Response<pb::StatisticsResponse>, Status> {
        let collection = request.into_inner().collection;
        let topology = self.state.topology.lock();
        let mut reply = pb::StatisticsResponse::default();
        for node in topology.nodes.values() {
            let slots: u32 = node.max_volumes.values().sum();
            let size = u64::from(slots) * self.state.options.volume_size_limit_bytes;
            reply.total_size += size;
            reply.logical_total_size += size;
            for volume in node
                .volumes
                .values()
                .filter(|v| v.layout.collection == collection)
            {
                reply.used_size += volume.size;
                reply.logical_used_size += volume.size / copies(volume.layout.replication) as u64;
                reply.file_count += volume.file_count;
            }
        }
        Ok(Response::new(reply))
    }

    async fn collection_list(
        &self,
        _: Request<pb::CollectionListRequest>,
    ) -> Result<Response<pb::CollectionListResponse>, Status> {
        let topology = self.state.topology.lock();
        let volumes = topology
            .nodes
            .values()
            .flat_map(|node| node.volumes.values());
        let names: std::collections::BTreeSet<_> =
            volumes.map(|v| v.layout.collection.clone()).collect();
        let collections = names
            .into_iter()
            .map(|name| pb::Collection { name })
            .collect();
        Ok(Response::new(pb::CollectionListResponse { collections }))
    }

    async fn collection_delete(
        &self,
        request: Request<pb::CollectionDeleteRequest>,
    ) -> Result<Response<pb::CollectionDeleteResponse>, Status> {
        self.state
            .delete_collection(&request.get_ref().name)
            .await?;
        Ok(Response::new(pb::CollectionDeleteResponse {}))
    }

    async fn volume_list(
        &self,
        _: Request<pb::VolumeListRequest>,
    ) -> Result<Response<pb::VolumeListResponse>, Status> {
        Ok(Response::new(crate::tree::volume_list(&self.state)))
    }

    type VolumeListStreamStream = Answers<pb::VolumeListStreamResponse>;

    async fn volume_list_stream(
        &self,
        _: Request<pb::VolumeListRequest>,
    ) -> Result<Response<Self::VolumeListStreamStream>, Status> {
        unserved("VolumeListStream")
    }

    async fn lookup_ec_volume(
        &self,
        _: Request<pb::LookupEcVolumeRequest>,
    ) -> Result<Response<pb::LookupEcVolumeResponse>, Status> {
        unserved("LookupEcVolume")
    }

    async fn vacuum_volume(
        &self,
        _: Request<pb::VacuumVolumeRequest>,
    ) -> Result<Response<pb::VacuumVolumeResponse>, Status> {
        unserved("VacuumVolume")
    }

    async fn disable_vacuum(
        &self,
        _: Request<pb::DisableVacuumRequest>,
    ) -> Result<Response<pb::DisableVacuumResponse>, Status> {
        unserved("DisableVacuum")
    }

    async fn enable_vacuum(
        &self,
        _: Request<pb::EnableVacuumRequest>,
    ) -> Result<Response<pb::EnableVacuumResponse>, Status> {
        unserved("EnableVacuum")
    }

    async fn volume_mark_readonly(
        &self,
        request: Request<pb::VolumeMarkReadonlyRequest>,
    ) -> Result<Response<pb::VolumeMarkReadonlyResponse>, Status> {
        let r = request.into_inner();
        let mut topology = self.state.topology.lock();
        let url = format!("{}:{}", r.ip, r.port);
        for node in topology.nodes.values_mut().filter(|n| n.url == url) {
            if let Some(volume) = node.volumes.get_mut(&r.volume_id) {
                volume.is_read_only = r.is_readonly;
            }
        }
        Ok(Response::new(pb::VolumeMarkReadonlyResponse {}))
    }

    async fn get_master_configuration(
        &self,
        _: Request<pb::GetMasterConfigurationRequest>,
    ) -> Result<Response<pb::GetMasterConfigurationResponse>, Status> {
        let options = &self.state.options;
        Ok(Response::new(pb::GetMasterConfigurationResponse {
            default_replication: options.default_replication.clone(),
            leader: self.state.leader(),
            volume_size_limit_m_b: (options.volume_size_limit_bytes >> 20) as u32,
            ..pb::GetMasterConfigurationResponse::default()
        }))
    }

    async fn list_cluster_nodes(
        &self,
        request: Request<pb::ListClusterNodesRequest>,
    ) -> Result<Response<pb::ListClusterNodesResponse>, Status> {
        let r = request.into_inner();
        let limit = usize::try_from(r.limit)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(usize::MAX);
        let members = self.state.members.lock();
        let nodes = members.of(&r.client_type, &r.filer_group).take(limit);
        let cluster_nodes =
            nodes.map(
                |(address, member)| pb::list_cluster_nodes_response::ClusterNode {
                    address: address.to_owned(),
                    version: member.version.clone(),
                    created_at_ns: member.created_at_ns,
                    data_center: member.data_center.clone(),
                    rack: member.rack.clone(),
                },
            );
        Ok(Response::new(pb::ListClusterNodesResponse {
            cluster_nodes: cluster_nodes.collect(),
        }))
    }

    async fn lease_admin_token(
        &self,
        _: Request<pb::LeaseAdminTokenRequest>,
    ) -> Result<Response<pb::LeaseAdminTokenResponse>, Status> {
        unserved("LeaseAdminToken")
    }

    async fn release_admin_token(
        &self,
        _: Request<pb::ReleaseAdminTokenRequest>,
    ) -> Result<Response<pb::ReleaseAdminTokenResponse>, Status> {
        unserved("ReleaseAdminToken")
    }

    async fn get_admin_lock_status(
        &self,
        _: Request<pb::GetAdminLockStatusRequest>,
    ) -> Result<Response<pb::GetAdminLockStatusResponse>, Status> {
        unserved("GetAdminLockStatus")
    }

    async fn ping(
        &self,
        request: Request<pb::PingRequest>,
    ) -> Result<Response<pb::PingResponse>, Status> {
        let r = request.into_inner();
        if !r.target.is_empty() && r.target != self.state.leader() {
            let text = format!("unknown ping target {} of type {}", r.target, r.target_type);
            return Err(Status::invalid_argument(text));
        }
        let now = now_ns();
        Ok(Response::new(pb::PingResponse {
            start_time_ns: now,
            remote_time_ns: now,
            stop_time_ns: now_ns(),
        }))
    }

    async fn raft_list_cluster_servers(
        &self,
        _: Request<pb::RaftListClusterServersRequest>,
    ) -> Result<Response<pb::RaftListClusterServersResponse>, Status> {
        unserved("RaftListClusterServers")
    }

    async fn raft_add_server(
        &self,
        _: Request<pb::RaftAddServerRequest>,
    ) -> Result<Response<pb::RaftAddServerResponse>, Status> {
        unserved("RaftAddServer")
    }

    async fn raft_remove_server(
        &self,
        _: Request<pb::RaftRemoveServerRequest>,
    ) -> Result<Response<pb::RaftRemoveServerResponse>, Status> {
        unserved("RaftRemoveServer")
    }

    async fn raft_leadership_transfer(
        &self,
        _: Request<pb::RaftLeadershipTransferRequest>,
    ) -> Result<Response<pb::RaftLeadershipTransferResponse>, Status> {
        unserved("RaftLeadershipTransfer")
    }

    async fn volume_grow(
        &self,
        request: Request<pb::VolumeGrowRequest>,
    ) -> Result<Response<pb::VolumeGrowResponse>, Status> {
        let r = request.into_inner();
        let asked = pb::AssignRequest {
            replication: r.replication,
            collection: r.collection,
            ttl: r.ttl,
            disk_type: r.disk_type,
            data_center: r.data_center,
            rack: r.rack,
            data_node: r.data_node,
            ..pb::AssignRequest::default()
        };
        let wish = self.state.wish(&asked)?;
        let count = (r.writable_volume_count > 0).then_some(r.writable_volume_count as usize);
        grow_by(&self.state, &wish, count)
            .await
            .map_err(|e| Status::resource_exhausted(e.to_string()))?;
        Ok(Response::new(pb::VolumeGrowResponse {}))
    }

    async fn collection_statistics(
        &self,
        _: Request<pb::CollectionStatisticsRequest>,
    ) -> Result<Response<pb::CollectionStatisticsResponse>, Status> {
        unserved("CollectionStatistics")
    }
}
