// SPDX-License-Identifier: Apache-2.0
//! The tests of all crates but the black-box ones, two programs at a time.
//!
//! What puts a store through faults mostly waits: for servers to start, for answers that do not
//! come. It runs beside everything else. More at once was considered; two fill the processors.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::run::{cargo, output, run};

/// The tests that mostly wait.
const FAULTS: &[&str] = &["sharing", "sharing_cluster", "secured"];

/// What every call of cargo is about: with the same packages they have the same features, so
/// nothing is built twice.
const OF_ALL: &[&str] = &[
    "test",
    "--profile",
    "ci",
    "--workspace",
    "--exclude",
    "dulse-tests",
];

/// Builds and runs them. What runs beside prints when it has ended.
///
/// # Errors
///
/// When a build or a test fails; both halves are told.
pub(crate) fn test() -> Result<()> {
    run(cargo(OF_ALL).arg("--no-run"))?;
    let metadata = output(&mut cargo(&[
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let others = others(&serde_json::from_str(&metadata)?);
    let mut beside = cargo(OF_ALL);
    beside.args(FAULTS.iter().flat_map(|name| ["--test", name]));
    let (rest, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(move || {
            println!("beside: tests/{}", FAULTS.join(", tests/"));
            beside.stdin(Stdio::null()).output()
        });
        let mut rest = cargo(OF_ALL);
        rest.args(["--lib", "--bins"]);
        rest.args(others.iter().flat_map(|name| ["--test", name]));
        let rest = run(&mut rest).and_then(|()| run(cargo(OF_ALL).arg("--doc")));
        (rest, beside.join())
    });
    let beside = beside.map_err(|_| anyhow!("who runs tests beside has panicked"))?;
    let beside = beside.context("start cargo")?;
    println!("\nbeside that: tests/{}", FAULTS.join(", tests/"));
    println!("{}", String::from_utf8_lossy(&beside.stdout));
    eprintln!("{}", String::from_utf8_lossy(&beside.stderr));
    if !beside.status.success() {
        let rest = rest.err().map(|e| format!(", and {e:#}"));
        bail!(
            "tests/{} failed: {}{}",
            FAULTS.join(", tests/"),
            beside.status,
            rest.unwrap_or_default()
        );
    }
    rest
}

/// Every other test program, by cargo's word: none is left out.
fn others(metadata: &Value) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages = packages.filter(|package| package["name"] != "dulse-tests");
    let targets = packages.flat_map(|p| p["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    tests
        .filter_map(|target| target["name"].as_str())
        .filter(|name| !FAULTS.contains(name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_program_but_those_beside_and_the_black_box_is_named() {
        let target = |kind: &str, name: &str| serde_json::json!({"kind": [kind], "name": name});
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "targets": [target("lib", "a"), target("test", "model")]},
            {"name": "b", "targets": [target("test", "sharing"), target("test", "model")]},
            {"name": "c", "targets": [target("bin", "c"), target("test", "crash")]},
            {"name": "dulse-tests", "targets": [target("test", "chaos")]},
        ]});
        let named: Vec<String> = others(&metadata).into_iter().collect();
        assert_eq!(named, ["crash", "model"]);
    }
}
