// SPDX-License-Identifier: Apache-2.0
//! Entries whose time is over: hidden by readers, removed by one filer with an ordinary
//! change. The real hints and the real rule of whose turn it is.

use dulse_replica::removes_expired;
use dulse_store::{Expect, Step, Transaction};

use crate::world::World;

/// Hints followed at once.
const PART: usize = 20;

impl World {
    /// Follows the hints that are due, as a filer's sweep does.
    pub(crate) fn sweep(&mut self, f: usize) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        if !self.filers[f].is_ready() {
            return Ok(());
        }
        let shared = running.shared();
        let now_s = shared.now_ns() / 1_000_000_000;
        let due = shared.due(now_s, None, PART);
        let due = due.map_err(|e| format!("hints: {e}"))?;
        if due.is_empty() {
            return Ok(());
        }
        let live: Vec<_> = running
            .membership()?
            .members
            .iter()
            .map(|(origin, _)| *origin)
            .collect();
        let (mut stale, mut group) = (Vec::new(), Vec::new());
        for one in due {
            if one.is_stale {
                stale.push(one.hint);
                continue;
            }
            if !removes_expired(shared.origin(), one.judge, &live) {
                continue;
            }
            for path in one.paths {
                let Some(found) = shared.find(&path).map_err(|e| e.to_string())? else {
                    continue;
                };
                group.push(Transaction {
                    expects: vec![Expect::Same(path.clone(), found.token)],
                    steps: vec![Step::Delete {
                        path,
                        delete_chunks: true,
                    }],
                    ..Transaction::default()
                });
            }
        }
        if !group.is_empty() {
            self.counts.expired += group.len() as u64;
            self.commit(f, group)?;
        }
        if !stale.is_empty() {
            self.tolerate(f, |running| running.replica.hints_followed(&stale))?;
        }
        Ok(())
    }
}
