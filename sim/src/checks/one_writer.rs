// SPDX-License-Identifier: Apache-2.0
//! Never two writers under one origin, and a lost one never writes again. Design §5,
//! "Clones and rollbacks".

use std::collections::BTreeSet;

use dulse_types::Origin;

use super::{Check, Seen};
use crate::world::World;

/// Who is lost.
#[derive(Default)]
pub(crate) struct OneWriter(BTreeSet<Origin>);

impl Check for OneWriter {
    fn name(&self) -> &'static str {
        "one writer"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lost(origin) => {
                self.0.insert(*origin);
            }
            Seen::Committed { filer, results, .. } if results.iter().any(Result::is_ok) => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                let origin = running.origin();
                let others = world.filers.iter().enumerate().filter(|(f, _)| f != filer);
                let mut twins = others.filter(|(_, other)| {
                    other.is_ready() && other.running.as_ref().is_some_and(|r| r.origin() == origin)
                });
                if let Some((twin, _)) = twins.next() {
                    return Err(format!("filers {filer} and {twin} both write as {origin}"));
                }
                if self.0.contains(&origin) {
                    return Err(format!("{origin} is lost and writes at filer {filer}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
