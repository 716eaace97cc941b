// SPDX-License-Identifier: Apache-2.0
//! Redis servers for tests: in directories of their own, on loopback, ended with their
//! test.
//!
//! The programs are Debian's, installed or unpacked into the cache by `cargo xtask setup`;
//! `DULSE_REDIS` names the folder of `redis-server` where it lies elsewhere.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_shared_testkit::Process;

/// How long a server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// One server.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    programs: PathBuf,
    pub(crate) port: u16,
    arguments: Vec<String>,
    /// How `redis-cli` shows who it is.
    cli: Vec<String>,
    process: Process,
}

fn programs() -> Result<PathBuf> {
    let named = std::env::var_os("DULSE_REDIS").map(PathBuf::from);
    let cached = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".cache/dulse/servers/redis-7.0/root/usr/bin"));
    let installed = Some(PathBuf::from("/usr/bin"));
    let mut all = [named, installed, cached].into_iter().flatten();
    all.find(|dir| dir.join("redis-server").exists())
        .context("no redis-server here; run `cargo xtask setup`")
}

/// A port of which no other server's bus port, 10,000 above, is beyond the last one.
pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

impl Server {
    /// A server that writes an append-only file and syncs it before it answers.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server that keeps nothing on a disk.
    pub(crate) fn start_in_memory() -> Result<Self> {
        Self::start_with(&[])
    }

    /// A server with these arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::start_known(arguments, &[])
    }

    /// A server with these arguments, and those by which `redis-cli` is let in.
    fn start_known(arguments: &[&str], cli: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let dir = tempfile::tempdir()?;
        let programs = programs()?;
        let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        let (arguments, cli): (Vec<String>, Vec<String>) = (owned(arguments), owned(cli));
        let process = run(&programs, dir.path(), port, &arguments)?;
        let mut server = Self {
            dir,
            programs,
            port,
            arguments,
            cli,
            process,
        };
        server.wait()?;
        Ok(server)
    }

    /// A sentinel that watches a master under the name `main`, alone.
    pub(crate) fn start_sentinel(master: u16) -> Result<Self> {
        let port = free_port()?;
        let dir = tempfile::tempdir()?;
        let programs = programs()?;
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n\
             sentinel parallel-syncs main 1\n"
        );
        let file = dir.path().join("sentinel.conf");
        std::fs::write(&file, settings)?;
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        let process = spawn(&programs, &arguments, dir.path())?;
        let mut server = Self {
            dir,
            programs,
            port,
            arguments,
            cli: Vec::new(),
            process,
        };
        server.wait()?;
        Ok(server)
    }

    /// A cluster of three masters.
    ///
    /// - `n_replicas`: of each master.
    /// - `arguments`: of every server.
    pub(crate) fn start_cluster(n_replicas: usize, arguments: &[&str]) -> Result<Vec<Self>> {
        Self::start_known_cluster(n_replicas, arguments, &[])
    }

    /// - `cli`: by which `redis-cli` is let in. With `--tls-cluster` among the arguments there are
    ///   no other ports than those that are encrypted.
    pub(crate) fn start_known_cluster(
        n_replicas: usize,
        arguments: &[&str],
        cli: &[&str],
    ) -> Result<Vec<Self>> {
        let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let arguments = [&own[..], arguments].concat();
        let n = 3 * (1 + n_replicas);
        let start = |_| Self::start_known(&arguments, cli);
        let servers: Result<Vec<Self>> = (0..n).map(start).collect();
        let servers = servers?;
        let addresses: Vec<String> = servers.iter().map(Self::address).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        let n_replicas = n_replicas.to_string();
        create.extend(["--cluster-replicas", &n_replicas, "--cluster-yes"]);
        let first = servers.first().context("six servers")?;
        let said = first.cli().args(&create).output()?;
        if !said.status.success() {
            bail!("{}", String::from_utf8_lossy(&said.stdout));
        }
        for server in &servers {
            server.wait_for(&["CLUSTER", "INFO"], "cluster_state:ok")?;
        }
        Ok(servers)
    }

    fn cli(&self) -> Command {
        let mut command = program(&self.programs, "redis-cli");
        command.args(&self.cli);
        command
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a machine that fails would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.programs, self.dir.path(), self.port, &self.arguments)?;
        self.wait()
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Has it do a command; gives what `redis-cli` printed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<String> {
        let said = self
            .cli()
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments)
            .output()?;
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.status.success() {
            bail!("{text} {}", String::from_utf8_lossy(&said.stderr));
        }
        Ok(text)
    }

    /// Has whichever server of its cluster has a key do a command; the key is the last argument,
    /// of any bytes.
    pub(crate) fn command_at(&self, arguments: &[&str], key: &[u8]) -> Result<String> {
        let mut said = self
            .cli()
            .args(["-c", "-x", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        said.stdin.take().context("it is piped")?.write_all(key)?;
        let said = said.wait_with_output()?;
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.status.success() {
            bail!("{text}");
        }
        Ok(text)
    }

    /// Has it do what [`Heard`] gave, one after another; gives what `redis-cli` printed.
    pub(crate) fn replay(&self, commands: &[String]) -> Result<String> {
        let mut said = self
            .cli()
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = said.stdin.take().context("it is piped")?;
        for command in commands {
            writeln!(stdin, "{command}")?;
        }
        drop(stdin);
        let said = said.wait_with_output()?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    /// Waits until a replica has all that it has made so far.
    pub(crate) fn wait_for_replica(&self) -> Result<()> {
        // `WAIT` asks for what its own connection saw made last.
        let said = self.replay(&["PING".to_owned(), "WAIT 1 30000".to_owned()])?;
        ensure!(said.ends_with("\n1"), "no replica has it: {said}");
        Ok(())
    }

    /// Listens to what it is asked from now on.
    pub(crate) fn listen(&self) -> Result<Heard> {
        let mut monitor = self.cli();
        let files = (0..).map(|n| self.dir.path().join(format!("heard-{n}")));
        let mut unused = files.filter(|file| !file.exists());
        let file = unused.next().context("there are more numbers")?;
        monitor.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "MONITOR"]);
        let process = Process::start(&monitor, &file)?;
        let heard = Heard { file, process };
        heard.wait_for("OK")?;
        Ok(heard)
    }

    /// Waits until what a command prints holds a text.
    pub(crate) fn wait_for(&self, arguments: &[&str], text: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let said = self.command(arguments);
            if said.as_ref().is_ok_and(|said| said.contains(text)) {
                return Ok(());
            }
            if began.elapsed() > START_TIME_MAX {
                bail!("{arguments:?} gives {said:?}, and never `{text}`");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            // One that wants a password answers as well.
            let said = self.command(&["PING"]);
            if said.is_ok_and(|said| said.contains("PONG") || said.contains("NOAUTH")) {
                return Ok(());
            }
            if self.process.has_ended() {
                bail!("redis-server ended");
            }
            if began.elapsed() > START_TIME_MAX {
                bail!("redis-server does not answer in time");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a server is asked, until it is enough.
pub(crate) struct Heard {
    file: PathBuf,
    process: Process,
}

impl Heard {
    /// All of it, as `redis-cli` takes it; what scripts did begins with `lua `.
    pub(crate) fn all(mut self, server: &Server) -> Result<Vec<String>> {
        server.command(&["PING", "enough"])?;
        let text = self.wait_for("\"PING\" \"enough\"")?;
        self.process.kill()?;
        // `time [database address] "command" …`
        let command = |line: &str| {
            let (head, rest) = line.split_once("] ")?;
            let by = if head.ends_with(" lua") { "lua " } else { "" };
            Some(format!("{by}{rest}"))
        };
        Ok(text.lines().filter_map(command).collect())
    }

    fn wait_for(&self, wanted: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            let text = std::fs::read(&self.file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            if text.contains(wanted) {
                return Ok(text);
            }
            if began.elapsed() > START_TIME_MAX {
                bail!("never heard `{wanted}`");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(programs: &Path, dir: &Path, port: u16, arguments: &[String]) -> Result<Process> {
    let mut all: Vec<String> = ["--bind", "127.0.0.1", "--save", ""]
        .map(str::to_owned)
        .to_vec();
    let is_encrypted = arguments.iter().any(|one| one == "--tls-cluster");
    let ports = match is_encrypted {
        true => &["--port", "0", "--tls-port"][..],
        false => &["--port"],
    };
    all.extend(ports.iter().map(|&one| one.to_owned()));
    all.push(port.to_string());
    all.push("--dir".to_owned());
    all.push(dir.display().to_string());
    all.extend_from_slice(arguments);
    spawn(programs, &all, dir)
}

fn spawn(programs: &Path, arguments: &[String], dir: &Path) -> Result<Process> {
    let mut command = program(programs, "redis-server");
    command.args(arguments);
    Process::start(&command, &dir.join("log"))
}

/// Libraries of programs that were unpacked lie beside them; where they were installed, the
/// system finds them.
fn program(programs: &Path, name: &str) -> Command {
    let root = programs.ancestors().nth(2).unwrap_or(Path::new("/"));
    let mut command = Command::new(programs.join(name));
    command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    command
}
