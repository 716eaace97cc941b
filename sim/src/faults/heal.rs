// SPDX-License-Identifier: Apache-2.0
//! The network is well again for a while.

use super::Fault;
use crate::world::World;

pub(crate) struct Heal;

impl Fault for Heal {
    fn name(&self) -> &'static str {
        "links heal"
    }

    fn weight(&self) -> u32 {
        20
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        world.net.heal();
        Ok(())
    }
}
