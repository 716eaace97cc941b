// SPDX-License-Identifier: Apache-2.0
//! Tree changes: what the driver's thread does with them between requests.

use dulse_replica::TreeBegun;
use dulse_store::{Commit, Transaction, TreeChange};
use dulse_types::Stamp;

use crate::checks::Seen;
use crate::world::World;

impl World {
    /// Asks a filer for a tree change; it is done at once or in parts.
    pub(crate) fn change_tree(&mut self, f: usize, change: TreeChange) -> Result<(), String> {
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let before = running.own_stamp();
        let begun = running.replica.begin_tree(change.clone());
        self.say(|| format!("filer {f} changes a tree {change:?}: {begun:?}"));
        // Refused, as any write may be, is fine.
        self.counts.trees_in_parts += u64::from(matches!(begun, Ok(TreeBegun::Open(_))));
        self.tree_changed(f, before)
    }

    /// One part, if any is due.
    pub(crate) fn step_tree(&mut self, f: usize) -> Result<(), String> {
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        running.replica.resume_trees();
        if !running.replica.has_tree_work() {
            return Ok(());
        }
        let before = running.own_stamp();
        let over = running.replica.step_tree();
        self.counts.tree_parts += 1;
        self.say(|| format!("filer {f} does a part of a tree change: {over:?}"));
        if let Some(Err(error)) = over.map(|over| over.result)
            && !self.filers[f].is_disk_full
        {
            return Err(format!("filer {f}: a tree change ended half way: {error}"));
        }
        self.tree_changed(f, before)
    }

    /// What is in the log is on disk, so it counts as acknowledged.
    fn tree_changed(&mut self, f: usize, before: Stamp) -> Result<(), String> {
        let running = self.filers[f].running.as_ref();
        let Some(running) = running.filter(|running| running.own_stamp() > before) else {
            return Ok(());
        };
        let (origin, stamp) = (running.origin(), running.own_stamp());
        self.wrote(f);
        self.counts.writes += 1;
        self.trace.note(&[stamp.0.cast_unsigned()]);
        let commit = Commit {
            origin,
            stamp,
            results: Vec::new(),
        };
        self.show(&Seen::Committed {
            filer: f,
            group: &[Transaction::default()],
            results: &[Ok(commit)],
        })
    }
}
