// SPDX-License-Identifier: Apache-2.0
//! A mount namespace of the test's own: what is mounted in it ends with its last process, also
//! after `kill -9`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Result, bail};

/// Set inside.
const INSIDE: &str = "DULSE_TESTS_INSIDE";

/// The ways to one; the first needs no rights.
const WAYS: [&[&str]; 2] = [&["--user", "--map-root-user", "--mount"], &["--mount"]];

/// Starts this program anew in such a namespace, where the system permits one; else it goes on
/// here, and only [`super::Disk`]'s end unmounts it. To be called before anything else.
///
/// # Errors
///
/// When there is no FUSE at all.
pub fn enter() -> Result<()> {
    let mut how = std::fs::OpenOptions::new();
    if let Err(error) = how.read(true).write(true).open("/dev/fuse") {
        bail!("FUSE file systems cannot be mounted here: /dev/fuse: {error}");
    }
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    for way in WAYS {
        let tried = Command::new("unshare").args(way).arg("true").output();
        if tried.is_ok_and(|o| o.status.success()) {
            let mut command = Command::new("unshare");
            command.args(way).arg(std::env::current_exe()?);
            command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
            return Err(command.exec().into());
        }
    }
    Ok(())
}
