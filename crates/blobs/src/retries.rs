// SPDX-License-Identifier: Apache-2.0
//! When a volume that failed is tried again, and when it counts as gone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Pause after the first failure; doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How long masters must keep saying that a volume does not exist.
///
/// A master only knows what volume servers tell it: one that is down looks like one
/// that was removed. Chunks left behind by mistake cost disk space, nothing else.
pub const GONE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Back-off per volume. It has no clock: callers say what time it is.
#[derive(Debug, Default)]
pub struct Retries {
    volumes: HashMap<u32, State>,
}

#[derive(Debug)]
struct State {
    not_before: Instant,
    pause: Duration,
    /// Since when every answer was that the volume does not exist.
    missing_since: Option<Instant>,
}

impl Retries {
    /// Whether a volume may be tried now.
    #[must_use]
    pub fn is_due(&self, volume: u32, now: Instant) -> bool {
        self.volumes
            .get(&volume)
            .is_none_or(|s| s.not_before <= now)
    }

    /// Something answered no, or nothing answered.
    pub fn failed(&mut self, volume: u32, now: Instant) {
        self.push_back(volume, now).missing_since = None;
    }

    /// A master says that the volume does not exist; whether that is believed by now.
    pub fn said_missing(&mut self, volume: u32, now: Instant) -> bool {
        let state = self.push_back(volume, now);
        let since = *state.missing_since.get_or_insert(now);
        now.saturating_duration_since(since) >= GONE_AFTER
    }

    /// It works, or nothing waits for it any longer.
    pub fn forget(&mut self, volume: u32) {
        self.volumes.remove(&volume);
    }

    /// Volumes that failed when they were tried last.
    #[must_use]
    pub fn n_failing(&self) -> usize {
        self.volumes.len()
    }

    fn push_back(&mut self, volume: u32, now: Instant) -> &mut State {
        let state = self.volumes.entry(volume).or_insert(State {
            not_before: now,
            pause: PAUSE_MIN,
            missing_since: None,
        });
        state.not_before = now + state.pause;
        state.pause = (state.pause * 2).min(PAUSE_MAX);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_end_with_success() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        for expect in [5, 10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(retries.is_due(1, now));
            retries.failed(1, now);
            now += Duration::from_secs(expect - 1);
            assert!(!retries.is_due(1, now), "{expect}");
            now += Duration::from_secs(1);
        }
        assert!(retries.is_due(2, now));
        retries.failed(1, now);
        retries.forget(1);
        assert!(retries.is_due(1, now));
        assert_eq!(retries.n_failing(), 0);
    }

    #[test]
    fn a_volume_is_gone_only_when_masters_say_so_for_long_and_without_a_break() {
        let mut retries = Retries::default();
        let start = Instant::now();
        assert!(!retries.said_missing(1, start));
        assert!(!retries.said_missing(1, start + GONE_AFTER / 2));
        retries.failed(1, start + GONE_AFTER / 2);
        assert!(!retries.said_missing(1, start + GONE_AFTER));
        assert!(!retries.said_missing(1, start + GONE_AFTER * 3 / 2));
        assert!(retries.said_missing(1, start + GONE_AFTER * 2));
        assert!(!retries.said_missing(2, start + GONE_AFTER * 2));
    }
}
