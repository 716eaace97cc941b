// SPDX-License-Identifier: Apache-2.0
//! One store, one process: the second filer on a directory says so in one sentence.

use std::process::Command;

use anyhow::Result;
use dulse_tests::{free_port, program};

#[test]
fn a_second_filer_on_a_store_is_refused_with_exit_code_2() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("journal"))?;
    // As another process holds it.
    let lock = std::fs::File::create(dir.path().join("journal/lock"))?;
    lock.lock()?;
    let output = Command::new(program()?)
        .args(["filer", "--ip", "127.0.0.1", "--master", "127.0.0.1:1"])
        .args(["--port", &free_port()?.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("is in use by another process"), "{text}");
    Ok(())
}
