// SPDX-License-Identifier: Apache-2.0
//! Members that went: whom nobody pulls from, whose changes come through members alone, and
//! when they hold back nothing any more.

use std::time::Duration;

use dulse_cluster::{Now, Statement};
use dulse_types::{Origin, ServerAddress, Stamp, Vector};

use super::links::STRANGER_DELAY;
use super::{Core, End, Gone, Phase, StreamId, View};
use crate::status::PeerState;

/// A member that said nothing for this long is silent, and holds back nobody's readiness.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(10);

/// How a member stands, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// It is this filer.
    Own,
    /// It was heard lately.
    Live,
    /// It was not heard for a while.
    Silent,
    /// It is a member no more.
    Gone(End),
}

impl MemberState {
    /// As operators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own | Self::Live => "live",
            Self::Silent => "silent",
            Self::Gone(end) => end.as_str(),
        }
    }
}

/// A member, or one that was, as this filer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Who.
    pub origin: Origin,
    /// Where it was met last, else where it joined from, as far as that is known.
    pub address: Option<ServerAddress>,
    /// How it stands.
    pub state: MemberState,
    /// Since it was heard; `None` when that is not known, or it is this one.
    pub silent_for: Option<Duration>,
    /// The stamp in some log behind which it is not known to have everything on disk, so that
    /// the logs of all are kept from there; `None` when it holds back nothing.
    pub holds_back: Option<Stamp>,
    /// The last of its own changes that is known to anybody.
    pub last_known: Stamp,
}

impl Core {
    /// Whether nothing of one that is gone can arrive here any more.
    #[must_use]
    pub fn is_cut(&self, view: &View<'_>, gone: &Gone) -> bool {
        // Whoever left said so with its last change: who has that has all of it.
        if gone.how == End::Left {
            return view.applied.covers(gone.end);
        }
        let members = view.members.iter().map(|(origin, _)| *origin);
        let ends: Vec<_> = view.gone.iter().map(|gone| gone.end).collect();
        let own = self.settings.origin;
        self.acks
            .is_cut(own, members, &ends, gone.origin, view.applied)
    }

    /// This filer is about to leave. Order: it goes on hearing the others afterwards, until they
    /// have said that they know.
    pub fn leaving(&mut self) {
        self.is_leaving = true;
    }

    /// Who is about to leave, this filer included: what its heartbeats say.
    #[must_use]
    pub fn who_leaves(&self) -> Vec<u64> {
        let own = self.is_leaving.then_some(self.settings.origin);
        own.into_iter()
            .chain(self.acks.leaving())
            .map(|o| o.0)
            .collect()
    }

    /// Whether this filer itself is a member no more. Others wait for it no longer and may have
    /// forgotten what it still keeps, so its digest is compared with nobody's.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.contains(&self.settings.origin)
    }

    /// Through whom the changes of a stream come; `None` when it is over: then nothing is taken
    /// of the batch that has arrived.
    ///
    /// ⚠ Of one that was fresh when it was greeted and has a history by now nothing is taken before
    /// it has said how it joined: it may have been at one that was shut out meanwhile.
    ///
    /// - `has_history`: whether the batch shows that it has one.
    pub fn takes_from(&mut self, now: Now, stream: StreamId, has_history: bool) -> Option<Origin> {
        let stream = self.streams.get(&stream)?;
        let address = stream.address.clone();
        let link = self.links.get(&address)?;
        let origin = link.origin;
        if link.is_fresh && has_history {
            let error = "it has joined since it was greeted, and is greeted again";
            self.break_link(now, &address, PeerState::Connecting, error, Duration::ZERO);
            return None;
        }
        Some(origin)
    }

    /// Every member and every former one, in the order of their origins.
    #[must_use]
    pub fn members(&self, now: Now, view: &View<'_>, durable: &Vector) -> Vec<MemberStatus> {
        let own = &self.settings;
        let of_member = |(origin, joined_at): &(Origin, ServerAddress)| {
            let is_own = *origin == own.origin;
            let is_known = self.is_silence_known(*origin);
            let silent_for = (is_known && !is_own).then(|| self.silent_for(*origin));
            let state = match is_own {
                true => MemberState::Own,
                false if self.is_live(now, *origin) => MemberState::Live,
                false => MemberState::Silent,
            };
            let met = self.directory.known().find(|(met, _)| met == origin);
            let address = match met {
                _ if is_own => own.address.clone(),
                Some((_, address)) => address.clone(),
                None => joined_at.clone(),
            };
            let holds_back = if is_own {
                None
            } else {
                self.holds_back(*origin, durable)
            };
            MemberStatus {
                origin: *origin,
                address: Some(address),
                state,
                silent_for,
                holds_back,
                last_known: self.last_known(*origin, view),
            }
        };
        let of_gone = |gone: &Gone| MemberStatus {
            origin: gone.origin,
            address: gone.address.clone(),
            state: MemberState::Gone(gone.how),
            silent_for: None,
            holds_back: (!self.is_cut(view, gone))
                .then(|| self.holds_back(gone.origin, durable))
                .flatten(),
            last_known: self.last_known(gone.origin, view),
        };
        let members = view.members.iter().map(of_member);
        let mut all: Vec<_> = members.chain(view.gone.iter().map(of_gone)).collect();
        all.sort_by_key(|member| member.origin);
        all
    }

    /// Whether a member was heard within `SILENT_MAX`.
    #[must_use]
    pub fn is_live(&self, now: Now, member: Origin) -> bool {
        let heard = self.acks.heard_at(member);
        heard.is_some_and(|at| now.saturating_sub(at) < SILENT_MAX)
    }

    /// The members that answer and have not acknowledged all of `wanted`. With those that have,
    /// for whoever hands over what it has.
    ///
    /// ⚠ One that answers no more does not count, whatever it acknowledged: its machine may be
    /// gone, or its store may have been set back or given another origin since.
    ///
    /// ⚠ While this filer is about to leave, one counts only that knows it and is not about to
    /// leave itself: two that each handed over to the other would both go, and nobody would be
    /// left. Who knows of this one counts on others when it wants to leave later.
    #[must_use]
    pub fn handed_over(&self, now: Now, view: &View<'_>, wanted: &Vector) -> HandedOver {
        let mut over = HandedOver::default();
        for (member, address) in view.members {
            if *member == self.settings.origin {
                continue;
            }
            let said = self.acks.of(*member);
            if !self.answers(now, *member) {
                over.silent.push((*member, address.clone()));
            } else if said.is_some_and(|said| self.has_and_stays(view, *member, said, wanted)) {
                over.n_have += 1;
            } else {
                over.lacking.push((*member, address.clone()));
            }
        }
        over
    }

    fn has_and_stays(
        &self,
        view: &View<'_>,
        member: Origin,
        said: &Statement,
        wanted: &Vector,
    ) -> bool {
        let own = self.settings.origin;
        let has_left = view.gone.iter().any(|gone| gone.origin == own);
        let knows = said.leaving.contains(&own) && !said.leaving.contains(&member);
        let is_asked = self.is_leaving && !has_left;
        said.durable.includes(wanted) && (knows || !is_asked)
    }

    /// Whether a member is connected and was heard lately.
    fn answers(&self, now: Now, member: Origin) -> bool {
        let mut links = self.links.values();
        let is_connected = links.any(|link| link.origin == member && link.is_open());
        is_connected && self.is_live(now, member)
    }

    fn last_known(&self, origin: Origin, view: &View<'_>) -> Stamp {
        self.acks.greatest(origin).max(view.applied.get(origin))
    }

    pub(super) fn holds_back(&self, member: Origin, durable: &Vector) -> Option<Stamp> {
        let has = self.acks.of(member).map(|said| &said.durable);
        let lacking = durable.iter().filter_map(|(origin, stamp)| {
            let has = has.map_or(Stamp::ZERO, |has| has.get(origin));
            (has < stamp).then_some(has)
        });
        lacking.min()
    }

    /// Forgets where those are that went, and ends the streams from them.
    pub(super) fn look_at_gone(&mut self, now: Now, view: &View<'_>) {
        let gone = view.gone.iter().map(|gone| gone.origin);
        if view.gone.len() == self.gone.len() {
            return;
        }
        self.gone = gone.collect();
        self.directory.gone(self.gone.iter().copied());
        let over: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_open() && self.gone.contains(&link.origin))
            .map(|(at, _)| at.clone())
            .collect();
        for at in over {
            self.refuse_gone(now, &at);
        }
        self.first_had
            .retain(|origin, _| !self.gone.contains(origin));
        if self.gone.contains(&self.settings.origin) && !self.is_leaving {
            self.step_out(now, view);
        }
    }

    /// ⚠ What one that was shut out says counts for nothing, and nothing is pulled from it.
    pub(super) fn refuse_gone(&mut self, now: Now, address: &ServerAddress) {
        let error = "it is a member of this cluster no more";
        self.break_link(now, address, PeerState::Refused, error, STRANGER_DELAY);
    }

    /// ⚠ A filer that is a member no more takes no writes and no changes under this origin.
    fn step_out(&mut self, now: Now, view: &View<'_>) {
        let own = self.settings.origin;
        let how = view.gone.iter().find(|gone| gone.origin == own);
        let how = how.map_or("gone", |gone| gone.how.as_str());
        self.not_ready = Some(format!(
            "this filer is a member of its cluster no more: {how}"
        ));
        self.phase = Phase::Out;
        let open: Vec<ServerAddress> = self.streams.values().map(|s| s.address.clone()).collect();
        for at in open {
            self.break_link(now, &at, PeerState::Connecting, "", Duration::ZERO);
        }
    }
}

/// Who has what a filer hands over.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HandedOver {
    /// Members that answer and have all of it on disk.
    pub n_have: usize,
    /// Members that answer and do not have it yet.
    pub lacking: Vec<(Origin, ServerAddress)>,
    /// Members that do not answer.
    pub silent: Vec<(Origin, ServerAddress)>,
}
