// SPDX-License-Identifier: Apache-2.0
//! A volume server does not answer: its chunks cannot be freed, its manifests not be read.

use rand::Rng;

use super::Fault;
use crate::volumes::SERVERS;
use crate::world::World;

pub(crate) struct Away;

impl Fault for Away {
    fn name(&self) -> &'static str {
        "volume server away or back"
    }

    fn weight(&self) -> u32 {
        10
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let which = world.rng.random_range(0..SERVERS);
        let is_away = &mut world.volumes.is_away[which];
        *is_away = !*is_away;
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        world.volumes.is_away = [false; SERVERS];
    }
}
