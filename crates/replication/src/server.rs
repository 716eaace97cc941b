// SPDX-License-Identifier: Apache-2.0
//! What peers call: handshake, pull, snapshot, and which chunks are freed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dulse_merge::change::MemberStep;
use dulse_proto::replication::replication_server::Replication;
use dulse_proto::replication::{
    FreedReply, FreedRequest, Hello, PullBatch, PullRequest, SnapshotPart, SnapshotRequest,
};
use dulse_replica::PART_ROWS;
use dulse_types::{Origin, Stamp};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::feed::{ANOTHER_FILER, BATCH_BYTES, Cursor, KeptCursor, Next, heartbeat, is_asked};
use crate::{Inner, JUDGED_SINCE, convert, freed, metrics};

type Sender = mpsc::Sender<Result<PullBatch, Status>>;

/// Heartbeats come at least this often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

/// Batches that wait for a slow puller; then the journal is read no further.
const BATCHES_AHEAD: usize = 4;

/// Streams handed out at once; a cluster has a handful of filers.
const FEEDS_MAX: usize = 1024;

/// Snapshots handed out at once: each holds an engine snapshot open.
const SNAPSHOTS_MAX: usize = 2;

/// A log up to this size goes to a joiner whole when a member has not been heard of.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// The service, to be served on the filer's gRPC port.
#[derive(Clone)]
pub struct ReplicationService {
    inner: Arc<Inner>,
    snapshots: Arc<Semaphore>,
    freed: Arc<Semaphore>,
}

impl ReplicationService {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            freed: freed::slots(),
        }
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    async fn handshake(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        let theirs = request.into_inner();
        if let Some(why) = convert::mismatch(&self.inner, &theirs) {
            return Err(Status::failed_precondition(why));
        }
        let origin = Origin(theirs.origin);
        let met = self.inner.store.shared().met(origin);
        met.map_err(|error| Status::internal(error.to_string()))?;
        if let Ok(address) = theirs.address.parse() {
            let now = self.inner.now();
            let is_news = {
                let mut core = self.inner.core.lock();
                core.called_as(now, origin, theirs.instance);
                core.called_by(now, origin, &address)
            };
            if is_news {
                self.inner.wake.notify_one();
            }
        }
        let promised = self.inner.core.lock().promised_by(origin);
        // No more than subscribers were told on its word: its clock may have been an hour ahead.
        let told = self.inner.told.load(Ordering::Relaxed);
        Ok(Response::new(Hello {
            promised: promised.0.min(told),
            ..convert::hello(&self.inner)
        }))
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
        if !is_asked(self.inner.instance, request.instance) {
            return Err(Status::failed_precondition(ANOTHER_FILER));
        }
        let fed = Fed::new(&self.inner);
        if self.inner.n_feeds.load(Ordering::Relaxed) > FEEDS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{FEEDS_MAX} streams are handed out already"
            )));
        }
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(async move { feed(&fed.0, &request, &send).await });
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
        if self.inner.store.shared().is_fresh() {
            return Err(Status::unavailable("this filer is fresh itself"));
        }
        // ⚠ It would journal the join under an origin that may be another's by now.
        let why = self.inner.core.lock().not_ready().map(str::to_owned);
        if let Some(why) = why {
            return Err(Status::unavailable(format!(
                "this filer is not ready: {why}"
            )));
        }
        let slots = Arc::clone(&self.snapshots);
        let slot = slots.try_acquire_owned().map_err(|_| {
            Status::unavailable(format!("{SNAPSHOTS_MAX} snapshots are handed out already"))
        })?;
        self.join(&request).await?;
        let (send, receive) = mpsc::channel(BATCHES_AHEAD);
        let inner = Arc::clone(&self.inner);
        inner.n_transfers.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || {
            hand_out(&inner, &request, &send);
            inner.n_transfers.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn freed(&self, request: Request<FreedRequest>) -> Result<Response<FreedReply>, Status> {
        let answer = freed::answer(&self.inner, &self.freed, request.into_inner()).await;
        answer.map(Response::new)
    }
}

impl ReplicationService {
    /// ⚠ The join is journaled before the snapshot is taken, so that from then on nothing
    /// is stable that the joiner has not acknowledged; here, though another filer may have done
    /// so before ([`dulse_replica::Shared::has_admitted`]).
    async fn join(&self, request: &SnapshotRequest) -> Result<(), Status> {
        let shared = self.inner.store.shared();
        let joiner = Origin(request.joiner);
        if !shared.has_admitted(joiner).map_err(internal)? {
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

/// Counts a stream that is handed out.
struct Fed(Arc<Inner>);

impl Fed {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.n_feeds.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(inner))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.0.n_feeds.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends one origin's durable changes as they come, and heartbeats. A filer that stops sends
/// what is left, says that it stops, and ends the stream.
async fn feed(inner: &Inner, request: &PullRequest, send: &Sender) {
    let mut cursor = Cursor {
        origin: Origin(request.origin),
        after: Stamp(request.after),
    };
    let mut progress = inner.store.progress();
    let mut stop = inner.stop.subscribe();
    loop {
        progress.borrow_and_update();
        let is_stopping = *stop.borrow();
        let shared = Arc::clone(inner.store.shared());
        let read = tokio::task::spawn_blocking(move || {
            let next = cursor.next(&shared, BATCH_BYTES);
            // Only for showing the lag: a log that cannot be read is told by `next`.
            let n_behind = cursor.n_behind(&shared).unwrap_or(0);
            (cursor, next, n_behind)
        });
        let (changes, n_behind) = match read.await {
            Ok((moved, Ok(Next::Changes(changes)), n_behind)) => {
                cursor = moved;
                metrics::SENT.add(changes.len() as u64);
                (changes, n_behind)
            }
            Ok((_, Ok(Next::Idle), _)) => (Vec::new(), 0),
            Ok((_, Ok(Next::Cut(at)), _)) => {
                let why = format!("changes up to {at} are no longer in this filer's log");
                let _ = send.send(Err(convert::log_cut(why))).await;
                return;
            }
            Ok((_, Err(error), _)) => {
                let _ = send.send(Err(internal(error))).await;
                return;
            }
            Err(_) => return,
        };
        let is_idle = changes.is_empty();
        if is_idle && request.is_once {
            return;
        }
        if inner.store.shared().needs_ceiling() && inner.store.promise().await.is_err() {
            return;
        }
        let known = convert::all_known(inner);
        let is_own = cursor.origin == inner.origin();
        // What is not on disk yet is sent first: nobody else would have the last of it.
        let position = inner.store.shared().vector().get(cursor.origin);
        let is_whole = !is_own || cursor.after >= position;
        let is_last = is_stopping && is_idle && is_whole;
        let is_awaited = !is_idle && is_own && inner.store.is_awaited();
        let mut heartbeat = heartbeat(inner.store.shared(), known, is_last);
        heartbeat.leaving = inner.core.lock().who_leaves();
        if inner.options.protocol < JUDGED_SINCE {
            heartbeat.judged.clear();
        }
        let heartbeat = Some(heartbeat);
        if send
            .send(Ok(PullBatch {
                changes,
                heartbeat,
                n_behind,
                is_awaited,
            }))
            .await
            .is_err()
            || is_last
        {
            return;
        }
        if is_idle {
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                _ = stop.wait_for(|stop| *stop), if !is_stopping => {}
                () = send.closed() => return,
            }
        }
    }
}

/// Sends every row of one snapshot, and the changes before it that some member may lack;
/// runs on a thread that may block.
fn hand_out(
    inner: &Inner,
    request: &SnapshotRequest,
    send: &mpsc::Sender<Result<SnapshotPart, Status>>,
) {
    if let Err(error) = hand_all(inner, request, send) {
        // A joiner that went away needs no answer.
        let _ = send.blocking_send(Err(internal(error)));
    }
}

fn hand_all(
    inner: &Inner,
    request: &SnapshotRequest,
    send: &mpsc::Sender<Result<SnapshotPart, Status>>,
) -> Result<(), dulse_store::Error> {
    let shared = inner.store.shared();
    let mut export = shared.export()?;
    let vector = export.vector().clone();
    let is_resumed = match &request.resume {
        Some(resume) => export.resume(shared, &convert::cursor(resume))?,
        None => false,
    };
    // ⚠ Each member's log holds what another may lack, so that it can be relayed though its
    // origin and the provider are lost. A log too long for that is sent only as far as needed
    // by those who are known to be there.
    let only_heard = shared.journal().size_bytes() > KEPT_BYTES_MAX;
    let joiner = Origin(request.joiner);
    let floor = inner.with(|core, view| core.floor(view, joiner, only_heard));
    let first = SnapshotPart {
        vector: convert::positions(&vector),
        rows_total: shared.n_entries(),
        is_resumed,
        ..SnapshotPart::default()
    };
    let mut is_gone = send.blocking_send(Ok(first)).is_err();
    while !is_gone {
        let part = export.next_part(PART_ROWS)?;
        if part.is_empty() {
            break;
        }
        is_gone = send.blocking_send(Ok(convert::part(part))).is_err();
    }
    let mut cursor = KeptCursor::new(floor.as_ref(), &vector);
    while !is_gone {
        let kept = cursor.next(shared, BATCH_BYTES)?;
        let part = SnapshotPart {
            is_last: kept.is_empty(),
            kept,
            ..SnapshotPart::default()
        };
        let is_last = part.is_last;
        is_gone = send.blocking_send(Ok(part)).is_err() || is_last;
    }
    Ok(())
}
