// SPDX-License-Identifier: Apache-2.0
//! A wall clock is an hour ahead or behind (S16). One at a time: of several wrong clocks that
//! agree nobody could tell.

use super::Fault;
use crate::SECOND;
use crate::world::World;

/// What one clock said may count at others for this long, in virtual time.
const COUNTS_FOR: u64 = 20 * SECOND;

pub(crate) struct Hour;

/// The jump.
const HOUR: i64 = 3_600 * 1_000_000_000;

/// Wrong by more is wrong by an hour, small jumps added or not.
const FAR: i64 = HOUR / 2;

impl Fault for Hour {
    fn name(&self) -> &'static str {
        "an hour"
    }

    fn weight(&self) -> u32 {
        3
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        use rand::Rng;
        let is_any_wrong = world.filers.iter().any(|f| f.wrong_by().abs() > FAR);
        if is_any_wrong {
            self.heal(world);
            return Ok(());
        }
        let whom = world.any();
        // What a clock said counts for some seconds: two that were wrong then are two at a time.
        let last = world.hour_wrong.filter(|(f, _)| *f != whom);
        if last.is_some_and(|(_, until)| world.now < until + COUNTS_FOR) {
            return Ok(());
        }
        let by = if world.rng.random_bool(0.5) {
            HOUR
        } else {
            -HOUR
        };
        world.filers[whom].jump(by);
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        for (f, filer) in world.filers.iter_mut().enumerate() {
            let by = match filer.wrong_by() {
                by if by > FAR => -HOUR,
                by if by < -FAR => HOUR,
                _ => continue,
            };
            filer.jump(by);
            world.hour_wrong = Some((f, world.now));
        }
    }
}
