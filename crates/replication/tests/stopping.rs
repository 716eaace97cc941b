// SPDX-License-Identifier: Apache-2.0
//! A filer that stops in order: what others make of its last word, and that there is nothing
//! behind it.

#[path = "support/founder.rs"]
mod founder;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_cluster::{Acknowledgements, Statement};
use dulse_proto::replication::replication_server::Replication;
use dulse_proto::replication::{PullBatch, PullRequest};
use dulse_replica::{Applied, Replica, ReplicaStore, Shared};
use dulse_replication::convert;
use dulse_store::{Step, Transaction};
use dulse_types::{Entry, EntryFields, FullPath, Stamp, Vector};
use tokio_stream::StreamExt;
use tonic::Request;

use founder::{address, founder, replica};

/// Several polls of the director.
const POLLS: Duration = Duration::from_millis(350);

async fn seal(store: &Arc<ReplicaStore>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || store.seal())
        .await
        .unwrap();
}

fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

fn entry(content: &'static str) -> (FullPath, Entry) {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    fields.content = Bytes::from_static(content.as_bytes());
    let entry = fields.to_entry(&Default::default());
    (FullPath::parse("/f").unwrap(), entry)
}

fn create(content: &'static str) -> Transaction {
    let (path, entry) = entry(content);
    one(Step::Create { path, entry })
}

fn update(content: &'static str) -> Transaction {
    let (path, entry) = entry(content);
    one(Step::Update {
        path,
        entry,
        delete_chunks: true,
    })
}

/// What is on disk of a replica's own changes behind `have`.
fn changes(of: &Shared, have: &Vector) -> Vec<Bytes> {
    let records = of.changes_after(of.origin(), have.get(of.origin()), usize::MAX);
    records.unwrap().into_iter().map(|r| r.payload).collect()
}

/// What a filer knows of another one that it pulls from.
struct Puller {
    replica: Replica,
    heard: Acknowledgements,
    last: Option<Statement>,
}

impl Puller {
    fn takes(&mut self, from: &Shared, batch: PullBatch) {
        self.replica.apply_remote(&batch.changes).unwrap();
        self.replica.sync().unwrap();
        if let Some(beat) = batch.heartbeat {
            let said = convert::statement(&beat);
            self.last = Some(said.clone());
            self.heard.stated(Duration::ZERO, from.origin(), said);
        }
    }

    /// What it holds for stable of the two.
    fn stable(&self, with: &Shared) -> Vector {
        let own = self.replica.shared();
        let members = [own.origin(), with.origin()];
        let (durable, applied) = (own.durable_vector(), own.vector());
        self.heard.stable(own.origin(), members, &durable, &applied)
    }
}

/// ⚠ Otherwise the others' logs could not be cut at all while one filer is stopped, not even
/// before what it had acknowledged long ago, and it would soon be shut out for a log over its
/// budget.
#[tokio::test]
async fn what_a_filer_acknowledged_counts_while_it_is_stopped() {
    let (store, replicator) = founder(1, &address(8)).await;
    let shared = store.shared();
    store.commit_async(create("mine")).await.unwrap();
    let mut puller = Puller {
        replica: replica(2),
        heard: Acknowledgements::default(),
        last: None,
    };
    let request = PullRequest {
        puller: puller.replica.shared().origin().0,
        origin: shared.origin().0,
        ..PullRequest::default()
    };
    let batches = replicator.service().pull(Request::new(request)).await;
    let mut batches = batches.unwrap().into_inner();
    // All of it is here, and there is nothing else.
    while !puller.stable(shared).includes(&shared.vector()) {
        puller.takes(shared, batches.next().await.unwrap().unwrap());
    }
    let before = puller.stable(shared);
    assert!(before.get(shared.origin()) > Stamp::ZERO, "{before}");
    seal(&store).await;
    let rest = async {
        while let Some(batch) = batches.next().await {
            puller.takes(shared, batch.unwrap());
        }
    };
    tokio::join!(replicator.hand_over(), rest);
    let last = puller.last.as_ref().unwrap();
    assert!(last.is_stopping, "its last word: {last:?}");
    assert_eq!(puller.stable(shared), before, "{last:?}");
}

/// ⚠ A verdict is a change of its own: it would come behind the word that this filer stops. The
/// director finds the filer ready and lifts its own hold again and again meanwhile.
#[tokio::test]
async fn no_verdict_is_said_once_a_filer_is_sealed() {
    for is_sealed in [false, true] {
        let (store, _replicator) = founder(1, &address(8)).await;
        let shared = store.shared();
        let mut other = replica(2);
        store.commit_async(create("first")).await.unwrap();
        let all = changes(shared, &Vector::new());
        other.apply_remote(&all).unwrap();
        // Both write without having seen the other's; the later one wins.
        store.commit_async(update("loses")).await.unwrap();
        other.commit(vec![update("wins")]).remove(0).unwrap();
        other.sync().unwrap();
        if is_sealed {
            seal(&store).await;
        }
        tokio::time::sleep(POLLS).await;
        let before = shared.vector().get(shared.origin());
        let lost_by = changes(&other.shared(), &Vector::new());
        let applied = store.apply_remote(lost_by).await.unwrap();
        assert_eq!(applied, [Applied::Now]);
        tokio::time::sleep(POLLS).await;
        let after = shared.vector().get(shared.origin());
        assert_eq!(after > before, !is_sealed, "{before} {after}");
        assert!(!shared.is_unsure(), "it stops, and knows who it is");
        // What it has not said yet is not acknowledged.
        let peer = other.shared().origin();
        let acknowledged = shared.acknowledged_vector().get(peer);
        assert_eq!(acknowledged < shared.vector().get(peer), is_sealed);
    }
}
