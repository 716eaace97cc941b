// SPDX-License-Identifier: Apache-2.0
//! Builds the copy once, with all mutants in it.
//!
//! One call of cargo builds everything, and always for the packages of all mutants: which
//! features a dependency has follows from the packages that are built together, so a call for
//! each would build most crates once for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::list::{Killer, Mutant};
use crate::cache::cache;
use crate::rocksdb;

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
pub(super) fn program(killer: &Killer) -> (String, String) {
    (killer.package.clone(), killer.target.clone())
}

/// Builds the test binaries that `chosen` of all mutants need.
///
/// # Errors
///
/// When a mutant does not compile: then the list is wrong.
pub(crate) fn build(tree: &Path, all: &[Mutant], chosen: &[&Mutant]) -> Result<Built> {
    let packages = all
        .iter()
        .flat_map(|m| &m.killers)
        .map(|killer| &*killer.package);
    let killers = chosen.iter().flat_map(|m| &m.killers);
    let programs: BTreeSet<(String, String)> = killers.map(program).collect();
    let mut arguments: Vec<String> = ["test", "--no-run", "--profile", "ci"]
        .map(str::to_owned)
        .into();
    let packages = packages.collect::<BTreeSet<&str>>();
    for package in &packages {
        arguments.extend(["-p".to_owned(), format!("dulse-{package}")]);
    }
    if packages.contains("engine-rocksdb") {
        rocksdb::setup()?;
        let feature = "dulse-engine-rocksdb/rocksdb";
        arguments.extend(["--features", feature].map(str::to_owned));
    }
    // Their tests run against them.
    if packages.contains("store-postgres") {
        crate::postgres::setup()?;
    }
    if packages.contains("store-mysql") {
        crate::mysql::setup()?;
    }
    let targets = programs.iter().map(|(_, target)| target.as_str());
    for target in targets.collect::<BTreeSet<&str>>() {
        arguments.extend(match target {
            "lib" => vec!["--lib".to_owned()],
            target => vec!["--test".to_owned(), target.to_owned()],
        });
    }
    println!("building {} programs with tests", programs.len());
    let binaries = cargo(tree, &arguments)?;
    if let Some((package, target)) = programs.iter().find(|p| !binaries.contains_key(p)) {
        bail!("cargo named no program of {package} {target}");
    }
    Ok(Built { binaries })
}

/// Runs cargo, and returns the programs it named by package and target.
fn cargo(tree: &Path, arguments: &[String]) -> Result<BTreeMap<(String, String), PathBuf>> {
    let mut cargo = rocksdb::cargo(&[]);
    cargo
        .args(arguments)
        .args(["--message-format", "json-render-diagnostics", "-q"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", cache().join("mutate/target"))
        .stderr(Stdio::piped());
    let output = cargo.output().context("start cargo")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = said.split("\n\n").filter(|e| e.contains("error")).collect();
        bail!("the copy does not build:\n{}", errors.join("\n\n"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(executable).collect())
}

/// The program that a message of cargo names.
fn executable(line: &str) -> Option<((String, String), PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = message["executable"].as_str()?;
    let id = message["package_id"].as_str()?;
    let package = id.rsplit("#dulse-").next()?.split('@').next()?;
    let target = &message["target"];
    let name = match target["kind"][0].as_str()? {
        "test" => target["name"].as_str()?,
        kind => kind,
    };
    Some(((package.to_owned(), name.to_owned()), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_package_and_target() {
        let line = |kind: &str, name: &str| {
            format!(
                "{{\"package_id\": \"path+file:///dulse-x/crates/merge#dulse-merge@0.1.0\", \
                 \"executable\": \"/there\", \"target\": {{\"kind\": [\"{kind}\"], \
                 \"name\": \"{name}\"}}}}"
            )
        };
        let key = |line: &str| executable(line).map(|(key, _)| key);
        let is = |target: &str| Some(("merge".to_owned(), target.to_owned()));
        assert_eq!(key(&line("test", "model")), is("model"));
        assert_eq!(key(&line("lib", "dulse_merge")), is("lib"));
        assert_eq!(key("{\"reason\": \"build-finished\"}"), None);
    }
}
