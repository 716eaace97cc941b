// SPDX-License-Identifier: Apache-2.0
//! Links: one per address that is worth trying.

use std::time::Duration;

use dulse_cluster::{Candidate, Now};
use dulse_types::{Origin, ServerAddress, Stamp};

use super::begin::Side;
use super::returning::STEPS_ASIDE;
use super::{Action, Core, Greeting, LinkId, Phase, RETRY_DELAY, Refusal, StreamId};
use crate::status::PeerState;

/// How long connecting and a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(3);

/// While nothing can be pulled yet, peers are asked again this often.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// Pause before an address is tried again that cannot be a peer as things are.
pub(super) const STRANGER_DELAY: Duration = Duration::from_secs(5);

/// A peer heard within this time is alive at its address.
const ALIVE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkPhase {
    /// Not connected; tried at that time.
    Waiting(Now),
    /// A handshake is under way.
    Greeting(Now),
    /// It answered; nothing is pulled yet.
    Met(Now),
    /// Its changes are pulled.
    Pulling(StreamId),
}

/// One address.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) phase: LinkPhase,
    pub(super) state: PeerState,
    pub(super) last_error: String,
    /// Zero before it answered.
    pub(super) origin: Origin,
    pub(super) instance: u64,
    pub(super) is_fresh: bool,
    /// It takes a new origin.
    pub(super) steps_aside: bool,
    pub(super) heard: Option<Now>,
    /// When its last greeting was taken.
    pub(super) met: Now,
    /// What it has of this filer's changes while that is not all, and since when no more.
    pub(super) stands: Option<(Stamp, Now)>,
    /// The same filer is pulled at another address.
    pub(super) is_double: bool,
    /// Transfers of the state from it that broke.
    pub(super) n_failed_joins: u32,
}

impl Link {
    fn new() -> Self {
        Self {
            id: LinkId(0),
            phase: LinkPhase::Waiting(Now::ZERO),
            state: PeerState::Connecting,
            last_error: String::new(),
            origin: Origin(0),
            instance: 0,
            is_fresh: false,
            steps_aside: false,
            heard: None,
            met: Now::ZERO,
            stands: None,
            is_double: false,
            n_failed_joins: 0,
        }
    }

    pub(super) fn is_alive(&self, now: Now, within: Duration) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_sub(heard) < within)
    }

    /// Whether an attempt to talk to it has ended.
    pub(super) fn was_tried(&self) -> bool {
        self.is_open() || !self.last_error.is_empty() || self.heard.is_some()
    }

    pub(super) fn is_met(&self) -> bool {
        matches!(self.phase, LinkPhase::Met(_))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, LinkPhase::Met(_) | LinkPhase::Pulling(_))
    }
}

impl Core {
    /// The handshake of a link ended.
    pub fn greeted(&mut self, now: Now, link: LinkId, answer: Result<Greeting, Refusal>) {
        // ⚠ An answer that waited while this process stood still tells how things were.
        self.expire_greetings(now);
        let found = self.links.iter().find(|(_, l)| l.id == link);
        let Some((address, _)) = found.filter(|(_, l)| matches!(l.phase, LinkPhase::Greeting(_)))
        else {
            self.actions.push(Action::Close(link));
            return;
        };
        let address = address.clone();
        match answer {
            Ok(greeting) => self.met(now, &address, greeting),
            Err(refusal) => {
                let (state, error, delay) = match refusal {
                    Refusal::Broken(error) => (PeerState::Connecting, error, RETRY_DELAY),
                    Refusal::Foreign => (PeerState::Foreign, String::new(), STRANGER_DELAY),
                    Refusal::Refused(error) => (PeerState::Refused, error, STRANGER_DELAY),
                };
                self.break_link(now, &address, state, &error, delay);
            }
        }
    }

    fn met(&mut self, now: Now, address: &ServerAddress, greeting: Greeting) {
        let (origin, instance) = (greeting.origin, greeting.instance);
        if origin == self.settings.origin {
            if instance == self.settings.instance {
                self.met_itself(now, address);
            } else {
                self.met_twin(now, address, &greeting);
            }
            return;
        }
        if self.is_out_by(now, &greeting) {
            let error = "this filer takes a new origin";
            self.break_link(now, address, PeerState::Connecting, error, RETRY_DELAY);
            return;
        }
        if self.is_beyond_a_cut(&greeting) {
            let error = "it joined at a member that this cluster had shut out";
            self.break_link(now, address, PeerState::Refused, error, RETRY_DELAY);
            return;
        }
        let Greeting {
            is_fresh,
            vector,
            started_ns,
            ..
        } = greeting;
        if self.gone.contains(&origin) {
            if let Some(link) = self.links.get_mut(address) {
                link.origin = origin;
            }
            self.refuse_gone(now, address);
            return;
        }
        if let Some(double) = self.double(now, address, origin) {
            let (state, error) = if double == instance {
                (PeerState::Connecting, String::new())
            } else {
                let error = format!("another filer runs on a copy of the store of {origin}");
                (PeerState::Refused, error)
            };
            self.break_link(now, address, state, &error, STRANGER_DELAY);
            if let Some(link) = self.links.get_mut(address) {
                link.is_double = double == instance;
            }
            return;
        }
        self.leave_old_addresses(now, address, origin);
        self.directory.met(now, origin, address);
        self.acks.met(now, origin);
        if let Some(link) = self.links.get_mut(address) {
            link.phase = LinkPhase::Met(now);
            link.origin = origin;
            link.instance = instance;
            link.is_fresh = is_fresh;
            link.steps_aside = started_ns == STEPS_ASIDE;
            link.heard = Some(now);
            link.met = now;
            link.is_double = false;
        }
        if !self.may_pull() {
            let (gone, joins) = (greeting.gone, greeting.unheard);
            self.sides.insert(origin, Side { gone, joins });
        }
        // ⚠ What it has no more when it answers again, nobody can wait for: it was set back.
        let had = self
            .first_had
            .entry(origin)
            .or_insert_with(|| vector.clone());
        *had = had.iter().map(|(o, s)| (o, s.min(vector.get(o)))).collect();
    }

    /// This filer itself under another address.
    fn met_itself(&mut self, now: Now, address: &ServerAddress) {
        self.break_link(now, address, PeerState::Connecting, "", STRANGER_DELAY);
        if let Some(link) = self.links.get_mut(address) {
            link.is_double = true;
        }
    }

    /// Another process on a copy of this store.
    pub(super) fn refuse_twin(&mut self, now: Now, address: &ServerAddress, steps_aside: bool) {
        let error = match steps_aside {
            true => "it runs on the store that this one is a copy of",
            false => "it runs on a copy of this store and takes a new origin",
        };
        self.break_link(now, address, PeerState::Refused, error, STRANGER_DELAY);
    }

    /// The process that is alive under this origin at another address, if any.
    fn double(&self, now: Now, address: &ServerAddress, origin: Origin) -> Option<u64> {
        let mut others = self.links.iter().filter(|(at, _)| *at != address);
        let double = others
            .find(|(_, link)| link.origin == origin && link.is_open() && link.is_alive(now, ALIVE));
        double.map(|(_, link)| link.instance)
    }

    /// Identity is the origin: a peer that moved leaves its old address behind.
    fn leave_old_addresses(&mut self, now: Now, address: &ServerAddress, origin: Origin) {
        let old: Vec<ServerAddress> = self
            .links
            .iter()
            .filter(|(at, link)| *at != address && link.origin == origin)
            .map(|(at, _)| at.clone())
            .collect();
        for at in old {
            self.break_link(now, &at, PeerState::Connecting, "it moved", RETRY_DELAY);
            if let Some(link) = self.links.get_mut(&at) {
                link.origin = Origin(0);
            }
        }
    }

    /// Ends a link with all its streams; it is tried again after a while.
    pub(super) fn break_link(
        &mut self,
        now: Now,
        address: &ServerAddress,
        state: PeerState,
        error: &str,
        delay: Duration,
    ) {
        let over: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.address == *address)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.streams.remove(&id);
            self.actions.push(Action::Cancel(id));
            self.join_broke(now, id, error);
        }
        if let Some(link) = self.links.get_mut(address) {
            self.actions.push(Action::Close(link.id));
            link.phase = LinkPhase::Waiting(now + delay);
            link.state = state;
            if !error.is_empty() || state == PeerState::Foreign {
                error.clone_into(&mut link.last_error);
            }
        }
    }

    /// Makes and drops links as addresses come and go, and greets those whose time has come.
    pub(super) fn keep_links(&mut self, now: Now) {
        let wanted = self.directory.wanted(&self.settings.address);
        let is_wanted = |at: &ServerAddress| wanted.contains(at);
        let unwanted: Vec<ServerAddress> = self
            .links
            .iter()
            .filter(|(at, link)| !is_wanted(at) && matches!(link.phase, LinkPhase::Waiting(_)))
            .map(|(at, _)| at.clone())
            .collect();
        for at in unwanted {
            self.links.remove(&at);
        }
        for address in wanted {
            let may_pull = self.may_pull();
            let link = self.links.entry(address.clone()).or_insert_with(Link::new);
            let is_due = match link.phase {
                LinkPhase::Waiting(until) => until <= now,
                LinkPhase::Met(at) => !may_pull && now.saturating_sub(at) >= ASK_AGAIN,
                LinkPhase::Greeting(_) | LinkPhase::Pulling(_) => false,
            };
            let is_joining = matches!(&self.phase, Phase::Joining { from, .. } if *from == address);
            if !is_due || is_joining {
                continue;
            }
            self.next_id += 1;
            let id = LinkId(self.next_id);
            if matches!(link.phase, LinkPhase::Met(_)) {
                self.actions.push(Action::Close(link.id));
            }
            link.id = id;
            link.phase = LinkPhase::Greeting(now + HANDSHAKE_TIME_MAX);
            self.actions.push(Action::Greet { link: id, address });
        }
    }

    /// Handshakes that take too long are broken.
    pub(super) fn expire_greetings(&mut self, now: Now) {
        let over: Vec<ServerAddress> = self
            .links
            .iter()
            .filter(|(_, l)| matches!(l.phase, LinkPhase::Greeting(until) if until <= now))
            .map(|(at, _)| at.clone())
            .collect();
        for at in over {
            let error = "no answer to the handshake";
            self.break_link(now, &at, PeerState::Connecting, error, RETRY_DELAY);
        }
    }

    /// What the founding rule needs to know of an address.
    pub(super) fn candidate(&self, now: Now, address: &ServerAddress) -> Candidate {
        let link = self.links.iter().find(|(at, _)| at.is_same_server(address));
        match link.map(|(_, link)| link) {
            Some(link) if link.is_double => Candidate::Stranger,
            Some(link) if matches!(link.state, PeerState::Foreign | PeerState::Refused) => {
                Candidate::Stranger
            }
            // A fresh filer is asked again and again; in between its last answer counts.
            Some(link) if link.origin.0 != 0 && link.is_alive(now, ALIVE) => {
                if link.is_fresh {
                    Candidate::Fresh
                } else {
                    Candidate::Settled
                }
            }
            _ => Candidate::Silent,
        }
    }
}
