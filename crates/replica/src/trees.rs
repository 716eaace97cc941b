// SPDX-License-Identifier: Apache-2.0
//! Trees that are too big for one change: moved or removed in parts, under an intent.
//!
//! The intent is journaled and synced before the first part, and is kept as a row of the
//! engine until the last part removes it, so it is found again after a crash whatever of
//! the log was dropped by then. Between parts the sequencer serves others; what they may
//! not touch meanwhile is told by [`locks`].
//!
//! Refused: to keep the log from the intent on instead of the row. A tree change that waits
//! for room on a full disk would hold back the log for as long.

pub(crate) mod locks;
mod part;
pub(crate) mod rows;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Record, RecordKind};
use dulse_merge::intent::{TreeIntent, TreeWork as Work};
use dulse_merge::local::{Builder, Effect, LocalError, TreeWalk};
use dulse_merge::{Change, Txn};
use dulse_store::{
    Error, ErrorKind, Operation, Step, StepResult, TreeChange, TreeCommit, TreeWork,
};
use dulse_types::{Identity, Origin, Stamp, Vector};

use self::rows::Open;
use crate::error;
use crate::metrics;
use crate::sequencer::{Replica, Sync, bytes, may_stamp, passed_here, record};
use crate::shared::{EngineRows, Shared};

/// Tree changes in parts that may be open at once; more are refused. Each costs a look per
/// local write and a turn per round of parts.
const OPEN_MAX: usize = 64;

/// What came of the beginning of a tree change.
#[derive(Debug)]
pub enum TreeBegun {
    /// One change did it.
    Done(TreeCommit),
    /// It is done in parts, by [`Replica::step_tree`].
    Open(Identity),
}

/// A tree change whose caller can be answered.
#[derive(Debug)]
pub struct TreeOver {
    /// Which one.
    pub intent: Identity,
    /// What came of it.
    pub result: Result<TreeCommit, Error>,
}

/// A tree change in parts, for showing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeProgress {
    /// Names it.
    pub intent: Identity,
    /// The top of the tree.
    pub path: Bytes,
    /// The path it gets, when it is moved.
    pub to: Option<Bytes>,
    /// Names moved or removed so far, before a restart too.
    pub n_names: u64,
    /// Parts done so far.
    pub n_parts: u32,
    /// Names come by that stay.
    pub n_left: u64,
    /// How it stands.
    pub state: TreeState,
}

/// How a tree change stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeState {
    /// Parts are being done.
    Running,
    /// Found after a restart; it goes on when the filer is ready.
    Held,
    /// The next part is tried again soon; why the last one failed.
    Waiting(String),
}

/// What a tree change does, as the model takes it.
pub(crate) struct Tree {
    pub(crate) path: Bytes,
    pub(crate) work: Work,
}

/// The tree changes that are open.
#[derive(Default)]
pub(crate) struct Trees {
    jobs: VecDeque<Job>,
}

/// One open tree change.
struct Job {
    intent: TreeIntent,
    walk: TreeWalk,
    progress: TreeProgress,
    top: Option<Effect>,
    refused: Option<LocalError>,
    /// Its last part is in the log, though this was not told when it was journaled.
    is_over: bool,
    /// When to try again, by the wall clock.
    retry_at_ns: i64,
}

impl Tree {
    pub(crate) fn of(change: &TreeChange) -> Self {
        Self {
            path: bytes(&change.path),
            work: match &change.work {
                TreeWork::Move { to } => Work::Move { to: bytes(to) },
                TreeWork::Delete { delete_chunks } => Work::Delete {
                    delete_chunks: *delete_chunks,
                },
            },
        }
    }

    /// Does it in the change that is being built.
    pub(crate) fn whole(&self, builder: &mut Builder<'_, '_>) -> Result<Effect, LocalError> {
        match &self.work {
            Work::Move { to } => builder.rename(&self.path, to),
            Work::Delete { delete_chunks } => builder.delete_tree(&self.path, *delete_chunks),
        }
    }
}

impl Trees {
    /// What was open when the store was closed; it waits for [`Replica::resume_trees`].
    pub(crate) fn of(open: Vec<Open>, shared: &Shared) -> Self {
        let mut trees = Self::default();
        trees.reload(open, shared.origin);
        for job in &mut trees.jobs {
            job.progress.state = TreeState::Held;
            tracing::info!(
                path = %String::from_utf8_lossy(&job.intent.path),
                n_names = job.progress.n_names,
                "a tree change was interrupted; it is resumed when this filer is ready"
            );
        }
        trees
    }

    /// Makes this agree with what the log and the engine say.
    pub(crate) fn reload(&mut self, open: Vec<Open>, origin: Origin) {
        for job in &mut self.jobs {
            job.is_over = !open.iter().any(|open| open.intent.id == job.intent.id);
        }
        for open in open {
            // ⚠ A copied or restored store, under a new origin, does not go on with what
            // another one began.
            let is_own = open.intent.id.origin == origin;
            if is_own && !self.jobs.iter().any(|job| job.intent.id == open.intent.id) {
                self.jobs.push_back(Job::of(open));
            }
        }
    }

    /// The one whose turn it is.
    fn due(&self, now_ns: i64) -> Option<usize> {
        let is_due = |job: &Job| match job.progress.state {
            TreeState::Running => true,
            TreeState::Held => false,
            // A clock that was set back must not delay it.
            TreeState::Waiting(_) => {
                job.retry_at_ns <= now_ns || job.retry_at_ns - now_ns > part::RETRY_AFTER_NS
            }
        };
        self.jobs.iter().position(is_due)
    }
}

impl Job {
    fn of(open: Open) -> Self {
        let path = open.intent.path.clone();
        let (walk, to) = match &open.intent.work {
            Work::Move { to } => (TreeWalk::top_down(path.clone()), Some(to.clone())),
            Work::Delete { .. } => (TreeWalk::bottom_up(path.clone()), None),
        };
        let progress = TreeProgress {
            intent: open.intent.id,
            path,
            to,
            n_names: open.n_names,
            n_parts: open.n_parts,
            n_left: 0,
            state: TreeState::Running,
        };
        Self {
            intent: open.intent,
            walk,
            progress,
            top: None,
            refused: None,
            is_over: false,
            retry_at_ns: 0,
        }
    }

    fn over(self, stamp: Stamp) -> TreeOver {
        let intent = self.intent.id;
        let commit = TreeCommit {
            stamp,
            top: self.top.map(result_of),
            n_names: self.progress.n_names,
            n_left: self.progress.n_left,
            refused: self.refused.map(|refused| refused.to_string()),
            intent: Some(intent),
        };
        TreeOver {
            intent,
            result: Ok(commit),
        }
    }
}

impl Replica {
    /// Does a tree change, or begins it: in one change when that holds it, else in parts.
    ///
    /// # Errors
    ///
    /// As a commit; then nothing has begun, unless the outcome is unknown.
    pub fn begin_tree(&mut self, change: TreeChange) -> Result<TreeBegun, Error> {
        self.ready()?;
        let begun = self.try_tree(change);
        self.landed();
        self.show_trees();
        begun
    }

    fn try_tree(&mut self, change: TreeChange) -> Result<TreeBegun, Error> {
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        let mut vector = shared.vector();
        txn.applied = Some(vector.clone());
        may_stamp(&txn, shared.origin)?;
        let tree = Tree::of(&change);
        let whole = self.build(&mut txn, change.before.clone(), Some(&tree), &vector);
        match whole {
            Ok((made, mut commit)) => {
                vector.set(made.origin, made.stamp);
                let n_names = made.steps.len() as u64;
                self.write(txn, &[record(&made)], vector, Sync::Now)?;
                Ok(TreeBegun::Done(TreeCommit {
                    stamp: commit.stamp,
                    top: commit.results.pop(),
                    n_names,
                    n_left: 0,
                    refused: None,
                    intent: None,
                }))
            }
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                self.open_tree(txn, change, tree, vector)
            }
            Err(error) => Err(error),
        }
    }

    /// Journals the intent, behind what is to be done first.
    fn open_tree(
        &mut self,
        mut txn: Txn<'_>,
        change: TreeChange,
        tree: Tree,
        mut vector: Vector,
    ) -> Result<TreeBegun, Error> {
        if self.trees.jobs.len() >= OPEN_MAX {
            let text = format!("{OPEN_MAX} trees are being changed already; try again later");
            let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
            return Err(error.with("because", text));
        }
        let origin = self.shared.origin;
        let signatures = passed_here(origin, change.before.signatures.clone());
        let is_from_other_cluster = change.before.is_from_other_cluster;
        let mut records = Vec::new();
        if !change.before.steps.is_empty() {
            let (made, _) = self.build(&mut txn, change.before, None, &vector)?;
            vector.set(made.origin, made.stamp);
            records.push(record(&made));
        }
        let id = Identity {
            stamp: self.next_stamp(&vector)?,
            origin,
            index: 0,
        };
        self.may_open(&mut txn, &tree, id.stamp)?;
        self.shared.clock.see(id.stamp);
        let intent = TreeIntent {
            id,
            path: tree.path,
            work: tree.work,
            seen: vector.clone(),
            signatures,
            is_from_other_cluster,
        };
        records.push(intent_record(&intent));
        let open = Open::new(intent);
        open.put(&mut txn);
        // Order: in the log before its parts, so that whatever of them is there, it is.
        self.write(txn, &records, vector, Sync::Now)?;
        tracing::info!(path = %String::from_utf8_lossy(&open.intent.path), "a tree is changed in parts");
        self.trees.jobs.push_back(Job::of(open));
        Ok(TreeBegun::Open(id))
    }

    /// What the one change that was too large has not been asked.
    fn may_open(&self, txn: &mut Txn<'_>, tree: &Tree, stamp: Stamp) -> Result<(), Error> {
        let Work::Move { to } = &tree.work else {
            return Ok(());
        };
        let builder = Builder::new(txn, self.shared.origin, stamp, Stamp::ZERO);
        builder.may_rename(&tree.path, to).map_err(error::local)?;
        // The transaction removes it: an empty directory that is replaced.
        let shown = txn
            .shown(to)
            .map_err(|e| error::read(Operation::Commit, e))?;
        if shown.is_some() {
            let error = Error::new(Operation::Commit, ErrorKind::Conflict);
            return Err(error.with("because", "something is at the target"));
        }
        Ok(())
    }

    /// Goes on with what was open when the store was opened. Called once local writes may
    /// be made.
    pub fn resume_trees(&mut self) {
        for job in &mut self.trees.jobs {
            if job.progress.state == TreeState::Held {
                job.progress.state = TreeState::Running;
            }
        }
        self.show_trees();
    }

    /// Whether [`Replica::step_tree`] has something to do now.
    #[must_use]
    pub fn has_tree_work(&self) -> bool {
        !self.trees.jobs.is_empty() && self.trees.due(self.shared.wall.now_ns()).is_some()
    }

    /// Whether tree changes are open, of which some may have to wait.
    #[must_use]
    pub fn has_open_trees(&self) -> bool {
        !self.trees.jobs.is_empty()
    }

    /// Why these steps, and this tree change, must wait for an open one.
    #[must_use]
    pub fn waits_for_tree(&self, steps: &[Step], change: Option<&TreeChange>) -> Option<Error> {
        if self.trees.jobs.is_empty() {
            return None;
        }
        let tree = change.map(Tree::of);
        self.trees.check(steps, tree.as_ref()).err()
    }

    pub(crate) fn show_trees(&self) {
        let shown: Vec<_> = self.trees.jobs.iter().map(|j| j.progress.clone()).collect();
        metrics::TREES_OPEN.set(shown.len() as f64);
        *self.shared.trees.lock() = shown;
    }
}

/// Not part of any origin's log: it has no stamp, so that no reader waits for what comes
/// before it.
fn intent_record(intent: &TreeIntent) -> Record {
    Record {
        kind: RecordKind::Intent,
        origin: intent.id.origin,
        stamp: Stamp::ZERO,
        prev: intent.id.stamp,
        payload: intent.encode(),
    }
}

fn result_of(effect: Effect) -> StepResult {
    StepResult {
        stamp: effect.stamp,
        old_entry: effect.old_entry,
        new_entry: effect.new_entry,
    }
}

/// The part of which tree change a change is, if any: the intent, which part, whether the last.
fn part_of(change: &Change) -> Option<(Identity, u32, bool)> {
    change.steps.iter().find_map(|step| match step {
        dulse_merge::Step::TreePart {
            intent,
            part,
            is_last,
        } => Some((*intent, *part, *is_last)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun_by(origin: Origin) -> Open {
        Open::new(TreeIntent {
            id: Identity {
                stamp: Stamp(5),
                origin,
                index: 0,
            },
            path: "/t".into(),
            work: Work::Move { to: "/u".into() },
            seen: Vector::new(),
            signatures: Vec::new(),
            is_from_other_cluster: false,
        })
    }

    #[test]
    fn a_store_with_a_new_origin_does_not_go_on_with_what_the_old_one_began() {
        let (old, new) = (Origin(1), Origin(2));
        let mut trees = Trees::default();
        trees.reload(vec![begun_by(old), begun_by(new)], new);
        let ids: Vec<_> = trees.jobs.iter().map(|job| job.intent.id.origin).collect();
        assert_eq!(ids, [new]);
    }
}
