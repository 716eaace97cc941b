// SPDX-License-Identifier: Apache-2.0
//! Measurements: release builds of our program and of the benchmark, upstream's beside.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{cache, fetch};

/// Builds what is measured and runs the benchmark with these arguments.
///
/// # Errors
///
/// When a build or the benchmark fails.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    // What only talks to a filer that runs already needs no other program.
    if arguments.first().is_none_or(|a| a != "load") {
        fetch::setup()?;
    }
    // Both at once, so that their dependencies are built once, with the same features.
    let build = ["build", "--release", "-p", "dulse-bench", "-p", "dulse-cli"];
    run(&mut cargo(&build))?;
    let mut command = Command::new(cache::released("dulse-bench"));
    command.args(arguments);
    command.env("DULSE_BIN", cache::released("dulse"));
    if cache::weed().exists() {
        command.env("DULSE_WEED", cache::weed());
    }
    run(&mut command)
}
