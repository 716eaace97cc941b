// SPDX-License-Identifier: Apache-2.0
//! Writes that wait until enough other filers have them on disk: decisions alone, with time as
//! an argument.
//!
//! ⚠ What counts is a member's *durable* vector: what it has only applied can be lost with its
//! power, and this filer's machine may be gone by then. The position of its statement does not
//! matter here, unlike for what is stable: whether a change is on a disk has nothing to do with
//! what that filer made itself before.

use std::collections::BTreeMap;
use std::time::Duration;

use dulse_types::Stamp;

/// Writes that may wait at once; each holds an answer to a client. More are refused.
pub const WAITING_MAX: usize = 16_384;

/// Writes in order of their stamps, each with what is to be done when it is acknowledged.
#[derive(Debug)]
pub struct Waits<T> {
    /// What connected members have of this filer's log on disk, the most first.
    held: Vec<Stamp>,
    waiting: BTreeMap<Stamp, Wait<T>>,
}

#[derive(Debug)]
struct Wait<T> {
    n_peers: usize,
    until: Duration,
    what: T,
}

impl<T> Default for Waits<T> {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            waiting: BTreeMap::new(),
        }
    }
}

impl<T> Waits<T> {
    /// Members that are connected, this filer not counted.
    #[must_use]
    pub fn n_peers(&self) -> usize {
        self.held.len()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A write waits for so many members, until then. Given back when they have it already.
    /// All wait equally long, so that the lesser stamp gives up first.
    pub fn wait(&mut self, stamp: Stamp, n_peers: usize, until: Duration, what: T) -> Option<T> {
        if self.is_held(stamp, n_peers) {
            return Some(what);
        }
        let wait = Wait {
            n_peers,
            until,
            what,
        };
        let before = self.waiting.insert(stamp, wait);
        // Each write of one log has a stamp of its own.
        debug_assert!(before.is_none(), "two writes at {stamp}");
        None
    }

    /// What each connected member has of this filer's log on disk; gives what is acknowledged
    /// now. Cost: O(those at or below the greatest).
    pub fn told(&mut self, mut held: Vec<Stamp>) -> Vec<T> {
        held.sort_unstable_by(|a, b| b.cmp(a));
        self.held = held;
        let Some(greatest) = self.held.first().copied() else {
            return Vec::new();
        };
        let reached = self.waiting.range(..=greatest);
        let done = reached.filter(|(stamp, wait)| self.is_held(**stamp, wait.n_peers));
        let done: Vec<Stamp> = done.map(|(stamp, _)| *stamp).collect();
        let taken = done.iter().filter_map(|stamp| self.waiting.remove(stamp));
        taken.map(|wait| wait.what).collect()
    }

    /// What has waited too long, with the members that have it and those that were asked for.
    pub fn expired(&mut self, now: Duration) -> Vec<(T, usize, usize)> {
        let over = self
            .waiting
            .iter()
            .take_while(|(_, wait)| wait.until <= now);
        let over: Vec<Stamp> = over.map(|(stamp, _)| *stamp).collect();
        self.take(&over)
    }

    /// All that wait, for an end.
    pub fn end(&mut self) -> Vec<(T, usize, usize)> {
        let all: Vec<Stamp> = self.waiting.keys().copied().collect();
        self.take(&all)
    }

    /// When the next one has waited too long.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        self.waiting.values().next().map(|wait| wait.until)
    }

    fn take(&mut self, stamps: &[Stamp]) -> Vec<(T, usize, usize)> {
        let mut taken = Vec::with_capacity(stamps.len());
        for stamp in stamps {
            let n_have = self.held.iter().filter(|held| *held >= stamp).count();
            if let Some(wait) = self.waiting.remove(stamp) {
                taken.push((wait.what, n_have, wait.n_peers));
            }
        }
        taken
    }

    fn is_held(&self, stamp: Stamp, n_peers: usize) -> bool {
        let last = n_peers.checked_sub(1);
        last.is_none_or(|last| self.held.get(last).is_some_and(|held| *held >= stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(waits: &mut Waits<u32>, held: &[i64]) -> Vec<u32> {
        waits.told(held.iter().map(|s| Stamp(*s)).collect())
    }

    #[test]
    fn a_write_waits_for_as_many_as_it_asked_for() {
        let mut waits = Waits::default();
        assert_eq!(told(&mut waits, &[5, 9]), Vec::<u32>::new());
        assert_eq!(waits.n_peers(), 2);
        assert_eq!(waits.wait(Stamp(5), 2, SECOND, 1), Some(1), "both have it");
        assert_eq!(waits.wait(Stamp(8), 1, SECOND, 2), Some(2));
        assert_eq!(waits.wait(Stamp(7), 2, SECOND, 3), None);
        assert_eq!(waits.wait(Stamp(10), 1, SECOND, 4), None);
        assert_eq!(waits.wait(Stamp(11), 2, SECOND, 5), None);
        assert_eq!(told(&mut waits, &[6, 11]), [4]);
        assert_eq!(told(&mut waits, &[11, 7]), [3]);
        assert_eq!(told(&mut waits, &[11]), Vec::<u32>::new());
        assert_eq!(told(&mut waits, &[12, 11, 3]), [5]);
        assert!(waits.is_empty());
    }

    #[test]
    fn who_waited_too_long_hears_how_many_have_it() {
        let mut waits = Waits::default();
        told(&mut waits, &[5]);
        assert_eq!(waits.wait(Stamp(4), 2, SECOND, 1), None);
        assert_eq!(waits.wait(Stamp(6), 1, SECOND * 2, 2), None);
        assert_eq!(waits.next_end(), Some(SECOND));
        assert!(waits.expired(SECOND / 2).is_empty());
        assert_eq!(waits.expired(SECOND), [(1, 1, 2)]);
        assert_eq!(waits.end(), [(2, 0, 1)]);
        assert_eq!(waits.next_end(), None);
    }
}
