// SPDX-License-Identifier: Apache-2.0
//! MariaDB and MySQL servers for tests: in a directory of their own, on loopback, ended by their
//! own id.
//!
//! MariaDB's programs are Debian's, installed or unpacked into the cache by `cargo xtask setup`;
//! MySQL's are those of npm's package. `DULSE_MARIADB` names the folder that holds `usr` of the
//! one, `DULSE_MYSQL` that with `mysqld` of the other, where they lie elsewhere.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_store_mysql::{Config, Tables};
use mysql_async::prelude::Queryable;

/// How long the server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(180);

/// Entries of ten megabytes are above what the servers take by themselves.
const PACKET_BYTES_MAX: &str = "--max-allowed-packet=64M";

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// 10.11, of Debian.
    MariaDb,
    /// 5.6.24, of npm.
    MySql56,
}

pub(crate) struct Server {
    dir: tempfile::TempDir,
    kind: Kind,
    programs: PathBuf,
    pub(crate) port: u16,
    child: Child,
    more: Vec<String>,
}

static SERVERS: Mutex<Vec<Server>> = Mutex::new(Vec::new());

/// Starts the one server of a kind of this process.
pub(crate) fn start(kind: Kind, more: &[&str]) -> Result<()> {
    let server = Server::start(kind, more)?;
    SERVERS
        .lock()
        .expect("no thread has panicked here")
        .push(server);
    Ok(())
}

/// Ends them.
pub(crate) fn stop() {
    SERVERS.lock().expect("no thread has panicked here").clear();
}

/// The database that belongs to a directory, made at its first use.
pub(crate) fn database_of(kind: Kind, tables: Tables, dir: &Path) -> Config {
    let servers = SERVERS.lock().expect("no thread has panicked here");
    let server = servers.iter().find(|server| server.kind == kind);
    server
        .expect("a case runs only with a server")
        .database_of(tables, dir)
}

/// The folder of the programs: for MariaDB the one that `usr` is in.
fn programs(kind: Kind) -> Result<PathBuf> {
    let (variable, cached, program) = match kind {
        Kind::MariaDb => ("DULSE_MARIADB", "mariadb-10.11/root", "usr/sbin/mariadbd"),
        Kind::MySql56 => ("DULSE_MYSQL", "mysql-5.6.24/package/server", "mysqld"),
    };
    let named = std::env::var_os(variable).map(PathBuf::from);
    let cache = std::env::var_os("DULSE_CACHE").map(PathBuf::from);
    let cache = cache
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dulse")));
    let cached = cache.map(|cache| cache.join("servers").join(cached));
    let installed = (kind == Kind::MariaDb).then(|| PathBuf::from("/"));
    let mut all = [named, installed, cached].into_iter().flatten();
    all.find(|dir| dir.join(program).is_file())
        .with_context(|| format!("no {kind:?} here; run `cargo xtask setup`"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl Server {
    /// - `more`: options beside those that every test needs.
    pub(crate) fn start(kind: Kind, more: &[&str]) -> Result<Self> {
        let programs = programs(kind)?;
        let dir = tempfile::tempdir()?;
        prepare(kind, &programs, dir.path())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let more: Vec<String> = more.iter().map(|&option| option.to_owned()).collect();
        let child = run(kind, &programs, dir.path(), port, &more)?;
        let mut server = Self {
            dir,
            kind,
            programs,
            port,
            child,
            more,
        };
        server.wait()?;
        Ok(server)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Kills it as a machine that loses power would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        let (kind, dir) = (self.kind, self.dir.path());
        self.child = run(kind, &self.programs, dir, self.port, &self.more)?;
        self.wait()
    }

    /// Has it take encrypted connections, too; it is started again for that.
    pub(crate) fn encrypt(&mut self, certificate: &str, key: &str, authority: &Path) -> Result<()> {
        self.more.push(option("ssl-ca", authority));
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.dir.path().join(name);
            std::fs::write(&file, content)?;
            let option = if name.ends_with("key") { "key" } else { "cert" };
            self.more.push(format!("--ssl-{option}={}", file.display()));
        }
        self.kill()?;
        self.start_again()
    }

    /// Its answer is the greeting of the protocol.
    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                let mut head = [0; 5];
                if stream.read_exact(&mut head).is_ok() && head[4] == 10 {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.try_wait()? {
                let said = std::fs::read_to_string(self.dir.path().join("log"))?;
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                bail!("the server ended with {status}: {last:#?}");
            }
            ensure!(
                began.elapsed() < START_TIME_MAX,
                "the server does not answer within {} s",
                START_TIME_MAX.as_secs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn database_of(&self, tables: Tables, dir: &Path) -> Config {
        // Paths are longer than names of databases may be.
        let hash = dulse_shared::sql::dirhash(&dir.display().to_string());
        let name = format!("t{:016x}", hash.cast_unsigned());
        self.sql("", &format!("CREATE DATABASE IF NOT EXISTS {name}"))
            .expect("a database is made");
        let mut config = Config {
            connections_max: 12,
            ..Config::at(tables, "127.0.0.1", self.port, &name)
        };
        if self.kind == Kind::MySql56 {
            // Its rows have no room for upstream's key in any other format.
            config.create_table = format!("{} ROW_FORMAT=DYNAMIC", config.create_table);
        }
        config
    }

    /// Runs SQL in a database; gives the first column of what it answers.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<Vec<String>> {
        let database = (!database.is_empty()).then(|| database.to_owned());
        let opts = mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .prefer_socket(false)
            .user(Some("root"))
            .db_name(database);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let asking = async {
            let mut conn = mysql_async::Conn::new(opts).await?;
            let rows: Vec<mysql_async::Row> = conn.query(sql).await?;
            conn.disconnect().await?;
            Ok::<_, anyhow::Error>(rows)
        };
        // Some callers are asynchronous themselves.
        let rows = std::thread::scope(|scope| {
            let asked = scope.spawn(|| runtime.block_on(asking));
            asked.join().expect("it does not panic")
        })?;
        let first = |row: mysql_async::Row| row.get_opt::<String, _>(0);
        rows.into_iter()
            .map(|row| Ok(first(row).context("a column")??))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the system tables.
fn prepare(kind: Kind, programs: &Path, dir: &Path) -> Result<()> {
    let data = dir.join("data");
    let mut command = match kind {
        Kind::MariaDb => {
            let mut command = Command::new(programs.join("usr/bin/mariadb-install-db"));
            command
                .args(["--no-defaults", "--skip-test-db"])
                .arg("--auth-root-authentication-method=normal")
                .arg(option("basedir", &programs.join("usr")))
                .arg(option("datadir", &data))
                .env("LD_LIBRARY_PATH", libraries(kind, programs));
            if is_root() {
                command.arg("--user=root");
            }
            command
        }
        Kind::MySql56 => {
            let mut command = Command::new("cp");
            command
                .arg("-r")
                .arg(programs.join("data/mysql"))
                .arg(&data);
            command
        }
    };
    let made = command.output()?;
    ensure!(
        made.status.success(),
        "the system tables: {}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    if kind == Kind::MySql56 {
        // Two servers of one name are none of our business, but it says so.
        let _ = std::fs::remove_file(data.join("auto.cnf"));
    }
    Ok(())
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn run(kind: Kind, programs: &Path, dir: &Path, port: u16, more: &[String]) -> Result<Child> {
    let (program, base) = match kind {
        Kind::MariaDb => (programs.join("usr/sbin/mariadbd"), programs.join("usr")),
        Kind::MySql56 => (programs.join("mysqld"), programs.to_owned()),
    };
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg(option("basedir", &base))
        .arg(option("datadir", &dir.join("data")))
        .arg(option("socket", &dir.join("s")))
        .args(["--bind-address=127.0.0.1", &format!("--port={port}")])
        .args(["--max-connections=400", "--innodb-buffer-pool-size=64M"])
        // What survives power loss is the server's matter.
        .args(["--innodb-flush-log-at-trx-commit=2", PACKET_BYTES_MAX])
        .args(more)
        .env("LD_LIBRARY_PATH", libraries(kind, programs))
        .stdout(Stdio::null())
        .stderr(log);
    if is_root() {
        command.arg("--user=root");
    }
    if kind == Kind::MySql56 {
        command
            .arg(option("lc-messages-dir", &programs.join("share")))
            .args(["--innodb-large-prefix=1", "--innodb-file-format=Barracuda"]);
    }
    Ok(command.spawn()?)
}

/// Where the libraries lie of programs that were unpacked; where they were installed, the
/// system finds them.
fn libraries(kind: Kind, programs: &Path) -> PathBuf {
    match kind {
        Kind::MariaDb => programs.join("usr/lib/x86_64-linux-gnu"),
        Kind::MySql56 => programs.to_owned(),
    }
}
