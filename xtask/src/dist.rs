// SPDX-License-Identifier: Apache-2.0
//! The release archive.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::run::{cargo, output, run};

/// What goes into the archive beside the program.
const FILES: [&str; 4] = ["README.md", "LICENSE", "CHANGELOG.md", "ARCHITECTURE.md"];

/// Builds `dulse-VERSION-linux-ARCHITECTURE.tar.gz` with program, licence and documents, and
/// its SHA-256 sum beside it. Twice from one commit gives the same bytes but for the program's.
///
/// # Errors
///
/// When the build or a tool fails.
pub(crate) fn dist() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--profile",
        "dist",
        "-p",
        "dulse-cli",
    ]))?;
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("dulse-{version}-linux-{}", std::env::consts::ARCH);
    let parent = cache::cache().join("dist");
    let dir = parent.join(&name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    std::fs::copy(cache::target().join("dist/dulse"), dir.join("dulse"))?;
    for file in FILES {
        std::fs::copy(cache::root().join(file), dir.join(file))?;
    }
    copy_tree(&cache::root().join("docs"), &dir.join("docs"))?;
    let archive = format!("{name}.tar.gz");
    run(Command::new("tar")
        .current_dir(&parent)
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ])
        .args(["-czf", &archive, &name]))?;
    let sum = output(Command::new("sha256sum").current_dir(&parent).arg(&archive))?;
    std::fs::write(parent.join(format!("{archive}.sha256")), &sum)?;
    println!("{}\n{}", parent.join(&archive).display(), sum.trim_end());
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_tree(&item.path(), &target)?;
        } else {
            std::fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}
