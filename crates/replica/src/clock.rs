// SPDX-License-Identifier: Apache-2.0
//! Clocks: the wall clock as an argument, and the hybrid clock above it.

use dulse_types::Stamp;

/// How far ahead the ceiling is journaled, in nanoseconds.
const CEILING_AHEAD_NS: i64 = 1_000_000_000;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970.
    fn now_ns(&self) -> i64;
}

/// The system's wall clock.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// The hybrid clock: strictly increasing, above everything seen, below its ceiling.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct HybridClock {
    /// Greatest stamp issued or seen.
    last: Stamp,
    /// Journaled: no stamp or promise goes beyond it.
    ceiling: Stamp,
}

impl HybridClock {
    /// Begins above a journaled ceiling, so that no stamp is issued twice.
    pub(crate) fn restart(ceiling: Stamp) -> Self {
        Self {
            last: ceiling,
            ceiling,
        }
    }

    /// Takes note of a stamp that was issued or seen.
    pub(crate) fn see(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    /// The stamp the next change would begin with.
    pub(crate) fn peek(&self, now_ns: i64) -> Stamp {
        Stamp(now_ns).max(self.last.next())
    }

    /// The ceiling to journal before `stamp` may be used; `None` when it is high enough.
    pub(crate) fn ceiling_for(&self, stamp: Stamp) -> Option<Stamp> {
        (stamp >= self.ceiling).then(|| Stamp(stamp.0.saturating_add(CEILING_AHEAD_NS)))
    }

    /// The ceiling was journaled.
    pub(crate) fn raise_ceiling(&mut self, ceiling: Stamp) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// The journaled ceiling.
    pub(crate) fn ceiling(&self) -> Stamp {
        self.ceiling
    }
}
