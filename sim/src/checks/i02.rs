// SPDX-License-Identifier: Apache-2.0
//! I2: an acknowledged write survives kill -9 and, with fsync, power loss. Design §13.
//!
//! At its own filer after every restart; at rest at every filer, the machine lost or not:
//! machines are only replaced while another has all they had.

use std::collections::BTreeMap;

use dulse_types::{Origin, Stamp};

use super::{Check, Seen};
use crate::world::World;

/// The last stamp of each origin that a client was told of.
#[derive(Default)]
pub(crate) struct Durability(BTreeMap<Origin, Stamp>);

impl Check for Durability {
    fn name(&self) -> &'static str {
        "I2"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed {
                filer,
                group,
                results,
            } => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                if group.len() != results.len() {
                    return Err("a transaction was not answered".to_owned());
                }
                if let Some(commit) = results.iter().flatten().last() {
                    self.0.insert(running.origin(), commit.stamp);
                }
            }
            Seen::Started(filer) => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                let origin = running.origin();
                let have = running.shared().vector().get(origin);
                // A backup was put back: by the operator's hand.
                if world.filers[*filer].was_restored {
                    return Ok(());
                }
                if let Some(told) = self.0.get(&origin).filter(|told| have < **told) {
                    return Err(format!("acknowledged up to {told}, after a crash {have}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        for (f, filer) in world.filers.iter().enumerate() {
            let Some(running) = &filer.running else {
                continue;
            };
            let vector = running.shared().vector();
            // What only one that was shut out had is made anew under its next origin.
            let gone = &running.membership()?.gone;
            for (origin, told) in &self.0 {
                let have = vector.get(*origin);
                if have < *told && !gone.iter().any(|gone| gone.origin == *origin) {
                    return Err(format!(
                        "{origin} acknowledged up to {told}, filer {f} has {have}"
                    ));
                }
            }
        }
        Ok(())
    }
}
