// SPDX-License-Identifier: Apache-2.0
//! Measurements: release builds of our program and of the benchmark, upstream's beside.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{cache, debian, fetch, rocksdb};

/// Builds what is measured and runs the benchmark with these arguments.
///
/// # Errors
///
/// When a build or the benchmark fails.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|a| a == "engines") {
        return engines(arguments);
    }
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

/// Builds the benchmark with every engine and compares them; the table goes to docs/engines.md
/// where all are measured with as many entries as there.
fn engines(arguments: &[String]) -> Result<()> {
    debian::libraries()?;
    rocksdb::setup()?;
    let build = ["build", "--release", "-p", "dulse-bench"];
    run(rocksdb::cargo(&build).args(["--features", "rocksdb"]))?;
    let mut command = rocksdb::with_libraries(cache::released("dulse-bench"));
    command.args(arguments);
    let is_partial = arguments.iter().any(|a| {
        ["--entries", "--engine", "--out"]
            .iter()
            .any(|p| a.starts_with(p))
    });
    if !is_partial {
        command
            .arg("--out")
            .arg(cache::root().join("docs/engines.md"));
    }
    run(&mut command)
}
