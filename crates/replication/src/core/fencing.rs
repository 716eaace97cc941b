// SPDX-License-Identifier: Apache-2.0
//! Shutting out members that are silent for too long, or for whom too much log is kept.

use std::time::Duration;

use dulse_cluster::Now;
use dulse_types::Origin;

use super::{Action, Core, Phase, View};

/// Nobody is shut out who was not silent for this long since this filer started: at a start
/// all are silent.
const SILENT_MIN: Duration = Duration::from_secs(60);

/// Whoever is to be shut out is asked about again only after this: the change takes a moment.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// More than this between two polls is time in which this process did not run, so it says
/// nothing of others: it is not counted.
const POLL_GAP_MAX: Duration = Duration::from_secs(5);

/// How long a member has said nothing while this filer listened.
///
/// ⚠ No wall clock is asked, and no time counts in which this filer did not run or stood
/// still: a clock that is wrong by an hour, a machine that was asleep, and a cluster that was
/// switched off as a whole would each shut out members that are well. The price is that time
/// in which no member listened counts for nobody.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Silence {
    /// Before this filer started, as it was kept.
    before: Duration,
    here: Duration,
    heard: Option<Now>,
    is_known: bool,
}

impl Core {
    /// A member had been silent for this long when this filer stopped listening last.
    pub fn silent_before(&mut self, member: Origin, silent: Duration) {
        let silence = self.silences.entry(member).or_default();
        silence.before = silent;
        silence.is_known = true;
    }

    /// Whether the log is over its budget because some member lacks what is in it.
    pub fn log_is_over(&mut self, is_over: bool) {
        self.is_log_over = is_over;
    }

    /// Whether this filer's log or engine could not be written: it takes in nothing and acknowledges
    /// nothing until it is restarted.
    pub fn store_has_failed(&mut self, has_failed: bool) {
        self.has_failed = has_failed;
    }

    /// How long each other member has been silent while this filer listened: what is to be
    /// kept over restarts.
    #[must_use]
    pub fn silences(&self, view: &View<'_>) -> Vec<(Origin, Duration)> {
        let members = view.members.iter().map(|(member, _)| *member);
        let others = members.filter(|member| *member != self.settings.origin);
        others.map(|o| (o, self.silent_for(o))).collect()
    }

    /// How long a member has been silent while this filer listened, in this life and before.
    #[must_use]
    pub fn silent_for(&self, member: Origin) -> Duration {
        let silence = self.silences.get(&member);
        silence.map_or(Duration::ZERO, |silence| silence.before + silence.here)
    }

    /// Whether it is known since when a member is silent.
    pub(super) fn is_silence_known(&self, member: Origin) -> bool {
        let silence = self.silences.get(&member);
        silence.is_some_and(|silence| silence.is_known)
    }

    /// Time passed in which this filer listened.
    pub(super) fn listen(&mut self, now: Now, view: &View<'_>) {
        let passed = now.saturating_sub(self.listened).min(POLL_GAP_MAX);
        self.listened = now;
        for (member, _) in view.members {
            let silence = self.silences.entry(*member).or_default();
            silence.here += passed;
            let heard = self.acks.heard_at(*member);
            if heard > silence.heard {
                *silence = Silence {
                    heard,
                    is_known: true,
                    ..Silence::default()
                };
            }
        }
        let members = &self.members;
        let is_kept = |member: &Origin| members.contains(member);
        self.silences
            .retain(|member, silence| is_kept(member) || silence.is_known);
    }

    /// Has members shut out that hold everybody back. ⚠ One filer does, the smallest that
    /// answers: several would do no harm, but each is a change for ever.
    pub(super) fn fence_silent(&mut self, now: Now, view: &View<'_>) {
        if self.phase != Phase::Ready || now < self.fence_not_before {
            return;
        }
        let own = self.settings.origin;
        let members = view.members.iter().map(|(origin, _)| *origin);
        let others: Vec<Origin> = members.filter(|origin| *origin != own).collect();
        if others.len() == view.members.len() {
            return;
        }
        let smaller = others.iter().filter(|other| **other < own);
        if smaller.clone().any(|other| self.is_live(now, *other)) {
            return;
        }
        for member in others {
            let here = self.silences.get(&member).map(|silence| silence.here);
            let here = here.unwrap_or_default();
            let is_too_long = self.silent_for(member) >= self.settings.offline_max;
            let is_too_much = self.is_log_over && self.holds_back(member, view.applied).is_some();
            // A shorter time that an operator chose is meant.
            let least = SILENT_MIN.min(self.settings.offline_max);
            if here >= least && (is_too_long || is_too_much) {
                self.actions.push(Action::Fence { member });
                self.fence_not_before = now + AGAIN_AFTER;
            }
        }
    }
}
