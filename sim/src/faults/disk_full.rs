// SPDX-License-Identifier: Apache-2.0
//! A disk that others fill for a while: seen coming by the room that is left, or all at once.

use dulse_journal::Space;
use rand::Rng;

use super::Fault;
use crate::SECOND;
use crate::queue::Event;
use crate::world::World;

pub(crate) struct DiskFull;

/// The disk as the filer sees it, in bytes.
const TOTAL: u64 = 1 << 30;

impl Fault for DiskFull {
    fn name(&self) -> &'static str {
        "disk full"
    }

    fn weight(&self) -> u32 {
        6
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        let is_sudden = world.rng.random_bool(0.5);
        let filer = &mut world.filers[whom];
        filer.is_disk_full = true;
        filer.disk.set_full(is_sudden);
        filer.disk.set_space(Some(Space {
            total_bytes: TOTAL,
            free_bytes: 0,
        }));
        let delay = world.rng.random_range(0..8 * SECOND);
        world.at(delay, Event::DiskFreed(whom));
        Ok(())
    }

    fn heal(&self, world: &mut World) {
        for filer in &mut world.filers {
            filer.free_disk();
        }
    }
}
