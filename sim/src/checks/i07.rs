// SPDX-License-Identifier: Apache-2.0
//! I7: no live entry at any filer refers to a freed chunk. Design §13.
//!
//! Its ground: what a filer holds for stable is on disk at every member that has begun.

use super::{Check, Seen};
use crate::world::World;

pub(crate) struct Stability;

impl Check for Stability {
    fn name(&self) -> &'static str {
        "I7"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned(f) = seen else {
            return Ok(());
        };
        let Some(running) = &world.filers[*f].running else {
            return Ok(());
        };
        let stable = running.stable()?;
        let gone = &running.membership()?.gone;
        for (n, other) in world.filers.iter().enumerate() {
            let Some(running) = &other.running else {
                continue;
            };
            let shared = running.shared();
            // What one that was shut out has on disk counts for nothing.
            if gone.iter().any(|gone| gone.origin == shared.origin()) {
                continue;
            }
            if n != *f && !shared.is_fresh() && !shared.durable_vector().includes(&stable) {
                return Err(format!(
                    "filer {f} holds {stable} for stable, filer {n} has {} on disk",
                    shared.durable_vector()
                ));
            }
        }
        Ok(())
    }
}
