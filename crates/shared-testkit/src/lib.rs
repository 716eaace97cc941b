// SPDX-License-Identifier: Apache-2.0
//! What several filers on one shared store are put through: what each announces, lost answers, a
//! server that is killed.
//!
//! A store says how its server is reached ([`Server`]), runs [`cases`] and adds its own, each a
//! test with a server of its own ([`trial`], [`run`]).

mod authority;
mod cases;
mod cuts;
mod database;
mod faulty;
mod filers;
mod holding;
pub mod java;
mod place;
mod process;

pub use authority::Authority;
pub use cases::{Case, cases, cases_of_rows};
pub use cuts::Cuts;
pub use database::{Database, Place};
pub use filers::{Server, Shared, announced, as_store, create, one, shown, state, told};
pub use holding::{compared_entries_are_held, what_is_locked_is_not_told_as_gone};
pub use place::place;
pub use process::{Process, stands_still};

use libtest_mimic::{Arguments, Completion, Trial};

/// A case as a test. Without a server it is ignored with the reason, in CI failed.
///
/// - `start`: starts the server that is the case's own.
/// - `lacks`: why none can be started.
pub fn trial<S: Server>(
    name: String,
    case: fn(S),
    start: impl FnOnce() -> anyhow::Result<S> + Send + 'static,
    lacks: Option<String>,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(why) = lacks {
            if std::env::var_os("CI").is_some() {
                return Err(why.into());
            }
            return Ok(Completion::ignored_with(why));
        }
        case(start()?);
        Ok(Completion::Completed)
    })
}

/// Runs tests one by one: each has a server of its own.
#[must_use]
pub fn run(trials: Vec<Trial>) -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}
