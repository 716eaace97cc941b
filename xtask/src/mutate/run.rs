// SPDX-License-Identifier: Apache-2.0
//! Runs built tests with one mutant at a time, or none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build::Built;
use super::list::{Killer, Mutant, directory};
use super::weave::VARIABLE;
use crate::cache::cache;

/// A test that runs longer shows nothing: what a mutant broke may never end, and so may a test
/// whose machine has too much to do.
const TIME_MAX: Duration = Duration::from_secs(600);

/// How often a running test is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of what a failed test said is shown.
const REASON_CHARS: usize = 160;

/// What came of one test.
pub(crate) enum Verdict {
    /// It passed.
    Passed,
    /// It failed, as it should with a mutant; why.
    Failed(String),
    /// It did not end in time.
    Hung,
    /// It ended by itself, and neither passed nor said why.
    Lost(ExitStatus),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("it passed"),
            Self::Failed(why) => write!(f, "it failed: {why}"),
            Self::Hung => write!(f, "it did not end within {} s", TIME_MAX.as_secs()),
            Self::Lost(status) => write!(f, "it ended with {status}, and no test said why"),
        }
    }
}

/// What became of one mutant.
pub(crate) struct Fate<'a> {
    pub(crate) mutant: &'a Mutant,
    /// What killed it and how; `None` when it survived.
    pub(crate) killed_by: Option<(&'a Killer, String)>,
    /// Killers that ended without showing anything.
    pub(crate) doubts: Vec<String>,
    pub(crate) took: Duration,
}

/// Lets the killers of a mutant have their try, one after the other until one succeeds.
///
/// Only a test that fails and says why has noticed anything: one that hangs or dies has
/// not, and counts as none.
///
/// # Errors
///
/// When a test cannot be started.
pub(crate) fn kill<'a>(built: &Built, mutant: &'a Mutant) -> Result<Fate<'a>> {
    let began = Instant::now();
    let mut doubts = Vec::new();
    let mut killed_by = None;
    for killer in &mutant.killers {
        match run(built, killer, Some(mutant))? {
            Verdict::Passed => {}
            Verdict::Failed(why) => {
                killed_by = Some((killer, why));
                break;
            }
            verdict => doubts.push(format!("{killer}: {verdict}")),
        }
    }
    Ok(Fate {
        mutant,
        killed_by,
        doubts,
        took: began.elapsed(),
    })
}

/// Runs one test, with a mutant or none, until it ends or a test of it fails.
///
/// # Errors
///
/// When it cannot be started, or no test has this name.
pub(crate) fn run(built: &Built, killer: &Killer, mutant: Option<&Mutant>) -> Result<Verdict> {
    let mut command = Command::new(built.binary(killer)?);
    match killer {
        Killer::Test { filter, .. } if filter == "*" => &mut command,
        Killer::Test { filter, .. } => command.arg(filter),
        Killer::Sim(seeds) => command.args(["--seeds", &seeds.to_string()]),
    };
    if let Killer::Test { .. } = killer {
        // A failure is seen, with its reason, when it happens, not when all others have ended.
        command.arg("--nocapture");
    }
    match mutant {
        Some(mutant) => command.env(VARIABLE, &mutant.name),
        None => command.env_remove(VARIABLE),
    };
    // What is printed goes to a file: a full pipe would stop the test.
    let log = log_of(killer, mutant);
    std::fs::create_dir_all(log.parent().context("a log without a directory")?)?;
    let out = std::fs::File::create(&log)?;
    command
        .current_dir(directory(killer.package()))
        .env("RUST_BACKTRACE", "0")
        .stdout(out.try_clone()?)
        .stderr(out);
    let status = end_of(command, &log).with_context(|| format!("run {killer}"))?;
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    if matches!(killer, Killer::Test { .. }) && said.contains("running 0 tests") {
        bail!("{killer}: no test has this name");
    }
    Ok(match (status, reason(&said)) {
        (None, None) => Verdict::Hung,
        (None, Some(why)) => Verdict::Failed(why),
        (Some(status), _) if status.success() => Verdict::Passed,
        (Some(_), Some(why)) => Verdict::Failed(why),
        (Some(status), None) => Verdict::Lost(status),
    })
}

/// Where what a test says is kept until the next run.
fn log_of(killer: &Killer, mutant: Option<&Mutant>) -> PathBuf {
    let name = match mutant {
        Some(mutant) => mutant.name.clone(),
        None => format!("none-{killer}").replace([':', '*', '/'], "_"),
    };
    cache().join("mutate/logs").join(format!("{name}.log"))
}

/// Waits for a program's end; stops it, with `None`, as soon as a test of it has failed or
/// when it has had its time.
fn end_of(mut command: Command, log: &Path) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().context("start")?;
    let began = Instant::now();
    let mut n_read = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let mut is_over = began.elapsed() > TIME_MAX;
        let n_bytes = std::fs::metadata(log)?.len();
        if n_bytes > n_read {
            n_read = n_bytes;
            is_over |= has_failed(&String::from_utf8_lossy(&std::fs::read(log)?));
        }
        if is_over {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether the test harness has called a test failed.
fn has_failed(said: &str) -> bool {
    said.lines()
        .any(|line| line == "FAILED" || line.ends_with("... FAILED"))
}

/// Why a test failed: where it panicked and with which words, or what a seed violated.
/// `None` when nothing was called failed.
fn reason(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().collect();
    let is_seed = |line: &&&str| line.starts_with("seed ") && line.contains(": ");
    if let Some(line) = lines.iter().find(is_seed) {
        return Some(shortened(line));
    }
    if !has_failed(said) {
        return None;
    }
    // A panic that a test expects is caught by it; the last before the verdict is the one.
    let end = lines.iter().position(|line| line.ends_with("FAILED"))?;
    let test = lines[end].trim_start_matches("test ");
    let thread = format!("'{}'", test.trim_end_matches(" ... FAILED"));
    let is_panic = |line: &&str| line.contains("panicked at ");
    let said = &lines[..end];
    let at = said
        .iter()
        .rposition(|line| is_panic(line) && line.contains(&thread))
        .or_else(|| said.iter().rposition(is_panic));
    let Some(at) = at else {
        // The test returned an error.
        return Some(shortened(&lines[end.saturating_sub(2)..=end].join(" ")));
    };
    let place = lines[at].split("panicked at ").nth(1).unwrap_or_default();
    let words = lines[at + 1..end].join(" ");
    Some(shortened(&format!("{place} {words}")))
}

fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().nth(REASON_CHARS) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_test_said_is_found() {
        let said = "running 2 tests\ntest a ... ok\n\nthread 'b' panicked at src/x.rs:3:5:\n\
                    assertion failed: left == right\n  left: 1\n right: 2\ntest b ... FAILED\n";
        let why = reason(said).unwrap();
        assert!(why.starts_with("src/x.rs:3:5: assertion failed"), "{why}");
        assert!(why.ends_with("left: 1 right: 2"), "{why}");
        let why = reason("seeds 0..60\nseed 7: I3: two filers differ\n").unwrap();
        assert_eq!(why, "seed 7: I3: two filers differ");
    }

    #[test]
    fn what_only_ended_has_shown_nothing() {
        assert!(reason("running 1 test\nthread 'x' panicked at src/x.rs:1:1:\nno\n").is_none());
        assert!(reason("running 1 test\ntest a ... ok\n").is_none());
        assert!(reason("seeds 0..60\n60 seeds: 0 violations\n").is_none());
    }
}
