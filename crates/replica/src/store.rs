// SPDX-License-Identifier: Apache-2.0
//! A replica for many callers: each asks the thread that owns it, and readers read beside it.

use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use dulse_merge::change::MemberStep;
use dulse_store::{
    Commit, Done, EntryStore, Error, ErrorKind, Found, ListRange, Listed, Operation, Transaction,
    TreeChange, TreeDone, TreeOpened, Trees,
};
use dulse_types::{FullPath, Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::acknowledged::{Acknowledged, PEERS_WAIT};
use crate::driver::waiting::Waiting;
use crate::driver::{Driver, Request, stopped};
use crate::garbage::Garbage;
use crate::levels::Levels;
use crate::metrics;
use crate::queue::{Queue, queue};
use crate::reissue::Reissued;
use crate::renewal::Renewal;
use crate::repair::{Repair, Repaired};
use crate::sequencer::{Applied, Replica};
use crate::shared::Shared;
use crate::syncer::{Bell, Progress, Reporter, Syncer};
use crate::transfer::ExportPart;

/// Requests that may wait; more are refused as `Unavailable`.
const QUEUE_MAX: usize = 4_096;

/// A replica on a thread of its own. Dropping it stops the thread after what is queued.
pub struct ReplicaStore {
    shared: Arc<Shared>,
    queue: Queue<Request>,
    /// What the next `Request::Stable` brings; a later vector replaces one that waits.
    stable: Arc<Mutex<Option<Vector>>>,
    progress: watch::Receiver<Progress>,
    acknowledged: Arc<Acknowledged>,
    n_peers_max: usize,
    bell: Arc<Bell>,
    damage: watch::Sender<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ReplicaStore {
    /// Starts the thread; all writes have the replica's own durability.
    ///
    /// # Errors
    ///
    /// `Io` when the system gives no thread.
    pub fn start(replica: Replica) -> Result<Self, Error> {
        let levels = replica.durability.into();
        Self::start_with(replica, levels, PEERS_WAIT)
    }

    /// Starts the thread; writes are acknowledged by `levels`, those that wait for other filers
    /// for `peers_wait` at most.
    ///
    /// # Errors
    ///
    /// `Io` when the system gives no thread.
    pub fn start_with(
        replica: Replica,
        levels: Levels,
        peers_wait: Duration,
    ) -> Result<Self, Error> {
        let shared = replica.shared();
        let (queue, requests) = queue(QUEUE_MAX);
        let (reporter, progress) = Reporter::new(Arc::clone(&shared));
        let syncer = Syncer::start(Arc::clone(&shared), Arc::clone(&reporter))?;
        let stable = Arc::default();
        let acknowledged = Arc::new(Acknowledged::new(peers_wait));
        let bell = Arc::clone(syncer.bell());
        let n_peers_max = levels.n_peers_max();
        let driver = Driver {
            replica,
            levels,
            acknowledged: Arc::clone(&acknowledged),
            stable: Arc::clone(&stable),
            requests,
            reporter,
            syncer,
            waiting: Waiting::default(),
        };
        let thread = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || driver.run())
            .map_err(|e| Error::new(Operation::Open, ErrorKind::Io).source(e))?;
        Ok(Self {
            shared,
            queue,
            stable,
            progress,
            acknowledged,
            n_peers_max,
            bell,
            damage: watch::Sender::new(0),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Requests that wait for the sequencer, for showing.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.queue.n_waiting()
    }

    /// What readers share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Told whenever something was applied or became durable.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// What each connected member has of this filer's own log on disk: called whenever that
    /// moves or somebody comes or goes. Writes that wait for it are answered.
    pub fn peers_hold(&self, stamps: Vec<Stamp>) {
        self.acknowledged.told(stamps);
    }

    /// Whether a client waits until peers have what is sent to them now.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.acknowledged.is_awaited()
    }

    /// Writes whose answer waits for other filers, for showing.
    #[must_use]
    pub fn n_awaited(&self) -> usize {
        self.acknowledged.n_waiting()
    }

    /// The greatest number of other filers that any write waits for.
    #[must_use]
    pub fn n_peers_max(&self) -> usize {
        self.n_peers_max
    }

    /// Has the background sync begin now: at another filer a client waits for what was applied.
    pub fn sync_now(&self) {
        self.bell.urge();
    }

    /// Applies a transaction.
    ///
    /// # Errors
    ///
    /// As [`EntryStore::commit`].
    pub async fn commit_async(&self, transaction: Transaction) -> Result<Commit, Error> {
        let (answer, answered) = oneshot::channel();
        let done = Box::new(move |result| drop(answer.send(result)));
        self.commit(transaction, done);
        answered
            .await
            .unwrap_or_else(|_| Err(stopped().unknown_outcome()))
    }

    /// Merges changes that no peer brought, each origin's in order; see
    /// [`Replica::apply_remote`].
    ///
    /// # Errors
    ///
    /// When journal or engine fail.
    pub async fn apply_remote(&self, changes: Vec<Bytes>) -> Result<Vec<Applied>, Error> {
        self.ask(|answer| Request::Apply(None, changes, answer))
            .await?
    }

    /// Merges changes that `through` brought; see [`Replica::apply_from`].
    ///
    /// # Errors
    ///
    /// When journal or engine fail.
    pub async fn apply_from(
        &self,
        through: Origin,
        changes: Vec<Bytes>,
    ) -> Result<Vec<Applied>, Error> {
        self.ask(|answer| Request::Apply(Some(through), changes, answer))
            .await?
    }

    /// Journals a change of membership; gives its stamp.
    ///
    /// # Errors
    ///
    /// As a commit.
    pub async fn member(&self, step: MemberStep) -> Result<Stamp, Error> {
        self.ask(|answer| Request::Member(step, answer)).await?
    }

    /// See [`Replica::appear`].
    ///
    /// # Errors
    ///
    /// As a commit.
    pub async fn appear(&self) -> Result<Stamp, Error> {
        self.ask(Request::Appear).await?
    }

    /// See [`Replica::begin_import`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn begin_import(&self, vector: Vector) -> Result<(), Error> {
        self.ask(|answer| Request::BeginImport(vector, answer))
            .await?
    }

    /// See [`Replica::resume_import`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn resume_import(&self, vector: Vector) -> Result<(), Error> {
        self.ask(|answer| Request::ResumeImport(vector, answer))
            .await?
    }

    /// See [`Replica::import`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn import(&self, part: ExportPart) -> Result<(), Error> {
        self.ask(|answer| Request::Import(part, answer)).await?
    }

    /// See [`Replica::import_kept`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn import_kept(&self, changes: Vec<Bytes>) -> Result<(), Error> {
        self.ask(|answer| Request::ImportKept(changes, answer))
            .await?
    }

    /// See [`Replica::finish_import`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn finish_import(&self) -> Result<(), Error> {
        self.ask(Request::FinishImport).await?
    }

    /// No later change made here is stamped at or below it. An idle replica's ceiling is
    /// raised first; when that fails, the promise stays where it was.
    ///
    /// # Errors
    ///
    /// `Unavailable` when stopping.
    pub async fn promise(&self) -> Result<Stamp, Error> {
        if self.shared.needs_ceiling()
            && let Err(error) = self.ask(Request::RaiseCeiling).await?
        {
            tracing::warn!(%error, "the clock's ceiling cannot be raised; peers' subscribers wait");
        }
        Ok(self.shared.promise())
    }

    /// Forgets dropped chunks that were freed.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub async fn garbage_freed(&self, freed: Vec<Garbage>) -> Result<(), Error> {
        self.ask(|answer| Request::Freed(freed, answer)).await?
    }

    /// Every member has everything up to `vector` on disk: called whenever that moves. See
    /// [`Replica::stable`]. It does not wait; a full queue drops it, and the next call counts.
    pub fn stable(&self, vector: Vector) {
        let is_waiting = self.stable.lock().replace(vector).is_some();
        if !is_waiting && self.queue.try_send(Request::Stable).is_err() {
            *self.stable.lock() = None;
        }
    }

    /// See [`Replica::repair`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn repair(&self, repair: Repair) -> Result<Repaired, Error> {
        self.ask(|answer| Request::Repair(repair, answer)).await?
    }

    /// Tells of a row that should be readable and was not.
    fn watched<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::Corrupt)
        {
            self.damage.send_modify(|n| *n += 1);
        }
        result
    }

    /// Counts reads that came upon damaged rows.
    #[must_use]
    pub fn damage(&self) -> watch::Receiver<u64> {
        self.damage.subscribe()
    }

    /// See [`Replica::recount`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recount(&self, from: u16, until: u16) -> Result<Vec<u16>, Error> {
        self.ask(|answer| Request::Recount(from, until, answer))
            .await?
    }

    /// Goes on with the tree changes that a restart interrupted. Called once, when local
    /// writes may be made.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the queue is full or the store is stopping.
    pub async fn resume_trees(&self) -> Result<(), Error> {
        self.ask(Request::ResumeTrees).await
    }

    /// Forgets hints of expiry that were followed.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub async fn hints_followed(&self, hints: Vec<Bytes>) -> Result<(), Error> {
        self.ask(|answer| Request::HintsFollowed(hints, answer))
            .await?
    }

    /// See [`Replica::renew`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn renew(&self, renewal: Renewal) -> Result<u64, Error> {
        self.ask(|answer| Request::Renew(renewal, answer)).await?
    }

    /// See [`Replica::reissue`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn reissue(&self, in_use: Vec<Origin>) -> Result<Reissued, Error> {
        self.ask(|answer| Request::Reissue(in_use, answer)).await?
    }

    /// See [`Replica::note_silences`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn note_silences(&self, silences: Vec<(Origin, Duration)>) -> Result<(), Error> {
        self.ask(|answer| Request::Silences(silences, answer))
            .await?
    }

    /// Finishes what is queued and refuses every write after it as `Unavailable`; trees that are
    /// being changed rest until the next start. Changes of others are still applied. Blocks.
    pub fn seal(&self) {
        let (answer, answered) = oneshot::channel();
        // When the queue is gone the thread has ended: nothing is written any more.
        if self.queue.send(Request::Seal(answer)).is_ok() {
            let _ = answered.blocking_recv();
        }
    }

    /// Finishes what is queued, checkpoints, and ends the thread.
    pub fn stop(&self) {
        // When the queue is gone the thread has ended already.
        let _ = self.queue.send(Request::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A panic aborts the process; there is nothing to hear from the thread.
            let _ = thread.join();
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(request(answer))
            .map_err(|error| match error {
                TrySendError::Full(_) => busy(),
                TrySendError::Disconnected(_) => stopped(),
            })?;
        answered.await.map_err(|_| stopped())
    }
}

impl Drop for ReplicaStore {
    fn drop(&mut self) {
        self.stop();
    }
}

impl EntryStore for ReplicaStore {
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        self.watched(self.shared.find(path))
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.watched(self.shared.list(directory, range))
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.watched(self.shared.kv_get(key))
    }

    fn commit(&self, transaction: Transaction, done: Done) {
        match self.queue.try_send(Request::Commit(transaction, done)) {
            Ok(()) => {}
            Err(TrySendError::Full(Request::Commit(_, done))) => done(Err(busy())),
            Err(TrySendError::Disconnected(Request::Commit(_, done))) => done(Err(stopped())),
            Err(_) => {}
        }
    }

    fn origin(&self) -> Origin {
        self.shared.origin()
    }
}

impl Trees for ReplicaStore {
    fn change_tree(&self, change: TreeChange, opened: TreeOpened, done: TreeDone) {
        match self.queue.try_send(Request::Tree(change, opened, done)) {
            Ok(()) => {}
            Err(TrySendError::Full(Request::Tree(_, _, done))) => done(Err(busy())),
            Err(TrySendError::Disconnected(Request::Tree(_, _, done))) => done(Err(stopped())),
            Err(_) => {}
        }
    }
}

fn busy() -> Error {
    metrics::REFUSED.add(1);
    Error::new(Operation::Commit, ErrorKind::Unavailable).with(
        "because",
        format!("{QUEUE_MAX} requests are waiting already"),
    )
}
