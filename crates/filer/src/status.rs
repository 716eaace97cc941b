// SPDX-License-Identifier: Apache-2.0
//! What an operator asks: served at once, also before the filer is ready.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dulse_proto::status::filer_status_server::FilerStatus;
use dulse_proto::status::{
    BucketDigest, BucketsReply, BucketsRequest, Component, Conflicts, DigestsRequest,
    DirectoryDigest, DirectoryRowsRequest, FormerMember, LogHolder, Peer, Repairs, RowHash,
    ScrubProgress, ScrubRequest, StatusReply, StatusRequest, StuckOrigin, Transfer, TreeChange,
};
use dulse_replica::{ConflictCounts, Page, TreeProgress, TreeState};
use dulse_replication::repair::ScrubStatus;
use dulse_types::Vector;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::grpc::{Answers, now_ns};
use crate::shared::{OnShared, State};
use crate::state::{Embedded, FilerState, Kept};

/// Dropped chunks counted for the status at most; more show as this number.
const GARBAGE_COUNT_MAX: usize = 100_000;

/// Whoever waits for a pass hears at least this often.
const SCRUB_SILENCE: Duration = Duration::from_secs(2);

/// The service.
#[derive(Clone)]
pub struct StatusService {
    state: Arc<FilerState>,
}

impl StatusService {
    /// A service over the filer's state.
    #[must_use]
    pub fn new(state: Arc<FilerState>) -> Self {
        Self { state }
    }
}

fn progress(own: &Embedded, scrub: ScrubStatus) -> ScrubProgress {
    ScrubProgress {
        is_running: scrub.is_running,
        rows: scrub.n_rows,
        entries: own.store.shared().n_entries(),
        found: scrub.n_found,
        unrepaired: scrub.n_left,
        last_pass_ns: scrub.last_pass_ns,
    }
}

fn components(vector: &Vector) -> Vec<Component> {
    vector
        .iter()
        .map(|(origin, stamp)| Component {
            origin: origin.0,
            stamp: stamp.0,
        })
        .collect()
}

fn tree_change(tree: &TreeProgress) -> TreeChange {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let (state, reason) = match &tree.state {
        TreeState::Running => ("running", ""),
        TreeState::Held => ("held", ""),
        TreeState::Waiting(why) => ("waiting", why.as_str()),
    };
    TreeChange {
        path: text(&tree.path),
        to: tree.to.as_deref().map(text).unwrap_or_default(),
        names: tree.n_names,
        parts: tree.n_parts,
        left: tree.n_left,
        state: state.to_owned(),
        reason: reason.to_owned(),
        since_ns: tree.intent.stamp.0,
    }
}

fn conflicts(counts: ConflictCounts) -> Conflicts {
    Conflicts {
        data: counts.n_data,
        shadows: counts.n_shadows,
        pending: counts.n_pending,
        pinned_bytes: counts.pinned_bytes,
    }
}

/// The member for which the logs are kept longest, if there is one.
pub(crate) fn log_holder(own: &Embedded) -> Option<LogHolder> {
    let members = own.replicator.members();
    let holding = members.iter().filter(|member| member.holds_back.is_some());
    let holder = holding.min_by_key(|member| member.holds_back)?;
    let newest = members.iter().map(|member| member.last_known).max();
    let behind = newest.unwrap_or_default().0 - holder.holds_back.unwrap_or_default().0;
    let address = holder.address.as_ref();
    Some(LogHolder {
        origin: holder.origin.0,
        address: address.map(ToString::to_string).unwrap_or_default(),
        state: holder.state.as_str().to_owned(),
        seconds: behind.max(0) as f64 / 1e9,
    })
}

/// What a filer with a store of its own is.
fn embedded(state: &FilerState, own: &Embedded) -> Result<StatusReply, Status> {
    let shared = own.store.shared();
    let (vector, sum) = shared.digest();
    let not_ready = state.not_ready();
    let peers = own.replicator.peers().into_iter().map(|peer| Peer {
        origin: peer.origin.0,
        address: peer.address.to_string(),
        state: peer.state.as_str().to_owned(),
        lag_changes: peer.lag_changes,
        lag_seconds: peer.lag_seconds,
        lag_bytes: peer.lag_bytes,
        last_error: peer.last_error,
    });
    let gone = own.replicator.gone().into_iter().map(|gone| FormerMember {
        origin: gone.origin.0,
        address: gone.address.map(|a| a.to_string()).unwrap_or_default(),
        state: gone.how.as_str().to_owned(),
    });
    let stuck = own.replicator.stuck().into_iter();
    let stuck = stuck.map(|(origin, reason)| StuckOrigin {
        origin: origin.0,
        reason,
    });
    let garbage = shared.garbage(None, GARBAGE_COUNT_MAX).map_err(internal)?;
    Ok(StatusReply {
        conflicts: Some(conflicts(shared.conflict_counts())),
        address: state.options.address.to_string(),
        origin: shared.origin().0,
        engine: shared.engine_name().to_owned(),
        group: state.options.group.clone(),
        ready: not_ready.is_none(),
        not_ready_reason: not_ready.unwrap_or_default(),
        vector: components(&vector),
        durable_vector: components(&shared.durable_vector()),
        digest: sum.sum.to_be_bytes().to_vec().into(),
        entries: u64::try_from(sum.count).unwrap_or(0),
        peers: peers.collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ns: now_ns(),
        garbage_chunks: garbage.len() as u64,
        changes_applied: own.store.progress().borrow().n_changes,
        repairs: Some(Repairs {
            divergent_peers: u32::try_from(own.replicator.n_divergent()).unwrap_or(u32::MAX),
            scrub: Some(progress(own, own.replicator.scrub_status())),
        }),
        transfer: own.replicator.transfer().map(|t| Transfer {
            rows: t.rows,
            rows_total: t.rows_total,
            bytes: t.bytes,
            eta_seconds: t.eta_seconds(),
        }),
        gone: gone.collect(),
        tree_changes: shared.trees().iter().map(tree_change).collect(),
        stuck: stuck.collect(),
        log_holder: log_holder(own),
        not_safe_to_stop: own.replicator.why_not_stop(),
        clock_lead_seconds: crate::metrics::lead_seconds(own.replicator.clock()),
        clock_refuses: own.replicator.clock().refuses(),
        writes_awaited: own.store.n_awaited() as u64,
        log_failed: shared.journal().is_poisoned(),
        engine_failed: shared.is_behind(),
        store_kind: "embedded".to_owned(),
        store_place: String::new(),
    })
}

/// What a filer on a shared store is. What only replicas have is empty.
fn on_shared(state: &FilerState, on: &OnShared) -> StatusReply {
    let not_ready = state.not_ready();
    let limit = *on.store.announced().borrow();
    let peers = on.others.all().into_iter().map(|other| Peer {
        origin: other.origin.map_or(0, |origin| origin.0),
        address: other.address.to_string(),
        state: other.state.as_str().to_owned(),
        // Of promises: nothing is missing here but what it announced since.
        lag_seconds: match other.state {
            State::Following => (limit.0 - other.promise.0).max(0) as f64 / 1e9,
            _ => 0.0,
        },
        last_error: other.last_error,
        ..Peer::default()
    });
    StatusReply {
        address: state.options.address.to_string(),
        origin: on.origin().0,
        engine: on.store.name().to_owned(),
        group: state.options.group.clone(),
        ready: not_ready.is_none(),
        not_ready_reason: not_ready.unwrap_or_default(),
        vector: components(&on.readable()),
        peers: peers.collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ns: now_ns(),
        garbage_chunks: on.n_dropped.load(Ordering::Relaxed),
        log_failed: on.store.journal_failed(),
        store_kind: "shared".to_owned(),
        store_place: on.settings.place.clone(),
        ..StatusReply::default()
    }
}

fn internal(error: dulse_store::Error) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl FilerStatus for StatusService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let mut reply = match &self.state.kept {
            Kept::Embedded(own) => embedded(&self.state, own)?,
            Kept::Shared(on) => on_shared(&self.state, on),
        };
        for on in &self.state.located {
            reply.garbage_chunks += on.n_dropped.load(Ordering::Relaxed);
            reply.log_failed |= on.store.journal_failed();
            if !reply.store_place.is_empty() {
                reply.store_place.push_str("; ");
            }
            reply.store_place.push_str(&on.settings.place);
        }
        Ok(Response::new(reply))
    }

    async fn buckets(&self, _: Request<BucketsRequest>) -> Result<Response<BucketsReply>, Status> {
        let sums = self
            .state
            .embedded()?
            .store
            .shared()
            .bucket_digests()
            .into_iter();
        let buckets = sums.map(|(bucket, sum)| BucketDigest {
            bucket: bucket.into(),
            sum: sum.sum.to_be_bytes().to_vec().into(),
            count: u64::try_from(sum.count).unwrap_or(0),
        });
        let buckets = buckets.collect();
        Ok(Response::new(BucketsReply { buckets }))
    }

    type DigestsStream = Answers<DirectoryDigest>;

    async fn digests(
        &self,
        request: Request<DigestsRequest>,
    ) -> Result<Response<Self::DigestsStream>, Status> {
        let r = request.into_inner();
        let from = u16::try_from(r.bucket_from).unwrap_or(u16::MAX);
        let until = match r.bucket_until {
            0 => u16::MAX,
            until => u16::try_from(until).unwrap_or(u16::MAX),
        };
        let store = Arc::clone(&self.state.embedded()?.store);
        let rows = pages(move |at| store.shared().digests_page(from, until, at));
        let rows = rows.map_ok(|(bucket, directory, sum)| DirectoryDigest {
            bucket: bucket.into(),
            directory,
            sum: sum.sum.to_be_bytes().to_vec().into(),
            count: u64::try_from(sum.count).unwrap_or(0),
        });
        Ok(Response::new(rows.boxed()))
    }

    type ScrubStream = Answers<ScrubProgress>;

    async fn scrub(&self, _: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        if let Some(why) = self.state.not_ready() {
            return Err(Status::unavailable(why));
        }
        let own = self.state.embedded()?;
        let watched = own.replicator.scrub();
        let progress = until_over(own.clone(), watched);
        Ok(Response::new(progress.boxed()))
    }

    type DirectoryRowsStream = Answers<RowHash>;

    async fn directory_rows(
        &self,
        request: Request<DirectoryRowsRequest>,
    ) -> Result<Response<Self::DirectoryRowsStream>, Status> {
        let dir = request.into_inner().directory;
        let store = Arc::clone(&self.state.embedded()?.store);
        let rows = pages(move |after| store.shared().names_page(&dir, after));
        let rows = rows.map_ok(|(name, identity, hash)| RowHash {
            name,
            identity: identity.to_bytes().to_vec().into(),
            hash: hash.to_be_bytes().to_vec().into(),
        });
        Ok(Response::new(rows.boxed()))
    }
}

/// How far a pass is, at each change, until its end.
fn until_over(
    own: Embedded,
    watched: watch::Receiver<ScrubStatus>,
) -> impl Stream<Item = Result<ScrubProgress, Status>> + Send {
    stream::try_unfold(
        (watched, false, false),
        move |(mut watched, has_begun, is_over)| {
            let own = own.clone();
            async move {
                if is_over {
                    return Ok(None);
                }
                let changed = tokio::time::timeout(SCRUB_SILENCE, watched.changed()).await;
                match changed {
                    Ok(Ok(())) | Err(_) => {}
                    Ok(Err(_)) => return Err(Status::unavailable("stopping")),
                }
                let now = *watched.borrow_and_update();
                let is_over = has_begun && !now.is_running;
                let has_begun = has_begun || now.is_running;
                Ok(Some((progress(&own, now), (watched, has_begun, is_over))))
            }
        },
    )
}

/// The rows of all pages, one page in memory at a time, read on threads that may block.
fn pages<T, C, R>(read: R) -> impl Stream<Item = Result<T, Status>> + Send
where
    T: Send + 'static,
    C: Send + 'static,
    R: Fn(Option<C>) -> Result<Page<T, C>, dulse_store::Error> + Send + Sync + 'static,
{
    let read = Arc::new(read);
    let parts = stream::try_unfold(Some(None), move |at| {
        let read = Arc::clone(&read);
        async move {
            let Some(at) = at else { return Ok(None) };
            let page = tokio::task::spawn_blocking(move || read(at)).await;
            let page = page.map_err(|e| Status::internal(e.to_string()))?;
            let Page { rows, next } = page.map_err(internal)?;
            let rows = stream::iter(rows.into_iter().map(Ok));
            Ok::<_, Status>(Some((rows, next.map(Some))))
        }
    });
    parts.try_flatten()
}
