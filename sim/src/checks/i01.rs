// SPDX-License-Identifier: Apache-2.0
//! I1: equal vectors ⇒ equal digests ⇒ equal trees. Design §13.

use dulse_merge::digest::{BUCKETS, Sum};
use dulse_replication::convert;

use super::{Check, Seen, i05};
use crate::filer::Running;
use crate::world::World;

pub(crate) struct Agreement;

impl Check for Agreement {
    fn name(&self) -> &'static str {
        "I1"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let (Seen::Turned(f), true) = (seen, world.options.is_careful)
            && let Some(running) = world.filers[*f].running.as_ref()
            && !running.shared().is_fresh()
        {
            recount(running).map_err(|why| format!("filer {f}: {why}"))?;
        }
        let Seen::Heard { filer, beat } = seen else {
            return Ok(());
        };
        let Some(running) = &world.filers[*filer].running else {
            return Ok(());
        };
        if running.core.is_gone() {
            return Ok(());
        }
        let (applied, sum) = running.shared().digest();
        let is_level = applied == convert::vector(&beat.applied);
        // Where two wrote under one origin, equal vectors say nothing yet.
        let is_level = is_level && world.parted.is_empty();
        if is_level && beat.digest[..] != sum.sum.to_be_bytes() {
            return Err(format!("equal vectors {applied}, unequal digests"));
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        let filers = world.filers.iter();
        let running: Vec<_> = filers.filter_map(|f| f.running.as_ref()).collect();
        let digests: Vec<_> = running.iter().map(|r| r.shared().digest()).collect();
        if digests.windows(2).any(|w| w[0] != w[1]) {
            return Err(format!("equal vectors, unequal digests: {digests:?}"));
        }
        for filer in &running {
            recount(filer)?;
        }
        let trees: Result<Vec<_>, String> = running.iter().map(|r| i05::tree(r)).collect();
        if trees?.windows(2).any(|w| w[0] != w[1]) {
            return Err("equal digests, unequal trees".to_owned());
        }
        Ok(())
    }
}

/// Each directory's digest is the sum of its rows.
fn recount(running: &Running) -> Result<(), String> {
    let shared = running.shared();
    let digests = shared.directory_digests(0, BUCKETS);
    for (_, dir, kept) in digests.map_err(|e| e.to_string())? {
        if dir.first() != Some(&b'/') {
            continue;
        }
        let mut counted = Sum::default();
        for (_, _, hash) in shared.directory_rows(&dir).map_err(|e| e.to_string())? {
            counted.add(hash);
        }
        if counted != kept {
            let dir = String::from_utf8_lossy(&dir);
            return Err(format!("the digest of {dir} is not that of its rows"));
        }
    }
    Ok(())
}
