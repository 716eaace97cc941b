// SPDX-License-Identifier: Apache-2.0
//! Shutting out members that are silent for too long, or for whom too much log is kept.

use std::time::Duration;

use dulse_cluster::Now;
use dulse_types::Origin;

use super::{Action, Core, Phase, View};

/// Nobody is shut out who was not silent for this long since this filer started: at a start
/// all are silent, and the wall clock that tells how long they were before may be wrong.
const SILENT_MIN: Duration = Duration::from_secs(60);

/// Whoever is to be shut out is asked about again only after this: the change takes a moment.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Core {
    /// A member was heard last this long before this filer started.
    pub fn silent_before(&mut self, member: Origin, silent: Duration) {
        self.silent_before.insert(member, silent);
    }

    /// Whether the log is over its budget because some member lacks what is in it.
    pub fn log_is_over(&mut self, is_over: bool) {
        self.is_log_over = is_over;
    }

    /// The members that were heard in this life of this filer, and how long ago.
    #[must_use]
    pub fn heard_lately(&self, now: Now, view: &View<'_>) -> Vec<(Origin, Duration)> {
        let members = view.members.iter().filter_map(|(member, _)| {
            let at = self.acks.heard_at(*member)?;
            Some((*member, now.saturating_sub(at)))
        });
        members.collect()
    }

    /// How long a member has been silent, in this life of this filer and before.
    #[must_use]
    pub fn silent_for(&self, now: Now, member: Origin) -> Duration {
        match self.acks.heard_at(member) {
            Some(at) => now.saturating_sub(at),
            None => {
                let before = self.silent_before.get(&member);
                now + before.copied().unwrap_or_default()
            }
        }
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
            let here = match self.acks.heard_at(member) {
                Some(at) => now.saturating_sub(at),
                None => now,
            };
            let is_too_long = self.silent_for(now, member) >= self.settings.offline_max;
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
