// SPDX-License-Identifier: Apache-2.0
//! A cluster whose first filer is on such a disk.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use dulse_tests::disk::{Disk, Loss};
use dulse_tests::{Cluster, program};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::Writer;

/// Writers at the filer on the disk.
const WRITERS: usize = 4;

/// Filer 0 is on the disk, and founded the cluster. Order: processes end before the disk does.
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    pub(crate) disk: Disk,
    pub(crate) engine: &'static str,
    pub(crate) random: StdRng,
    n_rounds: usize,
    _dir: tempfile::TempDir,
}

/// The seed of this run, different for each test.
pub(crate) fn seed(test: &str) -> Result<u64> {
    let given = std::env::var("DULSE_POWER_SEED").ok();
    let seed = given.map_or_else(|| Ok(rand::random::<u32>().into()), |seed| seed.parse())?;
    println!("{test}: again with DULSE_POWER_SEED={seed}");
    Ok(seed)
}

/// How many cuts a test makes.
pub(crate) fn rounds(standard: usize) -> Result<usize> {
    let given = std::env::var("DULSE_POWER_ROUNDS").ok();
    given.map_or(Ok(standard), |rounds| Ok(rounds.parse()?))
}

impl Rig {
    /// Starts it; the other filers have engines of their own.
    pub(crate) async fn start(
        seed: u64,
        engine: &'static str,
        others: &[&str],
        flags: &[&str],
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut all_flags = vec!["--inline-below=4KiB"];
        all_flags.extend(flags);
        let mut rig = Self {
            cluster: Cluster::start(&[]).await?,
            disk: Disk::mount(&dir.path().join("disk"), seed)?,
            engine,
            random: StdRng::seed_from_u64(seed),
            n_rounds: 0,
            _dir: dir,
        };
        let at = rig.store();
        rig.cluster.add_filer_at(&at, engine, &all_flags)?;
        rig.cluster.wait_ready(0).await?;
        for engine in others {
            rig.cluster.add_filer_with(engine, &all_flags)?;
        }
        for filer in 1..=others.len() {
            rig.cluster.wait_ready(filer).await?;
        }
        Ok(rig)
    }

    /// The store's directory: not the top of the disk, so that its own name must be synced too.
    pub(crate) fn store(&self) -> PathBuf {
        self.disk.path().join("store")
    }

    /// Several writers at filer 0 and one at each other, each with a directory of its own.
    pub(crate) fn writers(&mut self) -> Vec<Writer> {
        self.n_rounds += 1;
        let mut writers = Vec::new();
        for (filer, port) in self.cluster.filer_ports.iter().enumerate() {
            for n in 0..if filer == 0 { WRITERS } else { 1 } {
                let dir = format!("/round-{}/{filer}-{n}", self.n_rounds);
                writers.push(Writer::new(filer, *port, dir, self.random.random()));
            }
        }
        writers
    }

    /// Cuts the power after so many requests under load, and kills the filer with it.
    pub(crate) async fn cut_under_load(&mut self, after: u64, loss: Loss) -> Result<Vec<Writer>> {
        let mut writers = self.writers();
        let over = AtomicBool::new(false);
        let pid = Pid::from_raw(self.cluster.filers[0].pid().cast_signed());
        let pid = pid.context("a process id")?;
        self.disk.cut_after(after, loss);
        let killer = async {
            self.disk.wait_off().await;
            let killed = kill_process(pid, Signal::KILL);
            over.store(true, Ordering::Relaxed);
            killed
        };
        let working = writers.iter_mut().map(|writer| writer.work(&over));
        let (killed, _) = futures::join!(killer, futures::future::join_all(working));
        killed?;
        self.cluster.filers[0].kill()?;
        Ok(writers)
    }

    /// Starts filer 0 anew and cuts the power after so many requests, or under load.
    pub(crate) async fn start_and_cut(&mut self, after: u64, loss: Loss) -> Result<Vec<Writer>> {
        self.disk.cut_after(after, loss);
        self.cluster.filers[0].restart()?;
        let is_off = tokio::select! {
            () = self.disk.wait_off() => true,
            ready = self.cluster.wait_ready(0) => {
                ready?;
                false
            }
        };
        if is_off {
            self.cluster.filers[0].kill()?;
            return Ok(Vec::new());
        }
        self.cut_under_load(after, loss).await
    }

    /// The power is back, and the filer is started; perhaps the power goes again while it
    /// recovers.
    pub(crate) async fn recover(&mut self) -> Result<()> {
        loop {
            self.disk.power_on()?;
            let is_unlucky = self.random.random_ratio(1, 3);
            if is_unlucky {
                let after = self.random.random_range(1..30);
                let loss = Loss::EACH[self.random.random_range(0..3)];
                self.disk.cut_after(after, loss);
            }
            self.cluster.filers[0].restart()?;
            let is_ready = tokio::select! {
                () = self.disk.wait_off() => false,
                ready = self.cluster.wait_ready(0) => {
                    ready?;
                    true
                }
            };
            if is_ready && is_unlucky {
                // It was not that many requests. The next may be the one.
                self.disk.cut_after(0, Loss::All);
            } else if is_ready {
                return Ok(());
            }
            self.cluster.filers[0].kill()?;
        }
    }

    /// All filers agree, and their rows with their digests.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.cluster.wait_converged().await?;
        ensure!(self.cluster.verify()? == Some(0), "verify");
        let master = format!("127.0.0.1:{}", self.cluster.master_port);
        let output = Command::new(program()?)
            .args(["verify", "--scrub", "--master", &master])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(0), "verify --scrub: {text}");
        let n_clean = text.matches(" 0 places damaged").count();
        ensure!(n_clean == self.cluster.filers.len(), "{text}");
        Ok(())
    }
}
