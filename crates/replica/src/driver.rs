// SPDX-License-Identifier: Apache-2.0
//! The thread that owns a replica: many callers, one group at a time.

pub(crate) mod waiting;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_merge::change::MemberStep;
use dulse_store::{
    Commit, Done, Error, ErrorKind, Operation, Step, Transaction, TreeChange, TreeCommit, TreeDone,
    TreeOpened, TreeWork,
};
use dulse_types::{Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::waiting::{Waiting, Write};
use crate::acknowledged::Acknowledged;
use crate::garbage::Garbage;
use crate::levels::{Durability, Levels};
use crate::metrics;
use crate::queue::Requests;
use crate::reissue::Reissued;
use crate::renewal::Renewal;
use crate::repair::{Repair, Repaired};
use crate::sequencer::{Applied, Replica};
use crate::syncer::{Reporter, Syncer};
use crate::transfer::ExportPart;
use crate::trees::TreeBegun;

/// Local transactions of one group.
const GROUP_MAX: usize = 512;

/// How often a quiet replica is synced and checkpointed.
const IDLE: Duration = Duration::from_secs(2);

/// How often it is looked whether a write has waited long enough for a tree change, and
/// whether a part that failed may be tried again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Calls of [`Replica::forget`] and [`Replica::judge`] in a row while nobody waits.
const IDLE_FORGETS_MAX: usize = 64;

/// What the thread is asked.
pub(crate) enum Request {
    Commit(Transaction, Done),
    Tree(TreeChange, TreeOpened, TreeDone),
    ResumeTrees(oneshot::Sender<()>),
    Apply(
        Option<Origin>,
        Vec<Bytes>,
        oneshot::Sender<Result<Vec<Applied>, Error>>,
    ),
    Member(MemberStep, oneshot::Sender<Result<Stamp, Error>>),
    Appear(oneshot::Sender<Result<Stamp, Error>>),
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
    Reissue(Vec<Origin>, oneshot::Sender<Result<Reissued, Error>>),
    Silences(Vec<(Origin, Duration)>, oneshot::Sender<Result<(), Error>>),
    Seal(oneshot::Sender<()>),
    Stop,
}

/// What the thread has.
pub(crate) struct Driver {
    pub(crate) replica: Replica,
    pub(crate) levels: Levels,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) requests: Requests<Request>,
    pub(crate) stable: Arc<Mutex<Option<Vector>>>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) syncer: Syncer,
    pub(crate) waiting: Waiting,
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
    /// Serves until it is told to stop.
    pub(crate) fn run(mut self) {
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
        let patience = if self.has_tree_work() {
            Duration::ZERO
        } else if self.replica.has_open_trees() || !self.waiting.is_empty() {
            LOOK_EVERY
        } else {
            IDLE
        };
        let next_end = self.acknowledged.next_end();
        next_end.map_or(patience, |next| next.min(patience))
    }

    fn has_tree_work(&self) -> bool {
        !self.replica.is_sealed && self.replica.has_tree_work()
    }

    /// Does one part of a tree change, so that requests wait for no more than that, and then
    /// what waited for one that is over.
    fn trees(&mut self) {
        if self.has_tree_work() {
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
        self.forget(1);
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
            if self.replica.is_sealed {
                write.fail(stopped());
                continue;
            }
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
                Write::Tree(change, opened, done) => {
                    // Order: what came before it is done before what it locks.
                    self.commit(std::mem::take(&mut group));
                    self.begin_tree(change, opened, done);
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

    fn begin_tree(&mut self, change: TreeChange, opened: TreeOpened, done: TreeDone) {
        let level = self.levels.of(&steps_of(&change));
        if let Durability::Peers(n) = level
            && let Err(error) = self.acknowledged.begin(n.into())
        {
            return done(Err(error));
        }
        let result = match self.replica.begin_tree(change) {
            Ok(TreeBegun::Open(intent)) => {
                opened(intent);
                return self.waiting.call(intent, level, done);
            }
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
                let commit = Commit {
                    origin: self.replica.shared.origin,
                    stamp: tree.stamp,
                    results: Vec::new(),
                };
                (Some(tree), Ok(commit))
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
            Request::Appear(answer) => {
                let _ = answer.send(self.replica.appear());
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
            Request::Tree(change, opened, done) => {
                self.write(vec![Write::Tree(change, opened, done)]);
            }
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
            Request::Reissue(_, answer) if self.replica.is_sealed => {
                let _ = answer.send(Err(stopped()));
            }
            Request::Reissue(in_use, answer) => {
                let _ = answer.send(self.replica.reissue(&in_use));
            }
            Request::Silences(silences, answer) => {
                let _ = answer.send(self.replica.note_silences(&silences));
            }
            Request::Seal(answer) => {
                self.replica.is_sealed = true;
                self.waiting.stop();
                let _ = answer.send(());
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

    /// Forgets some of what may be forgotten.
    fn forget(&mut self, n_steps: usize) {
        for _ in 0..n_steps {
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
        self.forget(IDLE_FORGETS_MAX);
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

/// What is asked of a thread that has ended.
pub(crate) fn stopped() -> Error {
    Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", "the store is stopping")
}
