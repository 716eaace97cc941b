// SPDX-License-Identifier: Apache-2.0
//! When a store needs a new origin: it was shut out, it left, it was set back, or somebody
//! else runs on a copy of it. ⚠ Never two writers under one origin.

use dulse_cluster::Now;
use dulse_replica::Known;
use dulse_types::{Origin, ServerAddress, Stamp};

use super::{Action, Core, Greeting, Phase, RETRY_DELAY, View};

impl Core {
    /// Keeps what greetings are compared with.
    pub(super) fn look_at_own(&mut self, now: Now, view: &View<'_>) {
        let own = self.settings.origin;
        let members = view.members.iter().map(|(origin, _)| *origin);
        self.members = members.collect();
        self.own_at_start
            .get_or_insert_with(|| view.applied.get(own));
        let is_catching_up = matches!(self.phase, Phase::CatchingUp { .. });
        if is_catching_up && self.own_before_ready.is_none() {
            self.own_before_ready = Some(view.applied.get(own));
        }
        // Whoever moved looks at its old place, where another may run on a copy of its store.
        for (origin, address) in view.members {
            if *origin == own && !address.is_same_server(&self.settings.address) {
                self.directory.told(now, own, address);
            }
        }
    }

    /// Whether the place where this filer joined from has yet to be tried.
    pub(super) fn is_old_place_untried(&self, view: &View<'_>) -> Option<ServerAddress> {
        let own = self.settings.origin;
        let (_, at) = view.members.iter().find(|(origin, _)| *origin == own)?;
        if at.is_same_server(&self.settings.address) {
            return None;
        }
        let mut links = self.links.iter();
        let link = links.find(|(to, _)| to.is_same_server(at));
        let is_tried = link.is_some_and(|(_, link)| link.was_tried());
        (!is_tried).then(|| at.clone())
    }

    /// Another process answers under this origin. ⚠ Exactly one of the two steps aside: of one
    /// that serves and one that does not, the latter; else the one that started later.
    pub(super) fn met_twin(&mut self, now: Now, address: &ServerAddress, said: &Greeting) {
        let ours = (self.settings.started_ns, self.settings.instance);
        let theirs = (said.started_ns, said.instance);
        let is_ready = matches!(self.phase, Phase::Ready);
        let steps_aside = match (is_ready, said.is_ready) {
            (true, false) => false,
            (false, true) => true,
            _ => ours > theirs,
        };
        self.refuse_twin(now, address, steps_aside);
        if steps_aside {
            let own = self.settings.origin;
            let at_start = self.own_at_start.unwrap_or(Stamp::ZERO);
            let mut known = Known::default();
            known.set(own, at_start.min(said.vector.get(own)));
            let why = "another filer runs on a copy of this store";
            self.renew(now, known, None, true, why);
        }
    }

    /// Has the store take a new origin where a member's greeting shows that it must. True when
    /// nothing else is to come of the greeting.
    pub(super) fn is_out_by(&mut self, now: Now, said: &Greeting) -> bool {
        let own = self.settings.origin;
        if said.is_fresh || self.is_leaving {
            return false;
        }
        let at_start = self.own_at_start.unwrap_or(Stamp::ZERO);
        let has = said.vector.get(own);
        let is_shut_out = said.gone.iter().any(|(gone, _)| *gone == own);
        let have_shut_out = self.gone.contains(&said.origin);
        if is_shut_out && (!have_shut_out || self.yields(said)) {
            let known = said.gone.iter().copied().collect();
            self.renew(
                now,
                known,
                None,
                false,
                "the cluster went on without this filer",
            );
            return true;
        }
        if have_shut_out || is_shut_out {
            return false;
        }
        if self.phase == Phase::Out {
            let mut known: Known = said.gone.iter().copied().collect();
            known.set(own, has);
            self.renew(now, known, None, false, "this filer is a member no more");
            return true;
        }
        let mut known = Known::default();
        if let Some(common) = said.forked {
            known.set(own, common);
            let why = "the others have another history of this store: it was copied";
            self.renew(now, known, None, false, why);
            return true;
        }
        if let Some(before) = self.own_before_ready
            && matches!(self.phase, Phase::CatchingUp { .. })
            && has > before
        {
            known.set(own, at_start.min(before));
            let why = "the others have more of this store than it has: it was set back";
            self.renew(now, known, Some(before), false, why);
            return true;
        }
        false
    }

    /// In a split of two sides that shut each other out, the smaller one yields, at a tie the
    /// one whose smallest member is greater.
    fn yields(&self, said: &Greeting) -> bool {
        let theirs: std::collections::BTreeSet<Origin> = said.members.iter().copied().collect();
        let (n_ours, n_theirs) = (self.members.len(), theirs.len());
        n_ours < n_theirs || (n_ours == n_theirs && self.members.first() > theirs.first())
    }

    fn renew(
        &mut self,
        now: Now,
        known: Known,
        behind: Option<Stamp>,
        is_in_use: bool,
        why: &'static str,
    ) {
        if self.is_renewing || now < self.renew_not_before {
            return;
        }
        self.is_renewing = true;
        self.phase = Phase::Out;
        self.not_ready = Some(format!("{why}: it takes a new origin and joins again"));
        self.actions.push(Action::Renew {
            known,
            behind,
            is_in_use,
            why,
        });
    }

    /// The store is prepared for a new origin, or not.
    pub fn renewed(&mut self, now: Now, result: Result<(), String>) {
        if let Err(error) = result {
            self.is_renewing = false;
            self.renew_not_before = now + RETRY_DELAY;
            self.not_ready = Some(format!("taking a new origin failed: {error}; trying again"));
        }
    }
}
