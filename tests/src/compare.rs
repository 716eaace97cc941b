// SPDX-License-Identifier: Apache-2.0
//! The same black-box scenarios at Dulse and at upstream's program, judged from outside.
//!
//! Three filers under a master of their own system, driven over plain HTTP and gRPC; trees
//! are read back by listing and compared by code that knows neither system. What an answer
//! acknowledged must be there, and all filers must show the same.

mod client;
mod scenarios;
mod side;
mod tree;

pub use client::Client;
pub use scenarios::{Scenario, all};
pub use side::Side;
pub use tree::{Tree, difference, tree_of};

use std::time::Duration;

/// How long filers may take to agree after the last change. Upstream's flush their logs
/// each minute, and peers read them then.
pub const SETTLE_TIME_MAX: Duration = Duration::from_secs(75);

/// Pause between two looks at trees.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of one scenario at one system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether all that must hold held.
    pub passes: bool,
    /// What was seen, for the table.
    pub seen: String,
}

impl Outcome {
    /// It held.
    #[must_use]
    pub fn pass(seen: impl Into<String>) -> Self {
        Self {
            passes: true,
            seen: seen.into(),
        }
    }

    /// It did not.
    #[must_use]
    pub fn fail(seen: impl Into<String>) -> Self {
        Self {
            passes: false,
            seen: seen.into(),
        }
    }
}
