// SPDX-License-Identifier: Apache-2.0
//! Judging what only time decides, a little at a time: shadows whose registers are stable,
//! what a member that is gone had lost, records that are too old or too many.
//!
//! What a change makes lose at once is judged where it is merged, in the same append. This
//! pass goes by levels: it looks at all conflicts and shadows whenever more is stable, at
//! most once in a while, so nothing depends on having seen an event. Both spaces are small,
//! and each call looks at few rows. Nobody waits for what it says, so that is synced later:
//! what a crash loses is said again.

use std::sync::Arc;

use dulse_merge::conflict::{
    self, DATA, Kept, ShadowVerdict, is_judge, orphan, shadows as look_at_shadows,
};
use dulse_merge::local::CHANGE_BYTES_MAX;
use dulse_merge::txn::Losses;
use dulse_merge::{ConflictStep, Txn};
use dulse_store::{Error, Operation};
use dulse_types::{Identity, Origin, Stamp, Vector, Version};

use crate::conflicts::{ConflictCounts, pinned_bytes};
use crate::error;
use crate::metrics;
use crate::sequencer::{Replica, Sync, may_stamp, parts};
use crate::shared::EngineRows;

/// Rows looked at by one call, so that writers hardly wait for it.
const ROWS_MAX: usize = 128;

/// Records let go by one change.
const EXPIRED_MAX: usize = 512;

/// A look at least this often, however quiet: records grow old.
const LOOK_AT_LEAST_EVERY_NS: i64 = 60_000_000_000;

/// How far judging has come.
#[derive(Default, Debug)]
pub(crate) struct Judging {
    phase: Phase,
    /// There may be more to say than when the pass began.
    is_again: bool,
    began_at_ns: i64,
    counts: ConflictCounts,
    /// What was on disk when the pass began.
    durable: Vector,
    /// The earliest write that lost, of which nothing is said yet.
    first_pending: Option<Stamp>,
    /// Open records: when they were recorded, and how much they pin.
    open: Vec<(Version, Identity, u64)>,
}

#[derive(Default, Debug)]
enum Phase {
    #[default]
    Over,
    /// Conflicts from this key on.
    Conflicts(Vec<u8>),
    /// These are over a limit.
    Expiry(Vec<Identity>),
    /// Shadows from this key on.
    Shadows(Vec<u8>),
}

impl Judging {
    /// More is stable, or something was forgotten.
    pub(crate) fn look_again(&mut self) {
        self.is_again = true;
    }
}

/// Counts what is recorded and withdrawn.
pub(crate) fn count(steps: &[ConflictStep]) {
    for step in steps {
        match step {
            ConflictStep::Record { kind, .. } => {
                let kind = if *kind == DATA { "data" } else { "shadow" };
                metrics::CONFLICTS_RECORDED
                    .counter(&[("kind", kind)])
                    .increment(1);
            }
            ConflictStep::Withdraw { .. } => metrics::CONFLICTS_WITHDRAWN.add(1),
            ConflictStep::Expire { .. } => metrics::CONFLICTS_EXPIRED.add(1),
        }
    }
}

impl Replica {
    /// Whether what is to be said of conflicts waits: while others may have more of this origin,
    /// and once it is sealed until the next start.
    ///
    /// ⚠ A verdict is a change of its own, so none comes behind the word that this filer stops.
    /// That is not [`crate::shared::Shared::hold_verdicts`]: it is lifted whenever this filer is found to be
    /// ready, and while it holds, nothing counts of what this replica acknowledged; that of one
    /// that stops in order counts while it is away, or the others could cut no log meanwhile.
    pub(crate) fn are_verdicts_held(&self) -> bool {
        self.is_sealed || self.shared.is_unsure()
    }

    /// Has a quiet replica look through its conflicts now and then.
    pub fn judge_when_due(&mut self) {
        let since = self.judging.began_at_ns.abs_diff(self.shared.wall.now_ns());
        if since >= LOOK_AT_LEAST_EVERY_NS.unsigned_abs() {
            self.judging.is_again = true;
        }
    }

    /// Looks at some more conflicts and shadows, and journals what is to be said of them.
    /// True while there are more to look at.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `DiskFull`, `Io`, `ClockSkew`; then all are looked at anew.
    pub fn judge(&mut self) -> Result<bool, Error> {
        if self.are_verdicts_held() || self.is_behind_log {
            return Ok(false);
        }
        let has_held = self.held != Losses::default();
        if matches!(self.judging.phase, Phase::Over) && !has_held {
            return Ok(self.begin());
        }
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        if may_stamp(&Txn::new(&rows), shared.origin).is_err() {
            return Ok(false);
        }
        if has_held {
            self.say_held()?;
        }
        let phase = std::mem::take(&mut self.judging.phase);
        let done = match phase {
            Phase::Over => return Ok(self.begin()),
            Phase::Conflicts(from) => self.judge_conflicts(&from),
            Phase::Expiry(ids) => self.expire(ids),
            Phase::Shadows(from) => self.judge_shadows(&from),
        };
        // After a failure the next pass begins at the start: what was counted is not whole.
        self.judging.is_again |= done.is_err();
        self.judging.phase = done?;
        Ok(!matches!(self.judging.phase, Phase::Over) || self.begin())
    }

    fn begin(&mut self) -> bool {
        let now = self.shared.wall.now_ns();
        let since = u128::from(self.judging.began_at_ns.abs_diff(now));
        if !self.judging.is_again || since < self.limits.conflicts.look_every.as_nanos() {
            return false;
        }
        self.judging = Judging {
            phase: Phase::Conflicts(Vec::new()),
            began_at_ns: now,
            durable: self.shared.acknowledged_vector(),
            ..Judging::default()
        };
        true
    }

    /// ⚠ What a member that is gone had lost is recorded by the smallest that is left.
    fn judge_conflicts(&mut self, from: &[u8]) -> Result<Phase, Error> {
        let own = self.shared.origin;
        let (look, members) = {
            let shared = Arc::clone(&self.shared);
            let rows = EngineRows(&*shared.engine);
            let txn = Txn::new(&rows);
            let look = conflict::conflicts(&txn, from, ROWS_MAX).map_err(unreadable)?;
            (look, txn.members().map_err(unreadable)?)
        };
        // Nothing is stable before every member has met this one and said what it has: until
        // then a copy of this store may be about to be found out.
        let may_say = !self.stable.is_empty();
        let mut steps = Vec::new();
        for kept in &look.found {
            self.judging.note(kept);
            let verdict = orphan(own, &members, kept).map_err(unreadable)?;
            let verdict = verdict.filter(|_| may_say);
            if kept.row.is_pending() && verdict.is_none() {
                self.judging.pends(kept.id.stamp);
            }
            steps.extend(verdict);
        }
        self.say(steps)?;
        if let Some(next) = look.next {
            return Ok(Phase::Conflicts(next));
        }
        let durable = std::mem::take(&mut self.judging.durable);
        let applied = self.shared.vector().get(own);
        let first = self.judging.first_pending;
        self.shared.judged.lock().looked(durable, first, applied);
        Ok(if may_say {
            Phase::Expiry(self.over_a_limit(own, &members))
        } else {
            Phase::Shadows(Vec::new())
        })
    }

    /// Says what was to be said while verdicts were held.
    fn say_held(&mut self) -> Result<(), Error> {
        let held = std::mem::take(&mut self.held);
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let steps = conflict::verdicts(&Txn::new(&rows), shared.origin, &held);
        let said = steps.map_err(unreadable).and_then(|steps| self.say(steps));
        match &said {
            Ok(()) => {
                let up_to = shared.vector().get(shared.origin);
                shared.unsaid.lock().said(up_to);
            }
            Err(_) => self.held = held,
        }
        said
    }

    fn say(&mut self, steps: Vec<ConflictStep>) -> Result<(), Error> {
        for part in parts(steps) {
            self.own_change(Sync::Later, |builder| {
                let mut steps = part.iter().cloned();
                steps.try_for_each(|step| builder.conflict(step))
            })?;
            count(&part);
        }
        Ok(())
    }

    /// The records over a limit that this replica judges, of all that are over one.
    fn over_a_limit(&mut self, own: Origin, members: &[Origin]) -> Vec<Identity> {
        let limits = self.limits.conflicts;
        let keep = i64::try_from(limits.keep.as_nanos()).unwrap_or(i64::MAX);
        let kept_from = self.shared.wall.now_ns().saturating_sub(keep);
        let mut open = std::mem::take(&mut self.judging.open);
        // The latest first: those that are kept.
        open.sort_unstable_by(|a, b| b.cmp(a));
        let (mut n_kept, mut bytes) = (0, 0u64);
        let mut over = Vec::new();
        for (recorded, id, pinned) in open {
            n_kept += 1;
            bytes = bytes.saturating_add(pinned);
            let is_over = recorded.stamp.0 < kept_from
                || n_kept > limits.count
                || bytes > limits.pinned_bytes;
            if is_over && is_judge(own, id, members) {
                over.push(id);
            }
        }
        over
    }

    fn expire(&mut self, mut ids: Vec<Identity>) -> Result<Phase, Error> {
        let rest = ids.split_off(ids.len().min(EXPIRED_MAX));
        if ids.is_empty() {
            return Ok(Phase::Shadows(Vec::new()));
        }
        let n = ids.len() as u64;
        self.own_change(Sync::Later, |builder| {
            for id in ids {
                let is_open = builder.txn().conflict(id)?.is_some_and(|row| row.is_open());
                if is_open {
                    builder.conflict(ConflictStep::Expire { id })?;
                }
            }
            Ok(())
        })?;
        metrics::CONFLICTS_EXPIRED.add(n);
        tracing::info!(
            n_records = n,
            "let conflicts go that are too old or too many"
        );
        Ok(Phase::Expiry(rest))
    }

    /// ⚠ Only once places and touches of both names are stable.
    fn judge_shadows(&mut self, from: &[u8]) -> Result<Phase, Error> {
        let own = self.shared.origin;
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let txn = Txn::new(&rows);
        let look = look_at_shadows(&txn, &self.stable, from, ROWS_MAX).map_err(unreadable)?;
        let members = txn.members().map_err(unreadable)?;
        let mut due = Vec::new();
        for found in look.found {
            match found.verdict {
                ShadowVerdict::OneDirectory => {}
                ShadowVerdict::Pending => self.judging.counts.n_pending += 1,
                ShadowVerdict::Kill | ShadowVerdict::RecordAndKill => {
                    if is_judge(own, found.shadow.name, &members) {
                        due.push(found);
                    } else {
                        self.judging.counts.n_pending += 1;
                    }
                }
            }
        }
        let mut due = due.into_iter().peekable();
        while due.peek().is_some() {
            let mut n_recorded = 0;
            self.own_change(Sync::Later, |builder| {
                while let Some(found) = due.next_if(|_| builder.n_bytes() < CHANGE_BYTES_MAX / 2) {
                    builder.settle_shadow(&found.shown, &found.shadow)?;
                    n_recorded += u64::from(found.verdict == ShadowVerdict::RecordAndKill);
                }
                Ok(())
            })?;
            metrics::CONFLICTS_RECORDED
                .counter(&[("kind", "shadow")])
                .increment(n_recorded);
        }
        if let Some(next) = look.next {
            return Ok(Phase::Shadows(next));
        }
        *self.shared.conflicts.lock() = self.judging.counts;
        Ok(Phase::Over)
    }
}

impl Judging {
    fn pends(&mut self, lost: Stamp) {
        let first = self.first_pending.map_or(lost, |first| first.min(lost));
        self.first_pending = Some(first);
    }

    fn note(&mut self, kept: &Kept) {
        if kept.row.is_pending() {
            self.counts.n_pending += 1;
        }
        if !kept.row.is_open() {
            return;
        }
        let Ok(Some(ConflictStep::Record { kind, loser, .. })) = kept.row.step() else {
            return;
        };
        let pinned = pinned_bytes(&loser);
        if kind == DATA {
            self.counts.n_data += 1;
        } else {
            self.counts.n_shadows += 1;
        }
        self.counts.pinned_bytes = self.counts.pinned_bytes.saturating_add(pinned);
        self.open.push((kept.row.recorded, kept.id, pinned));
    }
}

fn unreadable(error: dulse_merge::txn::ReadError) -> Error {
    error::read(Operation::Apply, error)
}
