// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask power`: filers on a disk that loses its power, again and again.

use anyhow::{Result, bail};

use crate::debian;
use crate::run::{cargo, run};

/// Builds the program and has each test cut the power so many times.
///
/// # Errors
///
/// What was promised and does not hold, or that nothing can be mounted here.
pub(crate) fn power(rounds: usize, seed: Option<u64>) -> Result<()> {
    if let Some(why) = debian::lacks_fuse_inside() {
        bail!("the disk of these tests cannot be mounted here: {why}");
    }
    run(&mut cargo(&["build", "--profile", "ci", "-p", "dulse-cli"]))?;
    let arguments = [
        "test",
        "--profile",
        "ci",
        "-p",
        "dulse-tests",
        "--test",
        "power",
    ];
    let mut command = cargo(&arguments);
    command.env("DULSE_POWER_ROUNDS", rounds.to_string());
    if let Some(seed) = seed {
        command.env("DULSE_POWER_SEED", seed.to_string());
    }
    run(&mut command)
}
