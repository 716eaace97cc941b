// SPDX-License-Identifier: Apache-2.0
//! I5: every live name has directory ancestors and is listed where it is reachable. Design §13.

use std::collections::BTreeMap;

use dulse_store::ListRange;
use dulse_types::{Entry, FullPath};

use super::Check;
use crate::filer::Running;
use crate::world::World;

pub(crate) struct Tree;

impl Check for Tree {
    fn name(&self) -> &'static str {
        "I5"
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        let running = world.filers.iter().filter_map(|f| f.running.as_ref());
        for running in running {
            tree(running)?;
        }
        Ok(())
    }
}

/// The tree as clients see it, from the root down; what is listed is found alike.
pub(crate) fn tree(running: &Running) -> Result<BTreeMap<String, Entry>, String> {
    let shared = running.shared();
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: dulse_store::LIST_MAX,
        };
        let rows = shared.list(&dir, &range).map_err(|e| e.to_string())?;
        for row in rows {
            let path = FullPath::of(dir.as_str(), &row.name).map_err(|e| e.to_string())?;
            let found = shared.find(&path).map_err(|e| e.to_string())?;
            if found.map(|f| f.entry) != Some(row.entry.clone()) {
                return Err(format!("{path} is listed but not found alike"));
            }
            if row.entry.is_dir() {
                open.push(path.clone());
            }
            out.insert(path.to_string(), row.entry);
        }
    }
    Ok(out)
}
