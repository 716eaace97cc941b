// SPDX-License-Identifier: Apache-2.0
//! Links that lose messages. Under a connection that means: it stands still, and neither
//! side hears of it but by time.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Loss;

impl Fault for Loss {
    fn name(&self) -> &'static str {
        "lossy link"
    }

    fn weight(&self) -> u32 {
        8
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let (a, b) = (world.any(), world.any());
        world.net.loss[a][b] = world.rng.random_range(0.0..0.1);
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        world.net.heal();
    }
}
