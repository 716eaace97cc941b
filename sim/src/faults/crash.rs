// SPDX-License-Identifier: Apache-2.0
//! kill -9 and power loss in one.

use super::Fault;
use crate::world::World;

pub(crate) struct Crash;

impl Fault for Crash {
    fn name(&self) -> &'static str {
        "crash"
    }

    fn weight(&self) -> u32 {
        25
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        world.kill(whom)
    }
}
