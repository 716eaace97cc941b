// SPDX-License-Identifier: Apache-2.0
//! The master does not answer: lists neither change nor arrive, founding waits. It comes
//! back with what it stored: the members.

use super::Fault;
use crate::world::World;

pub(crate) struct Away;

impl Fault for Away {
    fn name(&self) -> &'static str {
        "master away or back"
    }

    fn weight(&self) -> u32 {
        7
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        world.master.is_up = !world.master.is_up;
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        world.master.is_up = true;
    }
}
