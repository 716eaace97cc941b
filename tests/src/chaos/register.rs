// SPDX-License-Identifier: Apache-2.0
//! What a file may hold that one client writes growing numbers to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A request without an answer is carried out within this of being sent, or never: the
/// filer that has it may be frozen for some seconds, and then carries it out beside later
/// ones, in any order.
const LATE_MAX: Duration = Duration::from_secs(30);

/// One register: numbers written, and what was answered.
#[derive(Default, Debug)]
pub(super) struct Register {
    /// The last number that was acknowledged, and when it was sent.
    acknowledged: Option<(u64, Instant)>,
    /// Numbers that were sent and had no answer, and when.
    unanswered: BTreeMap<u64, Instant>,
}

impl Register {
    /// `number` is sent now. Numbers grow.
    pub(super) fn send(&mut self, number: u64, now: Instant) {
        self.unanswered.insert(number, now);
    }

    /// The answer to `number`: it was carried out.
    pub(super) fn acknowledge(&mut self, number: u64) {
        self.acknowledged = self.unanswered.remove(&number).map(|sent| (number, sent));
    }

    /// The answer to `number`: it was not carried out and will not be.
    pub(super) fn refuse(&mut self, number: u64) {
        self.unanswered.remove(&number);
    }

    /// Whether `number` may be what is there in the end.
    ///
    /// It is the last acknowledged one, or one without an answer that may have come after
    /// it: sent later, or sent shortly before and carried out late.
    pub(super) fn may_hold(&self, number: u64) -> bool {
        let Some((acknowledged, sent_last)) = self.acknowledged else {
            return self.unanswered.contains_key(&number);
        };
        let is_late = |sent: &Instant| sent_last.saturating_duration_since(*sent) <= LATE_MAX;
        number == acknowledged || self.unanswered.get(&number).is_some_and(is_late)
    }

    /// Whether nothing may be there in the end.
    pub(super) fn may_be_empty(&self) -> bool {
        self.acknowledged.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_last_acknowledged_number_stands_and_earlier_ones_do_not() {
        let now = Instant::now();
        let mut register = Register::default();
        assert!(register.may_be_empty());
        for number in 1..=2 {
            register.send(number, now);
            register.acknowledge(number);
        }
        assert!(register.may_hold(2) && !register.may_hold(1) && !register.may_hold(3));
        assert!(!register.may_be_empty());
    }

    #[test]
    fn a_number_without_an_answer_may_come_late_but_not_ever_so_late() {
        let now = Instant::now();
        let mut register = Register::default();
        register.send(1, now);
        register.send(2, after(now, 20));
        register.send(3, after(now, 40));
        register.acknowledge(3);
        register.send(4, after(now, 90));
        assert!(!register.may_hold(1), "sent 40 s before");
        assert!(register.may_hold(2), "carried out beside the third");
        assert!(register.may_hold(3) && register.may_hold(4));
    }

    #[test]
    fn a_refused_number_is_not_there() {
        let now = Instant::now();
        let mut register = Register::default();
        register.send(1, now);
        register.refuse(1);
        assert!(!register.may_hold(1) && register.may_be_empty());
    }
}
