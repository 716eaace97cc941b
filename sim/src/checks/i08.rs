// SPDX-License-Identifier: Apache-2.0
//! I8: each subscriber sees each change exactly once per cursor. Design §13.
//!
//! Its ground: what subscribers were told to be complete stays complete; nothing comes at
//! or below a watermark that was told.

use dulse_merge::Change;
use dulse_replica::Applied;

use super::{Check, Seen};
use crate::world::World;

pub(crate) struct Watermark;

impl Check for Watermark {
    fn name(&self) -> &'static str {
        "I8"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let mark_of = |f: usize| world.filers[f].running.as_ref().map(|r| r.watermark);
        match seen {
            Seen::Committed { filer, results, .. } => {
                let Some(mark) = mark_of(*filer) else {
                    return Ok(());
                };
                let mut stamps = results.iter().flatten().map(|commit| commit.stamp);
                if let Some(stamp) = stamps.find(|stamp| *stamp <= mark) {
                    return Err(format!("own change at {stamp} below the watermark {mark}"));
                }
            }
            Seen::Applied {
                filer,
                changes,
                results,
                ..
            } => {
                let Some(mark) = mark_of(*filer) else {
                    return Ok(());
                };
                for (payload, result) in changes.iter().zip(*results) {
                    if *result != Applied::Now {
                        continue;
                    }
                    let change = Change::decode(payload).map_err(|e| e.to_string())?;
                    if change.stamp <= mark {
                        let (stamp, origin) = (change.stamp, change.origin);
                        return Err(format!(
                            "a change of {origin} at {stamp} arrived below the watermark {mark}"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
