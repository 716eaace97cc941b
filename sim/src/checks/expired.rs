// SPDX-License-Identifier: Apache-2.0
//! What has expired is removed by one filer, for all. Design §3, "Path view".

use super::{Check, i05};
use crate::world::World;

pub(crate) struct Expired;

impl Check for Expired {
    fn name(&self) -> &'static str {
        "expiry"
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
        let Some(running) = running.next() else {
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
