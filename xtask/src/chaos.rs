// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask chaos`: workloads at real filers under random faults.

use anyhow::Result;

use crate::run::{cargo, run};

/// Builds the program and runs the workloads for so many minutes.
///
/// # Errors
///
/// What was promised and does not hold.
pub(crate) fn chaos(minutes: f64, seed: u64) -> Result<()> {
    run(&mut cargo(&["build", "--profile", "ci", "-p", "dulse-cli"]))?;
    let arguments = [
        "run",
        "--profile",
        "ci",
        "-q",
        "-p",
        "dulse-tests",
        "--bin",
        "chaos",
        "--",
    ];
    let mut command = cargo(&arguments);
    command.args([
        "--minutes",
        &minutes.to_string(),
        "--seed",
        &seed.to_string(),
    ]);
    run(&mut command)
}
