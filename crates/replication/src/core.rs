// SPDX-License-Identifier: Apache-2.0
//! The decisions of replication, without IO: whom to greet, what to pull from whom, when to
//! relay, join, found, and when this filer is ready.
//!
//! Whoever drives it tells [`Core`] what happened and carries out the [`Action`]s that
//! [`Core::poll`] gives; a late answer to an action that was cancelled is ignored. Time is
//! an argument. The simulation drives it with virtual time, the driver with tokio.

mod begin;
mod clock;
mod fencing;
mod gaps;
mod links;
mod membership;
mod pulls;
mod returning;
mod view;

pub use begin::Phase;
pub use clock::{ROUND_TRIP_MAX, bound};
pub use membership::{HandedOver, MemberState, MemberStatus};
pub use view::{End, Gone, Greeting, Membership, Refusal, Settings, View};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dulse_cluster::{
    Acknowledgements, Directory, Listing, Now, Statement, Timekeeper, WATERMARK_SILENT_MAX,
};
use dulse_replica::{Applied, Known};
use dulse_types::{Origin, ServerAddress, Stamp, Vector};

use crate::status::{PeerState, PeerStatus};
use begin::{Appearance, Side};
use gaps::Gap;
use links::Link;
use pulls::{Behind, Stream};
use returning::Aside;

/// Pause before a peer is tried again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A member that stated something within this time counts as connected: heartbeats come each
/// 200 ms, and a stream that says nothing for as long is broken.
const HELD_LATELY: Duration = Duration::from_secs(5);

/// Names one attempt to talk to an address; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// Names one stream over a link; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Connect and shake hands; answer with [`Core::greeted`].
    Greet {
        /// The attempt.
        link: LinkId,
        /// Whom.
        address: ServerAddress,
    },
    /// Pull changes; feed [`Core::heard`], [`Core::applied`] and [`Core::ended`].
    Pull {
        /// The stream.
        stream: StreamId,
        /// Over which link.
        link: LinkId,
        /// Whom: the process that was met there. ⚠ Whoever else answers by now refuses, so that
        /// nothing it states is taken for the other's.
        instance: u64,
        /// Whose changes.
        origin: Origin,
        /// Behind which stamp.
        after: Stamp,
        /// Whether it ends at what is there now.
        is_once: bool,
    },
    /// Take in the whole state; feed [`Core::progressed`], end with [`Core::joined`].
    Join {
        /// The stream.
        stream: StreamId,
        /// Over which link.
        link: LinkId,
    },
    /// Have the master remember this filer, then journal its own join as the first of the
    /// cluster; answer with [`Core::founded`]. ⚠ In this order: a filer that is fresh and finds
    /// nobody must not found a second cluster. ⚠ The master must refuse when it remembers
    /// anybody else by now: the list that this rests on may be old, or this process stood still.
    Found {
        /// Those that the master remembers and that have no history.
        beside: Vec<Origin>,
    },
    /// Journal a change with nothing in it; answer with [`Core::appeared`].
    Appear,
    /// Journal that a silent member is shut out.
    Fence {
        /// Whom.
        member: Origin,
    },
    /// Prepare the store for a new origin, then start again; answer with [`Core::renewed`].
    Renew {
        /// What others have of it and of those that they hold for gone.
        known: Known,
        /// See `Renewal::whole`.
        whole: Vec<Origin>,
        /// What others have at least of third filers of which more is here.
        of_thirds: Vector,
        /// Where the own log ends, if others have more of it: it may have parted from theirs
        /// earlier.
        behind: Option<Stamp>,
        /// The old origin is still used by another process.
        is_in_use: bool,
        /// For operators.
        why: &'static str,
    },
    /// Drop the stream.
    Cancel(StreamId),
    /// Drop the connection.
    Close(LinkId),
}

/// What came of a batch of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it is applied.
    Applied,
    /// Something before it is missing here, and that stream will not bring it: the sender's log
    /// parted from what is here, behind this stamp or before.
    Hole(Stamp),
    /// A change that cannot be applied: its origin stops here, loudly.
    Stuck(String),
    /// The origin is cut.
    Cut(String),
    /// The own store failed.
    Failed(String),
}

impl Outcome {
    /// What the results of one batch mean for its stream.
    #[must_use]
    pub fn of(applied: &[Applied]) -> Self {
        for result in applied {
            match result {
                Applied::Now | Applied::Already => {}
                Applied::Hole { prev, .. } => return Self::Hole(*prev),
                Applied::Undecodable(error) => return Self::Stuck(error.to_string()),
                Applied::Refused { cut } => {
                    return Self::Cut(format!(
                        "its origin is a member no more, and was cut at {cut}"
                    ));
                }
            }
        }
        Self::Applied
    }
}

/// An origin with a change that cannot be applied.
#[derive(Clone, Debug)]
struct Stuck {
    since: Now,
    why: String,
}

/// The state machine. One per filer.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    directory: Directory,
    acks: Acknowledgements,
    timekeeper: Timekeeper,
    links: BTreeMap<ServerAddress, Link>,
    streams: BTreeMap<StreamId, Stream>,
    behind: BTreeMap<Origin, Behind>,
    /// What each peer had when it first answered: readiness waits for that.
    first_had: BTreeMap<Origin, Vector>,
    /// While a provider is looked for: who each peer holds for no member, and how it joined.
    sides: BTreeMap<Origin, Side>,
    /// How many changes of an origin were behind the last batch of them, at its sender.
    backlog: BTreeMap<Origin, u64>,
    /// Bytes of a change of an origin, the mean of the last batch.
    change_bytes: BTreeMap<Origin, u64>,
    /// Origins with a change that cannot be applied.
    stuck: BTreeMap<Origin, Stuck>,
    /// Origins of which changes are missing here that the peers' logs do not bring.
    gaps: BTreeMap<Origin, Gap>,
    /// Who greeted this filer, and when last; looked at while it is fresh.
    callers: BTreeMap<ServerAddress, Now>,
    found_not_before: Now,
    /// Since when this filer looks for one to join at.
    fresh_since: Option<Now>,
    /// Members no more, at the last poll.
    gone: BTreeSet<Origin>,
    /// Members, at the last poll.
    members: BTreeSet<Origin>,
    /// The last own change when this filer started.
    own_at_start: Option<Stamp>,
    /// What each peer said to have of this store's origins when it answered last.
    had: BTreeMap<Origin, Vec<(Origin, Stamp)>>,
    /// What each peer had of everybody then.
    peers_have: BTreeMap<Origin, Vector>,
    /// A new origin is to be taken.
    aside: Option<Aside>,
    /// Since when it is looked who goes on under an origin that this store had.
    returned: Option<Now>,
    is_renewing: bool,
    is_leaving: bool,
    renew_not_before: Now,
    appearance: Appearance,
    /// Peers that said to have more of this origin than there was at the last poll, how much, and
    /// whether that was looked at once.
    ahead: BTreeMap<ServerAddress, (Stamp, bool)>,
    /// The last own change at the last poll, in the log and applied.
    own: Stamp,
    own_applied: Stamp,
    /// How far the own log goes, applied or not.
    logged: Stamp,
    /// How long members are silent, and when this filer listened last.
    silences: BTreeMap<Origin, fencing::Silence>,
    listened: Now,
    is_log_over: bool,
    has_failed: bool,
    fence_not_before: Now,
    phase: Phase,
    not_ready: Option<String>,
    next_id: u64,
    actions: Vec<Action>,
}

impl Core {
    /// A filer that knows nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            directory: Directory::default(),
            acks: Acknowledgements::default(),
            timekeeper: Timekeeper::default(),
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            behind: BTreeMap::new(),
            first_had: BTreeMap::new(),
            sides: BTreeMap::new(),
            backlog: BTreeMap::new(),
            change_bytes: BTreeMap::new(),
            stuck: BTreeMap::new(),
            gaps: BTreeMap::new(),
            callers: BTreeMap::new(),
            found_not_before: Now::ZERO,
            fresh_since: None,
            gone: BTreeSet::new(),
            members: BTreeSet::new(),
            own_at_start: None,
            had: BTreeMap::new(),
            peers_have: BTreeMap::new(),
            aside: None,
            returned: None,
            is_renewing: false,
            is_leaving: false,
            renew_not_before: Now::ZERO,
            appearance: Appearance::default(),
            ahead: BTreeMap::new(),
            own: Stamp::ZERO,
            own_applied: Stamp::ZERO,
            logged: Stamp::ZERO,
            silences: BTreeMap::new(),
            listened: Now::ZERO,
            is_log_over: false,
            has_failed: false,
            fence_not_before: Now::ZERO,
            phase: Phase::Start,
            not_ready: Some("looking for the other filers".to_owned()),
            next_id: 0,
            actions: Vec::new(),
        }
    }

    /// The master answered.
    pub fn listed(&mut self, now: Now, listing: Listing) {
        self.directory.listed(now, listing);
    }

    /// A peer greeted this filer: it says where it is. True when it is worth a poll.
    pub fn called_by(&mut self, now: Now, origin: Origin, address: &ServerAddress) -> bool {
        if origin == self.settings.origin {
            return false;
        }
        if self.callers.len() < dulse_cluster::ADDRESSES_MAX {
            self.callers.insert(address.clone(), now);
        }
        self.look_again_at(now, origin);
        self.directory.told(now, origin, address)
    }

    /// A peer greeted this filer as this process: one that was not met yet is waited for.
    pub fn called_as(&mut self, now: Now, origin: Origin, instance: u64) {
        let is_met = |link: &Link| link.origin == origin && link.instance == instance;
        if origin != self.settings.origin && !self.links.values().any(is_met) {
            self.acks.runs_again(now, origin);
        }
    }

    /// Lets time pass and gives what is to be done now. Call it after every input that
    /// changed something and at least every 100 ms. Cost: O(peers × origins).
    pub fn poll(&mut self, now: Now, view: &View<'_>) -> Vec<Action> {
        for (origin, address) in view.members {
            // A member whose address is not known is said to be here.
            let is_here = address.is_same_server(&self.settings.address);
            if *origin != self.settings.origin && !is_here {
                self.directory.told(now, *origin, address);
            }
        }
        self.listen(now, view);
        self.look_at_gone(now, view);
        self.look_at_own(now, view);
        self.look_at_gaps(now, view);
        self.expire(now);
        self.step_aside(now, view);
        self.begin(now, view);
        self.keep_links(now);
        if self.may_pull() {
            self.pull(now, view);
            self.relay(now, view);
        }
        self.watch_readiness(now, view);
        self.fence_silent(now, view);
        std::mem::take(&mut self.actions)
    }

    /// The own log goes this far, whether that is applied or not: nobody can have more of it.
    pub fn has_logged(&mut self, last: Stamp) {
        self.logged = last;
    }

    /// Why namespace calls cannot be served; `None` when they can.
    #[must_use]
    pub fn not_ready(&self) -> Option<&str> {
        self.not_ready.as_deref()
    }

    /// Where this filer is on its way to being ready.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whom this filer has met where, for telling others.
    #[must_use]
    pub fn known(&self) -> Vec<(Origin, ServerAddress)> {
        let known = self.directory.known();
        known
            .map(|(origin, address)| (origin, address.clone()))
            .collect()
    }

    /// A peer stated something on a stream from it.
    pub fn heard(
        &mut self,
        now: Now,
        stream: StreamId,
        statement: Statement,
        known: &[(Origin, ServerAddress)],
    ) {
        let Some(opened) = self.streams.get_mut(&stream) else {
            return;
        };
        opened.heard = now;
        let address = opened.address.clone();
        for (origin, at) in known {
            if *origin != self.settings.origin {
                self.directory.told(now, *origin, at);
            }
        }
        if let Some(link) = self.links.get_mut(&address) {
            link.heard = Some(now);
            let peer = link.origin;
            let has = statement.applied.get(self.settings.origin);
            if has > self.own {
                self.ahead.entry(address.clone()).or_insert((has, false));
            }
            self.directory.met(now, peer, &address);
            self.acks.stated(now, peer, statement);
        }
    }

    /// What was applied last of a stream has this many changes behind it at its sender.
    pub fn behind(&mut self, stream: StreamId, n_behind: u64) {
        if let Some(opened) = self.streams.get(&stream) {
            self.backlog.insert(opened.origin, n_behind);
        }
    }

    /// A batch of a stream had so many changes and bytes: what is behind it is taken to be alike.
    pub fn weighed(&mut self, stream: StreamId, n_changes: usize, n_bytes: usize) {
        if let (Some(opened), Some(mean)) =
            (self.streams.get(&stream), n_bytes.checked_div(n_changes))
        {
            self.change_bytes.insert(opened.origin, mean as u64);
        }
    }

    /// Origins with a change that cannot be applied here, and why.
    #[must_use]
    pub fn stuck(&self) -> Vec<(Origin, String)> {
        let stuck = self.stuck.iter();
        stuck.map(|(origin, s)| (*origin, s.why.clone())).collect()
    }

    /// What a peer promised last, as far as it was heard: nothing it writes later is at or below.
    #[must_use]
    pub fn promised_by(&self, peer: Origin) -> Stamp {
        self.acks.promised_by(peer)
    }

    /// Everything that every member has acknowledged. ⚠ One that was shut out counts as long as
    /// anything of it may still arrive.
    #[must_use]
    pub fn stable(&self, view: &View<'_>, durable: &Vector) -> Vector {
        let own = self.settings.origin;
        self.acks
            .stable(own, self.counted(view), durable, view.applied)
    }

    /// Everything of which every member has said what it had to say, too: what may be freed.
    #[must_use]
    pub fn judged(&self, view: &View<'_>, judged: &Vector) -> Vector {
        let own = self.settings.origin;
        self.acks
            .judged(own, self.counted(view), judged, view.applied)
    }

    fn counted<'v>(&self, view: &View<'v>) -> impl Iterator<Item = Origin> + use<'_, 'v> {
        let members = view.members.iter().map(|(origin, _)| *origin);
        let uncut: Vec<Origin> = view
            .gone
            .iter()
            .filter(|gone| !self.is_cut(view, gone))
            .map(|gone| gone.origin)
            .collect();
        members.chain(uncut)
    }

    /// What each member that is connected has of this filer's own log on disk.
    #[must_use]
    pub fn holders(&self, now: Now, view: &View<'_>) -> Vec<Stamp> {
        let own = self.settings.origin;
        let others = view.members.iter().filter(|(origin, _)| *origin != own);
        let held = others.filter_map(|(origin, _)| self.acks.lately(now, *origin, HELD_LATELY));
        held.map(|statement| statement.durable.get(own)).collect()
    }

    /// What every other member is known to have: a joiner's log begins there. `None` when
    /// there is no other. With `only_heard`, members that said nothing yet do not count.
    #[must_use]
    pub fn floor(&self, view: &View<'_>, joiner: Origin, only_heard: bool) -> Option<Vector> {
        let members = view.members.iter().map(|(origin, _)| *origin);
        let others = members.filter(|o| *o != joiner && *o != self.settings.origin);
        self.acks.floor(others, only_heard)
    }

    /// The stamp up to which everything of everybody has been applied here; `None` when
    /// there is nobody else. An origin whose change cannot be applied is left out after a
    /// while, as one that is silent: it answers every greeting, and would hold up what
    /// subscribers are told of all others for as long as it takes to mend it.
    #[must_use]
    pub fn watermark(&self, now: Now, view: &View<'_>) -> Option<Stamp> {
        let members = view.members.iter().map(|(origin, _)| *origin);
        // ⚠ A filer whose join has not arrived yet counts as soon as it is met with a history. One
        // that was fresh then stamps all it does above its join, and whoever journals that is
        // waited for; if it never joins, because another store is in its place, nobody would
        // say that it is gone.
        let met = self.first_had.iter().filter(|(_, had)| !had.is_empty());
        let met = met.map(|(origin, _)| *origin);
        let met = met.filter(|origin| !self.gone.contains(origin));
        // What members have of one that was shut out may still arrive.
        let uncut = view.gone.iter().filter(|gone| !self.is_cut(view, gone));
        let uncut = uncut.map(|gone| gone.origin);
        let is_given_up = |origin: &Origin| {
            let stuck = self.stuck.get(origin);
            stuck.is_some_and(|s| now.saturating_sub(s.since) >= WATERMARK_SILENT_MAX)
        };
        let all = members.chain(met).chain(uncut);
        let all: BTreeSet<Origin> = all.filter(|origin| !is_given_up(origin)).collect();
        self.acks
            .watermark(now, self.settings.origin, all, view.applied)
    }

    /// Every peer as this filer sees it.
    #[must_use]
    pub fn peers(&self, applied: &Vector) -> Vec<PeerStatus> {
        let mut shown: Vec<_> = self.links.iter().collect();
        // The own old place, where a twin is looked for, is nobody's while nobody answers there.
        let own = self.settings.origin;
        let is_own_place = |address: &ServerAddress, link: &Link| {
            link.origin == Origin::default() && self.directory.is_hint_of(own, address)
        };
        shown.retain(|(_, link)| !link.is_double && !self.gone.contains(&link.origin));
        shown.retain(|(address, link)| !is_own_place(address, link));
        let shown = shown.into_iter();
        let rows = shown.map(|(address, link)| {
            let have = applied.get(link.origin);
            let known = self.acks.greatest(link.origin);
            let lag_ns = known.0.saturating_sub(have.0).max(0);
            let counted = self.backlog.get(&link.origin).copied().unwrap_or(0);
            // What was stamped since the count was taken is at least one.
            let lag_changes = if lag_ns > 0 { counted.max(1) } else { 0 };
            let stuck = self.stuck.get(&link.origin);
            PeerStatus {
                origin: link.origin,
                address: address.clone(),
                state: if stuck.is_some() {
                    PeerState::Stuck
                } else {
                    link.state
                },
                lag_seconds: lag_ns as f64 / 1e9,
                lag_changes,
                lag_bytes: lag_changes * self.change_bytes.get(&link.origin).copied().unwrap_or(0),
                last_error: stuck.map_or(&link.last_error, |s| &s.why).clone(),
            }
        });
        rows.collect()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests;
