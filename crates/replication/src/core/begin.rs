// SPDX-License-Identifier: Apache-2.0
//! Becoming ready: found the cluster, join it by one transfer, or catch up.

use std::time::Duration;

use dulse_cluster::{Founding, Now, Verdict};
use dulse_types::{Origin, ServerAddress, Stamp, Vector, Version};

use super::links::{Link, LinkPhase};
use super::membership::SILENT_MAX;
use super::pulls::{Purpose, Stream};
use super::{Action, Core, RETRY_DELAY, StreamId, View};

/// A filer that greeted this one within this time may be about to found.
const CALLER_LATELY: Duration = Duration::from_secs(10);

/// ⚠ This long everybody that is listed is asked what they have before a state is taken in or a
/// filer serves: a store that was set back knows nobody that joined since, and would admit others
/// and write on beside them.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);

/// Who has most is tried this often before the next one.
const TRANSFERS_IN_A_ROW: u32 = 3;

/// How far a filer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing was looked at yet.
    Start,
    /// It has no history and looks for one.
    Fresh,
    /// It takes in the state of another.
    Joining {
        /// The transfer.
        stream: StreamId,
        /// From whom.
        from: ServerAddress,
    },
    /// Its own join is being journaled.
    Founding,
    /// It has a history and waits for what the answering peers had.
    CatchingUp {
        /// Since when.
        since: Now,
    },
    /// It serves.
    Ready,
    /// It is a member no more.
    Out,
}

/// Whether a filer that runs at another place has said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Appearance {
    /// Not yet; tried at that time.
    Due(Now),
    /// It is being journaled.
    UnderWay,
    /// In this life.
    Done,
}

impl Default for Appearance {
    fn default() -> Self {
        Self::Due(Now::ZERO)
    }
}

/// On which side of a split a peer is, by its own words.
#[derive(Clone, Default, Debug)]
pub(super) struct Side {
    /// Whom it holds for members no more, and what it has of each.
    pub(super) gone: Vec<(Origin, Stamp)>,
    /// The change by which it joined, that by which its author joined, and so on.
    pub(super) joins: Vec<Version>,
}

impl Side {
    /// Whether this one shut out `other`, or whoever let that join, before it did.
    fn has_shut_out(&self, other: Origin, side: &Self) -> bool {
        let is_beyond = |gone: Origin, has: Stamp| {
            let mut joins = side.joins.iter();
            gone == other || joins.any(|join| join.origin == gone && join.stamp > has)
        };
        self.gone.iter().any(|(gone, has)| is_beyond(*gone, *has))
    }
}

impl Core {
    /// ⚠ Nothing is applied before this filer has its own beginning.
    pub(super) fn may_pull(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp { .. } | Phase::Ready)
    }

    pub(super) fn begin(&mut self, now: Now, view: &View<'_>) {
        if self.phase == Phase::Start {
            self.phase = if view.applied.is_empty() {
                Phase::Fresh
            } else {
                Phase::CatchingUp { since: now }
            };
        }
        if self.phase == Phase::Fresh {
            if view.applied.is_empty() {
                self.found_or_join(now, view);
            } else {
                // A transfer was given up at the very moment it became complete.
                self.phase = Phase::CatchingUp { since: now };
            }
        }
    }

    fn found_or_join(&mut self, now: Now, view: &View<'_>) {
        if self.settings.is_alone && !self.settings.must_join {
            self.found(now);
            return;
        }
        let fresh_since = *self.fresh_since.get_or_insert(now);
        let is_looking = self.is_looking(now, fresh_since);
        let provider = self.provider(now);
        if provider.is_some() && self.settings.must_join && is_looking {
            self.not_ready = Some("looking who has most of the state".to_owned());
            return;
        }
        // Who has most may have refused, or be on its way to answer again.
        let is_met = |at| self.links.get(at).is_some_and(Link::is_met);
        if let Some((from, _)) = provider.as_ref().filter(|(at, _)| !is_met(at)) {
            self.not_ready = Some(format!("waiting for {from}, which has most of the state"));
            return;
        }
        if let Some((from, origin)) = provider {
            self.not_ready = Some(format!("fetching the whole state from {from}"));
            let stream = self.open(now, &from, origin, Purpose::Join, view);
            self.phase = Phase::Joining { stream, from };
            return;
        }
        self.callers
            .retain(|_, called| now.saturating_sub(*called) < CALLER_LATELY);
        let met = self
            .links
            .iter()
            .filter(|(_, l)| l.is_alive(now, CALLER_LATELY));
        let met = met.map(|(at, _)| at);
        let callers: Vec<ServerAddress> = met.chain(self.callers.keys()).cloned().collect();
        let alive = self.links.values().filter(|l| l.is_alive(now, SILENT_MAX));
        let fresh: Vec<Origin> = alive.filter(|l| l.is_fresh).map(|l| l.origin).collect();
        let founding = Founding {
            own: &self.settings.address,
            origin: self.settings.origin,
            fresh: &fresh,
            callers: &callers,
            listing: self.directory.listing(),
            candidate: &|address| self.candidate(now, address),
        };
        match founding.decide(now) {
            _ if self.settings.must_join => {
                let why = "this store had another origin: it looks for a member to join";
                self.not_ready = Some(why.to_owned());
            }
            Verdict::Found => self.found(now),
            Verdict::Wait(why) => self.not_ready = Some(why),
        }
    }

    /// Whether somebody that is listed was not asked yet, and that may be waited for.
    pub(super) fn is_looking(&self, now: Now, since: Now) -> bool {
        let is_listed = self.directory.listing().is_some();
        let is_untried = self.links.values().any(|link| !link.was_tried());
        now.saturating_sub(since) < LOOK_TIME_MAX && (!is_listed || is_untried)
    }

    /// From whom the whole state is fetched.
    ///
    /// ⚠ What a filer that went left behind may be in no log any more: from one that has less of
    /// that than another it would be missing here, and never come.
    fn provider(&self, now: Now) -> Option<(ServerAddress, Origin)> {
        // A store that had another origin waits for one that does not answer just now.
        let waits = self.settings.must_join;
        let met = || {
            let links = self.links.iter();
            links.filter(move |(_, link)| {
                let is_there = link.is_met() || waits && link.is_alive(now, SILENT_MAX);
                is_there && !link.is_fresh && link.origin.0 != 0
            })
        };
        let had = |by: Origin| self.first_had.get(&by).into_iter().flat_map(Vector::iter);
        let mut most = Vector::new();
        for (origin, stamp) in met().flat_map(|(_, link)| had(link.origin)) {
            let is_there = met().any(|(_, link)| link.origin == origin);
            if !is_there && stamp > most.get(origin) {
                most.set(origin, stamp);
            }
        }
        let n_lacking = |by: Origin| {
            let has = self.first_had.get(&by);
            let has = |origin| has.map_or(Stamp::ZERO, |has| has.get(origin));
            most.iter().filter(|(o, stamp)| *stamp > has(*o)).count()
        };
        // ⚠ One that another one has shut out, or that joined at such a one beyond its end, has not
        // heard that. With its state would come what the others never take, and it goes on with
        // another origin soon.
        let nobody = Side::default();
        let side = |of: Origin| self.sides.get(&of).unwrap_or(&nobody);
        let is_shut_out = |of: Origin| {
            let mut by = met().filter(|(_, link)| link.origin != of);
            by.any(|(_, link)| side(link.origin).has_shut_out(of, side(of)))
        };
        // Whoever failed last has the greatest link number and comes last.
        let best = met().min_by_key(|(_, link)| {
            let n_failed = link.n_failed_joins / TRANSFERS_IN_A_ROW;
            let is_out = is_shut_out(link.origin);
            (is_out, n_failed, n_lacking(link.origin), link.id)
        });
        best.map(|(at, link)| (at.clone(), link.origin))
    }

    fn found(&mut self, now: Now) {
        if now < self.found_not_before {
            return;
        }
        self.phase = Phase::Founding;
        let listing = self.directory.listing();
        let remembered = listing
            .iter()
            .flat_map(|(listing, _)| &listing.known_members);
        let beside = remembered.map(|(origin, _)| *origin).collect();
        self.actions.push(Action::Found { beside });
    }

    /// The own join was journaled, or not.
    pub fn founded(&mut self, now: Now, result: Result<(), String>) {
        if self.phase != Phase::Founding {
            return;
        }
        self.phase = match result {
            Ok(()) => Phase::CatchingUp { since: now },
            Err(error) => {
                self.not_ready = Some(format!("founding the cluster failed: {error}"));
                self.found_not_before = now + RETRY_DELAY;
                Phase::Fresh
            }
        };
    }

    /// A transfer brought something.
    pub fn progressed(&mut self, now: Now, stream: StreamId) {
        if let Some(Stream { heard, .. }) = self.streams.get_mut(&stream) {
            *heard = now;
        }
    }

    /// A transfer is complete, or broke.
    pub fn joined(&mut self, now: Now, stream: StreamId, result: Result<(), String>) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        match result {
            // It has all that its provider had; members that are gone keep nobody waiting.
            Ok(()) => {
                self.phase = Phase::Ready;
                self.not_ready = None;
            }
            Err(error) => self.join_broke(now, stream, &error),
        }
    }

    /// Another provider, or the same later, is tried: what was taken in is dropped then.
    pub(super) fn join_broke(&mut self, now: Now, broken: StreamId, error: &str) {
        let from = match &self.phase {
            Phase::Joining { stream, from } if *stream == broken => from.clone(),
            _ => return,
        };
        self.not_ready = Some(format!("joining failed: {error}; trying again"));
        self.phase = Phase::Fresh;
        // It must answer anew, with a greater number than those who have not failed.
        if let Some(link) = self.links.get_mut(&from)
            && matches!(link.phase, LinkPhase::Met(_))
        {
            self.actions.push(Action::Close(link.id));
            link.n_failed_joins += 1;
            link.phase = LinkPhase::Waiting(now + RETRY_DELAY);
            error.clone_into(&mut link.last_error);
        }
    }

    /// Ready is what has all that the answering peers had; a silent one does not count, nor
    /// an origin whose change cannot be applied.
    pub(super) fn watch_readiness(&mut self, now: Now, view: &View<'_>) {
        let Phase::CatchingUp { since } = self.phase else {
            return;
        };
        let own = self.settings.origin;
        if let Some(address) = self.is_old_place_untried(view)
            && now.saturating_sub(since) < SILENT_MAX
            && !self.settings.is_alone
        {
            self.not_ready = Some(format!("looking who is at {address}, where this filer was"));
            return;
        }
        if self.is_looking(now, since) && !self.settings.is_alone {
            self.not_ready = Some("looking whether other filers know more of it".to_owned());
            return;
        }
        let is_waited = self.settings.is_alone || now.saturating_sub(since) >= SILENT_MAX;
        let silent = view
            .members
            .iter()
            .find(|(origin, _)| *origin != own && !self.first_had.contains_key(origin));
        if let Some((_, address)) = silent
            && !is_waited
        {
            self.not_ready = Some(format!("waiting for an answer of {address}"));
            return;
        }
        // ⚠ One whose stream broke has answered, too: what it had is lacking as before.
        let answering = self
            .links
            .values()
            .filter(|link| link.is_alive(now, SILENT_MAX));
        for link in answering {
            let had = self.first_had.get(&link.origin);
            let lacking = had
                .iter()
                .flat_map(|had| had.iter())
                .find(|(origin, stamp)| {
                    *stamp > view.applied.get(*origin) && !self.stuck.contains_key(origin)
                });
            if let Some((origin, _)) = lacking {
                self.not_ready = Some(format!("catching up with the changes of {origin}"));
                return;
            }
        }
        if let Some(origin) = self.missing() {
            let why = format!("changes of {origin} are missing here that others keep no more");
            self.not_ready = Some(why);
            return;
        }
        if self.must_appear(now, view) {
            return;
        }
        self.phase = Phase::Ready;
        self.not_ready = None;
    }

    /// ⚠ Whoever runs at another place than it joined from may be a copy of a store whose
    /// original goes on where nobody here can reach it. It says so by a change before what it
    /// acknowledges counts: the original lacks that, hears of it from the first that it meets, and
    /// takes a new origin, so that what was forgotten here on the word of the copy is not written
    /// by the original.
    fn must_appear(&mut self, now: Now, view: &View<'_>) -> bool {
        let own = self.settings.origin;
        let mut members = view.members.iter();
        let joined_at = members.find(|(origin, _)| *origin == own);
        let has_moved = joined_at.is_some_and(|(_, at)| !at.is_same_server(&self.settings.address));
        let not_before = match self.appearance {
            Appearance::Due(not_before) => not_before,
            Appearance::UnderWay => return true,
            Appearance::Done => return false,
        };
        // Alone by its own list nobody counts what it acknowledges.
        if !has_moved || view.members.len() < 2 {
            return false;
        }
        if now >= not_before {
            self.appearance = Appearance::UnderWay;
            self.not_ready = Some("saying that it runs at another place".to_owned());
            self.actions.push(Action::Appear);
        }
        true
    }

    /// The change that says that this filer runs elsewhere was journaled, or not.
    pub fn appeared(&mut self, now: Now, result: Result<(), String>) {
        self.appearance = match result {
            Ok(()) => Appearance::Done,
            Err(error) => {
                let why = format!("saying that it runs at another place failed: {error}");
                self.not_ready = Some(why);
                Appearance::Due(now + RETRY_DELAY)
            }
        };
    }
}
