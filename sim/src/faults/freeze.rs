// SPDX-License-Identifier: Apache-2.0
//! A process that stands still, for longer than any time-out.

use rand::Rng;

use super::Fault;
use crate::SECOND;
use crate::world::World;

pub(crate) struct Freeze;

impl Fault for Freeze {
    fn name(&self) -> &'static str {
        "frozen process"
    }

    fn weight(&self) -> u32 {
        10
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        let until = world.now + world.rng.random_range(0..15 * SECOND);
        let filer = &mut world.filers[whom];
        filer.frozen_for += until.saturating_sub(filer.frozen_until.max(world.now));
        filer.frozen_until = until;
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        for filer in &mut world.filers {
            filer.frozen_until = 0;
        }
    }
}
