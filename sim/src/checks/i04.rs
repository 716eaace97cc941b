// SPDX-License-Identifier: Apache-2.0
//! I4: once a delete is applied, nothing that it had seen shows again. Design §13.

use super::i03::{each, expected, shown};
use super::{Check, Seen};
use crate::world::World;

pub(crate) struct StaysDeleted;

impl Check for StaysDeleted {
    fn name(&self) -> &'static str {
        "I4"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned(f) = seen else {
            return Ok(());
        };
        each(world, *f, |running, private| {
            if expected(running, private) == Some(None)
                && let Some(number) = shown(running, private)?
            {
                let path = &private.path;
                return Err(format!(
                    "filer {f} has applied the delete of {path}, and shows write {number}"
                ));
            }
            Ok(())
        })
    }
}
