// SPDX-License-Identifier: Apache-2.0
//! A cluster of either system: three filers under a master and a volume server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use reqwest::{Client, Method};
use tonic::transport::Channel;

use super::tree::{Tree, difference, tree_of};
use super::{Outcome, SETTLE_TIME_MAX};
use crate::{
    Role, Whose, free_port, program, start_master, start_volume, start_weed_filer, wait_for,
};

/// How long one request may take: a filer that is frozen answers never.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks at trees.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One running cluster.
pub struct Side {
    whose: Whose,
    /// Where everything is kept.
    pub dir: tempfile::TempDir,
    master_port: u16,
    _master: Role,
    _volume: Role,
    /// The filers.
    pub filers: Vec<Role>,
    /// Their HTTP ports.
    pub ports: Vec<u16>,
    http: Client,
}

impl Side {
    /// Starts a cluster with so many filers and waits until each sees what the others write.
    ///
    /// # Errors
    ///
    /// When that does not come about.
    pub async fn start(whose: Whose, n_filers: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (master_port, volume_port) = (free_port()?, free_port()?);
        let master = start_master(whose, dir.path(), master_port)?;
        let volume = start_volume(whose, dir.path(), volume_port, master_port)?;
        let mut side = Self {
            whose,
            dir,
            master_port,
            _master: master,
            _volume: volume,
            filers: Vec::new(),
            ports: Vec::new(),
            http: Client::builder().timeout(REQUEST_TIME_MAX).build()?,
        };
        for _ in 0..n_filers {
            side.add_filer()?;
        }
        let all: Vec<usize> = (0..n_filers).collect();
        for filer in &all {
            side.wait_serving(*filer).await?;
        }
        for filer in &all {
            let path = format!("/first/{filer}");
            let taken = || async { side.put(*filer, &path, b"x").await.is_ok() };
            wait_for("a filer that takes writes", taken).await?;
        }
        let is_seen = side.agree("/first", &all, &[]).await?;
        ensure!(
            is_seen.passes,
            "filers do not see each other: {}",
            is_seen.seen
        );
        Ok(side)
    }

    /// Starts one more filer on an empty directory.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn add_filer(&mut self) -> Result<usize> {
        let port = free_port()?;
        let role = match self.whose {
            Whose::Ours => {
                let dir = self.dir.path().join(format!("filer-{port}"));
                let arguments = vec![
                    "filer".to_owned(),
                    format!("--port={port}"),
                    format!("--dir={}", dir.display()),
                    "--exit-with-stdin".to_owned(),
                    format!("--master=127.0.0.1:{}", self.master_port),
                ];
                Role::start_program(program()?, arguments)?
            }
            Whose::Upstreams => start_weed_filer(self.dir.path(), port, self.master_port, &[])?,
        };
        self.filers.push(role);
        self.ports.push(port);
        Ok(self.filers.len() - 1)
    }

    /// Where a filer keeps its store.
    #[must_use]
    pub fn store(&self, filer: usize) -> PathBuf {
        let name = match self.whose {
            Whose::Ours => format!("filer-{}", self.ports[filer]),
            Whose::Upstreams => format!("weed-filer-{}", self.ports[filer]),
        };
        self.dir.path().join(name)
    }

    /// Removes a filer's store, as when its disk is replaced.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn wipe(&self, filer: usize) -> Result<()> {
        let store = self.store(filer);
        std::fs::remove_dir_all(&store)?;
        Ok(std::fs::create_dir_all(&store)?)
    }

    /// Starts a killed filer again, at another port.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart_at(&mut self, filer: usize, port: u16) -> Result<()> {
        let flag = match self.whose {
            Whose::Ours => "--port=",
            Whose::Upstreams => "-port=",
        };
        self.filers[filer].restart_replacing(flag, &port.to_string())?;
        self.ports[filer] = port;
        Ok(())
    }

    fn url(&self, filer: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[filer])
    }

    /// Waits until a filer serves its namespace.
    ///
    /// # Errors
    ///
    /// When it takes too long.
    pub async fn wait_serving(&self, filer: usize) -> Result<()> {
        let listed = || async { self.tree(filer, "/first").await.is_ok() };
        wait_for("a filer that serves", listed).await
    }

    /// A client of a filer's gRPC interface.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn grpc(&self, filer: usize) -> Result<SeaweedFilerClient<Channel>> {
        let port = self.ports[filer] + 10_000;
        Ok(SeaweedFilerClient::connect(format!("http://127.0.0.1:{port}")).await?)
    }

    /// The status of a request.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn ask(&self, filer: usize, method: Method, path: &str, body: &[u8]) -> Result<u16> {
        let request = self.http.request(method, self.url(filer, path));
        let answer = request.body(body.to_vec()).send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok(status)
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn put(&self, filer: usize, path: &str, content: &[u8]) -> Result<()> {
        let status = self.ask(filer, Method::PUT, path, content).await?;
        ensure!(status == 201, "put {path}: {status}");
        Ok(())
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn mkdir(&self, filer: usize, path: &str) -> Result<()> {
        let status = self
            .ask(filer, Method::POST, &format!("{path}/"), b"")
            .await?;
        ensure!(status == 201, "mkdir {path}: {status}");
        Ok(())
    }

    /// Deletes a file, or a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn delete(&self, filer: usize, path: &str) -> Result<()> {
        let path = format!("{path}?recursive=true");
        let status = self.ask(filer, Method::DELETE, &path, b"").await?;
        ensure!(status == 204, "delete {path}: {status}");
        Ok(())
    }

    /// Renames.
    ///
    /// # Errors
    ///
    /// When it is not acknowledged.
    pub async fn rename(&self, filer: usize, from: &str, to: &str) -> Result<()> {
        let path = format!("{to}?mv.from={from}");
        let status = self.ask(filer, Method::POST, &path, b"").await?;
        ensure!(status == 204, "rename {from} {to}: {status}");
        Ok(())
    }

    /// The content of a file; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// When the filer does not answer as it should.
    pub async fn get(&self, filer: usize, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.http.get(self.url(filer, path)).send().await?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.bytes().await?.to_vec())),
            404 => Ok(None),
            other => bail!("get {path}: {other}"),
        }
    }

    /// All that a filer shows below a directory.
    ///
    /// # Errors
    ///
    /// When it does not answer as it should.
    pub async fn tree(&self, filer: usize, dir: &str) -> Result<Tree> {
        let base = self.url(filer, "");
        let tree = tree_of(&self.http, &base, dir).await;
        tree.with_context(|| format!("list {dir} at filer {filer}"))
    }

    /// Waits until these filers show the same below a directory and all of `wanted`: paths
    /// that were acknowledged. Fails with what differs when that takes too long.
    ///
    /// # Errors
    ///
    /// When a filer does not answer.
    pub async fn agree(&self, dir: &str, filers: &[usize], wanted: &[String]) -> Result<Outcome> {
        let began = Instant::now();
        loop {
            let mut trees = Vec::new();
            for filer in filers {
                trees.push(self.tree(*filer, dir).await?);
            }
            let why = difference(&trees, wanted);
            let seconds = began.elapsed().as_secs_f64();
            match why {
                None => {
                    let n = trees.first().map_or(0, Tree::len);
                    return Ok(Outcome::pass(format!(
                        "equal after {seconds:.1} s, {n} entries"
                    )));
                }
                Some(why) if began.elapsed() > SETTLE_TIME_MAX => {
                    let max = SETTLE_TIME_MAX.as_secs();
                    return Ok(Outcome::fail(format!("after {max} s {why}")));
                }
                Some(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}
