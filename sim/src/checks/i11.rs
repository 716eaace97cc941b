// SPDX-License-Identifier: Apache-2.0
//! I11: log, graves, queues and memory have budgets. Design §13.
//!
//! Queues all the time; log, graves and the like once everything has been stable for a
//! while: members whose machines are gone were removed before.

use dulse_merge::keys::Space;
use dulse_merge::txn::decode_name;

use super::{Check, Seen};
use crate::filer::SEGMENT_SIZE_BYTES;
use crate::serve::AHEAD;
use crate::world::World;

pub(crate) struct Budgets;

impl Check for Budgets {
    fn name(&self) -> &'static str {
        "I11"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Turned(_) = seen {
            let connections = world.net.connections.values();
            let longest = connections.map(|c| c.replies.len()).max();
            // A reset and an end may follow.
            if longest.is_some_and(|n| n > AHEAD + 2) {
                return Err(format!("{longest:?} messages wait on one connection"));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        for (f, filer) in world.filers.iter().enumerate() {
            let Some(running) = &filer.running else {
                continue;
            };
            for space in [Space::Graves, Space::Moved, Space::Partial, Space::KvGraves] {
                let rows = filer.rows(space)?;
                let Some((key, value)) = rows.first() else {
                    continue;
                };
                let row = decode_name(space, value, b"");
                return Err(format!(
                    "filer {f} keeps {} rows of {space:?} for ever, the first at {}: {row:?}, \
                     stable {}, {:?}",
                    rows.len(),
                    key.escape_ascii(),
                    running.stable()?,
                    running.membership()?
                ));
            }
            let log_bytes = running.shared().journal().size_bytes();
            if log_bytes > filer.log_budget_bytes + 2 * SEGMENT_SIZE_BYTES + largest_change(world) {
                return Err(format!("filer {f} keeps {log_bytes} bytes of log"));
            }
        }
        Ok(())
    }
}

/// A segment ends behind the record that fills it.
fn largest_change(world: &World) -> u64 {
    world.counts.largest_change
}
