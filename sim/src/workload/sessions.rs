// SPDX-License-Identifier: Apache-2.0
//! Clients that know what they wrote: files that only one of them touches, each write with
//! the token that its answer brought. The checkers of I3, I4 and I10 look for them.

use dulse_store::{Commit, Error, Outcome, Step, Transaction};
use dulse_types::{FullPath, Origin, Stamp};
use rand::Rng;

use super::Workload;
use super::make::{number_of, numbered, one, path};
use crate::world::World;

/// Files of one world, at most: every one is looked for again and again.
const FILES_MAX: usize = 60;

pub(crate) struct Sessions;

/// A file that one client writes.
pub(crate) struct Private {
    pub(crate) path: FullPath,
    /// Of every acknowledged write: who took it, its stamp, and what it left: a number, or
    /// nothing.
    pub(crate) writes: Vec<(Origin, Stamp, Option<u32>)>,
    /// Whether a write is not known to have failed or not.
    pub(crate) is_unknown: bool,
}

impl Workload for Sessions {
    fn weight(&self) -> u32 {
        8
    }

    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction> {
        let n = world.clients.private.len();
        if n < FILES_MAX && (n == 0 || world.rng.random_bool(0.4)) {
            let path = path(&format!("/s/{n}"));
            world.clients.private.push(Private {
                path: path.clone(),
                writes: Vec::new(),
                is_unknown: false,
            });
            let entry = numbered(1, &mut world.rng);
            return vec![one(Step::Create { path, entry })];
        }
        let which = world.rng.random_range(0..n);
        let private = &world.clients.private[which];
        let Some((origin, stamp, Some(number))) = private.writes.last().copied() else {
            return Vec::new();
        };
        // The token: a filer that has not applied the own write waits, here it is not asked.
        let running = world.filers[filer].running.as_ref();
        if private.is_unknown || running.is_none_or(|r| r.shared().vector().get(origin) < stamp) {
            return Vec::new();
        }
        let path = private.path.clone();
        vec![one(if world.rng.random_bool(0.15) {
            Step::Delete {
                path,
                delete_chunks: true,
            }
        } else {
            Step::Update {
                path,
                entry: numbered(number + 1, &mut world.rng),
                delete_chunks: true,
            }
        })]
    }
}

/// Notes what a client was told.
pub(super) fn answered(
    all: &mut [Private],
    origin: Origin,
    transaction: &Transaction,
    result: &Result<Commit, Error>,
) {
    let (path, number) = match transaction.steps.first() {
        Some(Step::Create { path, entry } | Step::Update { path, entry, .. }) => {
            (path, Some(number_of(entry)))
        }
        Some(Step::Delete { path, .. }) => (path, None),
        _ => return,
    };
    let Some(private) = all.iter_mut().find(|private| private.path == *path) else {
        return;
    };
    match result {
        Ok(commit) => private.writes.push((origin, commit.stamp, number)),
        Err(error) => private.is_unknown |= error.outcome() == Outcome::Unknown,
    }
}
