// SPDX-License-Identifier: Apache-2.0
//! A copy of a filer's store, of now or of some time ago, is started as another filer while
//! the original goes on.

use rand::Rng;

use super::Fault;
use crate::world::World;

pub(crate) struct Clone;

impl Fault for Clone {
    fn name(&self) -> &'static str {
        "copied store"
    }

    fn weight(&self) -> u32 {
        5
    }

    /// In the place of a filer that is no more, or has not begun.
    fn strike(&self, world: &mut World) -> Result<(), String> {
        let (of, whom) = (world.any(), world.any());
        if of == whom || !world.filers[of].is_ready() {
            return Ok(());
        }
        let old = world.filers[of].backup.clone();
        let is_old = world.rng.random_bool(0.5);
        let copy = old.filter(|_| is_old).or_else(|| world.filers[of].copy());
        let Some(copy) = copy else {
            return Ok(());
        };
        let has_begun = world.filers[whom].life > 0;
        if has_begun && !super::wipe::is_spare(world, whom) {
            return Ok(());
        }
        if !world.may_act(whom, true) {
            return Ok(());
        }
        if has_begun {
            world.lose(whom)?;
        }
        world.say(|| format!("a copy of filer {of} is put at filer {whom}"));
        world.put_back(whom, &copy)
    }
}
