// SPDX-License-Identifier: Apache-2.0
//! Never two writers under one origin, and a lost one never writes again. Design §5,
//! "Clones and rollbacks".
//!
//! A copy that cannot reach its original is not noticed before it can: two may write while the
//! link between them is cut, lossy, or one of them stands still, and for a while after that.

use std::collections::{BTreeMap, BTreeSet};

use dulse_types::Origin;

use super::{Check, Seen};
use crate::SECOND;
use crate::world::World;

/// How long two filers that reach each other may need to notice that they are one: as long as
/// a connection that stands still is waited for, and then some for a new one.
const NOTICED_WITHIN: u64 = 20 * SECOND;

/// Who is lost, and when two filers were last known not to reach each other.
#[derive(Default)]
pub(crate) struct OneWriter {
    lost: BTreeSet<Origin>,
    apart: BTreeMap<(usize, usize), u64>,
}

impl Check for OneWriter {
    fn name(&self) -> &'static str {
        "one writer"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        self.look(world);
        match seen {
            // A copy of its store may go on elsewhere.
            Seen::Lost(origin) if world.filers.iter().all(|f| f.origin != Some(*origin)) => {
                self.lost.insert(*origin);
            }
            Seen::Restored(origin) => {
                self.lost.remove(origin);
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
                if let Some((twin, _)) = twins.next()
                    && !self.is_unnoticed(world, (*filer).min(twin), (*filer).max(twin))
                {
                    return Err(format!("filers {filer} and {twin} both write as {origin}"));
                }
                if self.lost.contains(&origin) {
                    return Err(format!("{origin} is lost and writes at filer {filer}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl OneWriter {
    /// Notes which filers do not reach each other now. Worlds without copies are not looked at.
    fn look(&mut self, world: &World) {
        if world.counts.restored == 0 {
            return;
        }
        let n_filers = world.filers.len();
        let is_away = |f: usize| {
            let filer = &world.filers[f];
            filer.running.is_none() || filer.frozen_until > world.now
        };
        for a in 0..n_filers {
            for b in a + 1..n_filers {
                let net = &world.net;
                let is_cut = net.is_cut[a][b] || net.is_cut[b][a];
                let is_lossy = net.loss[a][b] + net.loss[b][a] > 0.0;
                if is_cut || is_lossy || is_away(a) || is_away(b) {
                    self.apart.insert((a, b), world.now);
                }
            }
        }
    }

    fn is_unnoticed(&self, world: &World, a: usize, b: usize) -> bool {
        let last = self.apart.get(&(a, b));
        last.is_some_and(|at| world.now - at < NOTICED_WITHIN)
    }
}
