// SPDX-License-Identifier: Apache-2.0
//! Filers in virtual time: partitions, crashes, freezes, moves, wiped machines.
//!
//! The real `merge`, `journal`, `replica`, `cluster` and the core of `replication` run on
//! one thread with virtual clocks, memory disks, the memory engine and a simulated network.
//! All follows from the seed; a failing one prints the command that replays it. `FAULTS.md`
//! says what is simulated, what is not, and how a fault, a workload or a checker is added.
//!
//! A thread per filer under a scheduler that is controlled (as turmoil or loom do) was the
//! alternative: it runs the drivers too, and hundreds of seeds where this runs thousands.

mod alarms;
mod checks;
mod client;
mod expiry;
mod faults;
mod filer;
mod freed;
mod leaving;
mod life;
mod master;
mod membership;
mod net;
mod operators;
mod queue;
mod restored;
#[cfg(test)]
mod scenarios;
mod serve;
mod shape;
mod subscribers;
mod trace;
mod trees;
mod volumes;
mod workload;
mod world;

pub use operators::Operators;
pub use shape::{FILERS_MAX, Shape};
pub use world::{Counts, Options, Report, run};

/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000 * MS;
