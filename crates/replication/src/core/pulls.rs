// SPDX-License-Identifier: Apache-2.0
//! Streams: each peer's own changes from that peer, and what a dead filer made from the
//! living. A relay that fails harms nobody's own stream.

use std::time::Duration;

use dulse_cluster::Now;
use dulse_types::{Origin, ServerAddress, Stamp};

use super::links::LinkPhase;
use super::{Action, Core, Outcome, RETRY_DELAY, StreamId, Stuck, View};
use crate::status::PeerState;

/// A stream that says nothing for this long is broken: heartbeats come each 200 ms.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A transfer that brings nothing for this long is broken: a snapshot may take a while.
const TRANSFER_SILENCE_MAX: Duration = Duration::from_secs(30);

/// An origin that does not move for this long though others know more of it is fetched
/// through them.
const RELAY_AFTER: Duration = Duration::from_secs(1);

/// Pause after a relay that failed, and after a change that cannot be applied.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The peer's own changes, for as long as both live.
    Own,
    /// Somebody else's changes, up to what is there now.
    Relay,
    /// The whole state.
    Join,
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) address: ServerAddress,
    pub(super) origin: Origin,
    pub(super) purpose: Purpose,
    pub(super) heard: Now,
}

/// An origin of which others are known to have more.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    have: Stamp,
    since: Now,
    not_before: Now,
    last_through: Option<Origin>,
}

impl Core {
    /// A batch of a stream was applied, or not.
    pub fn applied(&mut self, now: Now, stream: StreamId, outcome: Outcome) {
        let Some(opened) = self.streams.get_mut(&stream) else {
            return;
        };
        opened.heard = now;
        let Stream {
            address,
            origin,
            purpose,
            ..
        } = opened.clone();
        let (state, error, delay) = match outcome {
            Outcome::Applied => {
                self.stuck.remove(&origin);
                return;
            }
            Outcome::Hole(common) => {
                self.is_missing(now, stream, Some(common));
                let error = "changes are missing that this filer no longer has".to_owned();
                (PeerState::Connecting, error, RETRY_DELAY)
            }
            Outcome::Stuck(error) => {
                let since = self.stuck.get(&origin).map_or(now, |stuck| stuck.since);
                let why = error.clone();
                self.stuck.insert(origin, Stuck { since, why });
                (PeerState::Stuck, error, AFTER_FAILURE)
            }
            Outcome::Cut(error) => (PeerState::Refused, error, AFTER_FAILURE),
            Outcome::Failed(error) => (PeerState::Stuck, error, AFTER_FAILURE),
        };
        if purpose == Purpose::Own {
            self.break_link(now, &address, state, &error, delay);
        } else {
            self.end_stream(stream);
            self.relay_failed(now, origin);
        }
    }

    /// A stream ended by itself; `error` where it broke.
    pub fn ended(&mut self, now: Now, stream: StreamId, error: Option<String>) {
        let Some(ended) = self.streams.remove(&stream) else {
            return;
        };
        match (ended.purpose, error) {
            (Purpose::Own, error) => {
                let error = error.unwrap_or_else(|| "the stream ended".to_owned());
                self.break_link(
                    now,
                    &ended.address,
                    PeerState::Connecting,
                    &error,
                    RETRY_DELAY,
                );
            }
            (Purpose::Relay, Some(_)) => self.relay_failed(now, ended.origin),
            (Purpose::Relay, None) => {}
            (Purpose::Join, error) => {
                let error = error.unwrap_or_else(|| "the transfer was cut short".to_owned());
                self.join_broke(now, stream, &error);
            }
        }
    }

    /// A stream ended since its sender keeps no more what follows what is here.
    pub fn cut_off(&mut self, now: Now, stream: StreamId, why: String) {
        self.is_missing(now, stream, None);
        self.ended(now, stream, Some(why));
    }

    fn relay_failed(&mut self, now: Now, origin: Origin) {
        if let Some(behind) = self.behind.get_mut(&origin) {
            behind.not_before = now + AFTER_FAILURE;
        }
    }

    fn end_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.actions.push(Action::Cancel(stream));
        }
    }

    /// Breaks what has been silent for too long.
    pub(super) fn expire(&mut self, now: Now) {
        self.expire_greetings(now);
        let silent = |stream: &Stream| {
            let max = match stream.purpose {
                Purpose::Join => TRANSFER_SILENCE_MAX,
                Purpose::Own | Purpose::Relay => SILENCE_MAX,
            };
            now.saturating_sub(stream.heard) >= max
        };
        let over: Vec<(StreamId, Stream)> = self
            .streams
            .iter()
            .filter(|(_, stream)| silent(stream))
            .map(|(id, stream)| (*id, stream.clone()))
            .collect();
        for (id, stream) in over {
            if stream.purpose == Purpose::Relay {
                self.end_stream(id);
                self.relay_failed(now, stream.origin);
            } else {
                let error = "the stream went silent";
                self.break_link(
                    now,
                    &stream.address,
                    PeerState::Connecting,
                    error,
                    RETRY_DELAY,
                );
            }
        }
    }

    /// Pulls each peer's own changes from that peer.
    pub(super) fn pull(&mut self, now: Now, view: &View<'_>) {
        let met: Vec<(ServerAddress, Origin)> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link.phase, LinkPhase::Met(_)))
            .map(|(at, link)| (at.clone(), link.origin))
            .collect();
        for (address, origin) in met {
            let stream = self.open(now, &address, origin, Purpose::Own, view);
            if let Some(link) = self.links.get_mut(&address) {
                link.phase = LinkPhase::Pulling(stream);
                link.state = PeerState::Streaming;
                link.last_error.clear();
            }
        }
    }

    pub(super) fn open(
        &mut self,
        now: Now,
        address: &ServerAddress,
        origin: Origin,
        purpose: Purpose,
        view: &View<'_>,
    ) -> StreamId {
        let stream = StreamId(self.id());
        let opened = Stream {
            address: address.clone(),
            origin,
            purpose,
            heard: now,
        };
        self.streams.insert(stream, opened);
        if let Some(link) = self.links.get(address) {
            let (instance, link) = (link.instance, link.id);
            let after = view.applied.get(origin);
            self.actions.push(match purpose {
                Purpose::Join => Action::Join { stream, link },
                _ => {
                    let is_once = purpose == Purpose::Relay;
                    Action::Pull {
                        stream,
                        link,
                        instance,
                        origin,
                        after,
                        is_once,
                    }
                }
            });
        }
        stream
    }

    /// Fetches through the living what does not come from its origin.
    pub(super) fn relay(&mut self, now: Now, view: &View<'_>) {
        let mut best: Vec<(Origin, Stamp, Origin, ServerAddress)> = Vec::new();
        for (address, link) in &self.links {
            let LinkPhase::Pulling(_) = link.phase else {
                continue;
            };
            let Some(said) = self.acks.of(link.origin) else {
                continue;
            };
            for (origin, stamp) in said.durable.iter() {
                best.push((origin, stamp, link.origin, address.clone()));
            }
        }
        let is_member = |who: Origin| view.members.iter().any(|(member, _)| *member == who);
        best.retain(|(origin, stamp, through, _)| {
            let is_own = *origin == self.settings.origin;
            // ⚠ What is left of one that went comes through members alone.
            let may_bring = !self.gone.contains(origin) || is_member(*through);
            // ⚠ Nor are own changes fetched: a store that lacks some was set back.
            let is_wanted = origin != through && !is_own;
            *stamp > view.applied.get(*origin) && is_wanted && may_bring
        });
        let origins: std::collections::BTreeSet<Origin> = best.iter().map(|b| b.0).collect();
        self.behind.retain(|origin, _| origins.contains(origin));
        for origin in origins {
            let have = view.applied.get(origin);
            let fresh = Behind {
                have,
                since: now,
                not_before: now,
                last_through: None,
            };
            let behind = self.behind.entry(origin).or_insert(fresh);
            if behind.have != have {
                (behind.have, behind.since) = (have, now);
            }
            let last = behind.last_through;
            let is_due =
                now.saturating_sub(behind.since) >= RELAY_AFTER && now >= behind.not_before;
            let mut streams = self.streams.values();
            if !is_due || streams.any(|s| s.origin == origin && s.purpose == Purpose::Relay) {
                continue;
            }
            // Whoever was tried last comes last; among the others who has most.
            let choice = best
                .iter()
                .filter(|b| b.0 == origin)
                .max_by_key(|(_, stamp, through, _)| (Some(*through) != last, *stamp));
            if let Some((_, _, through, address)) = choice.cloned() {
                self.open(now, &address, origin, Purpose::Relay, view);
                if let Some(behind) = self.behind.get_mut(&origin) {
                    behind.last_through = Some(through);
                    behind.since = now;
                }
            }
        }
    }
}
