// SPDX-License-Identifier: Apache-2.0
//! A wall clock jumps by less than what makes a filer refuse writes.

use rand::Rng;

use super::Fault;
use crate::MS;
use crate::world::World;

pub(crate) struct Clock;

/// The furthest jump either way.
const JUMP_MAX: i64 = 400 * MS as i64;

impl Fault for Clock {
    fn name(&self) -> &'static str {
        "clock jumps"
    }

    fn weight(&self) -> u32 {
        8
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        let by = world.rng.random_range(-JUMP_MAX..JUMP_MAX);
        world.filers[whom].jump(by);
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        // Jumps add up: who leads the others by too much takes no writes, expired files included.
        for filer in &mut world.filers {
            filer.jump(-filer.wrong_by());
        }
    }
}
