// SPDX-License-Identifier: Apache-2.0
//! I2: an acknowledged write survives kill -9 and, with fsync, power loss. Design §13.
//!
//! At its own filer after every restart; at rest at every filer, the machine lost or not.
//!
//! What a disk loses by an operator's hand (a machine replaced, an old copy put back) counts as
//! acknowledged no more where no other disk holds it at that moment: see `FAULTS.md`. Who
//! leaves takes nothing with it at all.

use std::collections::BTreeMap;

use dulse_types::{Origin, Stamp, Vector};

use super::{Check, Seen, is_gone};
use crate::world::World;

/// The last stamp of each origin that a client was told of.
#[derive(Default)]
pub(crate) struct Durability {
    told: BTreeMap<Origin, Stamp>,
    /// By each filer: a copied store has the same origin.
    told_by: BTreeMap<(usize, Origin), Stamp>,
}

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
                    self.told.insert(running.origin(), commit.stamp);
                    self.told_by
                        .insert((*filer, running.origin()), commit.stamp);
                }
            }
            Seen::Started(filer) => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                let origin = running.origin();
                let have = running.shared().vector().get(origin);
                // What was put back is behind until it has heard the others.
                if world.filers[*filer].was_restored.is_some() {
                    return Ok(());
                }
                if let Some(told) = self
                    .told_by
                    .get(&(*filer, origin))
                    .filter(|told| have < **told)
                {
                    return Err(format!("acknowledged up to {told}, after a crash {have}"));
                }
            }
            Seen::Lost(_) | Seen::Restored(_) => {
                let held = world.on_disks();
                for (origin, told) in &mut self.told {
                    *told = (*told).min(held.get(*origin));
                }
            }
            Seen::Left(filer) => {
                let others = world.filers.iter().enumerate().filter(|(f, _)| f != filer);
                let mut held = Vector::new();
                for (_, other) in others {
                    held.merge_max(&other.on_disk());
                }
                for (origin, told) in &self.told {
                    let have = held.get(*origin);
                    // Of those that are gone it comes again as changes of others.
                    if have < *told && !is_out(world, *origin) {
                        return Err(format!(
                            "{origin} acknowledged up to {told}, filer {filer} leaves and the \
                             others have {have}"
                        ));
                    }
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
            for (origin, told) in &self.told {
                let have = vector.get(*origin);
                if have < *told && !is_out(world, *origin) {
                    return Err(format!(
                        "{origin} acknowledged up to {told}, filer {f} has {have}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether what it had comes again as changes of another: of one that was shut out, or under
/// which two wrote.
fn is_out(world: &World, origin: Origin) -> bool {
    world.parted.contains(&origin) || world.given_up.contains(&origin) || is_gone(world, origin)
}
