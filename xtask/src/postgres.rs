// SPDX-License-Identifier: Apache-2.0
//! The PostgreSQL server that tests run: Debian's packages, unpacked into the cache where they
//! are not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::run::run;

/// Packages and where something of each lies. They are unpacked over one another: the programs
/// find what they need beside themselves.
const PARTS: [(&str, &str); 3] = [
    ("postgresql-15", "usr/lib/postgresql/15/bin/postgres"),
    ("postgresql-client-15", "usr/lib/postgresql/15/bin/psql"),
    ("libpq5", "usr/lib/x86_64-linux-gnu/libpq.so.5"),
];

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let installed = Path::new("/").join(PARTS[0].1);
    if installed.is_file() {
        println!("postgres is there: {}", installed.display());
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
    let root = dir(PARTS[0].0).join("root");
    for (package, path) in PARTS {
        if root.join(path).exists() {
            continue;
        }
        println!(
            "fetching Debian's package {package} for the store in PostgreSQL, into {}",
            root.display()
        );
        let place = dir(package);
        std::fs::create_dir_all(&place)?;
        run(Command::new("apt-get")
            .args(["download", package])
            .current_dir(&place))?;
        let archive = archive(&place)?.context("apt-get brought no package")?;
        run(Command::new("dpkg").arg("-x").arg(archive).arg(&root))?;
        ensure!(root.join(path).exists(), "the package holds no `{path}`");
    }
    Ok(())
}

fn dir(package: &str) -> PathBuf {
    cache::cache().join("debian").join(package)
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
