// SPDX-License-Identifier: Apache-2.0
//! What clients do: one file for each kind.

mod big;
mod files;
mod hot;
pub(crate) mod make;
mod manifests;
mod parts;
pub(crate) mod sessions;
pub(crate) mod trees;
mod ttl;

use dulse_store::{Commit, Error, Transaction};
use dulse_types::Origin;

use crate::world::World;

/// A kind of client.
pub(crate) trait Workload: Sync {
    /// How often it writes, relative to the others.
    fn weight(&self) -> u32;

    /// Some transactions that reach a filer together.
    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction>;
}

/// Every workload. New ones go to the end: a seed throws dice for each in this order.
pub(crate) const ALL: &[&dyn Workload] = &[
    &hot::Hot,
    &files::Files,
    &trees::Trees,
    &sessions::Sessions,
    &ttl::Ttl,
    &big::Big,
    &parts::Parts,
    &manifests::Manifests,
];

/// What clients remember.
#[derive(Default)]
pub(crate) struct Clients {
    /// What one has read and will write to.
    opened: Option<files::Opened>,
    /// The same of one that knows manifests.
    opened_whole: Option<files::Opened>,
    /// Files that one client each writes.
    pub(crate) private: Vec<sessions::Private>,
}

impl Clients {
    /// What came of a group of transactions at the filer of this origin.
    pub(crate) fn answered(
        &mut self,
        origin: Origin,
        group: &[Transaction],
        results: &[Result<Commit, Error>],
    ) {
        for (transaction, result) in group.iter().zip(results) {
            sessions::answered(&mut self.private, origin, transaction, result);
        }
    }
}
