// SPDX-License-Identifier: Apache-2.0
//! Directories that a trusted peer has as they were: its rows replace what differs.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_merge::keys::{Space, join_path};
use dulse_merge::repair::Tie;
use dulse_replica::{Foreign, ImportRow, Repair, Replacement, Restored, name_of};

use super::{Directory, Round, STEP_ROWS};

impl Round<'_, '_> {
    /// Makes what differs in these directories what the peer has there.
    pub(super) fn replace(&mut self, dirs: &[&Directory]) -> Result<(), String> {
        let mut step = Repair::default();
        for dir in dirs {
            match dir.space() {
                Some(space) => self.restore(dir, space, &mut step)?,
                None => self.replace_names(dir, &mut step)?,
            }
        }
        match step == Repair::default() {
            true => Ok(()),
            false => self.take_in(step),
        }
    }

    fn replace_names(&mut self, dir: &Directory, step: &mut Repair) -> Result<(), String> {
        // Of each name, whether the peer had it when it was compared.
        let mut there: BTreeMap<Bytes, bool> = BTreeMap::new();
        for difference in &dir.differing {
            let key = &difference.key;
            let name = key.slice(..name_of(key).len());
            *there.entry(name).or_default() |= difference.theirs.is_some();
        }
        let names: Vec<Bytes> = there.keys().cloned().collect();
        for names in names.chunks(STEP_ROWS) {
            let seen = self.seen_at(dir, names)?;
            let found = self.fetch_rows(&dir.name, names)?;
            for ((name, (path, seen)), rows) in names.iter().zip(seen).zip(found) {
                let (rows, beside): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_name);
                // ⚠ What the peer had and lacks by now went by a change, which comes by itself:
                // without its grave it must not go here.
                if rows.is_empty() && there.get(name) == Some(&true) {
                    self.report.repaired.n_left += 1;
                    self.report.repaired.left.insert(dir.name.clone());
                    continue;
                }
                step.replaced.push(Replacement {
                    dir: dir.name.clone(),
                    path,
                    seen,
                    rows,
                });
                step.merged.extend(beside.into_iter().map(|row| Foreign {
                    dir: dir.name.clone(),
                    row,
                    tie: Tie::Ours,
                    paths: Vec::new(),
                }));
            }
            self.take_in_full(step)?;
        }
        Ok(())
    }

    /// What lies at these names here.
    fn seen_at(&self, dir: &Directory, names: &[Bytes]) -> Result<Vec<(Bytes, u128)>, String> {
        let census = self.census()?;
        let seen = names.iter().map(|name| {
            let path: Bytes = join_path(&dir.name, name).into();
            let print = census.print_of(&path).map_err(|e| e.to_string())?;
            Ok((path, print))
        });
        seen.collect()
    }

    /// The same for what is no name.
    fn restore(&mut self, dir: &Directory, space: Space, step: &mut Repair) -> Result<(), String> {
        let keys: Vec<Bytes> = dir.differing.iter().map(|d| d.key.clone()).collect();
        for keys in keys.chunks(STEP_ROWS) {
            let seen = self.seen_of(space, keys)?;
            let found = self.fetch_rows(&dir.name, keys)?;
            for ((whole, seen), rows) in seen.into_iter().zip(found) {
                let theirs = rows.into_iter().find(|(key, _)| *key == whole);
                let value = theirs.map(|(_, value)| value);
                // Whether an inode counts hangs on its names, which are repaired themselves.
                if value.is_none() && space == Space::Inodes {
                    continue;
                }
                step.restored.push(Restored {
                    dir: dir.name.clone(),
                    key: whole,
                    seen,
                    value,
                });
            }
            self.take_in_full(step)?;
        }
        Ok(())
    }

    /// The whole keys, and what lies there here.
    fn seen_of(&self, space: Space, keys: &[Bytes]) -> Result<Vec<(Bytes, Option<Bytes>)>, String> {
        let census = self.census()?;
        let seen = keys.iter().map(|key| {
            let key: Bytes = space.key(key).into();
            let value = census.row(&key).map_err(|e| e.to_string())?;
            Ok((key, value))
        });
        seen.collect()
    }
}

fn is_name((key, _): &ImportRow) -> bool {
    [Space::Entries, Space::Shadows]
        .iter()
        .any(|space| key.first() == Some(&(*space as u8)))
}
