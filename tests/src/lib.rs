// SPDX-License-Identifier: Apache-2.0
//! Real processes on loopback: started, frozen, killed, asked.

pub mod apart;
pub mod authority;
pub mod chaos;
pub mod chunks;
pub mod compare;
pub mod cross;
pub mod disk;
pub mod links;
pub mod located;
pub mod pair;
pub mod peer;
mod ports;
pub mod raw;
mod role;
pub mod secured;
pub mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use tonic::transport::Channel;

pub use ports::{free_port, free_ports};
pub use role::{Role, Whose};

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
///
/// # Errors
///
/// When `DULSE_BIN` does not say where it is; `cargo xtask test servers` builds and names it.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("DULSE_BIN").map(PathBuf::from);
    let path = path.context("DULSE_BIN is not set; run `cargo xtask test servers`")?;
    if !path.exists() {
        bail!(
            "{} does not exist; run `cargo xtask test servers`",
            path.display()
        );
    }
    Ok(path)
}

/// Upstream's program.
///
/// # Errors
///
/// When `DULSE_WEED` does not say where it is; `cargo xtask setup` fetches it, and
/// `cargo xtask test upstream` names it.
pub fn weed() -> Result<PathBuf> {
    let path = std::env::var_os("DULSE_WEED").map(PathBuf::from);
    path.context("DULSE_WEED is not set; run `cargo xtask test upstream`")
}

/// A master, a volume server and filers.
pub struct Cluster {
    /// Where everything is kept.
    pub dir: tempfile::TempDir,
    /// HTTP port of the master.
    pub master_port: u16,
    /// HTTP port of the volume server.
    pub volume_port: u16,
    /// The master.
    pub master: Role,
    /// The volume server.
    pub volume: Role,
    /// The filers.
    pub filers: Vec<Role>,
    /// Their HTTP ports.
    pub filer_ports: Vec<u16>,
    /// For requests.
    pub http: reqwest::Client,
    /// Further volume servers, see [`Cluster::add_volume`].
    pub more: Vec<Role>,
}

/// Upstream's flag for the directory of `security.toml`, which comes before the role.
fn weed_config(dir: &Path) -> Vec<String> {
    let flag = format!("-config_dir={}", dir.display());
    let files = ["security.toml", "filer.toml"];
    let is_there = files.iter().any(|file| dir.join(file).exists());
    is_there.then_some(flag).into_iter().collect()
}

pub(crate) fn start_master(whose: Whose, dir: &Path, port: u16) -> Result<Role> {
    let config = dir;
    let dir = dir.join("master").display().to_string();
    if whose == Whose::Ours {
        return Role::start(vec![
            "master".to_owned(),
            format!("--port={port}"),
            format!("--dir={dir}"),
            format!("--config-dir={}", config.display()),
            "--exit-with-stdin".to_owned(),
        ]);
    }
    std::fs::create_dir_all(&dir)?;
    let arguments = [
        "master",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-peers=none",
        "-volumeSizeLimitMB=100",
    ];
    let arguments = arguments.map(str::to_owned);
    let mut arguments: Vec<_> = weed_config(config).into_iter().chain(arguments).collect();
    arguments.extend([format!("-port={port}"), format!("-mdir={dir}")]);
    Role::start_program(weed()?, arguments)
}

pub(crate) fn start_volume(whose: Whose, dir: &Path, port: u16, master_port: u16) -> Result<Role> {
    let config = dir;
    let dir = dir.join(format!("volume-{port}")).display().to_string();
    if whose == Whose::Ours {
        return Role::start(vec![
            "volume".to_owned(),
            format!("--port={port}"),
            format!("--dir={dir}"),
            format!("--config-dir={}", config.display()),
            "--exit-with-stdin".to_owned(),
            format!("--master=127.0.0.1:{master_port}"),
        ]);
    }
    std::fs::create_dir_all(&dir)?;
    let arguments = ["volume", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-max=100"];
    let arguments = arguments.map(str::to_owned);
    let mut arguments: Vec<_> = weed_config(config).into_iter().chain(arguments).collect();
    arguments.extend([
        format!("-port={port}"),
        format!("-dir={dir}"),
        format!("-master=127.0.0.1:{master_port}"),
    ]);
    Role::start_program(weed()?, arguments)
}

/// Upstream's master, volume server and filer.
pub struct Upstream {
    /// Where everything is kept.
    pub dir: tempfile::TempDir,
    /// HTTP port of the filer.
    pub filer_port: u16,
    /// HTTP port of the master.
    pub master_port: u16,
    /// The filer.
    pub filer: Role,
    _others: [Role; 2],
}

impl Upstream {
    /// Starts them, with more flags for the filer, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(flags: &[&str]) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, flags).await
    }

    /// The same in a directory where the filer's `filer.toml` may lie.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Result<Self> {
        let (master_port, volume_port, filer_port) = (free_port()?, free_port()?, free_port()?);
        let others = [
            start_master(Whose::Upstreams, dir.path(), master_port)?,
            start_volume(Whose::Upstreams, dir.path(), volume_port, master_port)?,
        ];
        let filer = start_weed_filer(dir.path(), filer_port, master_port, flags)?;
        let upstream = Self {
            dir,
            filer_port,
            master_port,
            filer,
            _others: others,
        };
        let answers = || async {
            let written = raw::ask(filer_port, "PUT", "/first", &[], b"first").await;
            written.is_ok_and(|a| a.status == 201)
        };
        wait_for("upstream's filer that takes writes", answers).await?;
        Ok(upstream)
    }
}

/// Starts upstream's filer under any master, its store in a directory of its own.
///
/// # Errors
///
/// When it cannot be started.
pub fn start_weed_filer(dir: &Path, port: u16, master_port: u16, flags: &[&str]) -> Result<Role> {
    let mut arguments = weed_config(dir);
    let dir = dir.join(format!("weed-filer-{port}"));
    std::fs::create_dir_all(&dir)?;
    arguments.extend(["filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"].map(str::to_owned));
    arguments.extend([
        format!("-port={port}"),
        format!("-defaultStoreDir={}", dir.display()),
        format!("-localSocket={}", dir.join("filer.sock").display()),
        format!("-master=127.0.0.1:{master_port}"),
    ]);
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Role::start_program(weed()?, arguments)
}

impl Cluster {
    /// Starts a cluster and waits until every filer is ready.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(engines: &[&str]) -> Result<Self> {
        Self::start_beside(engines, Whose::Ours, Whose::Ours).await
    }

    /// The same, where master and volume server may be upstream's.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start_beside(engines: &[&str], master: Whose, volume: Whose) -> Result<Self> {
        Self::start_secured(engines, master, volume, |_| Ok(())).await
    }

    /// The same with a `security.toml` that `prepare` writes to the cluster's directory.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start_secured(
        engines: &[&str],
        master: Whose,
        volume: Whose,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        prepare(dir.path())?;
        let (master_port, volume_port) = (free_port()?, free_port()?);
        let master = start_master(master, dir.path(), master_port)?;
        let volume = start_volume(volume, dir.path(), volume_port, master_port)?;
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let mut cluster = Self {
            dir,
            master_port,
            volume_port,
            master,
            volume,
            filers: Vec::new(),
            filer_ports: Vec::new(),
            http,
            more: Vec::new(),
        };
        for engine in engines {
            cluster.add_filer(engine)?;
        }
        for i in 0..engines.len() {
            cluster.wait_ready(i).await?;
        }
        Ok(cluster)
    }

    /// Starts a cluster whose filers have more flags, and waits until each is ready.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start_with(engines: &[&str], flags: &[&str]) -> Result<Self> {
        let mut cluster = Self::start(&[]).await?;
        for engine in engines {
            cluster.add_filer_with(engine, flags)?;
        }
        for i in 0..engines.len() {
            cluster.wait_ready(i).await?;
        }
        Ok(cluster)
    }

    /// Starts one more volume server; gives its port.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_volume(&mut self, whose: Whose) -> Result<u16> {
        let port = free_port()?;
        let role = start_volume(whose, self.dir.path(), port, self.master_port)?;
        self.more.push(role);
        Ok(port)
    }

    /// Starts one more filer, on an empty directory; gives its number.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer(&mut self, engine: &str) -> Result<usize> {
        self.add_filer_with(engine, &[])
    }

    /// The same with more flags.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer_with(&mut self, engine: &str, flags: &[&str]) -> Result<usize> {
        let dir = self.dir.path().join(format!("filer-{}", self.filers.len()));
        self.add_filer_at(&dir, engine, flags)
    }

    /// The same in a directory of the caller's.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer_at(&mut self, dir: &Path, engine: &str, flags: &[&str]) -> Result<usize> {
        let (n, port) = (self.filers.len(), free_port()?);
        let mut arguments = vec![
            "filer".to_owned(),
            format!("--port={port}"),
            format!("--dir={}", dir.display()),
            format!("--config-dir={}", self.dir.path().display()),
            "--exit-with-stdin".to_owned(),
            format!("--master=127.0.0.1:{}", self.master_port),
            format!("--engine={engine}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.filers.push(Role::start(arguments)?);
        self.filer_ports.push(port);
        Ok(n)
    }

    /// Starts a filer whose store is where the `filer.toml` in `config` says.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer_by_file(&mut self, config: &Path) -> Result<usize> {
        let (n, port) = (self.filers.len(), free_port()?);
        self.filers.push(Role::start(vec![
            "filer".to_owned(),
            format!("--port={port}"),
            format!("--config-dir={}", config.display()),
            "--exit-with-stdin".to_owned(),
            format!("--master=127.0.0.1:{}", self.master_port),
        ])?);
        self.filer_ports.push(port);
        Ok(n)
    }

    /// Starts a filer by a `filer.toml` in a directory that names a shared store; in a directory of
    /// its own below the cluster's.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer_on(&mut self, config: &Path, flags: &[&str]) -> Result<usize> {
        let (n, port) = (self.filers.len(), free_port()?);
        let mut arguments = vec![
            "filer".to_owned(),
            format!("--port={port}"),
            format!(
                "--dir={}",
                self.dir.path().join(format!("shared-{n}")).display()
            ),
            format!("--config-dir={}", config.display()),
            "--exit-with-stdin".to_owned(),
            format!("--master=127.0.0.1:{}", self.master_port),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.filers.push(Role::start(arguments)?);
        self.filer_ports.push(port);
        Ok(n)
    }

    /// Runs a command of our program; gives all that it prints, whatever came of it.
    ///
    /// - `filer`: asked where the command asks one filer.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub fn dulse(&self, arguments: &[&str], filer: usize) -> Result<String> {
        let mut command = Command::new(program()?);
        command
            .args(arguments)
            .arg("--config-dir")
            .arg(self.dir.path());
        match arguments.first() {
            Some(&"status") => {
                command.arg(format!("--master=127.0.0.1:{}", self.master_port));
            }
            _ => {
                command.arg(format!("--filer=127.0.0.1:{}", self.filer_ports[filer]));
            }
        }
        let output = command.output()?;
        let (out, err) = (output.stdout, output.stderr);
        Ok(String::from_utf8_lossy(&[out, err].concat()).into_owned())
    }

    /// A client of a filer's gRPC interface.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn grpc(&self, filer: usize) -> Result<SeaweedFilerClient<Channel>> {
        let port = self.filer_ports[filer] + 10_000;
        Ok(SeaweedFilerClient::connect(format!("http://127.0.0.1:{port}")).await?)
    }

    /// The address of a path at a filer.
    #[must_use]
    pub fn url(&self, filer: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.filer_ports[filer])
    }

    /// Waits until a filer serves the namespace.
    ///
    /// # Errors
    ///
    /// When it takes longer than [`PATIENCE`].
    pub async fn wait_ready(&self, filer: usize) -> Result<()> {
        let last = std::sync::Mutex::new(String::new());
        let ready = || async {
            let (is_ready, said) = self.readiness(filer).await;
            *last
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = said;
            is_ready
        };
        let waited = wait_for("a filer that is ready", ready).await;
        waited.with_context(|| {
            let last = last.lock();
            let last = last.unwrap_or_else(std::sync::PoisonError::into_inner);
            format!("filer {filer} said last: {last}")
        })
    }

    /// Whether a filer serves the namespace, and what it said to the question.
    pub async fn readiness(&self, filer: usize) -> (bool, String) {
        let request = self.http.get(self.url(filer, "/readyz"));
        match request.timeout(Duration::from_secs(2)).send().await {
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                (status.is_success(), format!("{status} {}", text.trim()))
            }
            Err(error) => (false, format!("{:#}", anyhow::Error::from(error))),
        }
    }

    /// Makes a directory: a change of metadata alone.
    ///
    /// # Errors
    ///
    /// When the filer does not acknowledge it.
    pub async fn mkdir(&self, filer: usize, path: &str) -> Result<()> {
        let answer = self
            .http
            .post(self.url(filer, &format!("{path}/")))
            .send()
            .await?;
        if answer.status() != 201 {
            bail!("mkdir {path}: {} {}", answer.status(), answer.text().await?);
        }
        Ok(())
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// When the filer does not acknowledge it.
    pub async fn put(&self, filer: usize, path: &str, content: Vec<u8>) -> Result<()> {
        let answer = self
            .http
            .put(self.url(filer, path))
            .body(content)
            .send()
            .await?;
        if answer.status() != 201 {
            bail!("put {path}: {} {}", answer.status(), answer.text().await?);
        }
        Ok(())
    }

    /// Reads a file; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// When the filer does not answer as it should.
    pub async fn get(&self, filer: usize, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.http.get(self.url(filer, path)).send().await?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.bytes().await?.to_vec())),
            404 => Ok(None),
            other => bail!("get {path}: {other} {}", answer.text().await?),
        }
    }

    /// Names in a directory; none when it is not there.
    ///
    /// # Errors
    ///
    /// When the filer does not answer as it should.
    pub async fn names(&self, filer: usize, dir: &str) -> Result<Vec<String>> {
        let request = self
            .http
            .get(self.url(filer, &format!("{dir}/?limit=100000")));
        let answer = request.header("accept", "application/json").send().await?;
        if answer.status() == 404 {
            return Ok(Vec::new());
        }
        let (status, text) = (answer.status(), answer.text().await?);
        let listing: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{status}: `{text}`"))?;
        let rows = listing["Entries"].as_array().cloned().unwrap_or_default();
        let name = |row: &serde_json::Value| {
            let path = row["FullPath"].as_str().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        Ok(rows.iter().map(name).collect())
    }

    /// Waits until a filer has ended by itself, and gives what it says when it is run again.
    ///
    /// # Errors
    ///
    /// When it goes on for a minute, or ends with another code than 2.
    pub async fn refusal(&mut self, filer: usize) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        while !self.filers[filer].has_ended()? {
            if Instant::now() > deadline {
                bail!("filer {filer} goes on");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let output = self.filers[filer].run()?;
        if output.status.code() != Some(2) {
            bail!("filer {filer} ended with {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// How many filers a filer counts that do not go with it; `None` when it does not answer.
    pub async fn misfits(&self, filer: usize) -> Option<f64> {
        let answer = self.http.get(self.url(filer, "/metrics")).send().await;
        let text = answer.ok()?.text().await.ok()?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("dulse_misfit_filers "))?;
        line.parse().ok()
    }

    /// Runs `dulse verify`; its exit code.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub fn verify(&self) -> Result<Option<i32>> {
        let master = format!("127.0.0.1:{}", self.master_port);
        let output = Command::new(program()?)
            .args(["verify", "--master", &master, "--config-dir"])
            .arg(self.dir.path())
            .output()?;
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.status.code())
    }

    /// The same of some filers, whoever else the master remembers.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub fn verify_of(&self, filers: &[usize]) -> Result<Option<i32>> {
        let addresses = filers
            .iter()
            .map(|i| format!("127.0.0.1:{}", self.filer_ports[*i]));
        let addresses: Vec<_> = addresses.collect();
        let output = Command::new(program()?)
            .args(["verify", "--filers", &addresses.join(","), "--config-dir"])
            .arg(self.dir.path())
            .output()?;
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.status.code())
    }

    /// Waits until `dulse status` says that all filers agree.
    ///
    /// # Errors
    ///
    /// When it takes longer than [`PATIENCE`].
    pub async fn wait_converged(&self) -> Result<()> {
        let master = format!("127.0.0.1:{}", self.master_port);
        let program = program()?;
        let converged = || async {
            let mut command = Command::new(&program);
            let output = command
                .args([
                    "status",
                    "--format=json",
                    "--master",
                    &master,
                    "--config-dir",
                ])
                .arg(self.dir.path())
                .output();
            output.is_ok_and(|o| {
                let text = String::from_utf8_lossy(&o.stdout);
                text.contains("\"converged\": true")
            })
        };
        wait_for("filers that agree", converged).await
    }
}

/// Waits until something holds.
///
/// # Errors
///
/// When it takes longer than [`PATIENCE`].
pub async fn wait_for<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
