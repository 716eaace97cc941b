// SPDX-License-Identifier: Apache-2.0
//! An empty machine in place of one that is lost for good.

use super::Fault;
use crate::checks::is_gone;
use crate::world::World;

pub(crate) struct Wipe;

impl Fault for Wipe {
    fn name(&self) -> &'static str {
        "machine replaced"
    }

    fn weight(&self) -> u32 {
        5
    }

    /// Only while another has all it had, or what it alone had would be lost by the
    /// operator's hand and not ours.
    fn strike(&self, world: &mut World) -> Result<(), String> {
        let whom = world.any();
        if !is_spare(world, whom) {
            return Ok(());
        }
        world.lose(whom)
    }
}

/// Whether another has on disk all that this filer has.
pub(super) fn is_spare(world: &World, whom: usize) -> bool {
    let Some(running) = &world.filers[whom].running else {
        return false;
    };
    let own = running.shared().vector();
    // A founder that was reported and lost before it began takes an operator's word.
    if own.is_empty() {
        return false;
    }
    let origin = running.origin();
    // Nor may one go while the last that has all is about to go with its disk.
    let staying = world.filers.iter().filter(|filer| filer.leaving.is_none());
    let mut others = staying.filter_map(|filer| filer.running.as_ref());
    // What one holds that is a member no more counts for nothing, nor does a copy.
    others.any(|other| {
        let is_member = other.origin() != origin && !is_gone(world, other.origin());
        is_member && other.shared().durable_vector().includes(&own)
    })
}
