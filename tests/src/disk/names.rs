// SPDX-License-Identifier: Apache-2.0
//! Names in directories: as programs see them, and as a power loss leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// A name in a directory.
pub(super) type Name = (u64, OsString);

/// What a request did to names: all of it or nothing is on the disk.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// Its number.
    pub(super) request: u64,
    /// Names and what they lead to then.
    pub(super) names: Vec<(Name, Option<u64>)>,
}

impl Edit {
    fn touches(&self, names: &BTreeSet<Name>) -> bool {
        self.names.iter().any(|(name, _)| names.contains(name))
    }
}

/// All names.
#[derive(Clone, Default, Debug)]
pub(super) struct Names {
    /// What programs see.
    pub(super) now: BTreeMap<Name, u64>,
    /// What a power loss cannot take.
    pub(super) durable: BTreeMap<Name, u64>,
    /// What became of it since, in order.
    pub(super) pending: Vec<Edit>,
}

impl Names {
    /// Where a name leads.
    #[must_use]
    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Option<u64> {
        self.now.get(&(directory, name.to_owned())).copied()
    }

    /// Names in a directory.
    pub(super) fn list(&self, directory: u64) -> impl Iterator<Item = (&OsStr, u64)> {
        let from = (directory, OsString::new());
        let rows = self.now.range(from..(directory + 1, OsString::new()));
        rows.map(|((_, name), to)| (name.as_os_str(), *to))
    }

    /// Changes names.
    pub(super) fn edit(&mut self, request: u64, names: Vec<(Name, Option<u64>)>) {
        apply(&mut self.now, &names);
        self.pending.push(Edit { request, names });
    }

    /// Makes a directory durable: what was done in it up to a request, and what that rests on.
    pub(super) fn sync(&mut self, directory: u64, until: u64) {
        let mut needed = BTreeSet::new();
        let mut is_due = vec![false; self.pending.len()];
        for (at, edit) in self.pending.iter().enumerate().rev() {
            let is_here = edit.names.iter().any(|((dir, _), _)| *dir == directory);
            if edit.request <= until && (is_here || edit.touches(&needed)) {
                is_due[at] = true;
                needed.extend(edit.names.iter().map(|(name, _)| name.clone()));
            }
        }
        let mut at = 0;
        let durable = &mut self.durable;
        self.pending.retain(|edit| {
            at += 1;
            if is_due[at - 1] {
                apply(durable, &edit.names);
            }
            !is_due[at - 1]
        });
    }

    /// A power loss: of each name's history some beginning is left, as `keeps` has it for each
    /// edit in turn; renames are whole.
    pub(super) fn lose(&mut self, mut keeps: impl FnMut(&Edit) -> bool) {
        let mut lost = BTreeSet::new();
        for edit in std::mem::take(&mut self.pending) {
            if !edit.touches(&lost) && keeps(&edit) {
                apply(&mut self.durable, &edit.names);
            } else {
                lost.extend(edit.names.into_iter().map(|(name, _)| name));
            }
        }
        self.now = self.durable.clone();
    }

    /// Everything that some name leads to or may lead to.
    #[must_use]
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let pending = self.pending.iter().flat_map(|edit| &edit.names);
        let pending = pending.filter_map(|(_, to)| *to);
        let named = self.now.values().chain(self.durable.values()).copied();
        named.chain(pending).collect()
    }
}

fn apply(to: &mut BTreeMap<Name, u64>, names: &[(Name, Option<u64>)]) {
    for (name, target) in names {
        match target {
            Some(target) => to.insert(name.clone(), *target),
            None => to.remove(name),
        };
    }
}
