// SPDX-License-Identifier: Apache-2.0
//! The system calls of a running store, watched with `strace`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the watched process makes its store.
const DIR_VARIABLE: &str = "DULSE_WATCHED_DIR";

/// Where this process makes its store, if it is the watched one.
#[must_use]
pub fn watched_dir() -> Option<PathBuf> {
    std::env::var_os(DIR_VARIABLE).map(PathBuf::from)
}

/// Runs this test program again, watched: a line for each call of these system calls, with the
/// paths of the files. `None` where `strace` is not installed or not permitted, which in CI is a
/// failure.
///
/// - `dir`: an empty directory; the store is made in one below it.
///
/// # Panics
///
/// When the watched work failed, or the directory cannot be used; in CI, when it cannot be watched.
#[must_use]
pub fn watch(dir: &Path, system_calls: &str) -> Option<String> {
    let store = dir.join("store");
    std::fs::create_dir(&store).expect("make the store's directory");
    let trace = dir.join("calls");
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "0", "-e"])
        .arg(format!("trace={system_calls}"))
        .arg("-o")
        .arg(&trace)
        .arg(std::env::current_exe().expect("know this program"))
        .env(DIR_VARIABLE, &store)
        .output();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    let Some(output) = output.ok().filter(|_| !text.is_empty()) else {
        let is_ci = std::env::var_os("CI").is_some();
        assert!(!is_ci, "`strace` is not installed or not permitted here");
        return None;
    };
    assert!(
        output.status.success(),
        "the watched work failed: {output:?}"
    );
    Some(text)
}
