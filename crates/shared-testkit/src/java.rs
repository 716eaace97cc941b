// SPDX-License-Identifier: Apache-2.0
//! Servers that are written in Java: their archives, and the Java that they are started with.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Lines of a log that are shown.
const LINES: usize = 20;

/// Where a server's archives lie, which `cargo xtask setup` lays into the cache.
///
/// - `server`: for people.
/// - `variable`: names another folder.
/// - `folder`: inside the cache.
///
/// # Errors
///
/// When they are not there as a whole.
pub fn archives(server: &str, variable: &str, folder: &str) -> Result<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let cache = std::env::var_os("DULSE_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dulse"));
    let cached = cache.or(home).map(|cache| cache.join(folder));
    let dir = named.or(cached);
    let dir = dir.with_context(|| format!("no home, and no {variable}"))?;
    // Laid down last.
    ensure!(
        dir.join("complete").is_file(),
        "no {server} in {}; run `cargo xtask setup`",
        dir.display()
    );
    Ok(dir)
}

/// The program `java`, of `JAVA_HOME` or on the path.
///
/// - `server`: who needs it, for people.
/// - `versions`: those that it can be started with.
///
/// # Errors
///
/// When there is none of these versions.
pub fn java(server: &str, versions: RangeInclusive<u32>) -> Result<PathBuf> {
    let program = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|program| program.is_file())
        .unwrap_or_else(|| "java".into());
    let said = Command::new(&program).arg("-version").output();
    let said = said.with_context(|| {
        format!("no Java, which {server} needs (Debian's package `openjdk-17-jre-headless`)")
    })?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15
    let version = text.split('"').nth(1).and_then(|it| it.split('.').next());
    let version: u32 = version.and_then(|it| it.parse().ok()).unwrap_or(0);
    ensure!(
        versions.contains(&version),
        "{server} needs Java {}; here is: {text}",
        versions.start()
    );
    Ok(program)
}

/// How a log ends, for an error.
#[must_use]
pub fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
