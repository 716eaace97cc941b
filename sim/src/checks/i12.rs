// SPDX-License-Identifier: Apache-2.0
//! I12: each change is applied at most once per cluster in any sync topology. Design §13.
//!
//! There is no sync between clusters yet, so what is checked is its half within one
//! cluster: no process applies a change twice, and none applies its own as a peer's while
//! it has it.

use std::collections::BTreeMap;

use dulse_merge::Change;
use dulse_replica::Applied;
use dulse_types::{Origin, Stamp};

use super::{Check, Seen};
use crate::world::World;

/// The last change of each origin that a process applied.
#[derive(Default)]
pub(crate) struct AtMostOnce(BTreeMap<(usize, Origin), Stamp>);

impl Check for AtMostOnce {
    fn name(&self) -> &'static str {
        "I12"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Started(filer) => self.0.retain(|(f, _), _| f != filer),
            Seen::Applied {
                filer,
                changes,
                results,
                ..
            } => {
                for (payload, result) in changes.iter().zip(*results) {
                    if *result != Applied::Now {
                        continue;
                    }
                    let change = Change::decode(payload).map_err(|e| e.to_string())?;
                    let last = self.0.insert((*filer, change.origin), change.stamp);
                    let is_parted = world.parted.contains(&change.origin);
                    if last.is_some_and(|last| change.stamp <= last) && !is_parted {
                        let (stamp, origin) = (change.stamp, change.origin);
                        return Err(format!(
                            "filer {filer} applied the change of {origin} at {stamp} twice"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
