// SPDX-License-Identifier: Apache-2.0
//! Measurements: release builds of our program and of the benchmark, upstream's beside.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{cache, debian, fetch, rocksdb};

/// Arguments with which less is measured than the page says, or for another page.
const ENGINES_PARTS: &[&str] = &["--entries", "--engine", "--out"];
const STORES_PARTS: &[&str] = &["--store", "--quick", "--out"];

/// Builds what is measured and runs the benchmark with these arguments. What `stores` measures
/// goes to docs/stores.md where it is all of them.
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
    if arguments.first().is_some_and(|a| a == "stores") && is_whole(arguments, STORES_PARTS) {
        command
            .arg("--out")
            .arg(cache::root().join("docs/stores.md"));
    }
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
    if is_whole(arguments, ENGINES_PARTS) {
        command
            .arg("--out")
            .arg(cache::root().join("docs/engines.md"));
    }
    run(&mut command)
}

/// Whether none of the arguments is one of these.
fn is_whole(arguments: &[String], parts: &[&str]) -> bool {
    let is_part = |argument: &String| parts.iter().any(|part| argument.starts_with(part));
    !arguments.iter().any(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_only_of_the_whole() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for whole in ["stores", "stores --seconds 9 --beside nothing"] {
            assert!(is_whole(&words(whole), STORES_PARTS), "{whole}");
        }
        for part in [
            "stores --store etcd",
            "stores --store=etcd",
            "stores --quick",
            "stores --out page.md",
        ] {
            assert!(!is_whole(&words(part), STORES_PARTS), "{part}");
        }
        assert!(!is_whole(&words("engines --engine redb"), ENGINES_PARTS));
    }
}
