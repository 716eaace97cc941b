// SPDX-License-Identifier: Apache-2.0
//! The thread that owns a replica: many callers, one group at a time.

mod waiting;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_merge::change::MemberStep;
use dulse_store::{
    Commit, Done, EntryStore, Error, ErrorKind, Found, ListRange, Listed, Operation, Step,
    Transaction, TreeChange, TreeCommit, TreeDone, TreeWork, Trees,
};
use dulse_types::{FullPath, Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::waiting::{Waiting, Write};
use crate::acknowledged::{Acknowledged, PEERS_WAIT};
use crate::levels::{Durability, Levels};
use crate::metrics;
use crate::queue::{Queue, Requests, queue};
use crate::reissue::Reissued;
use crate::renewal::Renewal;
use crate::repair::{Repair, Repaired};
use crate::sequencer::{Applied, Replica};
use crate::shared::{Garbage, Shared};
use crate::syncer::{Bell, Progress, Reporter, Syncer};
use crate::transfer::ExportPart;
use crate::trees::TreeBegun;

/// Requests that may wait; more are refused as `Unavailable`.
const QUEUE_MAX: usize = 4_096;

/// Local transactions of one group.
const GROUP_MAX: usize = 512;

/// How often a quiet replica is synced and checkpointed.
const IDLE: Duration = Duration::from_secs(2);

/// How often it is looked whether a write has waited long enough for a tree change, and
/// whether a part that failed may be tried again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Calls of [`Replica::forget`] and [`Replica::judge`] in a row while nobody waits.
const IDLE_FORGETS_MAX: usize = 64;

enum Request {
    Commit(Transaction, Done),
    Tree(TreeChange, TreeDone),
    ResumeTrees(oneshot::Sender<()>),
    Apply(
        Option<Origin>,
        Vec<Bytes>,
        oneshot::Sender<Result<Vec<Applied>, Error>>,
    ),
    Member(MemberStep, oneshot::Sender<Result<Stamp, Error>>),
    BeginImport(Vector, oneshot::Sender<Result<(), Error>>),
    ResumeImport(Vector, oneshot::Sender<Result<(), Error>>),
    Import(ExportPart, oneshot::Sender<Result<(), Error>>),
    ImportKept(Vec<Bytes>, oneshot::Sender<Result<(), Error>>),
    FinishImport(oneshot::Sender<Result<(), Error>>),
    RaiseCeiling(oneshot::Sender<Result<(), Error>>),
    Freed(Vec<Garbage>, oneshot::Sender<Result<(), Error>>),
    Stable,
    Repair(Repair, oneshot::Sender<Result<Repaired, Error>>),
    Recount(u16, u16, oneshot::Sender<Result<Vec<u16>, Error>>),
    HintsFollowed(Vec<Bytes>, oneshot::Sender<Result<(), Error>>),
    Renew(Renewal, oneshot::Sender<Result<u64, Error>>),
    Reissue(oneshot::Sender<Result<Reissued, Error>>),
    Heard(Vec<(Origin, i64)>, oneshot::Sender<Result<(), Error>>),
    Stop,
}

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

    /// Merges peers' changes, each origin's in order.
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
    pub async fn reissue(&self) -> Result<Reissued, Error> {
        self.ask(Request::Reissue).await?
    }

    /// See [`Replica::note_heard`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn note_heard(&self, heard: Vec<(Origin, i64)>) -> Result<(), Error> {
        self.ask(|answer| Request::Heard(heard, answer)).await?
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
    fn change_tree(&self, change: TreeChange, done: TreeDone) {
        match self.queue.try_send(Request::Tree(change, done)) {
            Ok(()) => {}
            Err(TrySendError::Full(Request::Tree(_, done))) => done(Err(busy())),
            Err(TrySendError::Disconnected(Request::Tree(_, done))) => done(Err(stopped())),
            Err(_) => {}
        }
    }
}

struct Driver {
    replica: Replica,
    levels: Levels,
    acknowledged: Arc<Acknowledged>,
    requests: Requests<Request>,
    stable: Arc<Mutex<Option<Vector>>>,
    reporter: Arc<Reporter>,
    syncer: Syncer,
    waiting: Waiting,
}

/// Transactions that share one append. Those that ask for less wait for the others' sync, too:
/// two appends would cost them more.
struct Group {
    transactions: Vec<Transaction>,
    waiting: Vec<(Durability, Done)>,
    /// The greatest.
    level: Durability,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            transactions: Vec::new(),
            waiting: Vec::new(),
            level: Durability::Os,
        }
    }
}

impl Driver {
    fn run(mut self) {
        let mut rested = Instant::now();
        loop {
            let request = self.requests.recv_timeout(self.patience());
            self.acknowledged.expire();
            match request {
                Ok(request) => {
                    if !self.serve(request) {
                        break;
                    }
                }
                // Woken early it was only for those that wait.
                Err(RecvTimeoutError::Timeout) if rested.elapsed() < IDLE => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
                    rested = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.trees();
        }
        self.waiting.stop();
        self.acknowledged.end();
        self.rest();
    }

    /// How long to wait for the next request.
    fn patience(&self) -> Duration {
        let patience = if self.replica.has_tree_work() {
            Duration::ZERO
        } else if self.replica.has_open_trees() || !self.waiting.is_empty() {
            LOOK_EVERY
        } else {
            IDLE
        };
        let next_end = self.acknowledged.next_end();
        next_end.map_or(patience, |next| next.min(patience))
    }

    /// Does one part of a tree change, so that requests wait for no more than that, and then
    /// what waited for one that is over.
    fn trees(&mut self) {
        if self.replica.has_tree_work() {
            if let Some(over) = self.replica.step_tree() {
                let caller = self.waiting.over(over.intent);
                if let Some((level, done)) = caller {
                    self.tree_over(level, over.result, done);
                }
            }
            self.reporter.count(1);
            self.told();
        }
        if !self.waiting.is_empty() {
            let free = self.waiting.wake(&self.replica);
            self.write(free);
            self.told();
        }
    }

    /// Serves one request, with the commits that wait behind it. False ends the thread.
    fn serve(&mut self, request: Request) -> bool {
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match request {
                Request::Commit(transaction, done) => next = self.group(transaction, done),
                Request::Stop => return false,
                other => self.single(other),
            }
        }
        self.told();
        // Under load nobody rests: the clock's ceilings alone fill a log, too.
        self.replica.checkpoint_when_due();
        // One step, so that writers hardly wait, and often: a filer that is asked for promises
        // each second never rests either.
        self.judge(1);
        true
    }

    /// Something may be new: tells of it, and has it made durable.
    fn told(&self) {
        self.reporter.tell();
        let journal = &self.replica.shared.journal;
        if journal.synced() < journal.end() {
            self.syncer.bell().wake();
        }
    }

    /// Commits a group; gives the request that ended it.
    fn group(&mut self, transaction: Transaction, done: Done) -> Option<Request> {
        let mut writes = vec![Write::Commit(transaction, done)];
        let mut ended_by = None;
        while writes.len() < GROUP_MAX {
            match self.requests.try_recv() {
                Ok(Request::Commit(transaction, done)) => {
                    writes.push(Write::Commit(transaction, done));
                }
                Ok(other) => {
                    ended_by = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.write(writes);
        ended_by
    }

    /// Does local writes in groups, or has them wait for a tree change.
    fn write(&mut self, writes: Vec<Write>) {
        let mut group = Group::default();
        for write in writes {
            if let Some(why) = write.waits_for(&self.replica) {
                self.waiting.park(write, why);
                continue;
            }
            match write {
                Write::Commit(transaction, done) => {
                    self.take(&mut group, transaction, done);
                    if group.transactions.len() >= GROUP_MAX {
                        self.commit(std::mem::take(&mut group));
                    }
                }
                Write::Tree(change, done) => {
                    // Order: what came before it is done before what it locks.
                    self.commit(std::mem::take(&mut group));
                    self.begin_tree(change, done);
                }
            }
        }
        self.commit(group);
    }

    fn commit(&mut self, group: Group) {
        if group.transactions.is_empty() {
            return;
        }
        metrics::GROUP.record(group.transactions.len() as f64);
        let results = self.replica.commit_as(group.transactions, group.level);
        for ((level, done), result) in group.waiting.into_iter().zip(results) {
            self.reporter.count(u64::from(result.is_ok()));
            match level {
                Durability::Peers(n) => self.acknowledged.made(n.into(), result, done),
                Durability::Os | Durability::Fsync => done(result),
            }
        }
    }

    /// Takes a transaction into a group, or refuses it.
    fn take(&self, group: &mut Group, transaction: Transaction, done: Done) {
        let level = self.levels.of(&transaction);
        if let Durability::Peers(n) = level
            && let Err(error) = self.acknowledged.begin(n.into())
        {
            return done(Err(error));
        }
        group.level = group.level.max(level);
        group.transactions.push(transaction);
        group.waiting.push((level, done));
    }

    fn begin_tree(&mut self, change: TreeChange, done: TreeDone) {
        let level = self.levels.of(&steps_of(&change));
        if let Durability::Peers(n) = level
            && let Err(error) = self.acknowledged.begin(n.into())
        {
            return done(Err(error));
        }
        let result = match self.replica.begin_tree(change) {
            Ok(TreeBegun::Open(intent)) => return self.waiting.call(intent, level, done),
            Ok(TreeBegun::Done(commit)) => Ok(commit),
            Err(error) => Err(error),
        };
        self.reporter.count(u64::from(result.is_ok()));
        self.tree_over(level, result, done);
    }

    /// Answers the caller of a tree change, at once or when enough other filers have it.
    fn tree_over(&self, level: Durability, result: Result<TreeCommit, Error>, done: TreeDone) {
        let Durability::Peers(n) = level else {
            return done(result);
        };
        let (commit, result) = match result {
            Ok(tree) => {
                let (stamp, results) = (tree.stamp, Vec::new());
                (Some(tree), Ok(Commit { stamp, results }))
            }
            Err(error) => (None, Err(error)),
        };
        let done = move |held: Result<Commit, Error>| match (held, commit) {
            (Ok(_), Some(commit)) => done(Ok(commit)),
            (Err(error), _) => done(Err(error)),
            (Ok(_), None) => done(Err(stopped().unknown_outcome())),
        };
        self.acknowledged.made(n.into(), result, Box::new(done));
    }

    fn single(&mut self, request: Request) {
        // An asker that went away needs no answer.
        match request {
            Request::Apply(through, changes, answer) => {
                let result = match through {
                    Some(through) => self.replica.apply_from(through, &changes),
                    None => self.replica.apply_remote(&changes),
                };
                if let Ok(applied) = &result {
                    let now = applied.iter().filter(|a| **a == Applied::Now).count();
                    self.reporter.count(now as u64);
                }
                let _ = answer.send(result);
            }
            Request::Member(step, answer) => {
                let _ = answer.send(self.replica.member(step));
            }
            Request::BeginImport(vector, answer) => {
                let _ = answer.send(self.replica.begin_import(vector));
            }
            Request::ResumeImport(vector, answer) => {
                let _ = answer.send(self.replica.resume_import(vector));
            }
            Request::Import(part, answer) => {
                let _ = answer.send(self.replica.import(part));
            }
            Request::ImportKept(changes, answer) => {
                let _ = answer.send(self.replica.import_kept(&changes));
            }
            Request::FinishImport(answer) => {
                let _ = answer.send(self.replica.finish_import());
            }
            Request::RaiseCeiling(answer) => {
                let _ = answer.send(self.replica.raise_ceiling());
            }
            Request::Freed(freed, answer) => {
                let _ = answer.send(self.replica.garbage_freed(&freed));
            }
            Request::Repair(repair, answer) => {
                let _ = answer.send(self.replica.repair(repair));
            }
            Request::Recount(from, until, answer) => {
                let _ = answer.send(self.replica.recount(from, until));
            }
            Request::Stable => self.take_stable(),
            Request::Tree(change, done) => self.write(vec![Write::Tree(change, done)]),
            Request::ResumeTrees(answer) => {
                self.replica.resume_trees();
                let _ = answer.send(());
            }
            Request::HintsFollowed(hints, answer) => {
                let _ = answer.send(self.replica.hints_followed(&hints));
            }
            Request::Renew(renewal, answer) => {
                let _ = answer.send(self.replica.renew(&renewal));
            }
            Request::Reissue(answer) => {
                let _ = answer.send(self.replica.reissue());
            }
            Request::Heard(heard, answer) => {
                let _ = answer.send(self.replica.note_heard(&heard));
            }
            Request::Commit(..) | Request::Stop => {}
        }
    }

    fn take_stable(&mut self) {
        let Some(vector) = self.stable.lock().take() else {
            return;
        };
        if let Err(error) = self.replica.stable(vector) {
            tracing::warn!(%error, "forgetting what is stable failed; tried again later");
        }
    }

    /// Nobody waits: forgets a good deal of what may be forgotten.
    fn forget(&mut self) {
        for _ in 0..IDLE_FORGETS_MAX {
            match self.replica.forget() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "forgetting what is stable failed; tried again later");
                    return;
                }
            }
        }
    }

    /// Judges some of what is to be judged.
    fn judge(&mut self, n_steps: usize) {
        self.replica.judge_when_due();
        for _ in 0..n_steps {
            match self.replica.judge() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "judging conflicts failed; tried again later");
                    return;
                }
            }
        }
    }

    fn rest(&mut self) {
        if self.replica.shared.journal.end() > self.replica.checkpointed
            && let Err(error) = self.replica.checkpoint()
        {
            tracing::error!(%error, "checkpoint failed; tried again soon");
        }
        self.judge(IDLE_FORGETS_MAX);
        self.forget();
        self.reporter.tell();
    }
}

/// What a tree change does, as steps: for telling how durable it must be.
fn steps_of(change: &TreeChange) -> Transaction {
    let mut steps = change.before.steps.clone();
    let path = change.path.clone();
    steps.push(match &change.work {
        TreeWork::Move { to } => Step::Rename {
            from: path,
            to: to.clone(),
        },
        TreeWork::Delete { delete_chunks } => Step::Delete {
            path,
            delete_chunks: *delete_chunks,
        },
    });
    Transaction {
        steps,
        ..Transaction::default()
    }
}

fn busy() -> Error {
    metrics::REFUSED.add(1);
    Error::new(Operation::Commit, ErrorKind::Unavailable).with(
        "because",
        format!("{QUEUE_MAX} requests are waiting already"),
    )
}

fn stopped() -> Error {
    Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", "the store is stopping")
}
