// SPDX-License-Identifier: Apache-2.0
//! The filers fall into two parts that do not hear each other.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Split;

impl Fault for Split {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn weight(&self) -> u32 {
        8
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let n_filers = world.filers.len();
        let sides: Vec<bool> = (0..n_filers).map(|_| world.rng.random_bool(0.5)).collect();
        for (a, side) in sides.iter().enumerate() {
            for (b, other) in sides.iter().enumerate() {
                world.net.is_cut[a][b] |= side != other;
            }
        }
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        world.net.heal();
    }
}
