// SPDX-License-Identifier: Apache-2.0
//! The master over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dulse_proto::master as pb;
use dulse_proto::master::seaweed_server::Seaweed;
use dulse_types::FileId;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::MasterOptions;
use crate::cluster::Members;
use crate::growth::grow;
use crate::metrics;
use crate::stored::Stored;
use crate::topology::{Delta, Layout, Node, Topology, copies, parse_replication, parse_ttl};

/// A boxed answer stream.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for one client; a slower one is cut off and gets the whole state when
/// it connects again.
const MESSAGES_AHEAD: usize = 10_000;

/// How long an assign waits for volumes to be made.
const GROWTH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Most file ids of one assign.
const ASSIGN_COUNT_MAX: u64 = 1 << 20;

/// Life of a token for a write.
const TOKEN_LIFE_S: u64 = 10;

/// What all requests share.
pub struct State {
    pub(crate) options: MasterOptions,
    pub(crate) topology: Mutex<Topology>,
    pub(crate) members: Mutex<Members>,
    pub(crate) stored: Mutex<Stored>,
    /// Held while volumes are made, so that a rush makes them once.
    pub(crate) growing: tokio::sync::Mutex<()>,
    news: broadcast::Sender<pb::KeepConnectedResponse>,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct MasterService {
    state: Arc<State>,
}

/// A place for chunks.
pub(crate) struct Assigned {
    pub(crate) fid: String,
    pub(crate) count: u64,
    pub(crate) auth: String,
    pub(crate) locations: Vec<pb::Location>,
}

impl MasterService {
    /// A service over stored state.
    #[must_use]
    pub(crate) fn new(options: MasterOptions, stored: Stored) -> Self {
        let mut topology = Topology::default();
        topology.saw_key(stored.key_ceiling().saturating_sub(1));
        Self {
            state: Arc::new(State {
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

    pub(crate) fn layout(&self, r: &pb::AssignRequest) -> Result<Layout, Status> {
        let text = if r.replication.is_empty() {
            &self.options.default_replication
        } else {
            &r.replication
        };
        let replication = parse_replication(text).map_err(|e| Status::unknown(e.to_string()))?;
        let ttl = parse_ttl(&r.ttl)
            .ok_or_else(|| Status::unknown(format!("unexpected ttl: {}", r.ttl)))?;
        let disk_type = if r.disk_type == "hdd" {
            String::new()
        } else {
            r.disk_type.clone()
        };
        Ok(Layout {
            collection: r.collection.clone(),
            replication,
            ttl,
            disk_type,
        })
    }

    /// Upstream's text, which filers take as leave to ask without a data center.
    fn check_data_center(&self, name: &str) -> Result<(), Status> {
        let topology = self.topology.lock();
        let mut nodes = topology.nodes.values();
        if name.is_empty() || topology.nodes.is_empty() || nodes.any(|n| n.data_center == name) {
            return Ok(());
        }
        Err(Status::unknown(format!(
            "data center {name} not found in topology"
        )))
    }

    pub(crate) async fn assign(&self, r: pb::AssignRequest) -> Result<Assigned, Status> {
        let assigned = self.assign_any(r).await;
        match &assigned {
            Ok(assigned) => metrics::ASSIGNED.add(assigned.count),
            Err(_) => metrics::PICK_ERRORS.add(1),
        }
        assigned
    }

    async fn assign_any(&self, r: pb::AssignRequest) -> Result<Assigned, Status> {
        let layout = self.layout(&r)?;
        self.check_data_center(&r.data_center)?;
        let deadline = Instant::now() + GROWTH_WAIT_MAX;
        loop {
            if let Some(assigned) = self.pick(&layout, &r) {
                return Ok(assigned);
            }
            // Growth does not look at these filters yet: it is no help where they fit nothing.
            let is_filtered = [&r.data_center, &r.rack, &r.data_node]
                .iter()
                .any(|filter| !filter.is_empty());
            if is_filtered {
                return Err(Status::resource_exhausted(format!(
                    "no writable volumes for {layout:?} in data center `{}`, rack `{}`, node `{}`",
                    r.data_center, r.rack, r.data_node
                )));
            }
            if let Err(error) = grow(self, &layout, &r.ttl, None).await {
                let text = format!("{error} for {layout:?}");
                if Instant::now() > deadline || self.topology.lock().nodes.is_empty() {
                    return Err(Status::resource_exhausted(text));
                }
            }
            if Instant::now() > deadline {
                return Err(Status::resource_exhausted(format!(
                    "no writable volumes for {layout:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pick(&self, layout: &Layout, r: &pb::AssignRequest) -> Option<Assigned> {
        let count = r.count.clamp(1, ASSIGN_COUNT_MAX);
        let mut topology = self.topology.lock();
        let fits = |node: &Node| {
            (r.data_center.is_empty() || node.data_center == r.data_center)
                && (r.rack.is_empty() || node.rack == r.rack)
                && (r.data_node.is_empty() || node.url == r.data_node)
        };
        let (volume_id, locations) = {
            let open = topology.writable(layout, self.options.volume_size_limit_bytes);
            let open: Vec<_> = open
                .into_iter()
                .filter(|(_, nodes)| nodes.iter().any(|n| fits(n)))
                .collect();
            if open.is_empty() {
                return None;
            }
            let (id, nodes) = &open[rand::random_range(0..open.len())];
            (
                *id,
                nodes.iter().map(|node| location(node)).collect::<Vec<_>>(),
            )
        };
        let key = topology.keys(count);
        // ⚠ A key given twice would be two files in one needle.
        let raised = self.stored.lock().raise_keys(key.saturating_add(count));
        if let Err(error) = raised {
            tracing::error!(%error, "file keys cannot be given out");
            return None;
        }
        let fid = FileId {
            volume_id,
            key,
            cookie: rand::random(),
        }
        .to_string();
        let auth = self.sign(&fid);
        Some(Assigned {
            fid,
            count,
            auth,
            locations,
        })
    }

    /// A token that lets its bearer write this file id; empty without a key.
    pub(crate) fn sign(&self, fid: &str) -> String {
        if self.options.signing_key.is_empty() {
            return String::new();
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let claims = serde_json::json!({ "fid": fid, "exp": now + TOKEN_LIFE_S });
        let key = jsonwebtoken::EncodingKey::from_secret(self.options.signing_key.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap_or_default()
    }

    /// Server connected or reported.
    fn met(&self, beat: &pb::Heartbeat, id: &str) {
        let mut topology = self.topology.lock();
        let node = topology.nodes.entry(id.to_owned()).or_default();
        node.n_streams += 1;
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
                    .map(|(disk, max)| {
                        (
                            if disk == "hdd" {
                                String::new()
                            } else {
                                disk.clone()
                            },
                            *max,
                        )
                    })
                    .collect();
            }
            let mut delta = topology.deltas(id, beat);
            if !beat.volumes.is_empty() || beat.has_no_volumes {
                let full = topology.full_list(id, &beat.volumes);
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
        for (address, _) in members.of("filer", &request.filer_group) {
            out.push(node_news("filer", address, &request.filer_group, true));
        }
        out
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
    is_add: bool,
) -> pb::KeepConnectedResponse {
    pb::KeepConnectedResponse {
        cluster_node_update: Some(pb::ClusterNodeUpdate {
            node_type: node_type.to_owned(),
            address: address.to_owned(),
            is_add,
            filer_group: group.to_owned(),
            ..pb::ClusterNodeUpdate::default()
        }),
        ..pb::KeepConnectedResponse::default()
    }
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
                let id = id.get_or_insert_with(|| {
                    let id = if beat.id.is_empty() {
                        format!("{}:{}", beat.ip, beat.port)
                    } else {
                        beat.id.clone()
                    };
                    state.met(&beat, &id);
                    id
                });
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
        let is_new = state.members.lock().add(&hello, now_ns());
        if is_new {
            let (kind, address) = (&hello.client_type, &hello.client_address);
            let _ = state
                .news
                .send(node_news(kind, address, &hello.filer_group, true));
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
                let (kind, address) = (&hello.client_type, &hello.client_address);
                let _ = state
                    .news
                    .send(node_news(kind, address, &hello.filer_group, false));
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
        use dulse_proto::volume::DeleteCollectionRequest;
        use dulse_proto::volume::volume_server_client::VolumeServerClient;
        let collection = request.into_inner().name;
        let servers: Vec<String> = {
            let topology = self.state.topology.lock();
            let host = |url: &str| {
                url.rsplit_once(':')
                    .map_or(url.to_owned(), |(h, _)| h.to_owned())
            };
            topology
                .nodes
                .values()
                .map(|n| format!("http://{}:{}", host(&n.url), n.grpc_port))
                .collect()
        };
        for server in servers {
            let client = VolumeServerClient::connect(server).await;
            let mut client = client.map_err(|e| Status::unavailable(e.to_string()))?;
            let request = DeleteCollectionRequest {
                collection: collection.clone(),
            };
            client.delete_collection(request).await?;
        }
        Ok(Response::new(pb::CollectionDeleteResponse {}))
    }

    async fn volume_list(
        &self,
        _: Request<pb::VolumeListRequest>,
    ) -> Result<Response<pb::VolumeListResponse>, Status> {
        Ok(Response::new(crate::web::volume_list(&self.state)))
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
            ttl: r.ttl.clone(),
            disk_type: r.disk_type,
            ..pb::AssignRequest::default()
        };
        let layout = self.state.layout(&asked)?;
        let count = (r.writable_volume_count > 0).then_some(r.writable_volume_count as usize);
        grow(&self.state, &layout, &r.ttl, count)
            .await
            .map_err(Status::resource_exhausted)?;
        Ok(Response::new(pb::VolumeGrowResponse {}))
    }

    async fn collection_statistics(
        &self,
        _: Request<pb::CollectionStatisticsRequest>,
    ) -> Result<Response<pb::CollectionStatisticsResponse>, Status> {
        unserved("CollectionStatistics")
    }
}
