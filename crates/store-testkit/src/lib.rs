// SPDX-License-Identifier: Apache-2.0
//! The suites that every entry store passes, embedded or shared.
//!
//! A case is a plain function of a store; [`trials`] makes each a test of its own. All stores run
//! all of them: there is one list.

mod case;
mod make;
mod model;

pub mod concurrency;
pub mod core;
pub mod kv;
pub mod listing;
pub mod million;
pub mod random;
pub mod reopen;
pub mod sizes;
pub mod transactions;
pub mod trees;

use std::sync::Arc;

use libtest_mimic::Trial;

pub use case::{Body, Case, Open, Suite, opener, run};
pub use make::{commit, directory, entry, file, path};

/// Every suite but [`million`], which takes a minute or more: a store with several layouts of the
/// same kind runs it in one.
pub const SUITES: &[Suite] = &[
    core::SUITE,
    listing::SUITE,
    transactions::SUITE,
    trees::SUITE,
    sizes::SUITE,
    kv::SUITE,
    concurrency::SUITE,
    reopen::SUITE,
    random::SUITE,
];

/// The tests of [`SUITES`].
///
/// - `open`: opens or creates the store that belongs to a directory, which exists; opening the
///   same directory again finds what was written.
/// - `lacks`, `prefix`: as [`Suite::trials`].
pub fn trials(open: &Arc<Open>, lacks: Option<&str>, prefix: &str) -> Vec<Trial> {
    let of = |suite: &Suite| suite.trials(open, lacks, prefix);
    SUITES.iter().flat_map(of).collect()
}
