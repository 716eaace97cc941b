// SPDX-License-Identifier: Apache-2.0
//! The list of mutants, and whether it fits the tree and the lists of guards.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cache::root;

/// What a replacement is to the compiler.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A value: both are of one type.
    #[default]
    Expression,
    /// Statements that bind no names which are used later.
    Statement,
}

/// One guard removed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// The first cell of its row in the crate's list of guards.
    pub(crate) guard: String,
    /// Where, from the root.
    pub(crate) file: String,
    /// Text right before `from`, where that alone occurs more than once.
    #[serde(default)]
    pub(crate) context: String,
    /// The text replaced, exactly as it is.
    pub(crate) from: String,
    /// What stands there instead.
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Items that `to` needs, appended to the file.
    #[serde(default)]
    pub(crate) items: String,
    /// Signs that do not stand right above it, see [`super::signs`].
    #[serde(default)]
    pub(crate) signs: Vec<String>,
    /// Tests of which one must fail, the cheapest first.
    pub(crate) killers: Vec<Killer>,
}

/// A test that must fail: `package:target:test`, such as `merge:model:guards::a_delete_spares`,
/// with `lib` as the target of unit tests. The test's whole name, of its modules as many as tell
/// it from others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Killer {
    pub(super) package: String,
    pub(super) target: String,
    pub(super) test: String,
}

impl FromStr for Killer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        match (next(), next(), next()) {
            (Some(package), Some(target), Some(test)) => Ok(Self {
                package: package.to_owned(),
                target: target.to_owned(),
                test: test.to_owned(),
            }),
            _ => bail!("`{text}` is no killer; expected `package:target:test`"),
        }
    }
}

impl TryFrom<String> for Killer {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.package, self.target, self.test)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// Every mutant, in the order of files and of each file.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn read() -> Result<Vec<Mutant>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("xtask/mutants"))?
        .map(|item| item.map(|item| item.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        all.extend(file.mutant);
    }
    Ok(all)
}

/// Whether every mutant still applies, every guard has one, and every killer exists.
///
/// # Errors
///
/// A list of all that is wrong.
pub(crate) fn check() -> Result<()> {
    let all = read()?;
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for mutant in &all {
        if !names.insert(&mutant.name) {
            wrong.push(format!("two mutants are named {}", mutant.name));
        }
        if let Err(why) = place(mutant) {
            wrong.push(format!("{}: {why}", mutant.name));
        }
        if !is_whole(&mutant.from) || !is_whole(&mutant.to) {
            // It is put between braces, as is what takes its place.
            wrong.push(format!("{}: brackets open that do not close", mutant.name));
        }
        if mutant.killers.is_empty() {
            wrong.push(format!("{}: no killer", mutant.name));
        }
        for killer in &mutant.killers {
            if let Err(why) = exists(killer) {
                wrong.push(format!("{}: {why}", mutant.name));
            }
        }
    }
    let guards = guards()?;
    let of_mutants: BTreeSet<&str> = all.iter().map(|m| m.guard.as_str()).collect();
    for guard in &guards {
        if !of_mutants.contains(guard.as_str()) {
            wrong.push(format!("no mutant removes the guard \"{guard}\""));
        }
    }
    for guard in of_mutants.iter().filter(|g| !guards.contains(**g)) {
        wrong.push(format!("no list of guards has \"{guard}\""));
    }
    let n_signs = super::signs::check(&all, &mut wrong)?;
    if wrong.is_empty() {
        super::weave::files(&all).context("xtask/mutants")?;
    }
    if !wrong.is_empty() {
        bail!("xtask/mutants:\n  {}", wrong.join("\n  "));
    }
    println!(
        "mutants: {}, of {} guards, with {n_signs} signs in the code",
        all.len(),
        guards.len()
    );
    Ok(())
}

/// Where in its file a mutant's text begins, and the file.
///
/// # Errors
///
/// When it is not there exactly once.
pub(crate) fn place(mutant: &Mutant) -> Result<(usize, String)> {
    let text = std::fs::read_to_string(root().join(&mutant.file))
        .with_context(|| format!("read {}", mutant.file))?;
    let wanted = format!("{}{}", mutant.context, mutant.from);
    let mut found = text.match_indices(&wanted).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok((at + mutant.context.len(), text)),
        (None, _) => bail!(
            "{} does not have its text any more: `{wanted}`",
            mutant.file
        ),
        (Some(_), Some(_)) => bail!("{} has its text more than once: `{wanted}`", mutant.file),
    }
}

/// Whether every bracket in it has its other one.
fn is_whole(code: &str) -> bool {
    let mut open = Vec::new();
    code.chars().all(|c| match c {
        '(' | '[' | '{' => {
            open.push(c);
            true
        }
        ')' => open.pop() == Some('('),
        ']' => open.pop() == Some('['),
        '}' => open.pop() == Some('{'),
        _ => true,
    }) && open.is_empty()
}

/// The guards of all lists: the first cell of each row.
fn guards() -> Result<BTreeSet<String>> {
    let mut guards = BTreeSet::new();
    let mut lists = Vec::new();
    guard_lists(&root().join("crates"), &mut lists)?;
    for path in lists {
        let text = std::fs::read_to_string(path)?;
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            let first = row
                .trim_matches('|')
                .split(" | ")
                .next()
                .unwrap_or_default();
            let first = first.trim();
            if first != "guard" {
                guards.insert(first.to_owned());
            }
        }
    }
    Ok(guards)
}

/// The lists of guards of crates, those of engines and stores included.
fn guard_lists(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let list = path.join("GUARDS.md");
        if list.is_file() {
            out.push(list);
        } else if path.is_dir() && !path.join("Cargo.toml").is_file() {
            guard_lists(&path, out)?;
        }
    }
    Ok(())
}

/// Whether a killer is a test of its crate, or a case that it runs of the suites of all engines.
fn exists(killer: &Killer) -> Result<()> {
    let dir = directory(&killer.package);
    if !dir.is_dir() {
        bail!("{killer}: there is no {}", dir.display());
    }
    let name = killer.test.rsplit("::").next().unwrap_or(&killer.test);
    let function = format!("fn {name}(");
    let is_own = ["src", "tests"]
        .iter()
        .any(|part| has(&dir.join(part), &function));
    let is_of_suites = killer.package.starts_with("engine-")
        && has(&directory("kv-testkit"), &format!("\"{name}\""));
    if !is_own && !is_of_suites {
        bail!("{killer}: no test of that name");
    }
    Ok(())
}

/// Where a package lies.
pub(crate) fn directory(package: &str) -> PathBuf {
    let root = root();
    let crates = root.join("crates");
    match package.split_once('-') {
        _ if ["sim", "tests"].contains(&package) => root.join(package),
        Some(("engine", name)) => crates.join("engines").join(name),
        Some(("store", name)) if name != "testkit" => crates.join("stores").join(name),
        _ => crates.join(package),
    }
}

/// Whether some source below a directory has this text.
fn has(dir: &Path, text: &str) -> bool {
    let Ok(items) = std::fs::read_dir(dir) else {
        return false;
    };
    items.filter_map(Result::ok).any(|item| {
        let path = item.path();
        if path.is_dir() {
            return has(&path, text);
        }
        let is_source = path.extension().is_some_and(|e| e == "rs");
        is_source && std::fs::read_to_string(&path).is_ok_and(|t| t.contains(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_has_a_mutant_that_applies() {
        check().unwrap();
    }

    #[test]
    fn brackets_that_do_not_close_are_found() {
        for code in ["a", "f(a)[0]", "if a { b(c) } else { d }"] {
            assert!(is_whole(code), "{code}");
        }
        for code in ["f(a", "a)", "if a { f(b)", "(]", ")("] {
            assert!(!is_whole(code), "{code}");
        }
    }

    #[test]
    fn packages_are_found() {
        for (package, expect) in [
            ("merge", "crates/merge"),
            ("engine-redb", "crates/engines/redb"),
            ("store-postgres", "crates/stores/postgres"),
            ("store-testkit", "crates/store-testkit"),
            ("kv-testkit", "crates/kv-testkit"),
            ("tests", "tests"),
        ] {
            assert!(directory(package).ends_with(expect), "{package}");
            assert!(directory(package).is_dir(), "{package}");
        }
    }

    #[test]
    fn killers_are_read_as_they_are_written() {
        let text = "merge:model:guards::x";
        assert_eq!(text.parse::<Killer>().unwrap().to_string(), text);
        for text in ["", "merge", "merge:model", "merge:model:"] {
            assert!(text.parse::<Killer>().is_err(), "{text}");
        }
    }
}
