// SPDX-License-Identifier: Apache-2.0
//! An operator removes a member: mostly one that is down, now and then one that runs. It comes
//! back and makes anew what only it had.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Remove;

impl Fault for Remove {
    fn name(&self) -> &'static str {
        "member removed"
    }

    fn weight(&self) -> u32 {
        6
    }

    fn strike(&self, world: &mut World) -> Result<(), String> {
        let (by, whom) = (world.any(), world.any());
        let is_forced = world.rng.random_bool(0.3);
        if by == whom || !world.filers[by].is_ready() {
            return Ok(());
        }
        let of = world.filers[whom].running.as_ref();
        let Some(member) = of.map(|running| running.origin()) else {
            return Ok(());
        };
        let Some(running) = &world.filers[by].running else {
            return Ok(());
        };
        // A copy has the same origin.
        let members = running.membership()?;
        let is_member = members.members.iter().any(|(origin, _)| *origin == member);
        if !is_member || running.origin() == member {
            return Ok(());
        }
        if !world.may_act(whom, false) {
            return Ok(());
        }
        if !is_forced {
            world.kill(whom)?;
        }
        world.shut_out(by, member, true)
    }
}
