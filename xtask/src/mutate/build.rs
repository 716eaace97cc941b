// SPDX-License-Identifier: Apache-2.0
//! Builds the copy once, with all mutants in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::list::{Killer, Mutant};
use crate::cache::cache;

/// The built tests, by package and target.
pub(crate) struct Built {
    binaries: BTreeMap<(String, String), PathBuf>,
}

impl Built {
    /// The program that runs a killer's tests.
    ///
    /// # Errors
    ///
    /// When it was not built.
    pub(crate) fn binary(&self, killer: &Killer) -> Result<&Path> {
        let found = self.binaries.get(&program(killer));
        let found = found.with_context(|| format!("{killer} was not built"))?;
        Ok(found)
    }
}

/// The package and the target of a killer.
fn program(killer: &Killer) -> (String, String) {
    let target = match killer {
        Killer::Test { target, .. } => target.clone(),
        Killer::Sim(_) => "bin".to_owned(),
    };
    (killer.package().to_owned(), target)
}

/// Builds the test binaries that these mutants need.
///
/// # Errors
///
/// When a mutant does not compile: then the list is wrong.
pub(crate) fn build(tree: &Path, mutants: &[&Mutant]) -> Result<Built> {
    let killers = mutants.iter().flat_map(|m| &m.killers);
    let programs: BTreeSet<(String, String)> = killers.map(program).collect();
    let mut binaries = BTreeMap::new();
    for (package, target) in programs {
        let built = one(tree, &package, &target)?;
        binaries.insert((package, target), built);
    }
    Ok(Built { binaries })
}

fn one(tree: &Path, package: &str, target: &str) -> Result<PathBuf> {
    let name = format!("dulse-{package}");
    let mut arguments = match target {
        "bin" => vec!["build", "--profile", "ci", "-p", &name],
        _ => vec!["test", "--no-run", "--profile", "ci", "-p", &name],
    };
    match target {
        "bin" => {}
        "lib" => arguments.push("--lib"),
        target => arguments.extend(["--test", target]),
    }
    println!("building {package} {target}");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(&arguments)
        .args(["--message-format", "json-render-diagnostics", "-q"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", cache().join("mutate/target"))
        .stderr(Stdio::piped());
    let output = cargo.output().context("start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = said.split("\n\n").filter(|e| e.contains("error")).collect();
        bail!(
            "{package} {target} does not build:\n{}",
            errors.join("\n\n")
        );
    }
    let mut executables = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?.to_owned();
        let is_asked =
            message["target"]["kind"][0] == target || message["target"]["name"] == target;
        (target != "bin" || is_asked).then(|| PathBuf::from(path))
    });
    executables.next_back().context("cargo named no executable")
}
