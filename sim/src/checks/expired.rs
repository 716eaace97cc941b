// SPDX-License-Identifier: Apache-2.0
//! What has expired is removed by one filer, for all. Design §3, "Path view".

use super::{Check, Seen, i05};
use crate::world::World;

/// Whether a machine was lost: what it is to remove waits until it is no member any more.
#[derive(Default)]
pub(crate) struct Expired {
    is_any_lost: bool,
}

impl Check for Expired {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn saw(&mut self, _world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.is_any_lost |= matches!(seen, Seen::Lost(_));
        Ok(())
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let filers = world.filers.iter();
        let earliest = filers
            .clone()
            .map(|filer| filer.now_ns())
            .min()
            .unwrap_or(0);
        let long_ago_s = earliest / 1_000_000_000 - 8;
        let mut running = filers.filter_map(|filer| filer.running.as_ref());
        let (false, Some(running)) = (self.is_any_lost, running.next()) else {
            return Ok(());
        };
        for (path, entry) in i05::tree(running)? {
            if entry.is_expired(long_ago_s) {
                return Err(format!("{path} has expired and is still there"));
            }
        }
        Ok(())
    }
}
