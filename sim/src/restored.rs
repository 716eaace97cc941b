// SPDX-License-Identifier: Apache-2.0
//! Stores that are put back from a copy, and copies that run as another filer.

use std::collections::BTreeMap;

use dulse_types::{Origin, Stamp, Vector};

use crate::checks::{Seen, is_gone};
use crate::filer::{Backup, Restored, Running};
use crate::world::World;

impl World {
    /// The process dies, and what was on a disk once is put in the place of what is there.
    pub(crate) fn put_back(&mut self, f: usize, backup: &Backup) -> Result<(), String> {
        if self.filers[f].running.is_some() {
            self.kill(f)?;
        }
        let origin = backup.origin;
        let own = backup.durable.get(origin);
        let last = self.own_last.get(&origin).copied();
        let held = self.filers.iter().map(|f| f.on_disk().get(origin)).max();
        let last = last.max(held);
        let others = self.filers.iter().enumerate().filter(|(o, _)| *o != f);
        let has_twin = others.into_iter().any(|(_, other)| {
            let runs = other.running.as_ref().map(|running| running.origin());
            // One that was put back and does not run may be the same one, too.
            runs == Some(origin)
                || other
                    .was_restored
                    .as_ref()
                    .is_some_and(|was| was.origin == origin)
        });
        let may_part = has_twin || last.is_some_and(|last| last > own);
        self.counts.restored += 1;
        let held = self.on_disks();
        self.filers[f].restore(backup, held, may_part);
        self.disk_lost_at = self.now;
        self.say(|| format!("filer {f} has the store of {origin} of {own}"));
        self.show(&Seen::Restored(origin))?;
        self.forget_what_is_lost();
        let held = self.on_disks();
        self.volumes.forget_drops(&held);
        Ok(())
    }

    /// What the members' disks hold for certain. What one has that left or
    /// was shut out counts nowhere, until it comes back, and then as its own alone; and of several
    /// copies of one store all but one go.
    pub(crate) fn on_disks(&self) -> Vector {
        let mut of_each: BTreeMap<Origin, Vector> = BTreeMap::new();
        for filer in &self.filers {
            let Some(origin) = filer.origin.filter(|origin| !is_gone(self, *origin)) else {
                continue;
            };
            let has = filer.on_disk();
            let both = match of_each.get(&origin) {
                Some(twin) => twin.iter().map(|(o, s)| (o, s.min(has.get(o)))).collect(),
                None => has,
            };
            of_each.insert(origin, both);
        }
        let mut held = Vector::new();
        for has in of_each.values() {
            held.merge_max(has);
        }
        held
    }

    /// A store that was put back is as any other once it has what it had.
    pub(crate) fn look_at_restored(&mut self, f: usize) {
        let filer = &mut self.filers[f];
        let (Some(was), Some(running)) = (&filer.was_restored, &filer.running) else {
            return;
        };
        if was.may_part && running.has_state() {
            self.twice_served.insert(was.origin);
        }
        if !was.may_part && running.shared().durable_vector().includes(&was.held) {
            filer.was_restored = None;
        }
    }

    /// What is on disk nowhere any more: clients do not count on it.
    pub(crate) fn forget_what_is_lost(&mut self) {
        let held = self.on_disks();
        for private in &mut self.clients.private {
            let mut writes = private.writes.iter();
            private.is_unknown |= writes.any(|(origin, stamp, _)| *stamp > held.get(*origin));
        }
    }

    /// The last own change of a filer that runs.
    pub(crate) fn own_stamp(&self, f: usize) -> Option<Stamp> {
        self.filers[f].running.as_ref().map(Running::own_stamp)
    }

    /// A filer made a change of its own. From a store that was put back it may part from what
    /// others have of the same origin.
    pub(crate) fn wrote(&mut self, f: usize) {
        let Some(running) = &self.filers[f].running else {
            return;
        };
        let (origin, stamp) = (running.origin(), running.own_stamp());
        let last = self.own_last.entry(origin).or_insert(Stamp::ZERO);
        if stamp <= *last && self.filers[f].was_restored.is_none() {
            return;
        }
        *last = stamp.max(*last);
        let was = &self.filers[f].was_restored;
        if was.as_ref().is_some_and(|was| was.may_part) {
            self.parted.insert(origin);
            self.set_back_twins(f, origin);
        }
        self.doubt(origin);
    }

    /// What one of two that run on copies of one store wrote, the other lacks for ever: it is as
    /// one that was set back, until it takes a new origin.
    fn set_back_twins(&mut self, f: usize, origin: Origin) {
        let held = self.on_disks();
        let others = self.filers.iter_mut().enumerate().filter(|(o, _)| *o != f);
        for (_, other) in others {
            if other.origin == Some(origin) && other.was_restored.is_none() {
                other.was_restored = Some(Restored {
                    origin,
                    held: held.clone(),
                    may_part: true,
                });
            }
        }
    }

    /// Whether two wrote under an origin, or promised what they would not write: what one of them
    /// promised says nothing of the other one.
    pub(crate) fn is_promise_of_two(&self, origin: Origin) -> bool {
        self.parted.contains(&origin) || self.twice_served.contains(&origin)
    }

    /// Of an origin under which two wrote, a vector does not say what was applied.
    pub(crate) fn doubt(&mut self, origin: Origin) {
        if !self.parted.contains(&origin) {
            return;
        }
        for private in &mut self.clients.private {
            let mut writes = private.writes.iter();
            private.is_unknown |= writes.any(|(by, _, _)| *by == origin);
        }
    }
}
