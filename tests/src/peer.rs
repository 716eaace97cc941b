// SPDX-License-Identifier: Apache-2.0
//! A filer that is none: it speaks the filers' protocol, is a member, and sends what it is told
//! to, such as changes of a kind that nobody knows.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use dulse_merge::Change;
use dulse_merge::change::{KvStep, Step};
use dulse_merge::codec::CHANGE_VERSION;
use dulse_proto::replication::replication_client::ReplicationClient;
use dulse_proto::replication::replication_server::{Replication, ReplicationServer};
use dulse_proto::replication::{
    FreedReply, FreedRequest, Heartbeat, Hello, Position, PullBatch, PullRequest, SnapshotPart,
    SnapshotRequest,
};
use dulse_types::{Origin, ServerAddress, Stamp};
use futures::Stream;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use crate::{Cluster, free_port};

/// Batches come this often, at most.
const BATCH_EVERY: Duration = Duration::from_millis(100);

/// One change: as it is, and as it is sent.
struct Sent {
    stamp: Stamp,
    right: Bytes,
    sent: Bytes,
}

#[derive(Default)]
struct Log {
    changes: Vec<Sent>,
    /// Behind which stamp each pull began.
    pulls: Vec<Stamp>,
}

/// See the module; it stops when dropped.
pub struct Peer {
    speaker: Speaker,
    serving: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Peer {
    /// Joins the cluster through its first filer, and has every filer know it.
    ///
    /// # Errors
    ///
    /// When it is not let in.
    pub async fn join(cluster: &Cluster) -> Result<Self> {
        let port = free_port()?;
        let speaker = Speaker {
            origin: Origin(rand::random_range(1 << 32..u64::MAX) | 1),
            instance: rand::random(),
            address: ServerAddress::new("127.0.0.1", port, 0)?.to_string(),
            log: Arc::default(),
        };
        let service = ReplicationServer::new(speaker.clone());
        let socket = format!("127.0.0.1:{}", port + 10_000).parse()?;
        let serving = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            // What it cannot do shows in the test: nobody pulls.
            let _ = server.serve(socket).await;
        });
        let peer = Self { speaker, serving };
        let request = SnapshotRequest {
            joiner: peer.speaker.origin.0,
            address: peer.speaker.address.clone(),
            ..SnapshotRequest::default()
        };
        let mut parts = client(cluster, 0)
            .await?
            .snapshot(request)
            .await?
            .into_inner();
        while parts.message().await?.is_some() {}
        for filer in 0..cluster.filers.len() {
            peer.greet(cluster, filer).await?;
        }
        Ok(peer)
    }

    /// Has a filer know where it is.
    ///
    /// # Errors
    ///
    /// When the filer does not talk with it.
    pub async fn greet(&self, cluster: &Cluster, filer: usize) -> Result<()> {
        let mut filer = client(cluster, filer).await?;
        filer.handshake(self.speaker.hello()).await?;
        Ok(())
    }

    /// Its origin, as operators read it.
    #[must_use]
    pub fn origin(&self) -> String {
        self.speaker.origin.to_string()
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: &str) {
        self.append(key, value, None);
    }

    /// Writes a key by a change that is sent with another kind, until [`Peer::mend`].
    pub fn put_of_kind(&self, kind: u8, key: &str, value: &str) {
        self.append(key, value, Some(kind));
    }

    /// From now on everything is sent as it is.
    pub fn mend(&self) {
        for change in &mut self.speaker.log().changes {
            change.sent = change.right.clone();
        }
    }

    /// Behind which stamp each pull began so far.
    #[must_use]
    pub fn pulls(&self) -> Vec<Stamp> {
        self.speaker.log().pulls.clone()
    }

    /// Stamp of its n-th change.
    ///
    /// # Errors
    ///
    /// When it has not made that many.
    pub fn stamp(&self, n: usize) -> Result<Stamp> {
        let log = self.speaker.log();
        Ok(log.changes.get(n).context("a change")?.stamp)
    }

    fn append(&self, key: &str, value: &str, kind: Option<u8>) {
        let mut log = self.speaker.log();
        let prev = log.last();
        let stamp = Stamp(now_ns().max(prev.0 + 1));
        let mut change = Change {
            origin: self.speaker.origin,
            first: stamp,
            stamp,
            prev,
            signatures: vec![self.speaker.origin.signature()],
            is_from_other_cluster: false,
            steps: Vec::new(),
        };
        // The kind of the first step is the byte behind the number of steps.
        let at = change.encode().len();
        change.steps.push(Step::Kv(KvStep {
            offset: 0,
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        }));
        let right = change.encode();
        let mut sent = right.to_vec();
        if let (Some(kind), Some(byte)) = (kind, sent.get_mut(at)) {
            *byte = kind;
        }
        log.changes.push(Sent {
            stamp,
            right,
            sent: sent.into(),
        });
    }
}

/// A peer that asks a filer for all changes of an origin behind a stamp and takes none of them.
///
/// # Errors
///
/// When the filer does not answer.
pub async fn pull_and_rest(
    cluster: &Cluster,
    filer: usize,
    origin: Origin,
    after: Stamp,
) -> Result<tonic::Streaming<PullBatch>> {
    let request = PullRequest {
        puller: rand::random_range(1 << 32..u64::MAX) | 1,
        origin: origin.0,
        after: after.0,
        ..PullRequest::default()
    };
    Ok(client(cluster, filer)
        .await?
        .pull(request)
        .await?
        .into_inner())
}

async fn client(
    cluster: &Cluster,
    filer: usize,
) -> Result<ReplicationClient<tonic::transport::Channel>> {
    let port = cluster.filer_ports[filer] + 10_000;
    Ok(ReplicationClient::connect(format!("http://127.0.0.1:{port}")).await?)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0))
}

impl Log {
    fn last(&self) -> Stamp {
        self.changes.last().map_or(Stamp::ZERO, |last| last.stamp)
    }
}

/// What filers call.
#[derive(Clone)]
struct Speaker {
    origin: Origin,
    instance: u64,
    address: String,
    log: Arc<Mutex<Log>>,
}

impl Speaker {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vector(&self) -> Vec<Position> {
        vec![Position {
            origin: self.origin.0,
            stamp: self.log().last().0,
        }]
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            store_kind: "embedded".to_owned(),
            origin: self.origin.0,
            format: u32::from(CHANGE_VERSION),
            address: self.address.clone(),
            is_ready: true,
            vector: self.vector(),
            instance: self.instance,
            now_ns: now_ns(),
            started_ns: now_ns(),
            ..Hello::default()
        }
    }

    /// What there is behind a stamp, which moves.
    fn batch(&self, after: &mut Stamp) -> PullBatch {
        let log = self.log();
        let behind = log.changes.iter().filter(|change| change.stamp > *after);
        let changes = behind.map(|change| change.sent.clone()).collect();
        *after = log.last().max(*after);
        let position = log.last().0;
        drop(log);
        PullBatch {
            changes,
            heartbeat: Some(Heartbeat {
                position,
                durable: self.vector(),
                applied: self.vector(),
                promise: position,
                now_ns: now_ns(),
                ..Heartbeat::default()
            }),
            ..PullBatch::default()
        }
    }
}

#[tonic::async_trait]
impl Replication for Speaker {
    async fn handshake(&self, _: Request<Hello>) -> Result<Response<Hello>, Status> {
        Ok(Response::new(self.hello()))
    }

    type PullStream = Pin<Box<dyn Stream<Item = Result<PullBatch, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let request = request.into_inner();
        if request.origin != self.origin.0 {
            return Ok(Response::new(Box::pin(futures::stream::empty())));
        }
        let after = Stamp(request.after);
        self.log().pulls.push(after);
        let batches =
            futures::stream::unfold((self.clone(), after), |(peer, mut after)| async move {
                let batch = peer.batch(&mut after);
                if batch.changes.is_empty() {
                    tokio::time::sleep(BATCH_EVERY).await;
                }
                Some((Ok(batch), (peer, after)))
            });
        Ok(Response::new(Box::pin(batches)))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotPart, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unavailable("this filer has no state"))
    }

    async fn freed(&self, _: Request<FreedRequest>) -> Result<Response<FreedReply>, Status> {
        Ok(Response::new(FreedReply::default()))
    }
}
