// SPDX-License-Identifier: Apache-2.0
//! I9: nothing is skipped silently. Design §13.
//!
//! Every change of a peer decodes and is merged in its order; a hole is asked for again.

use dulse_replication::core::Outcome;

use super::{Check, Seen};
use crate::world::World;

pub(crate) struct NothingSkipped;

impl Check for NothingSkipped {
    fn name(&self) -> &'static str {
        "I9"
    }

    fn saw(&mut self, _world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Applied {
                outcome: Outcome::Stuck(why) | Outcome::Cut(why),
                ..
            } => Err(format!("a change could not be applied: {why}")),
            _ => Ok(()),
        }
    }
}
