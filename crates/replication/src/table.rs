// SPDX-License-Identifier: Apache-2.0
//! What is known of the peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dulse_merge::MemberRow;
use dulse_proto::replication::Heartbeat;
use dulse_replica::ReplicaStore;
use dulse_types::{Origin, ServerAddress, Stamp, Vector};
use parking_lot::Mutex;

use crate::convert;

/// A peer silent for this long is left out of the low watermark.
const WATERMARK_SILENT_MAX: Duration = Duration::from_secs(120);

/// Most addresses remembered; a cluster has a handful of filers.
const ADDRESSES_MAX: usize = 1024;

/// How a peer stands to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// No answer, or none yet.
    Connecting,
    /// Its changes arrive.
    Streaming,
    /// It does not speak our protocol: upstream's filer.
    Foreign,
    /// It may not replicate with us: another group, protocol or kind of store.
    Refused,
    /// One of its changes cannot be applied.
    Stuck,
}

impl PeerState {
    /// As `dulse status` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Foreign => "foreign",
            Self::Refused => "refused",
            Self::Stuck => "stuck",
        }
    }
}

/// A peer as this filer sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStatus {
    /// Zero where not known yet.
    pub origin: Origin,
    /// Where it is.
    pub address: ServerAddress,
    /// How it stands to us.
    pub state: PeerState,
    /// Nanoseconds of its log that we lack, in seconds.
    pub lag_seconds: f64,
    /// Changes that we know to lack; 1 stands for an unknown number.
    pub lag_changes: u64,
    /// The last thing that went wrong.
    pub last_error: String,
}

/// Progress of a bootstrap.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Transfer {
    /// Rows taken in.
    pub rows: u64,
    /// An estimate of all.
    pub rows_total: u64,
    /// Bytes taken in.
    pub bytes: u64,
}

#[derive(Default)]
pub(crate) struct Table {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_address: BTreeMap<ServerAddress, Peer>,
    gossip: BTreeMap<Origin, ServerAddress>,
    transfer: Option<Transfer>,
}

#[derive(Clone)]
struct Peer {
    origin: Origin,
    state: PeerState,
    last_error: String,
    heard: Option<Instant>,
    position: Stamp,
    durable: Vector,
    applied: Vector,
    promise: Stamp,
    was_fresh: bool,
    hello: Option<Vector>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            origin: Origin(0),
            state: PeerState::Connecting,
            last_error: String::new(),
            heard: None,
            position: Stamp::ZERO,
            durable: Vector::new(),
            applied: Vector::new(),
            promise: Stamp::ZERO,
            was_fresh: false,
            hello: None,
        }
    }
}

impl Table {
    /// A peer answered the handshake.
    pub(crate) fn met(
        &self,
        address: &ServerAddress,
        origin: Origin,
        vector: Vector,
        is_fresh: bool,
    ) {
        let mut state = self.state.lock();
        // Identity is the origin: a peer that moved leaves its old address behind.
        state
            .by_address
            .retain(|other, peer| other == address || peer.origin != origin);
        let peer = state.by_address.entry(address.clone()).or_default();
        if peer.origin != origin {
            *peer = Peer {
                origin,
                ..Peer::default()
            };
        }
        peer.heard = Some(Instant::now());
        peer.was_fresh = is_fresh;
        peer.hello = Some(vector);
        state.gossip.insert(origin, address.clone());
    }

    pub(crate) fn set(&self, address: &ServerAddress, to: PeerState, error: &str) {
        let mut state = self.state.lock();
        let peer = state.by_address.entry(address.clone()).or_default();
        peer.state = to;
        if !error.is_empty() || to == PeerState::Streaming {
            error.clone_into(&mut peer.last_error);
        }
    }

    pub(crate) fn heard(&self, address: &ServerAddress, beat: &Heartbeat) {
        let mut state = self.state.lock();
        for (origin, known) in convert::addresses(&beat.known) {
            if state.gossip.len() < ADDRESSES_MAX {
                state.gossip.entry(origin).or_insert(known);
            }
        }
        let Some(peer) = state.by_address.get_mut(address) else {
            return;
        };
        peer.heard = Some(Instant::now());
        peer.position = Stamp(beat.position);
        peer.durable = convert::vector(&beat.durable);
        peer.applied = convert::vector(&beat.applied);
        peer.promise = Stamp(beat.promise);
    }

    pub(crate) fn known(&self) -> Vec<(Origin, ServerAddress)> {
        let state = self.state.lock();
        let met = state
            .by_address
            .iter()
            .filter(|(_, peer)| peer.origin.0 != 0);
        met.map(|(address, peer)| (peer.origin, address.clone()))
            .collect()
    }

    pub(crate) fn known_addresses(&self) -> Vec<ServerAddress> {
        self.state.lock().gossip.values().cloned().collect()
    }

    /// Whether the origin's own stream has said anything lately.
    pub(crate) fn is_streaming(&self, origin: Origin, within: Duration) -> bool {
        let state = self.state.lock();
        state.by_address.values().any(|peer| {
            peer.origin == origin
                && peer.state == PeerState::Streaming
                && peer.heard.is_some_and(|heard| heard.elapsed() < within)
        })
    }

    /// Peers that answered: address, whether fresh, and what they had then.
    pub(crate) fn answered(&self) -> Vec<(ServerAddress, Origin, bool, Vector)> {
        let state = self.state.lock();
        let met = state.by_address.iter().filter_map(|(address, peer)| {
            let vector = peer.hello.clone()?;
            Some((address.clone(), peer.origin, peer.was_fresh, vector))
        });
        met.collect()
    }

    /// What is known to be finally decided about an address: it answered, or cannot be a peer.
    pub(crate) fn is_settled(&self, address: &ServerAddress) -> bool {
        let state = self.state.lock();
        state.by_address.iter().any(|(other, peer)| {
            other.is_same_server(address)
                && (peer.hello.is_some()
                    || matches!(peer.state, PeerState::Foreign | PeerState::Refused))
        })
    }

    pub(crate) fn set_transfer(&self, transfer: Option<Transfer>) {
        self.state.lock().transfer = transfer;
    }

    pub(crate) fn transfer(&self) -> Option<Transfer> {
        self.state.lock().transfer
    }

    /// The least promise of the peers whose changes up to it are applied here.
    pub(crate) fn low_watermark(&self, applied: &Vector) -> Option<i64> {
        let state = self.state.lock();
        let peers = state.by_address.values().filter(|peer| {
            peer.origin.0 != 0
                && peer
                    .heard
                    .is_some_and(|heard| heard.elapsed() < WATERMARK_SILENT_MAX)
        });
        let marks = peers.map(|peer| {
            let have = applied.get(peer.origin);
            if have >= peer.position {
                peer.promise.max(have).0
            } else {
                have.0
            }
        });
        marks.min()
    }

    /// What every member has acknowledged. ⚠ An acknowledgement counts only once all that its
    /// sender had stamped before it is applied here.
    pub(crate) fn stable(
        &self,
        own: Origin,
        members: &[(Origin, MemberRow)],
        durable: &Vector,
        applied: &Vector,
    ) -> Vector {
        let state = self.state.lock();
        let mut stable = durable.clone();
        let others = members
            .iter()
            .filter(|(o, row)| *o != own && row.state == MemberRow::MEMBER);
        for (origin, _) in others {
            let peer = state
                .by_address
                .values()
                .find(|peer| peer.origin == *origin);
            let acknowledged = peer
                .filter(|peer| applied.get(*origin) >= peer.position)
                .map(|peer| peer.durable.clone())
                .unwrap_or_default();
            stable = stable
                .iter()
                .map(|(origin, stamp)| (origin, stamp.min(acknowledged.get(origin))))
                .collect();
        }
        stable
    }

    pub(crate) fn status(&self, store: &ReplicaStore) -> Vec<PeerStatus> {
        let applied = store.shared().vector();
        let state = self.state.lock();
        let rows = state.by_address.iter().map(|(address, peer)| {
            let have = applied.get(peer.origin);
            let lag_ns = if peer.position > have {
                peer.position.0 - have.0
            } else {
                0
            };
            PeerStatus {
                origin: peer.origin,
                address: address.clone(),
                state: peer.state,
                lag_seconds: lag_ns as f64 / 1e9,
                lag_changes: u64::from(lag_ns > 0),
                last_error: peer.last_error.clone(),
            }
        });
        rows.collect()
    }
}
