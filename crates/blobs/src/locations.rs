// SPDX-License-Identifier: Apache-2.0
//! Where volumes are: a cache that lookups, assignments and the master's stream feed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::control::Location;

/// How long a looked up answer is believed when no stream keeps it fresh.
const LOCATIONS_AGE_MAX: Duration = Duration::from_secs(600);

/// Most volumes remembered; a cluster of this size holds 30 PB at 30 GB each.
const VOLUMES_MAX: usize = 1_000_000;

/// The copies of each known volume.
#[derive(Default)]
pub struct Locations {
    volumes: RwLock<HashMap<u32, Known>>,
}

struct Known {
    copies: Arc<[Location]>,
    since: Instant,
}

impl Locations {
    /// The copies of a volume, if they are known and the answer is not too old.
    #[must_use]
    pub fn find(&self, volume_id: u32) -> Option<Arc<[Location]>> {
        let volumes = self.volumes.read();
        let known = volumes.get(&volume_id)?;
        (known.since.elapsed() < LOCATIONS_AGE_MAX).then(|| known.copies.clone())
    }

    /// Replaces what is known of a volume; no copies forgets it.
    pub fn set(&self, volume_id: u32, copies: &[Location]) {
        if copies.is_empty() {
            return self.forget(volume_id);
        }
        if self.is_current(volume_id, copies) {
            return;
        }
        let mut volumes = self.volumes.write();
        if volumes.len() >= VOLUMES_MAX {
            volumes.clear();
        }
        let known = Known {
            copies: copies.into(),
            since: Instant::now(),
        };
        volumes.insert(volume_id, known);
    }

    /// Adds a copy, as the master's stream announces it.
    ///
    /// Only volumes that are known already are changed: one announced copy does
    /// not say that it is the only one, and a lookup asks for all.
    pub fn add(&self, volume_id: u32, copy: Location) {
        let mut volumes = self.volumes.write();
        if let Some(known) = volumes.get_mut(&volume_id) {
            let others = known.copies.iter().filter(|c| c.url != copy.url).cloned();
            let mut copies: Vec<_> = others.collect();
            copies.push(copy);
            known.copies = copies.into();
        }
    }

    /// Removes the copy at `url`.
    pub fn remove(&self, volume_id: u32, url: &str) {
        let mut volumes = self.volumes.write();
        let Some(known) = volumes.get_mut(&volume_id) else {
            return;
        };
        let left = known.copies.iter().filter(|c| c.url != url).cloned();
        known.copies = left.collect::<Vec<_>>().into();
        if known.copies.is_empty() {
            volumes.remove(&volume_id);
        }
    }

    /// Forgets a volume, so that the next reader asks a master.
    pub fn forget(&self, volume_id: u32) {
        self.volumes.write().remove(&volume_id);
    }

    /// Whether exactly this is known and still young, so that no write lock is needed.
    fn is_current(&self, volume_id: u32, copies: &[Location]) -> bool {
        let volumes = self.volumes.read();
        volumes
            .get(&volume_id)
            .is_some_and(|k| *k.copies == *copies && k.since.elapsed() < LOCATIONS_AGE_MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Location {
        Location {
            url: url.to_owned(),
            public_url: url.to_owned(),
            grpc_port: 0,
            data_center: String::new(),
        }
    }

    #[test]
    fn a_stream_changes_only_what_is_known() {
        let locations = Locations::default();
        locations.add(1, at("a:1"));
        assert!(locations.find(1).is_none());
        locations.set(1, &[at("a:1")]);
        locations.add(1, at("b:1"));
        assert_eq!(locations.find(1).unwrap().len(), 2);
        locations.remove(1, "a:1");
        assert_eq!(*locations.find(1).unwrap(), [at("b:1")]);
        locations.remove(1, "b:1");
        assert!(locations.find(1).is_none());
    }
}
