// SPDX-License-Identifier: Apache-2.0
//! The suites that every engine passes, and the crashes they are put through.
//!
//! A case is a plain function; [`conformance!`] makes each a test of its own. An engine names
//! the suites it runs, in its `tests/conformance.rs`, so what it lacks is seen there:
//!
//! ```text
//! conformance! {
//!     open: RedbEngine::open,
//!     suites: [core, scans, batches, snapshots, concurrency, random, reopen, files, full_disk],
//!     crash: Recorded,
//! }
//! ```

mod case;
mod model;

pub mod batches;
pub mod concurrency;
pub mod core;
pub mod crash;
pub mod files;
pub mod full_disk;
pub mod random;
pub mod reopen;
pub mod scans;
pub mod snapshots;
pub mod speed;
pub mod watch;

pub use case::{Body, Case, Open, Suite, opener, run};

/// The `main` of an engine's conformance test.
///
/// - `open`: opens or creates a store in a directory that exists.
/// - `suites`: modules of this crate.
/// - `crash`: a [`crash::Rig`] that records what the engine does to its files.
#[macro_export]
macro_rules! conformance {
    (
        open: $open:expr,
        suites: [$($suite:ident),* $(,)?]
        $(, crash: $rig:expr)? $(,)?
    ) => {
        fn main() -> std::process::ExitCode {
            let open = $crate::opener($open);
            let mut trials = Vec::new();
            $(trials.extend($crate::$suite::SUITE.trials(&open));)*
            $(trials.extend($crate::crash::trials(&open, $rig));)?
            $crate::run(trials)
        }
    };
}
