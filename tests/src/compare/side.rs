// SPDX-License-Identifier: Apache-2.0
//! A cluster of either system: three filers under a master and a volume server.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::client::Client;
use super::tree::{Tree, difference};
use super::{LOOK_EVERY, Outcome, SETTLE_TIME_MAX};
use crate::{
    Role, Whose, free_port, program, start_master, start_volume, start_weed_filer, wait_for,
};

/// One running cluster.
pub struct Side {
    whose: Whose,
    /// Where everything is kept.
    pub dir: tempfile::TempDir,
    master_port: u16,
    /// The master.
    pub master: Role,
    _volume: Role,
    /// The filers.
    pub filers: Vec<Role>,
    client: Client,
}

impl Deref for Side {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
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
            master,
            _volume: volume,
            filers: Vec::new(),
            client: Client::new()?,
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
        self.client.ports.push(port);
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
        self.client.ports[filer] = port;
        Ok(())
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

    /// What sends requests to its filers, for a task of its own. Filers that are added or
    /// moved later it does not know.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
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
