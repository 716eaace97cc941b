// SPDX-License-Identifier: Apache-2.0
//! What operators are shown of replication.

use dulse_types::{Origin, ServerAddress};

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
    /// Time between the last of its changes applied here and its last, in seconds.
    pub lag_seconds: f64,
    /// How many of its changes we know to lack.
    pub lag_changes: u64,
    /// About how many bytes these are, by the size of those that arrived last.
    pub lag_bytes: u64,
    /// The last thing that went wrong.
    pub last_error: String,
}

/// Progress of a bootstrap.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Transfer {
    /// Rows taken in.
    pub rows: u64,
    /// An estimate of all.
    pub rows_total: u64,
    /// Bytes taken in.
    pub bytes: u64,
    /// Since its beginning, in seconds.
    pub seconds: f64,
}

impl Transfer {
    /// Seconds until its end at the speed so far; 0 where not known.
    #[must_use]
    pub fn eta_seconds(&self) -> f64 {
        if self.rows == 0 {
            return 0.0;
        }
        let left = self.rows_total.saturating_sub(self.rows);
        left as f64 * self.seconds / self.rows as f64
    }
}
