// SPDX-License-Identifier: Apache-2.0
//! Clocks: the wall clock as an argument, and the hybrid clock above it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dulse_types::Stamp;
use parking_lot::Mutex;

/// How far ahead the ceiling is journaled, in nanoseconds.
const CEILING_AHEAD_NS: i64 = 1_000_000_000;

/// An idle replica raises its ceiling when less than this is left below it, in nanoseconds.
const CEILING_LOW_NS: i64 = 300_000_000;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970.
    fn now_ns(&self) -> i64;

    /// Time since some moment that stays the same while the process runs; never set.
    fn monotonic(&self) -> Duration;
}

/// The system's wall clock.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }
}

/// The hybrid clock: strictly increasing, above everything seen and promised, below its
/// ceiling. The sequencer stamps with it; anyone may ask it for a promise, without
/// waiting for the sequencer.
#[derive(Default, Debug)]
pub(crate) struct HybridClock(Mutex<State>);

#[derive(Default, Debug)]
struct State {
    /// Greatest stamp issued, seen or promised.
    last: Stamp,
    /// Journaled: no stamp goes beyond it.
    ceiling: Stamp,
    /// On disk: no promise goes beyond it.
    synced_ceiling: Stamp,
    /// First stamp issued to changes that readers cannot see yet.
    in_flight: Option<Stamp>,
}

impl HybridClock {
    /// Begins above a journaled ceiling, so that no stamp is issued twice.
    pub(crate) fn restart(ceiling: Stamp) -> Self {
        Self(Mutex::new(State {
            last: ceiling,
            ceiling,
            synced_ceiling: ceiling,
            in_flight: None,
        }))
    }

    /// Takes note of a stamp that was issued or seen.
    pub(crate) fn see(&self, stamp: Stamp) {
        let mut state = self.0.lock();
        state.last = state.last.max(stamp);
    }

    /// The stamp the next change begins with. Until [`HybridClock::published`] promises stay
    /// below it.
    pub(crate) fn begin(&self, now_ns: i64) -> Stamp {
        let mut state = self.0.lock();
        let stamp = Stamp(now_ns).max(state.last.next());
        state.in_flight.get_or_insert(stamp);
        stamp
    }

    /// What was begun is visible to readers, or never will be.
    pub(crate) fn published(&self) {
        self.0.lock().in_flight = None;
    }

    /// A stamp at or below which no later change will be. ⚠ Never beyond the ceiling on disk.
    pub(crate) fn promise(&self, now_ns: i64) -> Stamp {
        let mut state = self.0.lock();
        if let Some(first) = state.in_flight {
            return Stamp(first.0 - 1).min(state.synced_ceiling);
        }
        let promise = Stamp(now_ns.saturating_sub(1))
            .max(state.last)
            .min(state.synced_ceiling);
        state.last = state.last.max(promise);
        promise
    }

    /// The ceiling to journal before `stamp` may be used; `None` when it is high enough.
    pub(crate) fn ceiling_for(&self, stamp: Stamp) -> Option<Stamp> {
        let is_needed = stamp >= self.0.lock().ceiling;
        is_needed.then(|| Stamp(stamp.0.saturating_add(CEILING_AHEAD_NS)))
    }

    /// The ceiling that an idle replica should journal so that its promises go on.
    pub(crate) fn idle_ceiling(&self, now_ns: i64) -> Option<Stamp> {
        let next = Stamp(now_ns).max(self.0.lock().last.next());
        let soon = Stamp(next.0.saturating_add(CEILING_LOW_NS));
        self.ceiling_for(soon)
            .map(|_| Stamp(next.0.saturating_add(CEILING_AHEAD_NS)))
    }

    /// The ceiling was journaled.
    pub(crate) fn raise_ceiling(&self, ceiling: Stamp) {
        let mut state = self.0.lock();
        state.ceiling = state.ceiling.max(ceiling);
    }

    /// The journal was synced: the ceiling that was journaled before the sync began is on disk.
    pub(crate) fn synced(&self, ceiling: Stamp) {
        let mut state = self.0.lock();
        state.synced_ceiling = state.synced_ceiling.max(ceiling);
    }

    /// The journaled ceiling.
    pub(crate) fn ceiling(&self) -> Stamp {
        self.0.lock().ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_stays_below_what_is_in_flight_and_below_the_ceiling() {
        let clock = HybridClock::restart(Stamp(100));
        assert_eq!(clock.promise(500), Stamp(100));
        clock.raise_ceiling(Stamp(1_000));
        assert_eq!(clock.promise(500), Stamp(100), "journaled is not on disk");
        clock.synced(Stamp(1_000));
        assert_eq!(clock.promise(500), Stamp(499));
        let first = clock.begin(499);
        assert_eq!(first, Stamp(500), "above what was promised");
        clock.see(Stamp(510));
        assert_eq!(clock.promise(600), Stamp(499));
        clock.published();
        assert_eq!(clock.promise(600), Stamp(599));
        assert_eq!(clock.promise(90_000), Stamp(1_000));
    }

    #[test]
    fn an_idle_ceiling_is_asked_for_before_promises_stop() {
        let clock = HybridClock::restart(Stamp(CEILING_AHEAD_NS));
        assert_eq!(clock.idle_ceiling(0), Some(Stamp(2 * CEILING_AHEAD_NS + 1)));
        clock.raise_ceiling(Stamp(3 * CEILING_AHEAD_NS));
        assert_eq!(clock.idle_ceiling(CEILING_AHEAD_NS), None);
    }
}
