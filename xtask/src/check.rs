// SPDX-License-Identifier: Apache-2.0
//! Everything that can be said without running the program.

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{mutate, rocksdb, scenarios, supply, tidy};

/// All checks.
///
/// # Errors
///
/// The first that fails.
pub(crate) fn check() -> Result<()> {
    static_checks()?;
    clippy()?;
    docs()?;
    generated()
}

/// Format, layering and dependencies: what needs no build.
///
/// # Errors
///
/// The first that fails.
pub(crate) fn static_checks() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--", "--check"]))?;
    tidy::tidy()?;
    mutate::check()?;
    rocksdb::check()?;
    supply::audit()
}

/// Lints, with warnings as errors.
///
/// # Errors
///
/// When there is a warning.
pub(crate) fn clippy() -> Result<()> {
    let arguments = [
        "clippy",
        "--profile",
        "ci",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run(&mut cargo(&arguments))
}

/// Builds the documentation, with broken links as errors.
///
/// # Errors
///
/// When rustdoc warns.
pub(crate) fn docs() -> Result<()> {
    let mut command = cargo(&["doc", "--profile", "ci", "--workspace", "--no-deps", "-q"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Compares generated documents with what they are generated from.
///
/// # Errors
///
/// When one is not fresh.
pub(crate) fn generated() -> Result<()> {
    run(&mut pages())
}

/// The tests that compare generated documents, or write them.
fn pages() -> std::process::Command {
    cargo(&[
        "test",
        "--profile",
        "ci",
        "-q",
        "-p",
        "dulse-cli",
        "--bins",
        "the_page_of",
    ])
}

/// Mends what tools can mend.
///
/// # Errors
///
/// When a tool fails.
pub(crate) fn fix() -> Result<()> {
    let clippy = [
        "clippy",
        "--profile",
        "ci",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
    ];
    run(&mut cargo(&clippy))?;
    run(&mut cargo(&["fmt", "--all"]))?;
    scenarios::write()?;
    run(pages().env("DULSE_WRITE_DOCS", "1"))
}
