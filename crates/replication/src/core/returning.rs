// SPDX-License-Identifier: Apache-2.0
//! When a store needs a new origin: it was shut out, it left, it was set back, or somebody
//! else runs on a copy of it. ⚠ Never two writers under one origin.

use std::time::Duration;

use dulse_cluster::Now;
use dulse_replica::Known;
use dulse_types::{Origin, ServerAddress, Stamp, Version};

use super::membership::SILENT_MAX;
use super::{Action, Core, Greeting, Phase, RETRY_DELAY, View};
use crate::status::PeerState;

/// A new origin that is to be taken.
#[derive(Debug)]
pub(super) struct Aside {
    since: Now,
    known: Known,
    /// See `Renewal::whole`.
    whole: Vec<Origin>,
    behind: Option<Stamp>,
    is_in_use: bool,
    why: &'static str,
    /// Who else is asked first: the members, as the one who told it knows them.
    among: Vec<Origin>,
    /// The others hold this filer for a member: they take from it what it has of others.
    hands_over: bool,
}

/// The others are asked for this long: each answers at once, if it answers.
const ASK_TIME_MAX: Duration = SILENT_MAX;

/// The others have this long to fetch what this filer has of third ones and they do not.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(10);

/// A peer that takes nothing of what this filer wrote for this long is greeted anew. Less than
/// what the peer waits before it takes a new origin itself.
const STANDS_MAX: Duration = Duration::from_secs(2);

/// When one started that steps aside: last of all.
pub(super) const STEPS_ASIDE: i64 = i64::MAX;

impl Core {
    /// Keeps what greetings are compared with.
    pub(super) fn look_at_own(&mut self, now: Now, view: &View<'_>) {
        let own = self.settings.origin;
        let members = view.members.iter().map(|(origin, _)| *origin);
        self.members = members.collect();
        self.own_at_start
            .get_or_insert_with(|| view.applied.get(own));
        self.own_applied = view.applied.get(own);
        self.own = self.own_applied.max(self.logged);
        self.greet_those_ahead(now);
        self.greet_those_beside(now);
        // Whoever moved looks at its old place, where another may run on a copy of its store.
        for (origin, address) in view.members {
            if *origin == own && !address.is_same_server(&self.settings.address) {
                self.directory.told(now, own, address);
            }
        }
    }

    /// ⚠ Others have more of this origin than there is here: another ran on a copy of this store
    /// while this process stood still, or could not be reached. They are greeted anew, and what
    /// they answer says it all.
    fn greet_those_ahead(&mut self, now: Now) {
        for (address, (has, was_looked_at)) in std::mem::take(&mut self.ahead) {
            let is_open = self.links.get(&address).is_some_and(|link| link.is_open());
            // What this filer wrote since it was polled last is no news.
            if !is_open || has <= self.own {
                continue;
            }
            // ⚠ This view may have been taken before that was said; the next one was not.
            if !was_looked_at {
                self.ahead.insert(address, (has, true));
            } else {
                let error = "it has more of this filer's changes than there are here";
                self.break_link(now, &address, PeerState::Connecting, error, RETRY_DELAY);
            }
        }
    }

    /// ⚠ One that has some of this filer's changes, not the last, and takes none though it is
    /// connected may have another log of this store: another wrote under this origin while it
    /// was away. Only a greeting shows that the logs parted.
    ///
    /// ⚠ What waits for a sync is in the log, and nobody can have taken it: what is applied counts.
    fn greet_those_beside(&mut self, now: Now) {
        let (own, last) = (self.settings.origin, self.own_applied);
        let mut beside = Vec::new();
        for (address, link) in &mut self.links {
            let said = self.acks.of(link.origin).filter(|_| link.is_open());
            let has = said.map_or(Stamp::ZERO, |said| said.applied.get(own));
            if has == Stamp::ZERO || has >= last {
                link.stands = None;
                continue;
            }
            let stands = link.stands.filter(|(at, _)| *at == has);
            let (_, since) = *link.stands.insert(stands.unwrap_or((has, now)));
            if now.saturating_sub(since.max(link.met)) >= STANDS_MAX {
                link.stands = None;
                beside.push(address.clone());
            }
        }
        for address in beside {
            let error = "it takes none of this filer's changes";
            self.break_link(now, &address, PeerState::Connecting, error, Duration::ZERO);
        }
    }

    /// Whether the place where this filer joined from has yet to be tried.
    pub(super) fn is_old_place_untried(&self, view: &View<'_>) -> Option<ServerAddress> {
        self.untried_place(self.settings.origin, view)
    }

    /// Where one joined from, if that has yet to be tried and is not here.
    fn untried_place(&self, of: Origin, view: &View<'_>) -> Option<ServerAddress> {
        let (_, at) = view.members.iter().find(|(origin, _)| *origin == of)?;
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
        // ⚠ A member's answer may have come first. The origin is the other one's all the same.
        if let Some(aside) = &mut self.aside {
            aside.is_in_use |= steps_aside;
            return;
        }
        if steps_aside {
            let own = self.settings.origin;
            let at_start = self.own_at_start.unwrap_or(Stamp::ZERO);
            let both = said.forked.unwrap_or_else(|| said.vector.get(own));
            let mut known = Known::default();
            known.set(own, at_start.min(both));
            let why = "another filer runs on a copy of this store";
            self.renew(now, known, None, true, why, said);
        }
    }

    /// Has the store take a new origin where a member's greeting shows that it must. True when
    /// nothing else is to come of the greeting.
    pub(super) fn is_out_by(&mut self, now: Now, said: &Greeting) -> bool {
        let own = self.settings.origin;
        // ⚠ Who is no member itself has a past that the members do not share.
        let is_member = said.gone.iter().all(|(gone, _)| *gone != said.origin);
        // ⚠ Of two that each show the other that it must, one goes on.
        let steps_aside = said.started_ns == STEPS_ASIDE;
        if said.is_fresh || self.is_leaving || !is_member || steps_aside {
            return false;
        }
        self.note_had(said);
        if self.aside.is_some() {
            return true;
        }
        let at_start = self.own_at_start.unwrap_or(Stamp::ZERO);
        let has = said.vector.get(own);
        // ⚠ With the one that journaled its join, or that one's, beyond what the members took of
        // that: they never heard that it joined, and never will.
        let is_beyond = |join: &Version| {
            let mut gone = said.gone.iter();
            gone.any(|(gone, has)| *gone == join.origin && *has < join.stamp)
        };
        let is_unheard_of = !said.members.contains(&own) && said.joins.iter().any(is_beyond);
        let is_shut_out = is_unheard_of || said.gone.iter().any(|(gone, _)| *gone == own);
        let have_shut_out = self.gone.contains(&said.origin) || self.is_beyond_a_cut(said);
        if is_shut_out && (!have_shut_out || self.yields(said)) {
            let mut known: Known = said.gone.iter().copied().collect();
            known.set(own, has);
            let why = "the cluster went on without this filer";
            self.renew(now, known, None, false, why, said);
            self.has_one_log(said);
            return true;
        }
        if have_shut_out || is_shut_out {
            return false;
        }
        if self.phase == Phase::Out {
            // Who does not serve can hand over no state either.
            if !said.is_ready {
                return false;
            }
            let mut known: Known = said.gone.iter().copied().collect();
            known.set(own, has);
            self.renew(
                now,
                known,
                None,
                false,
                "this filer is a member no more",
                said,
            );
            self.has_one_log(said);
            return true;
        }
        let mut known = Known::default();
        if let Some(common) = said.forked {
            known.set(own, common);
            let why = "the others have another history of this store: it was copied";
            self.renew(now, known, None, false, why, said);
            return true;
        }
        // ⚠ This log is cut where all members have acknowledged it. A member that lacks what is cut,
        // and is none here, was one before this store was set back.
        let is_unknown = !self.members.contains(&said.origin) && said.members.contains(&own);
        // One that does not say how it joined may be on the wrong side of a split. It need not be
        // ready: it may wait for what this one has cut, and goes on once this one is another.
        let is_proof = said.is_founder_told && said.is_cut_behind;
        if is_unknown && is_proof {
            known.set(own, has);
            let why = "a member that this store does not know lacks what its log has no longer: \
                       it was set back";
            self.renew(now, known, None, false, why, said);
            return true;
        }
        // Before it serves it writes, too: that it runs at another place.
        let before = said.own;
        let is_set_back = has > before;
        // ⚠ One that is alone by its own list serves soon, so it may hear of it later.
        if is_set_back {
            known.set(own, at_start.min(before));
            let why = "the others have more of this store than it has: it was set back";
            self.renew(now, known, Some(before), false, why, said);
            return true;
        }
        // ⚠ All members had on disk what one of them forgets. One that lacks some was set back: what
        // the others do since speaks of places that it would look for in vain.
        let is_of_members = said.is_ready && said.members.contains(&own);
        let is_known = self.members.contains(&said.origin) || said.is_founder_told;
        if said.lacks_forgotten && is_of_members && is_known {
            known.set(own, has);
            let why = "the others have forgotten what this store lacks: it was set back";
            self.renew(now, known, None, false, why, said);
            return true;
        }
        if let Some(known) = self.known_behind_gaps(now, said) {
            let why = "the others keep no more what this store lacks: it was set back, or copied";
            self.renew(now, known, None, false, why, said);
            return true;
        }
        false
    }

    /// Whether a peer joined at one that is a member no more, beyond what is had of that: the
    /// members never heard that it joined. It hears from this one that it needs a new origin.
    pub(super) fn is_beyond_a_cut(&self, said: &Greeting) -> bool {
        let mut unheard = said.unheard.iter();
        // Who takes in a state knows a part of the members only.
        self.may_pull()
            && !self.members.contains(&said.origin)
            && unheard.any(|join| self.gone.contains(&join.origin))
    }

    /// What a member has of this store's origins, as far as that is what this store had.
    fn note_had(&mut self, said: &Greeting) {
        let own = self.settings.origin;
        let has = said.vector.get(own);
        let of_own = match said.forked {
            Some(common) => Some(common),
            // Of more than there is here nobody knows where it parted.
            None => (has <= said.own).then_some(has),
        };
        let gone = said.gone.iter().filter(|(gone, _)| *gone != own);
        let had = gone.copied().chain(of_own.map(|stamp| (own, stamp)));
        self.had.insert(said.origin, had.collect());
        self.peers_have.insert(said.origin, said.vector.clone());
    }

    /// What those who answered have at least of third filers of which more is here.
    fn lacked(&self, known: &Known, view: &View<'_>) -> Vec<(Origin, Stamp)> {
        let own = self.settings.origin;
        let thirds = view.applied.iter().filter(|(third, _)| {
            // Of those that are gone it is made anew.
            *third != own && known.get(*third).is_none() && !self.gone.contains(third)
        });
        let answered = |peer: &Origin| self.had.contains_key(peer);
        let lacked = thirds.filter_map(|(third, stamp)| {
            let theirs = self.peers_have.iter().filter(|(peer, _)| answered(peer));
            let least = theirs.map(|(_, has)| has.get(third)).min()?;
            (least < stamp).then_some((third, least))
        });
        lacked.collect()
    }

    /// Takes a new origin once it is known what the others have of this one.
    ///
    /// ⚠ Every member that answers is asked: what one of them has and the first to answer had
    /// not would be made anew, and undo what was done on top of it.
    ///
    /// ⚠ What it has of third filers and others have not is fetched by them first: it may be the
    /// last that has it, and goes on with their state. What they cannot fetch, since its log
    /// parted or they shut it out, it keeps and takes in again behind their state.
    pub(super) fn step_aside(&mut self, now: Now, view: &View<'_>) {
        let Some(aside) = &self.aside else {
            return;
        };
        let mut among = aside.among.iter();
        let is_told = among.all(|member| self.had.contains_key(member));
        let is_waited = now.saturating_sub(aside.since) >= ASK_TIME_MAX;
        if self.is_renewing || now < self.renew_not_before || !(is_told || is_waited) {
            return;
        }
        // ⚠ Whoever has yet to answer may be the one that goes on under this origin.
        let is_untried = self.is_old_place_untried(view).is_some();
        let may_be_in_use = self.is_looking(now, aside.since) || is_untried && !is_waited;
        if !aside.is_in_use && may_be_in_use {
            return;
        }
        let is_late = now.saturating_sub(aside.since) >= HAND_OVER_TIME_MAX;
        let lacked = self.lacked(&aside.known, view);
        if aside.hands_over && !is_late && !lacked.is_empty() {
            return;
        }
        // Whom nobody knows has no place among them: it comes back as another.
        let of_thirds = lacked.into_iter().filter(|(_, has)| *has > Stamp::ZERO);
        let of_thirds = of_thirds.collect();
        let mut known = aside.known.clone();
        for (origin, has) in self.had.values().flatten() {
            if let Some(before) = known.get(*origin) {
                known.set(*origin, before.max(*has));
            }
        }
        self.actions.push(Action::Renew {
            known,
            whole: aside.whole.clone(),
            of_thirds,
            behind: aside.behind,
            is_in_use: aside.is_in_use,
            why: aside.why,
        });
        self.is_renewing = true;
    }

    /// Under which of the origins that this store had somebody else goes on: they are not shut
    /// out. `None` while the place of one has yet to be tried, for a bounded time.
    ///
    /// ⚠ A copy need not have met its original before it took another origin. One that steps
    /// aside itself goes on under none of them.
    pub fn in_use(&mut self, now: Now, view: &View<'_>, former: &[Origin]) -> Option<Vec<Origin>> {
        let since = *self.returned.get_or_insert(now);
        let is_waited = now.saturating_sub(since) >= ASK_TIME_MAX;
        let mut places = former.iter().map(|of| self.untried_place(*of, view));
        if !is_waited && places.any(|place| place.is_some()) {
            return None;
        }
        let goes_on = |of: &Origin| {
            let mut links = self.links.values();
            links.any(|l| l.origin == *of && !l.steps_aside && l.is_alive(now, SILENT_MAX))
        };
        Some(former.iter().copied().filter(goes_on).collect())
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
        said: &Greeting,
    ) {
        // ⚠ What is applied lags behind the log where the engine has failed: others have more of
        // this store than it shows, and it was not set back. A restart tells.
        if self.aside.is_some() || self.has_failed {
            return;
        }
        self.phase = Phase::Out;
        self.not_ready = Some(format!("{why}: it takes a new origin and joins again"));
        // The others are asked anew: what they said earlier, they have more than by now.
        self.had.retain(|peer, _| *peer == said.origin);
        let open = self.links.iter().filter(|(_, link)| link.is_open());
        let open: Vec<ServerAddress> = open.map(|(at, _)| at.clone()).collect();
        for at in open {
            self.break_link(now, &at, PeerState::Connecting, "", Duration::ZERO);
        }
        let own = self.settings.origin;
        let members = said.members.iter().copied();
        let among = members.filter(|member| *member != own && *member != said.origin);
        self.aside = Some(Aside {
            // From a log that parted from what they have of it they take nothing at all.
            hands_over: said.members.contains(&own) && said.forked.is_none(),
            since: now,
            known,
            whole: Vec::new(),
            behind,
            is_in_use,
            why,
            among: among.collect(),
        });
    }

    /// The one who told it has nothing of this store's log but what is in it here: of what others
    /// fetch until the new origin is taken the state will tell.
    fn has_one_log(&mut self, said: &Greeting) {
        let own = self.settings.origin;
        let is_one = said.forked.is_none() && said.vector.get(own) <= said.own;
        if let Some(aside) = self.aside.as_mut().filter(|_| is_one) {
            aside.whole = vec![own];
        }
    }

    /// When this process started, for a twin: one that steps aside says that it started last, so
    /// that the other one goes on.
    #[must_use]
    pub fn started_ns(&self) -> i64 {
        match self.aside {
            Some(_) => STEPS_ASIDE,
            None => self.settings.started_ns,
        }
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
