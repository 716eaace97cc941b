// SPDX-License-Identifier: Apache-2.0
//! A directory with many entries: filled at once, moved as a whole, removed as a whole.

use dulse_store::{Step, Transaction};
use rand::Rng;

use super::Workload;
use super::make::{any_path, file, one, path};
use super::trees::remove_all;
use crate::world::World;

const DIRS: [&str; 3] = ["/big", "/big2", "/t/big"];

/// Entries created at once: a rename of them fills a segment of the log.
const AT_ONCE: usize = 40;

pub(crate) struct Big;

impl Workload for Big {
    fn weight(&self) -> u32 {
        2
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        let at = any_path(&DIRS, &mut world.rng);
        match world.rng.random_range(0..4) {
            0..=1 => {
                let first = world.rng.random_range(0..60);
                let steps = (first..first + AT_ONCE).map(|n| Step::Create {
                    path: path(&format!("{at}/{n}")),
                    entry: file(&mut world.rng),
                });
                // One that is there already takes back all: some by themselves.
                let steps: Vec<Step> = steps.collect();
                steps.into_iter().map(one).collect()
            }
            2 => vec![one(Step::Rename {
                from: at,
                to: any_path(&DIRS, &mut world.rng),
            })],
            _ => remove_all(world, filer, &at),
        }
    }
}
