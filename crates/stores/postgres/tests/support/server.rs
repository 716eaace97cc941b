// SPDX-License-Identifier: Apache-2.0
//! A PostgreSQL server for tests: in a directory of its own, on loopback, ended by its own id.
//!
//! Its programs are Debian's, installed or unpacked into the cache by `cargo xtask setup`;
//! `DULSE_POSTGRES` names the folder of `initdb` and `postgres` where they lie elsewhere. The
//! server does not run as root: then it runs as `nobody`.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dulse_store_postgres::{Config, Tables};

/// Where Debian's package has its programs.
const INSTALLED: &str = "usr/lib/postgresql/15/bin";

/// How long the server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Debian's user without rights, on every system alike.
const NOBODY: u32 = 65_534;

pub(crate) struct Server {
    dir: tempfile::TempDir,
    programs: PathBuf,
    pub(crate) port: u16,
    child: Child,
    more: Vec<String>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// Starts the one server of this process.
pub(crate) fn start() -> Result<()> {
    let server = Server::start()?;
    *SERVER.lock().expect("no thread has panicked here") = Some(server);
    Ok(())
}

/// Ends it.
pub(crate) fn stop() {
    drop(SERVER.lock().expect("no thread has panicked here").take());
}

/// The database that belongs to a directory, made at its first use.
pub(crate) fn database_of(tables: Tables, dir: &Path) -> Config {
    let server = SERVER.lock().expect("no thread has panicked here");
    let server = server.as_ref().expect("a case runs only with a server");
    server.database_of(tables, dir)
}

fn programs() -> Result<PathBuf> {
    let named = std::env::var_os("DULSE_POSTGRES").map(PathBuf::from);
    let cached = std::env::var_os("HOME").map(|home| {
        let cache = PathBuf::from(home).join(".cache/dulse/debian/postgresql-15/root");
        cache.join(INSTALLED)
    });
    let installed = Some(Path::new("/").join(INSTALLED));
    let mut all = [named, installed, cached].into_iter().flatten();
    all.find(|dir| dir.join("postgres").is_file())
        .context("no PostgreSQL 15 here; run `cargo xtask setup`")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        // What survives power loss is the server's matter.
        Self::start_with(&["-c", "fsync=off"])
    }

    /// - `more`: options beside those that every test needs.
    pub(crate) fn start_with(more: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let dir = tempfile::tempdir()?;
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let made = program(&programs, "initdb")
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ])
            .arg("--no-sync")
            .arg("-D")
            .arg(dir.path().join("data"))
            .output()?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let more: Vec<String> = more.iter().map(|&option| option.to_owned()).collect();
        let child = run(&programs, dir.path(), port, &more)?;
        let mut server = Self {
            dir,
            programs,
            port,
            child,
            more,
        };
        server.wait()?;
        Ok(server)
    }

    /// Kills it as a machine that loses power would end it, and starts it again.
    pub(crate) fn kill(&mut self) -> Result<()> {
        // Its children see that their parent is gone and end.
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.child = run(&self.programs, self.dir.path(), self.port, &self.more)?;
            if self.wait().is_ok() {
                return Ok(());
            }
            // Children of the one before may live a moment longer.
            if began.elapsed() > START_TIME_MAX {
                bail!("the server does not start again");
            }
        }
    }

    /// Has it take encrypted connections, too: it reads its settings again, with this certificate.
    pub(crate) fn encrypt(&mut self, certificate: &str, key: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let data = self.dir.path().join("data");
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let file = data.join(name);
            std::fs::write(&file, content)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
            if is_root() {
                chown(&file, Some(NOBODY), Some(NOBODY))?;
            }
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on")?;
        self.sql("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let asked = program(&self.programs, "pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()?;
            if asked.success() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("postgres ended with {status}");
            }
            if began.elapsed() > START_TIME_MAX {
                bail!(
                    "postgres does not answer within {} s",
                    START_TIME_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn database_of(&self, tables: Tables, dir: &Path) -> Config {
        // Paths are longer than names of databases may be.
        let hash = dulse_store_postgres::dirhash(&dir.display().to_string());
        let name = format!("t{:016x}", hash.cast_unsigned());
        let sql = format!("CREATE DATABASE {name}");
        let said = self.sql("postgres", &sql);
        let is_fine = said.as_ref().is_ok()
            || said
                .as_ref()
                .is_err_and(|e| e.to_string().contains("already exists"));
        assert!(is_fine, "{said:?}");
        Config {
            connections_max: 12,
            ..Config::at(tables, "127.0.0.1", self.port, &name)
        }
    }

    /// Runs SQL in a database; gives what it printed.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let said = program(&self.programs, "psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
            ])
            .args([
                "-X",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-c",
                sql,
            ])
            .output()?;
        if !said.status.success() {
            bail!("{}", String::from_utf8_lossy(&said.stderr));
        }
        Ok(String::from_utf8(said.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT ends its children, too; SIGKILL would leave them a moment.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &id]).status();
        let _ = self.child.wait();
    }
}

fn run(programs: &Path, dir: &Path, port: u16, more: &[String]) -> Result<Child> {
    let child = program(programs, "postgres")
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
        .arg(dir)
        .args(["-c", "max_connections=400", "-c", "shared_buffers=64MB"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// Where the libraries lie of programs that were unpacked; where they were installed, the
/// system finds them.
fn libraries(programs: &Path) -> PathBuf {
    let root = programs.ancestors().nth(5).unwrap_or(Path::new("/"));
    root.join("usr/lib/x86_64-linux-gnu")
}

fn program(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .current_dir("/")
        .env("LD_LIBRARY_PATH", libraries(programs));
    command
}
