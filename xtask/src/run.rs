// SPDX-License-Identifier: Apache-2.0
//! Running programs, always printed first.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;

/// A cargo command with the shared target directory and the servers' paths in its environment.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command.env("CARGO_TARGET_DIR", cache::target());
    command.env("DULSE_BIN", cache::dulse());
    command.env("PATH", crate::debian::search_path());
    // Looked into before the system's directories, so only where something was fetched.
    let libraries = crate::debian::library_dir();
    if libraries.is_dir() {
        command.env("DULSE_LEVELDB_DIR", libraries);
    }
    if cache::weed().exists() {
        command.env("DULSE_WEED", cache::weed());
    }
    command
}

/// Runs a command to its end.
///
/// # Errors
///
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("+ {shown}");
    let status = command
        .status()
        .with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed.
///
/// # Errors
///
/// When it cannot be started or fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
