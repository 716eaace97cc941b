// SPDX-License-Identifier: Apache-2.0
//! The systems under measurement. All speak the same protocol, so that an adapter is
//! little more than how to start one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::entries;
use crate::process::Process;

/// A client of a filer.
pub(crate) type Client = SeaweedFilerClient<Channel>;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Largest message that a client takes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Whose program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// `weed` 4.48, LevelDB store, its defaults.
    Upstream,
    /// Ours, redb store, `fsync`.
    Dulse,
    /// Empty services.
    Ceiling,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) weed: PathBuf,
    pub(crate) dulse: PathBuf,
    pub(crate) engine: String,
    pub(crate) durability: String,
}

/// A running system.
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) filers: Vec<Filer>,
    programs: Programs,
    master_port: u16,
    others: Vec<Process>,
    /// Where its filers' `filer.toml` lies, if it is not for flags to say what they are.
    config: Option<PathBuf>,
    dir: TempDir,
}

/// One of its filers.
pub(crate) struct Filer {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Filer {
    /// One connection to its gRPC port.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(crate) async fn client(&self) -> Result<Client> {
        connect(&format!("127.0.0.1:{}", self.port + 10_000)).await
    }

    /// As many connections.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(crate) async fn clients(&self, n: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(n);
        for _ in 0..n {
            clients.push(self.client().await?);
        }
        Ok(clients)
    }

    /// Waits until the filer shows an entry; gives how long that took.
    ///
    /// # Errors
    ///
    /// When it takes longer than [`PATIENCE`].
    pub(crate) async fn wait_visible(&self, directory: &str, name: &str) -> Result<Duration> {
        let start = Instant::now();
        let request = pb::LookupDirectoryEntryRequest {
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        loop {
            if let Ok(mut client) = self.client().await {
                loop {
                    match client.lookup_directory_entry(request.clone()).await {
                        Ok(answer) if answer.get_ref().entry.is_some() => {
                            return Ok(start.elapsed());
                        }
                        Err(status) if status.code() == tonic::Code::Unavailable => break,
                        _ => patient(start, "an entry to be visible")?,
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            patient(start, "a filer to answer")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Creates one entry, trying until the filer is ready.
    ///
    /// # Errors
    ///
    /// When it takes longer than [`PATIENCE`].
    pub(crate) async fn mark(&self, directory: &str, name: &str) -> Result<()> {
        let start = Instant::now();
        let mut entry = dulse_types::EntryFields {
            name: name.to_owned(),
            ..Default::default()
        };
        entry.attributes.get_or_insert_default().file_mode = 0o660;
        let request = pb::CreateEntryRequest {
            directory: directory.to_owned(),
            entry: Some(entry.to_entry(&Default::default())),
            ..Default::default()
        };
        loop {
            if let Ok(mut client) = self.client().await
                && let Ok(answer) = client.create_entry(request.clone()).await
                && answer.get_ref().error.is_empty()
            {
                return Ok(());
            }
            if self.process.has_ended() {
                bail!(
                    "a filer ended by itself; its log ends with:\n{}",
                    self.process.end_of_log()
                );
            }
            patient(start, "a filer to take a create")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn patient(start: Instant, what: &str) -> Result<()> {
    if start.elapsed() > PATIENCE {
        bail!("waited {PATIENCE:?} in vain for {what}");
    }
    Ok(())
}

/// One connection to a gRPC address, `host:port`.
///
/// # Errors
///
/// When nothing answers there.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let channel = endpoint
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))?;
    Ok(SeaweedFilerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

impl System {
    /// Starts a system and waits until its filers take writes and see each other's.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub(crate) async fn start(kind: Kind, programs: &Programs, n_filers: usize) -> Result<Self> {
        Self::start_configured(kind, programs, n_filers, None).await
    }

    /// The same with one filer, on the store that a `filer.toml` names.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub(crate) async fn start_on(kind: Kind, programs: &Programs, toml: &str) -> Result<Self> {
        Self::start_configured(kind, programs, 1, Some(toml)).await
    }

    async fn start_configured(
        kind: Kind,
        programs: &Programs,
        n_filers: usize,
        toml: Option<&str>,
    ) -> Result<Self> {
        let (master_port, volume_port) = (free_port()?, free_port()?);
        let dir = tempfile::Builder::new().prefix("dulse-bench-").tempdir()?;
        let config = toml.map(|_| dir.path().join("config"));
        if let Some((config, toml)) = config.as_ref().zip(toml) {
            std::fs::create_dir(config)?;
            std::fs::write(config.join("filer.toml"), toml)?;
        }
        let mut system = Self {
            kind,
            filers: Vec::new(),
            programs: programs.clone(),
            master_port,
            others: Vec::new(),
            config,
            dir,
        };
        let (master, volume) = (system.master(), system.volume(volume_port));
        for (name, arguments) in [("master", master), ("volume", volume)] {
            if kind != Kind::Ceiling {
                let process = system.process(name, arguments)?;
                system.others.push(process);
            }
        }
        for _ in 0..n_filers {
            system.add_filer()?;
            system.settle().await?;
        }
        Ok(system)
    }

    /// Starts one more filer on an empty directory. It may not be ready yet.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn add_filer(&mut self) -> Result<()> {
        let port = free_port()?;
        let name = format!("filer-{}-{port}", self.filers.len());
        let arguments = self.filer(&name, port);
        let process = self.process(&name, arguments)?;
        self.filers.push(Filer { process, port });
        Ok(())
    }

    /// Waits until what each filer takes is visible at each other one.
    ///
    /// # Errors
    ///
    /// When it takes too long.
    pub(crate) async fn settle(&self) -> Result<()> {
        let stamp = self.filers.len();
        for (i, filer) in self.filers.iter().enumerate() {
            let name = format!("settle-{stamp}-{i}");
            filer.mark("/bench/marks", &name).await?;
            if self.kind == Kind::Ceiling {
                continue;
            }
            for other in &self.filers {
                other.wait_visible("/bench/marks", &name).await?;
            }
        }
        Ok(())
    }

    /// Its processes.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        let filers = self.filers.iter().map(|filer| &filer.process);
        filers.chain(&self.others).map(Process::id).collect()
    }

    fn process(&self, name: &str, arguments: Vec<String>) -> Result<Process> {
        let program = match self.kind {
            Kind::Upstream => self.programs.weed.clone(),
            Kind::Dulse => self.programs.dulse.clone(),
            Kind::Ceiling => std::env::current_exe()?,
        };
        if self.kind == Kind::Upstream {
            std::fs::create_dir_all(self.dir.path().join(name))?;
        }
        let arguments = arguments.into_iter().map(OsString::from).collect();
        let log = self.dir.path().join(format!("{name}.log"));
        Process::start(&program, arguments, &log)
    }

    fn path(&self, name: &str) -> String {
        path_text(&self.dir.path().join(name))
    }

    fn master(&self) -> Vec<String> {
        let (port, dir) = (self.master_port, self.path("master"));
        if self.kind == Kind::Dulse {
            return vec![
                "master".to_owned(),
                format!("--port={port}"),
                format!("--dir={dir}"),
            ];
        }
        vec![
            "master".to_owned(),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-peers=none".to_owned(),
            format!("-port={port}"),
            format!("-mdir={dir}"),
        ]
    }

    fn volume(&self, port: u16) -> Vec<String> {
        let (master, dir) = (
            format!("127.0.0.1:{}", self.master_port),
            self.path("volume"),
        );
        if self.kind == Kind::Dulse {
            return vec![
                "volume".to_owned(),
                format!("--port={port}"),
                format!("--dir={dir}"),
                format!("--master={master}"),
            ];
        }
        vec![
            "volume".to_owned(),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-max=20".to_owned(),
            format!("-port={port}"),
            format!("-dir={dir}"),
            format!("-master={master}"),
        ]
    }

    fn filer(&self, name: &str, port: u16) -> Vec<String> {
        let (master, dir) = (format!("127.0.0.1:{}", self.master_port), self.path(name));
        let config = self.config.as_deref().map(path_text);
        match self.kind {
            Kind::Upstream => {
                let config = config.map(|config| format!("-config_dir={config}"));
                let arguments = [
                    "filer".to_owned(),
                    "-ip=127.0.0.1".to_owned(),
                    "-ip.bind=127.0.0.1".to_owned(),
                    format!("-port={port}"),
                    format!("-master={master}"),
                    format!("-defaultStoreDir={dir}"),
                    format!("-localSocket={}", self.path(&format!("{name}.sock"))),
                ];
                config.into_iter().chain(arguments).collect()
            }
            Kind::Dulse => {
                let mut arguments = vec![
                    "filer".to_owned(),
                    format!("--port={port}"),
                    format!("--master={master}"),
                    format!("--dir={dir}"),
                ];
                arguments.extend(match config {
                    Some(config) => vec![format!("--config-dir={config}")],
                    None => vec![
                        format!("--engine={}", self.programs.engine),
                        format!("--durability={}", self.programs.durability),
                    ],
                });
                arguments
            }
            Kind::Ceiling => vec![
                "ceiling".to_owned(),
                format!("--http=127.0.0.1:{port}"),
                format!("--grpc=127.0.0.1:{}", port + 10_000),
            ],
        }
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A free port whose gRPC port is free, too.
fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = rand::random_range(20_000..45_000);
        let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return Ok(port);
        }
    }
    bail!("no free port found")
}

/// The request that creates the n-th file of a set.
pub(crate) fn create_request(set: &str, n: u64) -> pb::CreateEntryRequest {
    pb::CreateEntryRequest {
        directory: entries::directory(set, n),
        entry: Some(entries::file(n, 0)),
        ..Default::default()
    }
}
