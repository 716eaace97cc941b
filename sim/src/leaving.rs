// SPDX-License-Identifier: Apache-2.0
//! A filer that leaves its cluster (`leave_on_shutdown`): it takes no more writes, hands over
//! all it has, journals that it leaves, hands that over, and ends. What the driver does with
//! the core's answers, here step by step.

use dulse_merge::change::MemberStep;
use dulse_replication::core::HandedOver;
use rand::Rng;

use crate::checks::Seen;
use crate::queue::Event;
use crate::world::World;
use crate::{MS, SECOND};

/// How long it waits for the others, each time.
const WAIT: u64 = 8 * SECOND;

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    since: u64,
    /// It waits for the others until then.
    until: u64,
    has_left: bool,
    /// Nobody starts it again: its disk goes with it.
    is_for_good: bool,
}

impl World {
    /// An operator has a filer leave.
    pub(crate) fn leave(&mut self, f: usize, is_for_good: bool) {
        let until = self.now + WAIT;
        let Some(running) = &mut self.filers[f].running else {
            return;
        };
        running.core.leaving();
        self.filers[f].leaving = Some(Leaving {
            since: self.now,
            until,
            has_left: false,
            is_for_good,
        });
        self.say(|| format!("filer {f} begins to leave, for good: {is_for_good}"));
    }

    /// The next step, if it leaves.
    pub(crate) fn step_leave(&mut self, f: usize) -> Result<(), String> {
        let now = self.now;
        let filer = &mut self.filers[f];
        let (Some(leaving), Some(running)) = (filer.leaving, &mut filer.running) else {
            return Ok(());
        };
        let own = running.origin();
        let members = running.membership()?;
        let is_member = members.members.iter().any(|(origin, _)| *origin == own);
        if !leaving.has_left && (!is_member || members.members.len() == 1) {
            return self.stay(f, "it is no member, or the only one");
        }
        let wanted = running.shared().vector();
        let over = running.with(now, |core, since, view| {
            core.handed_over(since, view, &wanted)
        })?;
        let is_over = over.lacking.is_empty() && (over.n_have > 0 || over.silent.is_empty());
        if !(is_over || now >= leaving.until) {
            return Ok(());
        }
        if leaving.has_left {
            return self.left(f, leaving, &over);
        }
        // The driver waits until it is ready, however long that takes.
        if !running.has_state() {
            return match now < leaving.until {
                true => Ok(()),
                false => self.stay(f, "it is not ready"),
            };
        }
        if over.n_have == 0 {
            return self.stay(f, "no other member has all that it has");
        }
        let step = MemberStep::Leave { member: own };
        if self
            .tolerate(f, |running| running.replica.member(step))?
            .is_none()
        {
            return self.stay(f, "the disk is full");
        }
        self.wrote(f);
        self.say(|| format!("filer {f} leaves: {over:?}"));
        self.filers[f].leaving = Some(Leaving {
            until: now + WAIT,
            has_left: true,
            ..leaving
        });
        Ok(())
    }

    /// It ends as a member; whoever needs it starts it again.
    fn stay(&mut self, f: usize, why: &str) -> Result<(), String> {
        self.say(|| format!("filer {f} stays a member: {why}"));
        self.end_process(f);
        Ok(())
    }

    fn left(&mut self, f: usize, leaving: Leaving, over: &HandedOver) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let origin = running.origin();
        self.say(|| format!("filer {f} has left: {over:?}"));
        self.counts.left += 1;
        // What others had on a disk that was lost meanwhile, they had when it asked.
        if self.disk_lost_at < leaving.since {
            self.show(&Seen::Left(f))?;
        }
        self.end_process(f);
        if leaving.is_for_good {
            self.filers[f].wipe(&mut self.rng);
            self.show(&Seen::Lost(origin))?;
            self.forget_what_is_lost();
        }
        Ok(())
    }

    /// The process ends in good order, and begins again some time later.
    fn end_process(&mut self, f: usize) {
        self.filers[f].stop();
        self.reset_connections(f);
        let delay = self.rng.random_range(10 * MS..5 * SECOND);
        self.at(delay, Event::Start(f));
    }
}
