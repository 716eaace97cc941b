// SPDX-License-Identifier: Apache-2.0
//! Licences, bans and duplicate versions of the dependencies, of all that is built on any target.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output};

/// Licences we accept; of an `OR` expression one accepted side is enough.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "CC0-1.0",
    "0BSD",
    "Unlicense",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "MIT-0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "a second TLS stack"),
    ("native-tls", "a second TLS stack"),
    ("ring", "a second TLS provider"),
    ("rustls-pemfile", "unmaintained"),
    ("bincode", "unmaintained"),
    ("async-std", "unmaintained"),
    ("sled", "no stable release since 2021"),
    ("rsa", "RUSTSEC-2023-0071, no fix"),
];

/// Crates of which two versions are known and bearable; eight of them are of Windows alone, and
/// not built here.
const DUPLICATES_MAX: usize = 28;

/// Checks every package of the lock file.
///
/// # Errors
///
/// A licence we do not accept, a banned crate, or more duplicates than we bear.
pub(crate) fn audit() -> Result<()> {
    let arguments = [
        "tree",
        "--workspace",
        "--target",
        "all",
        "--locked",
        "--prefix",
        "none",
    ];
    let text = output(cargo(&arguments).args(["--no-dedupe", "--format", "{p}|{l}"]))?;
    let packages: BTreeSet<_> = text
        .lines()
        .map(str::trim)
        // A crate that its own tests' crate depends on is marked as shown before.
        .map(|l| l.trim_end_matches(" (*)"))
        .filter(|l| !l.is_empty())
        .collect();
    let mut wrong = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &packages {
        let (id, licence) = package
            .split_once('|')
            .context("a row of cargo tree has no licence")?;
        let mut words = id.split_whitespace();
        let (name, version) = (words.next().unwrap_or("?"), words.next().unwrap_or("?"));
        if !is_accepted(licence) {
            wrong.push(format!("{name}: licence `{licence}` is not accepted"));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            wrong.push(format!("{name} is banned: {why}"));
        }
        let known = versions.entry(name).or_default();
        if !known.contains(&version) {
            known.push(version);
        }
    }
    let twice: Vec<_> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .collect();
    println!(
        "{} packages, {} in more than one version",
        packages.len(),
        twice.len()
    );
    for (name, versions) in &twice {
        println!("  {name}: {}", versions.join(", "));
    }
    if twice.len() > DUPLICATES_MAX {
        wrong.push(format!(
            "{} crates in two versions, {DUPLICATES_MAX} allowed",
            twice.len()
        ));
    }
    advisories();
    if !wrong.is_empty() {
        bail!("dependencies:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Whether an SPDX expression has an accepted side; `AND` needs every part.
fn is_accepted(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|l| LICENCES.contains(&l.trim())))
}

/// Looks into a local advisory database where there is one; says so where not.
fn advisories() {
    let has_tool = output(std::process::Command::new("cargo").args(["audit", "--version"])).is_ok();
    let result = has_tool.then(|| output(&mut cargo(&["audit", "--no-fetch", "--quiet"])));
    match result {
        Some(Ok(_)) => println!("advisories: none known to the local database"),
        Some(Err(error)) => println!("advisories: *not checked*: {error}"),
        None => println!("advisories: *not checked* (no database at hand)"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_accepted;

    #[test]
    fn one_accepted_side_of_an_or_is_enough() {
        for (expression, expect) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MPL-2.0", false),
            ("none", false),
        ] {
            assert_eq!(is_accepted(expression), expect, "{expression}");
        }
    }
}
