// SPDX-License-Identifier: Apache-2.0
//! Changes that are missing here and that no log brings any more.
//!
//! A log is cut where every member has acknowledged it. So whoever is a member and is told that
//! what it lacks is kept no more had it once: its store was set back, or the one it joined at. Of
//! a log that parted from what is here the same is true: somebody else wrote under that origin.
//! Either way there is one remedy: the whole state, under a new origin.

use std::collections::BTreeSet;
use std::time::Duration;

use dulse_cluster::Now;
use dulse_replica::Known;
use dulse_types::{Origin, ServerAddress, Stamp};

use super::membership::SILENT_MAX;
use super::pulls::Purpose;
use super::{Core, Greeting, StreamId, View};
use crate::status::PeerState;

/// Others may keep longer what one keeps no more: they are asked meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of two that each lack what the other keeps no more, the one with the smaller origin waits for
/// longer: the other one steps aside, and this one goes on.
const PATIENCE_OF_THE_SMALLER: Duration = Duration::from_secs(6);

/// A peer that greets this filer is greeted again at most this often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Changes of one origin that are missing here.
#[derive(Clone, Default, Debug)]
pub(super) struct Gap {
    since: Now,
    /// What is here of that origin; `None` before the next poll.
    have: Option<Stamp>,
    /// Up to where the logs are alike, if they parted.
    common: Option<Stamp>,
    /// Who has more and cannot bring it.
    by: BTreeSet<Origin>,
}

impl Core {
    /// A stream cannot bring what follows what is here.
    pub(super) fn is_missing(&mut self, now: Now, stream: StreamId, common: Option<Stamp>) {
        let Some(stream) = self.streams.get(&stream) else {
            return;
        };
        let link = self.links.get(&stream.address);
        let Some(by) = link.map(|link| link.origin) else {
            return;
        };
        if stream.purpose == Purpose::Join {
            return;
        }
        let gap = self.gaps.entry(stream.origin).or_insert_with(|| Gap {
            since: now,
            ..Gap::default()
        });
        gap.by.insert(by);
        gap.common = match (gap.common, common) {
            (Some(before), Some(common)) => Some(before.min(common)),
            (before, common) => before.or(common),
        };
    }

    /// Forgets gaps that were filled and peers that are silent, and asks those again whose word
    /// a new origin would be taken on.
    pub(super) fn look_at_gaps(&mut self, now: Now, view: &View<'_>) {
        let mut gaps = std::mem::take(&mut self.gaps);
        let mut asked = BTreeSet::new();
        gaps.retain(|origin, gap| {
            let have = view.applied.get(*origin);
            let before = *gap.have.get_or_insert(have);
            gap.by.retain(|peer| {
                let mut links = self.links.values();
                let is_heard = links.any(|l| l.origin == *peer && l.is_alive(now, SILENT_MAX));
                // One that says that it has no more than is here lacks nothing to bring.
                let said = self.acks.of(*peer);
                let has_more = said.is_none_or(|said| said.applied.get(*origin) > have);
                is_heard && has_more && !self.gone.contains(peer)
            });
            let ripe = gap.by.iter().filter(|peer| self.is_ripe(now, gap, **peer));
            asked.extend(ripe.copied());
            have == before && !gap.by.is_empty()
        });
        self.gaps = gaps;
        if self.aside.is_none() {
            self.greet_again(now, LOOK_AGAIN_AFTER, |peer| asked.contains(&peer));
        }
    }

    fn is_ripe(&self, now: Now, gap: &Gap, peer: Origin) -> bool {
        let patience = match self.settings.origin > peer {
            true => PATIENCE,
            false => PATIENCE_OF_THE_SMALLER,
        };
        now.saturating_sub(gap.since) >= patience
    }

    /// Whose changes are missing here and come from nobody.
    pub(super) fn missing(&self) -> Option<Origin> {
        self.gaps.keys().next().copied()
    }

    /// What others have of this store, if its gaps show that it must take in the state of one
    /// who greets. ⚠ One that does not hold this filer for a member has waited for nothing that
    /// it acknowledged, and so proves nothing.
    pub(super) fn known_behind_gaps(&self, now: Now, said: &Greeting) -> Option<Known> {
        let own = self.settings.origin;
        if !said.is_ready || !said.members.contains(&own) {
            return None;
        }
        let is_proof = |(origin, gap): &(&Origin, &Gap)| {
            let has_more = gap
                .have
                .is_some_and(|have| said.vector.get(**origin) > have);
            gap.by.contains(&said.origin) && has_more && self.is_ripe(now, gap, said.origin)
        };
        self.gaps.iter().find(is_proof)?;
        let mut known: Known = said.gone.iter().copied().collect();
        known.set(own, said.vector.get(own));
        for (origin, gap) in &self.gaps {
            if let Some(common) = gap.common {
                // ⚠ What was written here behind where the logs parted, others lack.
                known.set(*origin, common);
            }
        }
        Some(known)
    }

    /// A peer greets this filer, whose stream is open: perhaps it cannot go on with this one's log,
    /// as another wrote under this origin. Only its greeting shows that. What the engine or a sync
    /// takes its time with is no news.
    pub(super) fn look_again_at(&mut self, now: Now, peer: Origin) {
        let own = self.settings.origin;
        let said = self.acks.of(peer);
        let is_level = |has| (self.own_applied..=self.own).contains(&has);
        if said.is_some_and(|said| !is_level(said.applied.get(own))) {
            self.greet_again(now, LOOK_AGAIN_AFTER, |origin| origin == peer);
        }
    }

    /// Greets those anew who were greeted last this long ago.
    fn greet_again(&mut self, now: Now, after: Duration, is_asked: impl Fn(Origin) -> bool) {
        let open = self.links.iter().filter(|(_, link)| link.is_open());
        let old = open.filter(|(_, link)| now.saturating_sub(link.met) >= after);
        let asked: Vec<ServerAddress> = old
            .filter(|(_, link)| is_asked(link.origin))
            .map(|(at, _)| at.clone())
            .collect();
        for at in asked {
            let error = "it is greeted again";
            self.break_link(now, &at, PeerState::Connecting, error, Duration::ZERO);
        }
    }
}
