// SPDX-License-Identifier: Apache-2.0
//! I9: nothing is skipped silently. Design §13.
//!
//! Every change of a peer decodes and is merged in its order; a hole is asked for again. Only
//! changes of one that is a member no more are refused.

use dulse_merge::Change;
use dulse_replication::core::Outcome;

use super::{Check, Seen};
use crate::world::World;

pub(crate) struct NothingSkipped;

impl Check for NothingSkipped {
    fn name(&self) -> &'static str {
        "I9"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if world.damaged.is_some() {
            return Ok(());
        }
        match seen {
            Seen::Applied {
                outcome: Outcome::Stuck(why),
                ..
            } => Err(format!("a change could not be applied: {why}")),
            Seen::Applied {
                filer,
                changes,
                outcome: Outcome::Cut(why),
                ..
            } => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                let gone = &running.membership()?.gone;
                let of = changes.first().map(|change| Change::decode(change));
                let of = of.transpose().map_err(|e| e.to_string())?;
                let of = of.map(|change| change.origin);
                match of {
                    Some(of) if gone.iter().any(|gone| gone.origin == of) => Ok(()),
                    _ => Err(format!("a member's change was refused: {why}")),
                }
            }
            _ => Ok(()),
        }
    }
}
