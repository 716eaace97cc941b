// SPDX-License-Identifier: Apache-2.0
//! An empty machine in place of one that is lost for good.

use super::Fault;
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
        let Some(running) = &world.filers[whom].running else {
            return Ok(());
        };
        let own = running.shared().vector();
        // A founder that was reported and lost before it began takes an operator's word.
        if own.is_empty() {
            return Ok(());
        }
        let others = world.filers.iter().enumerate().filter(|(f, _)| *f != whom);
        let mut held = others.filter_map(|(_, filer)| filer.running.as_ref());
        if !held.any(|other| other.shared().durable_vector().includes(&own)) {
            return Ok(());
        }
        world.lose(whom)
    }
}
