// SPDX-License-Identifier: Apache-2.0
//! RocksDB for tests, kept out of everything else: its library, what bindings are made with, and
//! the environment in which cargo builds and runs what uses it.
//!
//! A build of RocksDB takes two busy cores about 20 minutes. RocksDB's own project publishes its
//! library, built, of each version: inside the package for Java, which Maven fetches; it has the
//! whole interface for C. So that is what tests link where there is a `mvn`. Elsewhere, and with
//! `DULSE_ROCKSDB=source`, RocksDB is built from the sources in its crate, once, into the cache.
//! Who builds the program with `--features rocksdb` has it built in, from those sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::run::{self, run};

/// The version that the crate `rocksdb` is of; `Cargo.lock` names it, and a test compares.
const VERSION: &str = "11.8.1";

/// The package with the built library, and the library in it.
const PACKAGE: &str = "org.rocksdb:rocksdbjni";
const MEMBER: &str = "librocksdbjni-linux64.so";

/// Bindings are made with it; the wheel has the library and nothing else.
const LIBCLANG: &str = "libclang==18.1.1";

/// Chooses between the two ways.
const CHOICE: &str = "DULSE_ROCKSDB";

fn dir() -> PathBuf {
    cache::cache().join("rocksdb")
}

/// Where the published library lies.
fn published() -> PathBuf {
    dir().join(VERSION)
}

/// Where the library built from its sources lies.
fn from_source() -> PathBuf {
    dir().join(format!("{VERSION}-source"))
}

/// The directory of the library that tests link.
fn library() -> PathBuf {
    match wants_source() {
        false if published().join("librocksdb.so").is_file() => published(),
        _ => from_source(),
    }
}

fn wants_source() -> bool {
    std::env::var(CHOICE).is_ok_and(|choice| choice == "source")
}

/// A cargo command for packages with the feature `rocksdb`.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = run::cargo(arguments);
    bindings(&mut command);
    libraries(&mut command);
    command.env("DULSE_BIN", program());
    command
}

/// A command of a program that was built with the feature.
pub(crate) fn with_libraries(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    let leveldb = crate::debian::library_dir();
    if leveldb.is_dir() {
        command.env("DULSE_LEVELDB_DIR", leveldb);
    }
    libraries(&mut command);
    command
}

/// Where RocksDB is linked from, and where the programs find it.
fn libraries(command: &mut Command) {
    let library = library();
    command.env("ROCKSDB_LIB_DIR", &library);
    if library == from_source() {
        command.env("ROCKSDB_STATIC", "1");
        return;
    }
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty());
    let paths = std::env::join_paths(std::iter::once(library).chain(paths));
    command.env("LD_LIBRARY_PATH", paths.unwrap_or_default());
}

/// Our program with RocksDB in it, built with the test profile.
pub(crate) fn program() -> PathBuf {
    cache::target().join("ci/dulse-rocksdb")
}

/// What makes bindings finds libclang, and the headers that a compiler brings.
fn bindings(command: &mut Command) {
    let libclang = libclang();
    if libclang.is_dir() {
        command.env("LIBCLANG_PATH", libclang);
        let headers = run::output(Command::new("gcc").arg("-print-file-name=include"));
        if let Ok(headers) = headers {
            let include = format!("-I{}", headers.trim());
            command.env("BINDGEN_EXTRA_CLANG_ARGS", include);
        }
    }
}

fn libclang() -> PathBuf {
    dir().join("libclang/clang/native")
}

/// Fetches what is missing, or builds it; says what it does.
///
/// # Errors
///
/// When it can be had in neither way.
pub(crate) fn setup() -> Result<()> {
    if !libclang().join("libclang.so").is_file() {
        let place = dir().join("libclang");
        println!("fetching {LIBCLANG} from PyPI into {}", place.display());
        crate::fetch::from_pypi(LIBCLANG, &place)?;
    }
    let built = library();
    let is_there = ["librocksdb.so", "librocksdb.a"].iter();
    if is_there.into_iter().any(|name| built.join(name).is_file()) {
        println!("RocksDB {VERSION} is there: {}", built.display());
        return Ok(());
    }
    let has_maven = run::output(Command::new("mvn").arg("--version")).is_ok();
    if has_maven && !wants_source() {
        match fetch() {
            Ok(()) => return Ok(()),
            Err(error) => println!("not fetched, so it is built: {error:#}"),
        }
    }
    build()
}

/// Why what uses RocksDB cannot be tested; `None` when it can.
pub(crate) fn lacks() -> Option<String> {
    setup().err().map(|error| format!("no RocksDB: {error:#}"))
}

fn fetch() -> Result<()> {
    let (place, half) = (published(), dir().join("fetched"));
    println!(
        "fetching {PACKAGE}:{VERSION} from Maven into {}",
        place.display()
    );
    remove(&half)?;
    run(Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy"])
        .arg(format!("-Dartifact={PACKAGE}:{VERSION}"))
        .arg(format!("-DoutputDirectory={}", half.display()))
        .current_dir(cache::cache()))?;
    let archive = half.join(format!("rocksdbjni-{VERSION}.jar"));
    let extract = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(*sys.argv[2:])";
    run(Command::new("python3")
        .args(["-c", extract])
        .arg(&archive)
        .arg(MEMBER)
        .arg(&half))?;
    std::fs::create_dir_all(&place)?;
    // Order: whole before it has the name by which it is found.
    std::fs::rename(half.join(MEMBER), place.join("librocksdb.so"))?;
    remove(&half)
}

/// Builds RocksDB from the sources in its crate.
fn build() -> Result<()> {
    let (target, place) = (dir().join("target"), from_source());
    println!(
        "building RocksDB {VERSION} into {}: about 20 minutes of two cores",
        place.display()
    );
    let package = [
        "build",
        "--release",
        "-p",
        "dulse-engine-rocksdb",
        "--features",
        "rocksdb",
    ];
    let mut command = run::cargo(&package);
    bindings(&mut command);
    command.env("CARGO_TARGET_DIR", &target);
    // What RocksDB's own project builds with.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2");
    run(&mut command)?;
    let found = newest(&target.join("release/build"))?;
    std::fs::create_dir_all(&place)?;
    let half = place.join("librocksdb.a.half");
    std::fs::copy(found, &half)?;
    std::fs::rename(half, place.join("librocksdb.a"))?;
    // The objects, of which there are as many bytes again.
    remove(&target)
}

/// The library of the last build.
fn newest(builds: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(builds)? {
        let library = item?.path().join("out/librocksdb.a");
        if let Ok(file) = library.metadata() {
            found.push((file.modified()?, library));
        }
    }
    let newest = found.into_iter().max();
    let (_, library) = newest.context("the build left no librocksdb.a")?;
    Ok(library)
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove `{}`", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Builds our program with RocksDB, beside the one without.
///
/// # Errors
///
/// When a build fails.
pub(crate) fn build_program() -> Result<()> {
    let build = ["build", "--profile", "ci", "-p", "dulse-cli"];
    run(cargo(&build).args(["--features", "rocksdb"]))?;
    let half = program().with_extension("half");
    std::fs::copy(cache::dulse(), &half)?;
    std::fs::rename(half, program())?;
    // Who runs the program without it finds that under its name again.
    run(&mut run::cargo(&build))
}

/// Runs tests of packages with the feature.
///
/// # Errors
///
/// When a test fails.
pub(crate) fn test(arguments: &[&str]) -> Result<()> {
    let mut command = cargo(&["test", "--profile", "ci", "--features", "rocksdb"]);
    run(command.args(arguments))
}

/// Lints what only the feature builds.
///
/// # Errors
///
/// When a lint does not hold.
pub(crate) fn clippy() -> Result<()> {
    let packages = [
        "engine-rocksdb",
        "registry",
        "import",
        "cli",
        "tests",
        "bench",
    ];
    let mut command = cargo(&["clippy", "--profile", "ci", "--all-targets"]);
    command.args(["--features", "rocksdb"]);
    for package in packages {
        command.args(["-p", &format!("dulse-{package}")]);
    }
    run(command.args(["--", "-D", "warnings"]))
}

/// The version in `Cargo.lock` is the one that is fetched.
///
/// # Errors
///
/// When it is another.
pub(crate) fn check() -> Result<()> {
    let lock = std::fs::read_to_string(cache::root().join("Cargo.lock"))?;
    let of_crate = lock.split("[[package]]");
    let of_crate = of_crate.filter(|package| package.contains("name = \"librocksdb-sys\""));
    if !of_crate
        .into_iter()
        .any(|p| p.contains(&format!("+{VERSION}\"")))
    {
        bail!("Cargo.lock has another RocksDB than {VERSION}, which xtask/src/rocksdb.rs fetches");
    }
    Ok(())
}
