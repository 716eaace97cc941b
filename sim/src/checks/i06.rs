// SPDX-License-Identifier: Apache-2.0
//! I6: a name has one path. Design §13.

use std::collections::BTreeMap;

use dulse_merge::digest::BUCKETS;

use super::Check;
use crate::world::World;

pub(crate) struct OnePath;

impl Check for OnePath {
    fn name(&self) -> &'static str {
        "I6"
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        let running = world.filers.iter().filter_map(|f| f.running.as_ref());
        for shared in running.map(|running| running.shared()) {
            let mut places = BTreeMap::new();
            let digests = shared.directory_digests(0, BUCKETS);
            for (_, dir, _) in digests.map_err(|e| e.to_string())? {
                if dir.first() != Some(&b'/') {
                    continue;
                }
                let rows = shared.directory_rows(&dir).map_err(|e| e.to_string())?;
                for (name, identity, _) in rows {
                    let place = (dir.clone(), name);
                    if let Some(other) = places.insert(identity, place.clone()) {
                        return Err(format!("{identity:?} is at {other:?} and at {place:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}
