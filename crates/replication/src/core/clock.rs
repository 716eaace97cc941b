// SPDX-License-Identifier: Apache-2.0
//! Whose clocks are heard, and what follows for the own one.

use std::time::Duration;

use dulse_cluster::{Judgement, LEAD_MAX, Now, Standing, Voter};
use dulse_replica::ClockBound;
use dulse_types::Origin;

use super::{Core, Phase, View};

/// An answer that took longer says too little of the clock at the other end.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

impl Core {
    /// A peer's clock said so; `now` is when that arrived. What waited behind other changes must
    /// not be told: it would look like a slow clock.
    pub fn peers_clock(&mut self, now: Now, peer: Origin, clock_ns: i64) {
        // 0 is a filer that does not tell.
        if clock_ns != 0 && peer != self.settings.origin {
            self.timekeeper.told(now, Voter::Peer(peer), clock_ns);
        }
    }

    /// The master's clock said so; `asked` is when it was asked, so that the way counts for the
    /// own clock.
    pub fn masters_clock(&mut self, asked: Now, clock_ns: i64) {
        if clock_ns != 0 {
            self.timekeeper.told(asked, Voter::Master, clock_ns);
        }
    }

    /// How far the wall clock is to be believed from now on: asked for at every poll, behind it.
    pub fn judge_clock(&mut self, now: Now, wall_ns: i64, view: &View<'_>) -> Judgement {
        let own = self.settings.origin;
        let has_others = view.members.iter().any(|(origin, _)| *origin != own);
        let standing = match &self.phase {
            Phase::Founding => Standing::Alone,
            _ if view.applied.is_empty() => Standing::Fresh,
            _ if has_others => Standing::Among,
            _ => Standing::Alone,
        };
        self.timekeeper.judge(now, wall_ns, standing)
    }
}

/// What a replica is told of a judgement.
#[must_use]
pub fn bound(judgement: Judgement) -> ClockBound {
    match judgement {
        Judgement::Free => ClockBound::Free,
        Judgement::Held => ClockBound::Held,
        Judgement::Known { reference_ns, .. } => ClockBound::Near {
            reference_ns,
            lead_max: LEAD_MAX,
        },
    }
}
