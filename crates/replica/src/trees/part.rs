// SPDX-License-Identifier: Apache-2.0
//! One part of an open tree change.

use std::sync::Arc;

use dulse_merge::Txn;
use dulse_merge::intent::TreeIntent;
use dulse_merge::local::{Builder, Part, PartLimits, TreeWalk};
use dulse_store::{Error, ErrorKind};

use super::rows::{self, Open};
use super::{TreeOver, TreeState};
use crate::error;
use crate::metrics;
use crate::sequencer::{Replica, Sync, may_stamp, record};
use crate::shared::EngineRows;

/// A part that failed is tried again after this, in nanoseconds.
pub(super) const RETRY_AFTER_NS: i64 = 1_000_000_000;

/// What a part is made of.
struct Before {
    open: Open,
    walk: TreeWalk,
}

impl Replica {
    /// Does one part of the open tree change whose turn it is. One that fails is tried again
    /// later: when the disk has room, or the clock is right. Says so when one is over.
    pub fn step_tree(&mut self) -> Option<TreeOver> {
        let at = self.trees.due(self.shared.wall.now_ns())?;
        // In turns: the next one is behind it.
        let mut job = self.trees.jobs.remove(at)?;
        let before = Before {
            open: Open {
                intent: job.intent.clone(),
                n_parts: job.progress.n_parts,
                n_names: job.progress.n_names,
            },
            walk: job.walk.clone(),
        };
        let id = job.intent.id;
        self.trees.jobs.push_back(job);
        let done = self.ready().and_then(|()| {
            // Getting ready may have found its last part in the log.
            let is_over = |job: &super::Job| job.intent.id == id && job.is_over;
            if self.trees.jobs.iter().any(is_over) {
                return Ok(None);
            }
            let done = self.part(before);
            self.landed();
            done.map(Some)
        });
        let at = self.trees.jobs.iter().position(|job| job.intent.id == id)?;
        job = self.trees.jobs.remove(at)?;
        let over = match done {
            Ok(None) => Some(job.over(self.shared.vector().get(self.shared.origin))),
            Ok(Some((part, walk))) => {
                job.walk = walk;
                job.progress.state = TreeState::Running;
                job.progress.n_parts += 1;
                job.progress.n_names += part.n_names as u64;
                job.progress.n_left += part.n_left as u64;
                job.top = part.top.or(job.top);
                job.refused = part.refused.or(job.refused);
                if part.is_end {
                    Some(job.over(self.shared.vector().get(self.shared.origin)))
                } else {
                    self.trees.jobs.push_back(job);
                    None
                }
            }
            Err(error) if is_hopeless(&error) => self.give_up(job, error),
            Err(error) => {
                if job.progress.state == TreeState::Running {
                    tracing::warn!(%error, "a part of a tree change failed; tried again");
                }
                let text = error.to_string();
                let over = self.shared.journal.is_poisoned().then(|| TreeOver {
                    intent: id,
                    result: Err(error.unknown_outcome()),
                });
                job.progress.state = TreeState::Waiting(text);
                job.retry_at_ns = self.shared.wall.now_ns().saturating_add(RETRY_AFTER_NS);
                self.trees.jobs.push_back(job);
                over
            }
        };
        if let Some(over) = &over {
            tracing::info!(intent = ?over.intent, is_ok = over.result.is_ok(), "a tree change ended");
        }
        self.show_trees();
        over
    }

    fn part(&mut self, before: Before) -> Result<(Part, TreeWalk), Error> {
        let Before { mut open, mut walk } = before;
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        let mut vector = shared.vector();
        txn.applied = Some(vector.clone());
        may_stamp(&txn, shared.origin)?;
        let first = self.next_stamp(&vector)?;
        let mut builder = Builder::new(&mut txn, shared.origin, first, vector.get(shared.origin));
        let limits = PartLimits {
            names: self.limits.tree_part_names.max(1),
            bytes: self.limits.tree_part_bytes,
        };
        let part = fill(&mut builder, &open, &mut walk, limits).map_err(error::local)?;
        if part.n_names == 0 && !part.is_end {
            return Ok((part, walk));
        }
        let change = builder.finish();
        self.shared.clock.see(change.stamp);
        vector.set(change.origin, change.stamp);
        open.n_parts += 1;
        open.n_names += part.n_names as u64;
        if part.is_end {
            rows::remove(open.intent.id, &mut txn);
        } else {
            open.put(&mut txn);
        }
        self.write(txn, &[record(&change)], vector, Sync::Now)?;
        metrics::TREE_PARTS.add(1);
        metrics::TREE_NAMES.add(part.n_names as u64);
        Ok((part, walk))
    }

    /// Ends one that cannot go on, so that its locks go: what it did stays done.
    fn give_up(&mut self, mut job: super::Job, error: Error) -> Option<TreeOver> {
        tracing::error!(
            %error,
            path = %String::from_utf8_lossy(&job.intent.path),
            n_names = job.progress.n_names,
            "a tree change cannot go on and ends half way"
        );
        let ended = self.end_early(&job.intent, job.progress.n_parts);
        self.landed();
        if let Err(failure) = ended {
            job.progress.state = TreeState::Waiting(failure.to_string());
            job.retry_at_ns = self.shared.wall.now_ns().saturating_add(RETRY_AFTER_NS);
            self.trees.jobs.push_back(job);
            return None;
        }
        Some(TreeOver {
            intent: job.intent.id,
            result: Err(error.unknown_outcome()),
        })
    }

    /// Journals a last part that does nothing.
    fn end_early(&mut self, intent: &TreeIntent, n_parts: u32) -> Result<(), Error> {
        self.ready()?;
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        let mut vector = shared.vector();
        may_stamp(&txn, shared.origin)?;
        let first = self.next_stamp(&vector)?;
        let mut builder = Builder::new(&mut txn, shared.origin, first, vector.get(shared.origin));
        builder
            .begin_part(intent.id, n_parts)
            .map_err(error::local)?;
        builder.end_parts();
        let change = builder.finish();
        self.shared.clock.see(change.stamp);
        vector.set(change.origin, change.stamp);
        rows::remove(intent.id, &mut txn);
        self.write(txn, &[record(&change)], vector, Sync::Now)
    }
}

fn fill(
    builder: &mut Builder<'_, '_>,
    open: &Open,
    walk: &mut TreeWalk,
    limits: PartLimits,
) -> Result<Part, dulse_merge::local::LocalError> {
    let intent = &open.intent;
    builder.passed(intent.signatures.clone(), intent.is_from_other_cluster);
    builder.begin_part(intent.id, open.n_parts)?;
    let part = builder.tree_part(&intent.work, walk, Some(&intent.seen), limits)?;
    if part.is_end {
        builder.end_parts();
    }
    Ok(part)
}

/// Whether trying again cannot help: rows that do not decode, a name that no change holds.
fn is_hopeless(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::TooLarge | ErrorKind::Invalid => true,
        ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::NotEmpty => true,
        ErrorKind::DroppedChunk => true,
        ErrorKind::DiskFull | ErrorKind::ClockSkew | ErrorKind::Io => false,
        ErrorKind::Unavailable | ErrorKind::Unacknowledged => false,
    }
}
