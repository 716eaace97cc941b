// SPDX-License-Identifier: Apache-2.0
//! Runs built tests with one mutant at a time, or none.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build::Built;
use super::list::{Killer, Mutant, directory};
use super::weave::VARIABLE;
use crate::cache::cache;
use crate::rocksdb;

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
    /// It did not end within this time.
    Hung(Duration),
    /// It ended by itself, and neither passed nor said why.
    Lost(ExitStatus),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("it passed"),
            Self::Failed(why) => write!(f, "it failed: {why}"),
            Self::Hung(max) => write!(f, "it did not end within {} s", max.as_secs()),
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
        match run(built, killer, mutant)? {
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

/// Runs one killer with a mutant until it ends or has failed.
fn run(built: &Built, killer: &Killer, mutant: &Mutant) -> Result<Verdict> {
    let mut command = command(built, killer, &[killer])?;
    command.env(VARIABLE, &mutant.name);
    let (verdict, _) = end(command, killer, &mutant.name, TIME_MAX)?;
    Ok(verdict)
}

/// Runs killers of one program without a mutant until they end or one of them has failed.
///
/// # Errors
///
/// When it cannot be started, or a killer is no test of it.
pub(crate) fn run_all(built: &Built, killers: &[&Killer]) -> Result<Verdict> {
    let first = *killers.first().context("no killers")?;
    let mut command = command(built, first, killers)?;
    command.env_remove(VARIABLE);
    let time_max = TIME_MAX * u32::try_from(killers.len())?;
    let name = format!("none-{}-{}", first.package, first.target);
    let (verdict, said) = end(command, first, &name, time_max)?;
    // Not every harness takes several names.
    if killers.len() > 1 && matches!(verdict, Verdict::Lost(_)) {
        for killer in killers {
            let verdict = run_all(built, &[killer])?;
            if !matches!(verdict, Verdict::Passed) {
                return Ok(verdict);
            }
        }
        return Ok(Verdict::Passed);
    }
    if matches!(verdict, Verdict::Passed)
        && let Some(killer) = killers.iter().find(|killer| n_run(killer, &said) != 1)
    {
        let n = n_run(killer, &said);
        bail!("{killer}: {n} tests have this name; a killer names one");
    }
    Ok(verdict)
}

/// How many tests that ran have a killer's name, by what the harness said.
fn n_run(killer: &Killer, said: &str) -> usize {
    let tests = said.lines().filter_map(|line| line.strip_prefix("test "));
    let names = tests.filter_map(|test| test.split(" ... ").next());
    let is_it = |name: &&str| {
        let before = name.strip_suffix(&*killer.test);
        before.is_some_and(|before| before.is_empty() || before.ends_with("::"))
    };
    names.filter(is_it).count()
}

/// What runs killers of the program that `first` is of.
fn command(built: &Built, first: &Killer, killers: &[&Killer]) -> Result<Command> {
    let mut command = rocksdb::with_libraries(built.binary(first)?.to_owned());
    command
        // A failure is seen, with its reason, when it happens, not when all others have ended.
        .arg("--nocapture")
        .args(killers.iter().map(|killer| &killer.test))
        .current_dir(directory(&first.package))
        .env("RUST_BACKTRACE", "0");
    Ok(command)
}

/// Runs it until it ends, a test fails or its time is over; also gives what it said.
fn end(
    mut command: Command,
    killer: &Killer,
    name: &str,
    time_max: Duration,
) -> Result<(Verdict, String)> {
    // What is printed goes to a file: a full pipe would stop the test.
    let log = cache().join("mutate/logs").join(format!("{name}.log"));
    std::fs::create_dir_all(log.parent().context("a log without a directory")?)?;
    let out = std::fs::File::create(&log)?;
    command.stdout(out.try_clone()?).stderr(out);
    let status = end_of(command, &log, time_max).with_context(|| format!("run {killer}"))?;
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let verdict = match (status, reason(&said)) {
        (None, None) => Verdict::Hung(time_max),
        (None, Some(why)) => Verdict::Failed(why),
        (Some(status), _) if status.success() => Verdict::Passed,
        (Some(_), Some(why)) => Verdict::Failed(why),
        (Some(status), None) => Verdict::Lost(status),
    };
    Ok((verdict, said))
}

/// Waits for a program's end; stops it, with `None`, as soon as a test of it has failed or
/// when it has had its time.
fn end_of(mut command: Command, log: &Path, time_max: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().context("start")?;
    let began = Instant::now();
    let mut n_read = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let mut is_over = began.elapsed() > time_max;
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

/// Why a test failed: where it panicked and with which words. `None` when nothing was called failed.
fn reason(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().collect();
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
    let words = lines[at + 1..end].iter();
    let words = words.take_while(|line| !line.starts_with("note: run with"));
    let words: Vec<&str> = words.copied().collect();
    let words = words.join(" ");
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
                    assertion failed: left == right\n  left: 1\n right: 2\n\
                    note: run with `RUST_BACKTRACE=1`\ntest b ... FAILED\n";
        let why = reason(said).unwrap();
        assert!(why.starts_with("src/x.rs:3:5: assertion failed"), "{why}");
        assert!(why.ends_with("left: 1 right: 2"), "{why}");
    }

    #[test]
    fn a_killer_is_one_test() {
        let n = |test: &str| {
            let killer = format!("merge:model:{test}").parse().unwrap();
            let said = "running 3 tests\ntest guards::a ... ok\ntest guards::b_a ... ok\n\
                        test rules::a ... words of the test itself\nok\n";
            n_run(&killer, said)
        };
        assert_eq!((n("guards::a"), n("b_a"), n("a"), n("c")), (1, 1, 2, 0));
    }

    #[test]
    fn what_only_ended_has_shown_nothing() {
        assert!(reason("running 1 test\nthread 'x' panicked at src/x.rs:1:1:\nno\n").is_none());
        assert!(reason("running 1 test\ntest a ... ok\n").is_none());
    }
}
