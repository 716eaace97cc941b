// SPDX-License-Identifier: Apache-2.0
//! I10: with a token, reads never go back behind the session's own writes. Design §13.
//!
//! A token is an origin and a stamp; a session has one for each filer that it wrote to. A
//! filer whose vector covers them all answers at once.

use super::i03::{each, shown};
use super::{Check, Seen};
use crate::world::World;

pub(crate) struct ReadYourWrites;

impl Check for ReadYourWrites {
    fn name(&self) -> &'static str {
        "I10"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned(f) = seen else {
            return Ok(());
        };
        each(world, *f, |running, private| {
            let Some((_, _, number)) = private.writes.last() else {
                return Ok(());
            };
            let vector = running.shared().vector();
            let mut tokens = private.writes.iter();
            if tokens.any(|(origin, stamp, _)| vector.get(*origin) < *stamp) {
                return Ok(());
            }
            let shown = shown(running, private)?;
            // A write of others is below it: its client had seen all of them.
            if shown != *number {
                let path = &private.path;
                return Err(format!(
                    "a client wrote {number:?} to {path}, its token is covered by filer {f},                      which shows {shown:?}"
                ));
            }
            Ok(())
        })
    }
}
