// SPDX-License-Identifier: Apache-2.0
//! The tests of all crates but the black-box ones, two programs at a time.
//!
//! What puts a store through faults mostly waits: for servers to start, for answers that do not
//! come. Such programs run beside everything else. More at once was considered; two fill the
//! processors, and directories of a million among the others let both halves take about as long.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::run::{cargo, output, run};

/// The tests that mostly wait.
const FAULTS: &[&str] = &["sharing", "sharing_cluster", "secured"];

/// Builds and runs them. What runs beside prints when it has ended.
///
/// # Errors
///
/// When a build or a test fails; both halves are told.
pub(crate) fn test() -> Result<()> {
    let mut metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let programs = Programs::of(&serde_json::from_str(&output(&mut metadata)?)?);
    // With the same packages every call has the same features, so nothing is built twice.
    let of_all = |arguments: &[&str]| {
        let mut command = cargo(&["test", "--profile", "ci", "--workspace"]);
        let left_out = programs.elsewhere.iter();
        command.args(left_out.flat_map(|package| ["--exclude", package]));
        command.args(arguments);
        command
    };
    let named = |name: &'static str| ["--test", name];
    run(&mut of_all(&["--no-run"]))?;
    let mut beside = of_all(&FAULTS.iter().copied().flat_map(named).collect::<Vec<_>>());
    let told = format!("tests/{}", FAULTS.join(", tests/"));
    println!("beside all else: {told}");
    let (rest, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(move || beside.stdin(Stdio::null()).output());
        let mut rest = of_all(&["--lib", "--bins"]);
        rest.args(programs.others.iter().flat_map(|name| ["--test", name]));
        let rest = run(&mut rest).and_then(|()| run(&mut of_all(&["--doc"])));
        (rest, beside.join())
    });
    let beside = beside.map_err(|_| anyhow!("who runs tests beside has panicked"))?;
    let beside = beside.context("start cargo")?;
    println!("\nbeside that ran {told}:");
    println!("{}", String::from_utf8_lossy(&beside.stdout));
    eprintln!("{}", String::from_utf8_lossy(&beside.stderr));
    if !beside.status.success() {
        let rest = rest.err().map(|e| format!(", and {e:#}"));
        bail!(
            "{told} failed: {}{}",
            beside.status,
            rest.unwrap_or_default()
        );
    }
    rest
}

/// Test programs, by cargo's word: none is left out.
struct Programs {
    /// Names of those that are not [`FAULTS`].
    others: BTreeSet<String>,
    /// Packages whose tests are steps of their own: the black-box ones, and those that need a
    /// feature.
    elsewhere: BTreeSet<String>,
}

impl Programs {
    fn of(metadata: &Value) -> Self {
        let (mut others, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().unwrap_or_default();
            let targets = package["targets"].as_array().into_iter().flatten();
            let tests: Vec<&Value> = targets.filter(|t| t["kind"][0] == "test").collect();
            if name == "dulse-tests" || tests.iter().any(|t| needs_a_feature(t)) {
                elsewhere.insert(name.to_owned());
                continue;
            }
            let names = tests.iter().filter_map(|t| t["name"].as_str());
            let names = names.filter(|name| !FAULTS.contains(name));
            others.extend(names.map(str::to_owned));
        }
        Self { others, elsewhere }
    }
}

/// Cargo refuses to run one that is named and leaves it out otherwise.
fn needs_a_feature(target: &Value) -> bool {
    let features = target["required-features"].as_array();
    features.is_some_and(|features| !features.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_test_program_but_those_beside_and_elsewhere_is_named() {
        let target = |kind: &str, name: &str| serde_json::json!({"kind": [kind], "name": name});
        let mut with_feature = target("test", "model");
        with_feature["required-features"] = serde_json::json!(["f"]);
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "targets": [target("lib", "a"), target("test", "model")]},
            {"name": "b", "targets": [target("test", "sharing"), target("test", "model")]},
            {"name": "c", "targets": [target("bin", "c"), target("test", "crash")]},
            {"name": "d", "targets": [target("lib", "d"), with_feature]},
            {"name": "dulse-tests", "targets": [target("test", "chaos")]},
        ]});
        let programs = Programs::of(&metadata);
        assert_eq!(programs.others, set(&["crash", "model"]));
        assert_eq!(programs.elsewhere, set(&["d", "dulse-tests"]));
    }
}
