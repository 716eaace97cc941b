// SPDX-License-Identifier: Apache-2.0
//! S16: no filer stamps far beyond the clocks that are right, however wrong its own is.
//! Design §3, "Version".

use std::collections::BTreeMap;

use dulse_cluster::LEAD_MAX;

use super::{Check, Seen};
use crate::filer::START_NS;
use crate::world::World;

/// A clock that is wrong by more is one that the majority outvotes.
const FAR: i64 = 1_800 * 1_000_000_000;

/// Stamps of many changes of one moment, one nanosecond each.
const SLACK: i64 = 10_000_000;

/// A restart begins above the ceiling that was journaled, a second ahead of the last stamp;
/// several in quick succession add up.
const CEILINGS: i64 = 10 * 1_000_000_000;

/// Others need some seconds to confirm a clock: one that goes wrong earlier is as one that began
/// wrong. In nanoseconds of virtual time.
const CONFIRMED_AFTER: u64 = 10_000_000_000;

/// The furthest that any clock was ahead that nobody calls wrong.
#[derive(Default)]
pub(crate) struct Clocks {
    furthest: i64,
    /// A filer began with a wrong clock, and trusts it where nobody answers for ten seconds, or
    /// was alone with it, and drags those who join it.
    is_any_begun_wrong: bool,
    /// When each was alone last: nobody confirms its clock before others have joined it.
    was_alone: BTreeMap<usize, u64>,
}

impl Check for Clocks {
    fn name(&self) -> &'static str {
        "S16"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let right = world.filers.iter().map(|filer| filer.wrong_by());
        let right = right.filter(|by| by.abs() < FAR).max();
        self.furthest = self.furthest.max(right.unwrap_or(0));
        for (f, filer) in world.filers.iter().enumerate() {
            let Some(running) = &filer.running else {
                continue;
            };
            let is_alone = running.membership()?.members.len() < 2;
            if is_alone {
                self.was_alone.insert(f, world.now);
            }
            if filer.wrong_by() <= FAR {
                continue;
            }
            // One that stands still hears nobody.
            let deaf = running.started.saturating_add(filer.frozen_for);
            let deaf = deaf.max(self.was_alone.get(&f).copied().unwrap_or(0));
            let is_unconfirmed = world.now.saturating_sub(deaf) < CONFIRMED_AFTER;
            self.is_any_begun_wrong |= is_alone || is_unconfirmed;
        }
        if let Seen::Started(f) = seen {
            self.is_any_begun_wrong |= world.filers[*f].wrong_by() > FAR;
        }
        let Seen::Committed { filer, results, .. } = seen else {
            return Ok(());
        };
        if self.is_any_begun_wrong {
            return Ok(());
        }
        let now = i64::try_from(world.now).unwrap_or(i64::MAX);
        let lead_max = i64::try_from(LEAD_MAX.as_nanos()).unwrap_or(i64::MAX);
        let limit = now + START_NS + self.furthest + lead_max + CEILINGS + SLACK;
        match results.iter().flatten().find(|c| c.stamp.0 > limit) {
            Some(commit) => Err(format!(
                "filer {filer}, wrong by {} ns, stamps {}, beyond {limit}",
                world.filers[*filer].wrong_by(),
                commit.stamp
            )),
            None => Ok(()),
        }
    }
}
