// SPDX-License-Identifier: Apache-2.0
//! An operator copies a filer's whole disk, and puts that back some time later: what was
//! written since is gone there.

use super::Fault;
use crate::world::World;

pub(crate) struct Restore;

impl Fault for Restore {
    fn name(&self) -> &'static str {
        "backup or restore"
    }

    fn weight(&self) -> u32 {
        8
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        use rand::Rng;
        let whom = world.any();
        let is_kept = world.rng.random_bool(0.3);
        let backup = world.filers[whom].backup.take();
        let Some(backup) = backup else {
            // What has not begun has nothing that is worth a copy.
            if world.filers[whom].is_ready() {
                world.filers[whom].backup = world.filers[whom].copy();
                world.say(|| format!("the disk of filer {whom} is copied"));
            }
            return Ok(());
        };
        if !world.may_act(whom, true) {
            world.filers[whom].backup = Some(backup);
            return Ok(());
        }
        if is_kept {
            world.filers[whom].backup = Some(backup.clone());
        }
        world.put_back(whom, &backup)
    }
}
