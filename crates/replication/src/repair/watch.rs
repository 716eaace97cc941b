// SPDX-License-Identifier: Apache-2.0
//! When to repair: an alarm begins with a mismatch and ends when digests are equal again;
//! rounds that do not help come ever less often. No IO, no clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use dulse_cluster::Now;
use dulse_types::Origin;

/// Pause after the first round against a peer that did not make the digests equal.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause: a mismatch that repair cannot end is a defect, and costs little.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// An alarm that goes on is told again after this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Rounds in a row without a pause, while each leaves work for the next.
const STREAK_MAX: u32 = 64;

/// A mismatch with one peer.
#[derive(Clone, Debug)]
struct Alarm {
    told: Option<Now>,
    not_before: Now,
    n_rounds: u32,
    streak: u32,
}

/// What is known of mismatches.
#[derive(Clone, Default, Debug)]
pub struct Watch {
    alarms: BTreeMap<Origin, Alarm>,
}

/// What a comparison means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing new.
    Known,
    /// An alarm begins, or is to be told again.
    Tell,
    /// An alarm ended.
    Over,
}

impl Watch {
    /// A peer had the same vector; whether its digest is the same as well.
    pub fn compared(&mut self, now: Now, peer: Origin, is_equal: bool) -> Seen {
        if is_equal {
            return match self.alarms.remove(&peer) {
                Some(_) => Seen::Over,
                None => Seen::Known,
            };
        }
        let alarm = self.alarms.entry(peer).or_insert(Alarm {
            told: None,
            not_before: now,
            n_rounds: 0,
            streak: 0,
        });
        let is_due = alarm.told.is_none_or(|told| now >= told + TELL_EVERY);
        if is_due {
            alarm.told = Some(now);
            return Seen::Tell;
        }
        Seen::Known
    }

    /// The peer to run a round against now, if any: the one that has waited longest.
    #[must_use]
    pub fn due(&self, now: Now) -> Option<Origin> {
        let due = self.alarms.iter().filter(|(_, a)| a.not_before <= now);
        due.min_by_key(|(_, alarm)| alarm.not_before)
            .map(|(peer, _)| *peer)
    }

    /// A round ended. One that left work behind because it was full goes on at once.
    pub fn ended(&mut self, now: Now, peer: Origin, is_cut: bool) {
        let Some(alarm) = self.alarms.get_mut(&peer) else {
            return;
        };
        if is_cut && alarm.streak < STREAK_MAX {
            alarm.streak += 1;
            alarm.not_before = now;
            return;
        }
        alarm.streak = 0;
        let pause = PAUSE_MIN.saturating_mul(1 << alarm.n_rounds.min(16));
        alarm.n_rounds = alarm.n_rounds.saturating_add(1);
        alarm.not_before = now + pause.min(PAUSE_MAX);
    }

    /// Peers whose digest is known to differ at an equal vector.
    #[must_use]
    pub fn n_alarms(&self) -> usize {
        self.alarms.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Origin = Origin(7);

    fn at(seconds: u64) -> Now {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_alarm_is_told_once_a_minute_and_ends_with_equal_digests() {
        let mut watch = Watch::default();
        assert_eq!(watch.compared(at(0), PEER, true), Seen::Known);
        assert_eq!(watch.compared(at(1), PEER, false), Seen::Tell);
        assert_eq!(watch.compared(at(2), PEER, false), Seen::Known);
        assert_eq!(watch.compared(at(61), PEER, false), Seen::Tell);
        assert_eq!(watch.n_alarms(), 1);
        assert_eq!(watch.compared(at(62), PEER, true), Seen::Over);
        assert_eq!((watch.n_alarms(), watch.due(at(99))), (0, None));
    }

    #[test]
    fn rounds_that_do_not_help_come_ever_less_often() {
        let mut watch = Watch::default();
        watch.compared(at(0), PEER, false);
        let (mut now, mut rounds) = (0, Vec::new());
        while now < 24 * 3600 {
            if watch.due(at(now)) == Some(PEER) {
                rounds.push(now);
                watch.ended(at(now), PEER, false);
            }
            watch.compared(at(now), PEER, false);
            now += 1;
        }
        assert_eq!(rounds[..5], [0, 1, 3, 7, 15]);
        assert!(rounds.len() < 24 * 6 + 12, "{} rounds a day", rounds.len());
    }

    #[test]
    fn a_full_round_goes_on_at_once_but_not_for_ever() {
        let mut watch = Watch::default();
        watch.compared(at(0), PEER, false);
        let mut n_rounds = 0;
        while watch.due(at(0)) == Some(PEER) {
            watch.ended(at(0), PEER, true);
            n_rounds += 1;
        }
        assert_eq!(n_rounds, STREAK_MAX + 1);
    }
}
