// SPDX-License-Identifier: Apache-2.0
//! A filer leaves its cluster; half of them for good, the others come back as new ones.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Leave;

impl Fault for Leave {
    fn name(&self) -> &'static str {
        "filer leaves"
    }

    fn weight(&self) -> u32 {
        6
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        let is_for_good = world.rng.random_bool(0.5);
        let runs = world.filers[whom].running.is_some();
        if runs && world.filers[whom].leaving.is_none() && world.may_act(whom, false) {
            world.leave(whom, is_for_good);
        }
        Ok(())
    }
}
