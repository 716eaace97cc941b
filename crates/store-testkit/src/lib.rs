// SPDX-License-Identifier: Apache-2.0
//! The suites that every entry store passes, embedded or shared.
//!
//! A case is a plain function of a store; [`conformance!`] makes each a test of its own. A store
//! names the suites it runs, in its `tests/conformance.rs`, so what it lacks is seen there:
//!
//! ```text
//! conformance! {
//!     open: open,
//!     suites: [core, listing, transactions, trees, sizes, kv, concurrency, reopen, random, million],
//! }
//! ```

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

pub use case::{Body, Case, Open, Suite, opener, run};
pub use make::{commit, directory, entry, file, path};

/// The `main` of a store's conformance test.
///
/// - `open`: opens or creates the store that belongs to a directory, which exists; opening the
///   same directory again finds what was written.
/// - `suites`: modules of this crate.
#[macro_export]
macro_rules! conformance {
    (open: $open:expr, suites: [$($suite:ident),* $(,)?] $(,)?) => {
        fn main() -> std::process::ExitCode {
            let open = $crate::opener($open);
            let mut trials = Vec::new();
            $(trials.extend($crate::$suite::SUITE.trials(&open, None, ""));)*
            $crate::run(trials)
        }
    };
}
