// SPDX-License-Identifier: Apache-2.0
//! Builds the copy once, and runs its tests with one mutant at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::list::{Killer, Mutant, directory};
use super::weave::VARIABLE;
use crate::cache::cache;

/// A test that runs longer counts as failed: what a mutant broke may never end.
const TIME_MAX: Duration = Duration::from_secs(600);

/// How often a running test is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The built tests, by package and target.
pub(crate) struct Built {
    binaries: BTreeMap<(String, String), PathBuf>,
}

/// What came of one test.
pub(crate) enum Verdict {
    /// So many tests passed.
    Passed,
    /// It failed, as it should with a mutant.
    Failed,
    /// It did not end in time.
    Hung,
}

impl Verdict {
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::Passed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "it passed",
            Self::Failed => "it failed",
            Self::Hung => "it did not end",
        })
    }
}

/// Builds the test binaries that these mutants need.
///
/// # Errors
///
/// When a mutant does not compile: then the list is wrong.
pub(crate) fn build(tree: &Path, mutants: &[&Mutant]) -> Result<Built> {
    let mut targets = BTreeSet::new();
    let mut needs_sim = false;
    for killer in mutants.iter().flat_map(|m| &m.killers) {
        match killer {
            Killer::Test {
                package, target, ..
            } => drop(targets.insert((package.clone(), target.clone()))),
            Killer::Sim(_) => needs_sim = true,
        }
    }
    let mut binaries = BTreeMap::new();
    for (package, target) in targets {
        let built = one(tree, &package, &target)?;
        binaries.insert((package, target), built);
    }
    if needs_sim {
        let sim = ("sim".to_owned(), "bin".to_owned());
        binaries.insert(sim, one(tree, "sim", "bin")?);
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

impl Built {
    /// What kills a mutant; `None` when it survives.
    ///
    /// # Errors
    ///
    /// When a test cannot be started.
    pub(crate) fn kill(&self, mutant: &Mutant) -> Result<Option<String>> {
        for killer in &mutant.killers {
            let verdict = self.run(killer, Some(&mutant.name))?;
            if verdict.is_failure() {
                let how = match verdict {
                    Verdict::Hung => " (it did not end)",
                    _ => "",
                };
                return Ok(Some(format!("killed by {killer}{how}")));
            }
        }
        Ok(None)
    }

    /// Runs one test, with a mutant or none.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or no test has this name.
    pub(crate) fn run(&self, killer: &Killer, mutant: Option<&str>) -> Result<Verdict> {
        let (package, target) = match killer {
            Killer::Test {
                package, target, ..
            } => (package.as_str(), target.as_str()),
            Killer::Sim(_) => ("sim", "bin"),
        };
        let key = (package.to_owned(), target.to_owned());
        let binary = self
            .binaries
            .get(&key)
            .context("a test that was not built")?;
        let mut command = Command::new(binary);
        match killer {
            Killer::Test { filter, .. } if filter == "*" => &mut command,
            Killer::Test { filter, .. } => command.arg(filter),
            Killer::Sim(seeds) => command.args(["--seeds", &seeds.to_string()]),
        };
        // What is printed goes to a file: a full pipe would stop the test.
        let log = cache().join("mutate/last.log");
        let out = std::fs::File::create(&log)?;
        command
            .current_dir(directory(package))
            .env("RUST_BACKTRACE", "0")
            .stdout(out.try_clone()?)
            .stderr(out);
        match mutant {
            Some(name) => command.env(VARIABLE, name),
            None => command.env_remove(VARIABLE),
        };
        let mut child = command.spawn().with_context(|| format!("start {killer}"))?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > TIME_MAX {
                child.kill()?;
                child.wait()?;
                return Ok(Verdict::Hung);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if matches!(killer, Killer::Test { .. }) && said.contains("running 0 tests") {
            bail!("{killer}: no test has this name");
        }
        if mutant.is_none() && !status.success() {
            println!("{said}");
        }
        Ok(match status.success() {
            true => Verdict::Passed,
            false => Verdict::Failed,
        })
    }
}
