// SPDX-License-Identifier: Apache-2.0
//! What clients do: one file for each kind.

mod hot;
pub(crate) mod make;

use dulse_store::Transaction;

use crate::world::World;

/// A kind of client.
pub(crate) trait Workload: Sync {
    /// How often it writes, relative to the others.
    fn weight(&self) -> u32;

    /// Some transactions that reach a filer together.
    fn group(&self, world: &mut World, filer: usize) -> Vec<Transaction>;
}

/// Every workload. New ones go to the end: a seed throws dice for each in this order.
pub(crate) const ALL: &[&dyn Workload] = &[&hot::Hot];
