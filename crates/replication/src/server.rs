// SPDX-License-Identifier: Apache-2.0
//! What peers call: handshake, pull, snapshot.

use std::sync::Arc;
use std::time::Duration;

use dulse_merge::change::MemberStep;
use dulse_merge::row::MemberRow;
use dulse_proto::replication::replication_server::Replication;
use dulse_proto::replication::{
    Heartbeat, Hello, PullBatch, PullRequest, Row, SnapshotPart, SnapshotRequest,
};
use dulse_replica::{Clock, SystemClock};
use dulse_types::{Origin, Stamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{Inner, convert};

/// Heartbeats come at least this often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

/// Bytes of changes in one batch.
const BATCH_BYTES: usize = 1 << 20;

/// Batches that wait for a slow puller; then the journal is read no further.
const BATCHES_AHEAD: usize = 4;

/// The service, to be served on the filer's gRPC port.
#[derive(Clone)]
pub struct ReplicationService {
    inner: Arc<Inner>,
}

impl ReplicationService {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    async fn handshake(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        let theirs = request.into_inner();
        if let Some(why) = convert::mismatch(&self.inner, &theirs) {
            return Err(Status::failed_precondition(why));
        }
        Ok(Response::new(convert::hello(&self.inner)))
    }

    type PullStream = ReceiverStream<Result<PullBatch, Status>>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let request = request.into_inner();
        if request.group != self.inner.options.group {
            return Err(Status::failed_precondition("another filer group"));
        }
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(feed(Arc::clone(&self.inner), request, send));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    type SnapshotStream = ReceiverStream<Result<SnapshotPart, Status>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = request.into_inner();
        if request.group != self.inner.options.group {
            return Err(Status::failed_precondition("another filer group"));
        }
        if convert::is_fresh(&self.inner) {
            return Err(Status::unavailable("this filer is fresh itself"));
        }
        self.join(&request).await?;
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || hand_out(&inner, &send));
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

impl ReplicationService {
    /// ⚠ The join is journaled before the snapshot is taken, so that from then on nothing
    /// is stable that the joiner has not acknowledged.
    async fn join(&self, request: &SnapshotRequest) -> Result<(), Status> {
        let shared = self.inner.store.shared();
        let members = shared.members().map_err(internal)?;
        let joiner = Origin(request.joiner);
        let is_member = members
            .iter()
            .any(|(o, row)| *o == joiner && row.state == MemberRow::MEMBER);
        if !is_member {
            let step = MemberStep::Join {
                member: joiner,
                address: request.address.clone(),
            };
            self.inner.store.member(step).await.map_err(internal)?;
            tracing::info!(joiner = %joiner, address = %request.address, "a filer joins");
        }
        Ok(())
    }
}

fn internal(error: dulse_store::Error) -> Status {
    Status::internal(error.to_string())
}

/// Sends one origin's durable changes as they come, and heartbeats.
async fn feed(
    inner: Arc<Inner>,
    request: PullRequest,
    send: mpsc::Sender<Result<PullBatch, Status>>,
) {
    let origin = Origin(request.origin);
    let mut after = Stamp(request.after);
    let mut progress = inner.store.progress();
    let mut stop = inner.stop.subscribe();
    loop {
        progress.borrow_and_update();
        let shared = Arc::clone(inner.store.shared());
        let read = move || shared.changes_after(origin, after, BATCH_BYTES);
        let records = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(records)) => records,
            Ok(Err(error)) => {
                let _ = send.send(Err(internal(error))).await;
                return;
            }
            Err(_) => return,
        };
        let is_idle = records.is_empty();
        if let Some(last) = records.last() {
            after = last.stamp;
        }
        if is_idle && request.is_once {
            return;
        }
        let changes = records.into_iter().map(|record| record.payload).collect();
        let heartbeat = heartbeat(&inner).await;
        let batch = PullBatch { changes, heartbeat };
        if send.send(Ok(batch)).await.is_err() {
            return;
        }
        if is_idle {
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

async fn heartbeat(inner: &Inner) -> Option<Heartbeat> {
    let shared = inner.store.shared();
    // Order: the promise first. What is stamped after it is above it; what was stamped
    // before is at or below the position read next.
    let promise = inner.store.promise().await.ok()?;
    let durable = shared.durable_vector();
    let (applied, sum) = shared.digest();
    Some(Heartbeat {
        position: applied.get(shared.origin()).0,
        durable: convert::positions(&durable),
        applied: convert::positions(&applied),
        digest: sum.sum.to_be_bytes().to_vec().into(),
        promise: promise.0,
        now_ns: SystemClock.now_ns(),
        known: convert::known(inner),
    })
}

/// Sends every row of one snapshot; runs on a thread that may block.
fn hand_out(inner: &Inner, send: &mpsc::Sender<Result<SnapshotPart, Status>>) {
    let mut export = match inner.store.shared().export() {
        Ok(export) => export,
        Err(error) => {
            let _ = send.blocking_send(Err(internal(error)));
            return;
        }
    };
    let first = SnapshotPart {
        vector: convert::positions(export.vector()),
        rows_total: inner.store.shared().n_entries(),
        ..SnapshotPart::default()
    };
    if send.blocking_send(Ok(first)).is_err() {
        return;
    }
    loop {
        let rows = match export.next_part() {
            Ok(rows) => rows,
            Err(error) => {
                let _ = send.blocking_send(Err(internal(error)));
                return;
            }
        };
        let is_last = rows.is_empty();
        let rows = rows
            .into_iter()
            .map(|(key, value)| Row { key, value })
            .collect();
        let part = SnapshotPart {
            rows,
            is_last,
            ..SnapshotPart::default()
        };
        if send.blocking_send(Ok(part)).is_err() || is_last {
            return;
        }
    }
}
