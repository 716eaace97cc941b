// SPDX-License-Identifier: Apache-2.0
//! Directories where nobody is trusted: both copies are merged by their versions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::keys::join_path;
use dulse_replica::{Foreign, Repair, identity_of, name_of};
use dulse_types::Identity;

use super::{Difference, Directory, Round, STEP_ROWS};

/// Where names lie, here and there.
pub(super) type Places = BTreeMap<Identity, Vec<Bytes>>;

impl Round<'_, '_> {
    /// Merges what differs in directories where nobody is trusted.
    pub(super) fn merge(&mut self, dirs: &[&Directory]) -> Result<(), String> {
        let places = self.places(dirs)?;
        // Rows of ours that do not decode give way to what a peer that is whole has there.
        let whole = dirs.iter().filter(|dir| dir.is_peer_whole());
        let damaged: Vec<Directory> = whole.filter_map(|dir| dir.damaged()).collect();
        let damaged: Vec<&Directory> = damaged.iter().collect();
        self.replace(&damaged)?;
        let mut step = Vec::new();
        for dir in dirs {
            for difference in &dir.differing {
                step.push((*dir, difference));
                if step.len() >= STEP_ROWS {
                    self.merge_step(&step, &places)?;
                    step.clear();
                }
            }
        }
        self.merge_step(&step, &places)
    }

    /// Where the names lie that one side lacks in its directory.
    fn places(&self, dirs: &[&Directory]) -> Result<Places, String> {
        let mut ambiguous = BTreeSet::new();
        let mut places = Places::new();
        for dir in dirs.iter().filter(|dir| dir.space().is_none()) {
            for difference in dir.differing.iter().filter(|d| d.is_ambiguous()) {
                if let Some(name) = identity_of(&difference.key) {
                    let path = join_path(&dir.name, name_of(&difference.key));
                    places.entry(name).or_default().push(path.into());
                    ambiguous.insert(name);
                }
            }
        }
        // ⚠ A name has one path: what is taken in here must not lie elsewhere here.
        if !ambiguous.is_empty() {
            let here = self.census()?.places_of(&ambiguous);
            for (name, paths) in here.map_err(|e| e.to_string())? {
                let known = places.entry(name).or_default();
                known.extend(paths);
                known.sort();
                known.dedup();
            }
        }
        Ok(places)
    }

    fn merge_step(
        &mut self,
        step: &[(&Directory, &Difference)],
        places: &Places,
    ) -> Result<(), String> {
        let is_taken = |(dir, d): &(&Directory, &Difference)| {
            !(dir.is_only_peer_damaged() && d.ours.is_none())
        };
        let step: Vec<_> = step.iter().copied().filter(is_taken).collect();
        let mut merged = Vec::new();
        for of_one in step.chunk_by(|a, b| a.0.name == b.0.name) {
            let dir = of_one[0].0;
            let there = of_one.iter().filter(|(_, d)| d.theirs.is_some());
            let keys: Vec<Bytes> = there.map(|(_, d)| d.key.clone()).collect();
            for (key, rows) in keys.iter().zip(self.fetch_rows(&dir.name, &keys)?) {
                let of = identity_of(key).filter(|_| dir.space().is_none());
                let rows = rows.into_iter();
                merged.extend(rows.map(|row| foreign(dir, row, of, places)));
            }
        }
        let ambiguous = step.into_iter().filter(|(_, d)| d.is_ambiguous());
        let ambiguous: Vec<_> = ambiguous.collect();
        let told = self.ask_all(&ambiguous, places)?;
        merged.extend(
            told.into_iter()
                .map(|told| foreign(told.dir, told.row, told.name, places)),
        );
        if merged.is_empty() {
            return Ok(());
        }
        self.take_in(Repair {
            merged,
            ..Repair::default()
        })
    }
}

fn foreign(
    dir: &Directory,
    row: dulse_replica::ImportRow,
    name: Option<Identity>,
    places: &Places,
) -> Foreign {
    let paths = name.and_then(|name| places.get(&name));
    Foreign {
        dir: dir.name.clone(),
        row,
        tie: dir.tie(),
        paths: paths.cloned().unwrap_or_default(),
    }
}
