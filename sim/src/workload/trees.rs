// SPDX-License-Identifier: Apache-2.0
//! Directories that move into one another, fill meanwhile, and are removed with all that
//! is in them.

use dulse_store::{Expect, ListRange, Step, Transaction};
use dulse_types::FullPath;
use rand::Rng;

use super::Workload;
use super::make::{any_path, directory, file, one, path};
use crate::world::World;

const DIRS: [&str; 8] = ["/t", "/u", "/v", "/t/p", "/t/q", "/u/p", "/t/p/r", "/v/q"];

/// Entries that one transaction of a recursive delete removes.
const PART: usize = 4;

pub(crate) struct Trees;

impl Workload for Trees {
    fn weight(&self) -> u32 {
        8
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        let at = any_path(&DIRS, &mut world.rng);
        match world.rng.random_range(0..10) {
            0..=2 => vec![one(Step::Create {
                path: at,
                entry: directory(&mut world.rng),
            })],
            3..=5 => {
                let name = world.rng.random_range(0..4);
                let inside = path(&format!("{at}/n{name}"));
                vec![one(Step::Create {
                    path: inside,
                    entry: file(&mut world.rng),
                })]
            }
            6..=8 => vec![one(Step::Rename {
                from: at,
                to: any_path(&DIRS, &mut world.rng),
            })],
            _ => remove_all(world, filer, &at),
        }
    }
}

/// What a recursive delete does: parts, deepest first, each checked again.
pub(crate) fn remove_all(world: &World, f: usize, top: &FullPath) -> Vec<Transaction> {
    let Some(running) = &world.filers[f].running else {
        return Vec::new();
    };
    let shared = running.shared();
    let (mut open, mut found) = (vec![top.clone()], Vec::new());
    while let Some(at) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: dulse_store::LIST_MAX,
        };
        for row in shared.list(&at, &range).unwrap_or_default() {
            if let Ok(child) = FullPath::of(at.as_str(), &row.name) {
                open.push(child);
            }
        }
        found.push(at);
    }
    found.reverse();
    let parts = found.chunks(PART).map(|part| {
        let mut transaction = Transaction::default();
        for at in part {
            let Ok(Some(there)) = shared.find(at) else {
                continue;
            };
            if there.entry.is_dir() {
                transaction.expects.push(Expect::Directory(at.clone()));
            } else {
                transaction
                    .expects
                    .push(Expect::Same(at.clone(), there.token));
            }
            transaction.steps.push(Step::Delete {
                path: at.clone(),
                delete_chunks: true,
            });
        }
        transaction
    });
    parts.filter(|part| !part.steps.is_empty()).collect()
}
