// SPDX-License-Identifier: Apache-2.0
//! The master: a list of addresses, and members that it never forgets.

use dulse_cluster::Listing;
use dulse_merge::change::MemberStep;
use dulse_types::{Origin, ServerAddress};
use rand::Rng;

use crate::checks::Seen;
use crate::filer::{START_NS, address};
use crate::queue::Event;
use crate::world::World;
use crate::{MS, SECOND};

/// What it knows.
pub(crate) struct Master {
    /// Whether it answers.
    pub(crate) is_up: bool,
    /// The members that were reported to it.
    pub(crate) known: Vec<(Origin, ServerAddress)>,
}

impl Master {
    pub(crate) fn new() -> Self {
        Self {
            is_up: true,
            known: Vec::new(),
        }
    }
}

impl World {
    pub(crate) fn listed(&mut self, f: usize) -> Result<(), String> {
        let delay = self.rng.random_range(500 * MS..2 * SECOND);
        self.at(delay, Event::Listed(f));
        if !self.master.is_up {
            return Ok(());
        }
        let up = self.filers.iter().filter(|filer| filer.running.is_some());
        let mut filers: Vec<_> = up.map(|filer| address(filer.port)).collect();
        filers.sort();
        let listing = Listing {
            filers,
            known_members: self.master.known.clone(),
        };
        let now = self.now;
        if let Some(running) = &mut self.filers[f].running {
            let now_ns = i64::try_from(now).unwrap_or(i64::MAX) + START_NS;
            running.with(now, |core, since, _| {
                core.masters_clock(since, now_ns);
                core.listed(since, listing);
            })?;
            // Filers report the members they know; the master never forgets one.
            for member in &running.membership()?.members {
                if !self.master.known.contains(member) {
                    self.master.known.push(member.clone());
                }
            }
        }
        Ok(())
    }

    pub(crate) fn found(&mut self, f: usize, beside: &[Origin]) -> Result<(), String> {
        let now = self.now;
        let address = address(self.filers[f].port);
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let member = running.origin();
        if !self.master.is_up {
            let result = Err("the master does not answer".to_owned());
            return running.with(now, |core, since, _| core.founded(since, result));
        }
        let known = self.master.known.iter().map(|(origin, _)| *origin);
        if known
            .clone()
            .any(|origin| origin != member && !beside.contains(&origin))
        {
            let result = Err("another member is remembered".to_owned());
            return running.with(now, |core, since, _| core.founded(since, result));
        }
        self.master.known.push((member, address.clone()));
        // Now and then it dies in between.
        if self.rng.random_bool(0.1) {
            return self.kill(f);
        }
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let address = address.to_string();
        let result = running.replica.member(MemberStep::Join { member, address });
        let is_founded = result.is_ok();
        let result = result.map(drop).map_err(|e| e.to_string());
        running.with(now, |core, since, _| core.founded(since, result))?;
        if !is_founded {
            return Ok(());
        }
        self.wrote(f);
        self.show(&Seen::Founded(member))
    }
}
