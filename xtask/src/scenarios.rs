// SPDX-License-Identifier: Apache-2.0
//! `docs/scenarios.md`: which tests hold which scenario of the catalogue. A test says by its
//! name, `s01_…`, which one is its own; the page is written from these names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::cache::root;
use crate::tidy::rust_files;

/// Scenarios of the catalogue, with what each is about.
const CATALOGUE: &[(u8, &str)] = &[
    (
        1,
        "partition one of three filers, delete there, kill -9 it, restart, heal",
    ),
    (
        2,
        "a peer comes back while the stream to the master is down",
    ),
    (
        3,
        "two filers are 70 s late while a subscriber reads the third",
    ),
    (4, "a subscriber much slower than the writers"),
    (5, "a subscriber connects before any peer is known"),
    (
        6,
        "one path written alternately and concurrently on two filers, appends included",
    ),
    (
        7,
        "a filer restarts; old changes of peers arrive again over newer local writes",
    ),
    (
        8,
        "one filer's store is wiped while the others keep writing",
    ),
    (9, "a filer is away longer than the log is kept"),
    (
        10,
        "a store is copied to a new filer; a store is restored from an old backup",
    ),
    (
        11,
        "rename of a directory of 100,000 entries, kill -9, concurrent create inside",
    ),
    (12, "recursive delete racing with creates below"),
    (
        13,
        "one directory renamed to two names at once; A into B here and B into A there",
    ),
    (15, "1,000 subscribers reconnect at once"),
    (16, "the clock of one filer jumps by an hour"),
    (17, "disk full and file-descriptor exhaustion on one filer"),
    (
        18,
        "a filer gets a new address; its old address is taken by another filer",
    ),
    (19, "rolling restart and mixed versions under load"),
    (
        20,
        "one very large event; one change that cannot be applied",
    ),
    (21, "the leading master is lost"),
    (22, "hundreds of writers of small files"),
    (
        23,
        "5,000 creates acknowledged while the other filer is frozen; kill -9; thaw",
    ),
    (
        24,
        "10 hot paths, three filers, create, delete and rename at full speed",
    ),
    (
        25,
        "update of a file racing with its rename at another filer",
    ),
    (
        26,
        "changes that reached one filer alone, and their origin is lost",
    ),
    (
        27,
        "mkdir of one path at three filers at once, children created under each",
    ),
    (28, "a file created at `/a/b` here, `/a/b/c` created there"),
    (
        29,
        "hard links created, renamed and removed on different filers",
    ),
    (30, "power loss at a random write"),
];

/// Where tests are; the comparison with upstream's program has names alike and proves nothing
/// of ours.
const TESTS: &[&str] = &["crates", "sim/src", "tests/tests"];

const PAGE: &str = "docs/scenarios.md";

/// Checks that each scenario has a test and that the page names all.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn check(wrong: &mut Vec<String>) -> Result<()> {
    let found = found()?;
    for (id, what) in CATALOGUE {
        if !found.contains_key(id) {
            wrong.push(format!("no test is named `s{id:02}_…`: {what}"));
        }
    }
    for (id, tests) in &found {
        if !CATALOGUE.iter().any(|(known, _)| known == id) {
            wrong.push(format!(
                "{tests:?}: S{id:02} is no scenario of the catalogue"
            ));
        }
    }
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    for (id, _) in CATALOGUE {
        stale(*id, &page, &found, wrong);
    }
    Ok(())
}

/// A row of the page names tests, and each is there. A test that is new need not be named at
/// once: who adds one does not break the check of everybody else.
fn stale(id: u8, page: &str, found: &Found, wrong: &mut Vec<String>) {
    let begin = format!("| S{id:02}: ");
    let row = page.lines().find(|line| line.starts_with(&begin));
    let tests = row.and_then(|row| row.split(" | ").nth(1));
    let words: Vec<&str> = tests.unwrap_or_default().split('`').collect();
    // Between backticks: file, name, file, name.
    let named: Vec<&str> = words.into_iter().skip(1).step_by(2).collect();
    if named.is_empty() {
        wrong.push(format!("{PAGE} names no test of S{id:02}; cargo xtask fix"));
    }
    for pair in named.chunks(2) {
        let is_there = found.get(&id).is_some_and(|tests| {
            let mut tests = tests.iter();
            tests.any(|(file, name)| pair == [file.as_str(), name.as_str()])
        });
        if !is_there {
            wrong.push(format!("{PAGE}: no test {pair:?}; cargo xtask fix"));
        }
    }
}

/// Writes the page.
///
/// # Errors
///
/// When a file cannot be read or written.
pub(crate) fn write() -> Result<()> {
    Ok(std::fs::write(root().join(PAGE), page(&found()?))?)
}

/// Tests of each scenario: file and name.
type Found = BTreeMap<u8, BTreeSet<(String, String)>>;

fn found() -> Result<Found> {
    let mut files = Vec::new();
    for dir in TESTS {
        rust_files(&root().join(dir), &mut files)?;
    }
    let mut found = Found::new();
    for path in files {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shown = path.strip_prefix(root()).unwrap_or(&path);
        let shown = shown.display().to_string();
        for (id, name) in tests_of(&text) {
            let tests = found.entry(id).or_default();
            tests.insert((shown.clone(), name));
        }
    }
    Ok(found)
}

/// Names of tests that say their scenario, with its number.
fn tests_of(text: &str) -> Vec<(u8, String)> {
    let mut out = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
            continue;
        }
        let name = line
            .strip_prefix("async fn ")
            .or_else(|| line.strip_prefix("fn "))
            .and_then(|rest| rest.split('(').next());
        let Some(name) = name else { continue };
        let id = name.strip_prefix('s').and_then(|rest| rest.split_once('_'));
        if let Some((number, _)) = id.filter(|(number, _)| is_test && number.len() == 2)
            && let Ok(number) = number.parse()
        {
            out.push((number, name.to_owned()));
        }
        is_test = false;
    }
    out
}

fn page(found: &Found) -> String {
    let mut page = "# Scenarios and their tests\n\n\
        Written by `cargo xtask fix` from the names of tests; `cargo xtask check` fails when a \
        scenario has none, or the page names one that is not there.\n\
        Those in `sim/` and `crates/` run in virtual time, on virtual disks and networks; those \
        in `tests/` are real processes. What is promised is told in `docs/semantics.md`.\n\
        S14, sync between clusters, is not among them: there is no sync yet.\n\n\
        | scenario | tests |\n|---|---|\n"
        .to_owned();
    for (id, what) in CATALOGUE {
        let tests = found.get(id).into_iter().flatten();
        let tests = tests.map(|(file, name)| format!("`{file}`: `{name}`"));
        let tests = tests.collect::<Vec<_>>().join("<br>");
        page.push_str(&format!("| S{id:02}: {what} | {tests} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_tests_that_are_there() {
        let mut found = Found::new();
        let test = ("a.rs".to_owned(), "s28_one".to_owned());
        found.entry(28).or_default().insert(test);
        let said = |page: &str| {
            let mut wrong = Vec::new();
            stale(28, page, &found, &mut wrong);
            wrong.len()
        };
        assert_eq!(said("| S28: a file at `/a/b` | `a.rs`: `s28_one` |\n"), 0);
        assert_eq!(said("| S28: a file at `/a/b` | `a.rs`: `s28_two` |\n"), 1);
        assert_eq!(said("| S28: a file at `/a/b` |  |\n"), 1);
        assert_eq!(said("| S27: another | `a.rs`: `s28_one` |\n"), 1);
    }

    #[test]
    fn only_tests_count_that_say_their_scenario() {
        let text = "#[test]\nfn s07_newer_stays() {}\n\
            fn s08_is_no_test() {}\n\
            #[tokio::test(flavor = \"multi_thread\")]\n  async fn s15_all_at_once() -> R {}\n\
            #[test]\nfn says_nothing() {}\n\
            #[test]\nfn s123_is_no_number() {}\n";
        let found = tests_of(text);
        let expected = [(7, "s07_newer_stays"), (15, "s15_all_at_once")];
        assert_eq!(found, expected.map(|(id, name)| (id, name.to_owned())));
    }
}
