// SPDX-License-Identifier: Apache-2.0
//! Trees moved and removed as a whole, in parts where a filer's limit is small.

use dulse_store::{Transaction, TreeChange, TreeWork};
use rand::Rng;

use super::Workload;
use super::make::any_path;
use crate::world::World;

/// Where the other workloads' trees are, and one that only these moves make.
const DIRS: [&str; 8] = [
    "/t",
    "/u",
    "/v",
    "/t/p",
    "/big",
    "/big2",
    "/t/big",
    "/moved/here",
];

pub(crate) struct Parts;

impl Workload for Parts {
    fn weight(&self) -> u32 {
        3
    }

    fn group(&self, world: &mut World, _filer: usize) -> Vec<Transaction> {
        let path = any_path(&DIRS, &mut world.rng);
        let work = if world.rng.random_bool(0.6) {
            let to = any_path(&DIRS, &mut world.rng);
            TreeWork::Move { to }
        } else {
            TreeWork::Delete {
                delete_chunks: true,
            }
        };
        world.tree_asked = Some(TreeChange {
            before: Transaction::default(),
            path,
            work,
        });
        Vec::new()
    }
}
