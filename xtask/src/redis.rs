// SPDX-License-Identifier: Apache-2.0
//! The Redis server that tests run: Debian's packages, unpacked into the cache where they are
//! not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::run::run;

/// Packages and where something of each lies. They are unpacked over one another: the programs
/// find what they need beside themselves. `redis-server` and `redis-sentinel` are names of one
/// program, which lies in `redis-tools` with `redis-cli`.
const PARTS: [(&str, &str); 7] = [
    ("redis-server", "usr/bin/redis-server"),
    ("redis-sentinel", "usr/bin/redis-sentinel"),
    ("redis-tools", "usr/bin/redis-cli"),
    ("liblzf1", "usr/lib/x86_64-linux-gnu/liblzf.so.1"),
    ("libjemalloc2", "usr/lib/x86_64-linux-gnu/libjemalloc.so.2"),
    ("libatomic1", "usr/lib/x86_64-linux-gnu/libatomic.so.1"),
    ("libssl3", "usr/lib/x86_64-linux-gnu/libssl.so.3"),
];

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let installed = Path::new("/").join(PARTS[0].1);
    if installed.exists() {
        println!("redis is there: {}", installed.display());
        return Ok(());
    }
    match fetch() {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not fetched; what needs it will say so: {error:#}");
            Ok(())
        }
        result => result,
    }
}

fn fetch() -> Result<()> {
    let root = dir().join("root");
    for (package, path) in PARTS {
        if root.join(path).symlink_metadata().is_ok() {
            continue;
        }
        println!(
            "fetching Debian's package {package} for the stores in Redis, into {}",
            root.display()
        );
        let place = dir().join(package);
        std::fs::create_dir_all(&place)?;
        run(Command::new("apt-get")
            .args(["download", package])
            .current_dir(&place))?;
        let archive = archive(&place)?.context("apt-get brought no package")?;
        run(Command::new("dpkg").arg("-x").arg(archive).arg(&root))?;
        let is_there = root.join(path).symlink_metadata().is_ok();
        ensure!(is_there, "the package holds no `{path}`");
    }
    println!("redis is there: {}", root.join(PARTS[0].1).display());
    Ok(())
}

fn dir() -> PathBuf {
    cache::cache().join("servers/redis-7.0")
}

fn archive(dir: &Path) -> Result<Option<PathBuf>> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
