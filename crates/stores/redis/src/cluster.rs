// SPDX-License-Identifier: Apache-2.0
//! Upstream's keys on the servers of a cluster.
//!
//! A key's slot says on which server it lies. An entry, its name in its directory and what tells
//! what became of a lost answer are keys; the last is put into the entry's slot, the name's cannot
//! be. So nothing here is a transaction of Redis: an entry is compared and written by one script,
//! its name by another one, and `names` keeps them together.

mod lanes;
mod lists;
mod names;
mod nodes;
mod scripts;
mod slots;
mod store;
mod write;

pub use store::{RedisCluster, open_cluster};
