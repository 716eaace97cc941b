// SPDX-License-Identifier: Apache-2.0
//! An etcd server for tests: in a directory of its own, on loopback, ended with its test.
//!
//! Its programs are Debian's, installed or unpacked into the cache by `cargo xtask setup`;
//! `DULSE_ETCD` names the folder of `etcd` and `etcdctl` where they lie elsewhere.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_shared_testkit::{Process, place};

/// How long the server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(180);

pub(crate) struct Server {
    dir: tempfile::TempDir,
    programs: PathBuf,
    pub(crate) port: u16,
    peer_port: u16,
    process: Process,
    more: Vec<String>,
    /// What its clients are told beside the address: how it is encrypted.
    scheme: &'static str,
}

fn programs() -> Result<PathBuf> {
    let named = std::env::var_os("DULSE_ETCD").map(PathBuf::from);
    let cache = std::env::var_os("DULSE_CACHE").map(PathBuf::from);
    let cache = cache
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dulse")));
    let cached = cache.map(|cache| cache.join("servers/etcd-3.4/root/usr/bin"));
    let installed = Some(PathBuf::from("/usr/bin"));
    let mut all = [named, installed, cached].into_iter().flatten();
    all.find(|dir| dir.join("etcd").is_file() && dir.join("etcdctl").is_file())
        .context("no etcd here; run `cargo xtask setup`")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// - `more`: options beside those that every test needs.
    pub(crate) fn start(more: &[&str]) -> Result<Self> {
        Self::start_in(place()?, more)
    }

    /// Where its syncs cost what they cost.
    pub(crate) fn start_on_disk(more: &[&str]) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, more)
    }

    fn start_in(dir: tempfile::TempDir, more: &[&str]) -> Result<Self> {
        let mut server = Self::begin(dir, [free_port()?, free_port()?], more)?;
        server.wait()?;
        Ok(server)
    }

    /// Starts it, and waits for nothing.
    fn begin(dir: tempfile::TempDir, [port, peer_port]: [u16; 2], more: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let more: Vec<String> = more.iter().map(|&option| option.to_owned()).collect();
        let process = run(&programs, dir.path(), [port, peer_port], "http", &more)?;
        Ok(Self {
            dir,
            programs,
            port,
            peer_port,
            process,
            more,
            scheme: "http",
        })
    }

    /// Three members of one cluster.
    pub(crate) fn start_cluster() -> Result<Vec<Self>> {
        let ports: Result<Vec<[u16; 2]>> =
            (0..3).map(|_| Ok([free_port()?, free_port()?])).collect();
        let ports = ports?;
        let all = ports.iter().enumerate();
        let all = all.map(|(n, [_, peer])| format!("m{n}=http://127.0.0.1:{peer}"));
        let all = format!("--initial-cluster={}", all.collect::<Vec<_>>().join(","));
        let begin = |(n, ports): (usize, [u16; 2])| {
            Self::begin(place()?, ports, &[&format!("--name=m{n}"), &all])
        };
        let members: Result<Vec<Self>> = ports.into_iter().enumerate().map(begin).collect();
        let mut members = members?;
        // None serves before most are there.
        members.iter_mut().try_for_each(Self::wait)?;
        Ok(members)
    }

    /// Whether it leads its cluster; not when it does not answer.
    pub(crate) fn leads(&self) -> bool {
        // Address, id, version, size, whether it leads, …
        let said = self.ctl(&["endpoint", "status"]).unwrap_or_default();
        said.split(", ").nth(4) == Some("true")
    }

    /// Kills it as a machine that loses power would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        let ports = [self.port, self.peer_port];
        self.process = run(
            &self.programs,
            self.dir.path(),
            ports,
            self.scheme,
            &self.more,
        )?;
        self.wait()
    }

    /// Has it take encrypted connections only, of clients that its authority knows; it is started
    /// again for that.
    pub(crate) fn encrypt(&mut self, certificate: &str, key: &str, authority: &Path) -> Result<()> {
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.dir.path().join(name);
            std::fs::write(&file, content)?;
            let option = if name.ends_with("key") { "key" } else { "cert" };
            self.more
                .push(format!("--{option}-file={}", file.display()));
        }
        let authority = format!("--trusted-ca-file={}", authority.display());
        self.more
            .extend([authority, "--client-cert-auth=true".to_owned()]);
        self.scheme = "https";
        self.kill()?;
        self.start_again()
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// It says so itself, in its log, once it serves clients.
    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(self.dir.path().join("log"))?;
            let is_serving = said.contains("serving insecure client requests")
                || said.contains("serving client requests")
                || said.contains("serving client traffic");
            if is_serving && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if self.process.has_ended() {
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                bail!("etcd ended: {last:#?}");
            }
            ensure!(
                began.elapsed() < START_TIME_MAX,
                "etcd does not answer within {} s",
                START_TIME_MAX.as_secs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs its own client; gives what it printed.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let said = Command::new(self.programs.join("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address()])
            .args(arguments)
            .output()?;
        ensure!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(String::from_utf8(said.stdout)?)
    }
}

fn run(
    programs: &Path,
    dir: &Path,
    [port, peer_port]: [u16; 2],
    scheme: &str,
    more: &[String],
) -> Result<Process> {
    // Of this start alone: what was said before would be taken for it.
    let log = dir.join("log");
    std::fs::File::create(&log)?;
    let url = format!("{scheme}://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(programs.join("etcd"));
    command
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(more);
    Process::start(&command, &log)
}
