// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask compare`: the same black-box scenarios at both systems.

use anyhow::{Result, bail};

use crate::run::{cargo, run};
use crate::{cache, fetch};

/// Builds the program, runs the scenarios at both, and writes `docs/comparison.md`; with
/// `only` it prints the table.
///
/// # Errors
///
/// When Dulse fails one, or upstream's program cannot be had.
pub(crate) fn compare(seed: u64, only: Option<&str>) -> Result<()> {
    fetch::setup()?;
    if let Some(why) = fetch::lacks_weed() {
        bail!("{why}");
    }
    run(&mut cargo(&["build", "--profile", "ci", "-p", "dulse-cli"]))?;
    let mut command = cargo(&[
        "run",
        "--profile",
        "ci",
        "-q",
        "-p",
        "dulse-tests",
        "--bin",
        "compare",
        "--",
    ]);
    command.args(["--seed", &seed.to_string()]);
    match only {
        Some(only) => command.args(["--only", only]),
        None => command
            .arg("--out")
            .arg(cache::root().join("docs/comparison.md")),
    };
    run(&mut command)
}
