// SPDX-License-Identifier: Apache-2.0
//! What one filer does for another over the wire, and what it must not do: joins, states that
//! are handed out, founding, leaving.

#[path = "support/founder.rs"]
mod founder;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dulse_cluster::Listing;
use dulse_merge::change::{MemberStep, Step as MergeStep};
use dulse_merge::{Change, MemberRow};
use dulse_proto::replication::replication_server::{Replication, ReplicationServer};
use dulse_proto::replication::{
    FreedReply, FreedRequest, Hello, PullRequest, SnapshotPart, SnapshotRequest,
};
use dulse_replica::ReplicaStore;
use dulse_replication::{Left, Options, ReplicationService, Replicator, Report};
use dulse_store::{EntryStore, Step, Transaction};
use dulse_transport::Transport;
use dulse_types::{Origin, ServerAddress, Stamp};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use founder::{address, founder, options, ready, replica};

fn put(key: &'static str) -> Transaction {
    Transaction {
        steps: vec![Step::KvPut {
            key: key.into(),
            value: "value".into(),
        }],
        ..Transaction::default()
    }
}

/// A replica with a history, started beside a member that nobody has heard of.
fn with_a_silent_member(n: u64, silent: Origin) -> (Arc<ReplicaStore>, Replicator) {
    let mut replica = replica(n);
    let own = replica.shared().origin();
    for member in [own, silent] {
        let address = address(9).to_string();
        replica
            .member(MemberStep::Join { member, address })
            .unwrap();
    }
    let store = Arc::new(ReplicaStore::start(replica).unwrap());
    let options = options(&address(8), false, None);
    let replicator = Replicator::start(Arc::clone(&store), options);
    (store, replicator)
}

fn asks(joiner: Origin) -> Request<SnapshotRequest> {
    Request::new(SnapshotRequest {
        joiner: joiner.0,
        address: address(7).to_string(),
        group: String::new(),
        resume: None,
    })
}

async fn parts(service: &ReplicationService, joiner: Origin) -> Vec<SnapshotPart> {
    let stream = service.snapshot(asks(joiner)).await.unwrap().into_inner();
    stream.map(Result::unwrap).collect().await
}

fn is_member(store: &ReplicaStore, who: Origin) -> bool {
    let members = store.shared().members().unwrap();
    let row = members.iter().find(|(origin, _)| *origin == who);
    row.is_some_and(|(_, row)| row.state == MemberRow::MEMBER)
}

/// The stamp of the change that says that `who` joins.
fn join_of(store: &ReplicaStore, who: Origin) -> Option<Stamp> {
    let shared = store.shared();
    let own = shared.origin();
    let log = shared.changes_after(own, Stamp::ZERO, usize::MAX).unwrap();
    log.iter().find_map(|record| {
        let change = Change::decode(&record.payload).unwrap();
        let is_it = |step: &MergeStep| matches!(step, MergeStep::Member(MemberStep::Join { member, .. }) if *member == who);
        change.steps.iter().any(is_it).then_some(change.stamp)
    })
}

/// From then on nothing is stable that the joiner has not acknowledged.
#[tokio::test]
async fn the_join_is_in_the_log_and_in_the_state_that_is_handed_out() {
    let (store, replicator) = founder(1, &address(8)).await;
    let joiner = Origin(7 << 32 | 7);
    let parts = parts(&replicator.service(), joiner).await;
    let joined = join_of(&store, joiner).expect("the join is in the log");
    let own = store.shared().origin();
    let reached = parts[0].vector.iter().find(|at| at.origin == own.0);
    assert!(Stamp(reached.unwrap().stamp) >= joined);
    assert!(is_member(&store, joiner));
}

/// The origin of a store that was copied or set back may be another's: it stamps nothing,
/// no join either.
#[tokio::test]
async fn a_filer_that_is_not_ready_lets_nobody_join() {
    let (store, replicator) = with_a_silent_member(1, Origin(5));
    let joiner = Origin(7 << 32 | 7);
    let refused = replicator.service().snapshot(asks(joiner)).await;
    let status = refused.expect_err("it is catching up");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("not ready"), "{status}");
    assert_eq!(join_of(&store, joiner), None);
}

/// It may be about to take a new origin, and then knows of no row: whoever asked would drop
/// its own.
#[tokio::test]
async fn a_filer_that_is_not_ready_says_nothing_of_dropped_chunks() {
    let (store, replicator) = with_a_silent_member(1, Origin(5));
    let request = FreedRequest {
        asked: store.shared().origin().0,
        ..FreedRequest::default()
    };
    let refused = replicator.service().freed(Request::new(request)).await;
    let status = refused.expect_err("it is catching up");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("not ready"), "{status}");
}

/// Origin and provider may be lost afterwards: then the joiner's log is all there is.
#[tokio::test]
async fn changes_that_a_member_may_lack_come_with_the_state() {
    let mut other = replica(2);
    other.commit(vec![put("theirs")]).remove(0).unwrap();
    let of = other.shared();
    let made = of.changes_after(of.origin(), Stamp::ZERO, usize::MAX);
    let made: Vec<Bytes> = made.unwrap().into_iter().map(|r| r.payload).collect();
    let (store, replicator) = founder(1, &address(8)).await;
    store.apply_remote(made.clone()).await.unwrap();
    // A member that was never heard of: it may lack everything.
    let step = MemberStep::Join {
        member: Origin(5),
        address: address(9).to_string(),
    };
    store.member(step).await.unwrap();
    let parts = parts(&replicator.service(), Origin(7 << 32 | 7)).await;
    let kept: Vec<&Bytes> = parts.iter().flat_map(|part| &part.kept).collect();
    assert!(kept.contains(&&made[0]), "{} are kept", kept.len());
}

/// Another founder may have been remembered meanwhile: then there is a cluster to join.
#[tokio::test]
async fn whom_the_master_refuses_founds_nothing() {
    let store = Arc::new(ReplicaStore::start(replica(1)).unwrap());
    let n_asked = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&n_asked);
    let report: Report = Arc::new(move |_, _, _| {
        asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err("another one is remembered".to_owned()) })
    });
    let own = address(8);
    let listing = Listing {
        filers: vec![own.clone()],
        known_members: Vec::new(),
    };
    let options = Options {
        report,
        ..options(&own, false, Some(listing))
    };
    let _replicator = Replicator::start(Arc::clone(&store), options);
    // Asked a second time, it has made what it could of the first answer.
    while n_asked.load(Ordering::SeqCst) < 2 && store.shared().is_fresh() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.shared().is_fresh(), "{:?}", store.shared().vector());
}

/// Whoever has what nobody else has stays a member, whatever was asked.
#[tokio::test]
async fn a_filer_leaves_only_when_another_has_all_that_it_has() {
    let (store, replicator) = with_a_silent_member(1, Origin(5));
    let left = replicator.leave(Duration::from_millis(50)).await.unwrap();
    assert!(matches!(left, Left::Stayed(_)), "{left:?}");
    assert!(is_member(&store, store.shared().origin()));
}

/// From the first moment on: what a clock that is ahead has promised cannot be taken back.
#[tokio::test]
async fn nothing_is_promised_by_a_clock_that_nobody_has_judged() {
    let (store, _replicator) = with_a_silent_member(1, Origin(5));
    // Order: no await before the answer, so that the director has judged nothing yet.
    let (send, answer) = std::sync::mpsc::channel();
    store.commit(put("key"), Box::new(move |done| send.send(done).unwrap()));
    let refused = answer.recv_timeout(Duration::from_secs(60)).unwrap();
    let error = refused.expect_err("nobody has answered yet");
    assert!(format!("{error:?}").contains("clock"), "{error:?}");
}

/// A service whose first state breaks off before its end, without an error.
struct Breaking {
    service: ReplicationService,
    n_states: AtomicU64,
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Replication for Breaking {
    type PullStream = Stream<dulse_proto::replication::PullBatch>;
    type SnapshotStream = Stream<SnapshotPart>;

    async fn handshake(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        self.service.handshake(request).await
    }

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        self.service.pull(request).await
    }

    async fn freed(&self, request: Request<FreedRequest>) -> Result<Response<FreedReply>, Status> {
        self.service.freed(request).await
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let whole = self.service.snapshot(request).await?;
        if self.n_states.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(whole);
        }
        let first = whole.into_inner().next().await;
        let (send, receive) = mpsc::channel(1);
        send.send(first.expect("a part")).await.expect("it is read");
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

#[tokio::test]
async fn a_state_that_breaks_off_counts_for_nothing() {
    let transport = Transport::plain();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = transport.listen_grpc(any).await.unwrap();
    let port = listener.address().unwrap().port();
    let provider = ServerAddress::new("127.0.0.1", 8, port).unwrap();
    let (store, replicator) = founder(1, &provider).await;
    store.commit_async(put("key")).await.unwrap();
    let breaking = Breaking {
        service: replicator.service(),
        n_states: AtomicU64::new(0),
    };
    let mut server = listener.server();
    let serving = server.add_service(ReplicationServer::new(breaking));
    let serving = tokio::spawn(serving.serve_with_incoming(listener.incoming()));

    let joiner = Arc::new(ReplicaStore::start(replica(2)).unwrap());
    let listing = Listing {
        filers: vec![provider.clone(), address(9)],
        known_members: vec![(store.shared().origin(), provider)],
    };
    let options = options(&address(9), false, Some(listing));
    let joining = Replicator::start(Arc::clone(&joiner), options);
    ready(&joining).await;
    let value = joiner.shared().kv_get(b"key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
    serving.abort();
}
