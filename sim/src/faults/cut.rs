// SPDX-License-Identifier: Apache-2.0
//! Links that carry nothing, one way or both; what is under way arrives after healing.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Cut;

impl Fault for Cut {
    fn name(&self) -> &'static str {
        "cut link"
    }

    fn weight(&self) -> u32 {
        25
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let (a, b) = (world.any(), world.any());
        world.net.is_cut[a][b] = a != b;
        if world.rng.random_bool(0.5) {
            world.net.is_cut[b][a] = a != b;
        }
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        world.net.heal();
    }
}
