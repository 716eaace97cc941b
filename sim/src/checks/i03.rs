// SPDX-License-Identifier: Apache-2.0
//! I3: `vector[o] = s` ⇒ every change of o up to s is applied. Design §13.
//!
//! Looked at through files that one client writes: of the writes that a filer's vector
//! covers, the last one shows.

use super::{Check, Seen, is_gone};
use crate::MS;
use crate::filer::Running;
use crate::workload::make::number_of;
use crate::workload::sessions::Private;
use crate::world::World;

pub(crate) struct Applied;

impl Check for Applied {
    fn name(&self) -> &'static str {
        "I3"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned(f) = seen else {
            return Ok(());
        };
        each(world, *f, |running, private| {
            let Some(Some(number)) = expected(running, private) else {
                return Ok(());
            };
            let shown = shown(running, private)?;
            if shown == Some(number) || is_made_anew(world, private, number, shown) {
                return Ok(());
            }
            let path = &private.path;
            Err(format!(
                "filer {f} has applied write {number} of {path}, and shows {shown:?}"
            ))
        })
    }
}

/// Turns after which a file is looked at again at one filer.
const LOOK_EVERY: usize = 6;

/// Private files whose state is known, at a filer that serves.
pub(crate) fn each(
    world: &World,
    f: usize,
    mut look: impl FnMut(&Running, &Private) -> Result<(), String>,
) -> Result<(), String> {
    let filer = &world.filers[f];
    let Some(running) = filer.running.as_ref().filter(|_| filer.is_ready()) else {
        return Ok(());
    };
    // Each file at each filer every few turns: a look costs more than what is looked at.
    let turn = usize::try_from(world.now / (100 * MS)).unwrap_or(0);
    let private = world.clients.private.iter().enumerate();
    let due = private.filter(|(n, _)| (n + f + turn).is_multiple_of(LOOK_EVERY));
    let known = due.map(|(_, private)| private).filter(|p| !p.is_unknown);
    known
        .into_iter()
        .try_for_each(|private| look(running, private))
}

/// What must show: the number of the last write that is covered, `Some(None)` after its
/// delete; nothing is known while the birth is not covered.
pub(crate) fn expected(running: &Running, private: &Private) -> Option<Option<u32>> {
    let vector = running.shared().vector();
    let is_covered = |(origin, stamp, _): &&(_, _, _)| vector.get(*origin) >= *stamp;
    private.writes.first().filter(is_covered)?;
    let last = private.writes.iter().rev().find(is_covered);
    last.map(|(_, _, number)| *number)
}

/// Whether a later write shows that one made who was shut out: it comes again as a change of
/// its next origin, which its token does not know.
fn is_made_anew(world: &World, private: &Private, than: u32, shown: Option<u32>) -> bool {
    let later = private.writes.iter();
    let later = later.skip_while(|(_, _, number)| *number != Some(than));
    let mut same = later.skip(1).filter(|(_, _, number)| *number == shown);
    same.any(|(origin, _, _)| world.given_up.contains(origin) || is_gone(world, *origin))
}

/// What a reader is shown.
pub(crate) fn shown(running: &Running, private: &Private) -> Result<Option<u32>, String> {
    let found = running.shared().find(&private.path);
    let found = found.map_err(|e| e.to_string())?;
    Ok(found.map(|found| number_of(&found.entry)))
}
