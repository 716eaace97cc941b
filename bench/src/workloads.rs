// SPDX-License-Identifier: Apache-2.0
//! The workloads, each a function of running systems.

pub(crate) mod bootstrap;
pub(crate) mod catch_up;
pub(crate) mod drain;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod lag;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::drive::{Driven, Limits, drive};
use crate::system::{Client, Filer, System, create_request};

/// Clients of the gRPC workloads, each with a connection of its own.
pub(crate) const GRPC_CLIENTS: usize = 32;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) repetitions: u32,
    /// Of one timed workload.
    pub(crate) time: Duration,
    /// Changes missed by a filer that was away.
    pub(crate) missed_changes: u64,
    /// Entries that a fresh filer takes.
    pub(crate) bootstrap_entries: u64,
    /// Changes of which the time to the second filer is taken.
    pub(crate) probes: u64,
}

impl Plan {
    /// The whole.
    pub(crate) fn full() -> Self {
        Self {
            repetitions: 3,
            time: Duration::from_secs(4),
            missed_changes: 100_000,
            bootstrap_entries: 400_000,
            probes: 500,
        }
    }

    /// A look: too short for figures to rely on.
    pub(crate) fn quick() -> Self {
        Self {
            repetitions: 1,
            time: Duration::from_millis(1500),
            missed_changes: 20_000,
            bootstrap_entries: 50_000,
            probes: 150,
        }
    }
}

/// CPU time of all filers of a system, the first one apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) first: Duration,
    pub(crate) others: Duration,
}

impl Cpu {
    /// Of now.
    pub(crate) fn of(system: &System) -> Result<Self> {
        let mut times = Vec::new();
        for filer in &system.filers {
            times.push(filer.process.cpu()?);
        }
        Ok(Self {
            first: times.first().copied().unwrap_or_default(),
            others: times.iter().skip(1).sum(),
        })
    }

    /// What was used since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            first: self.first.saturating_sub(before.first),
            others: self.others.saturating_sub(before.others),
        }
    }
}

/// Creates the files 0 to `n` of a set at a filer.
pub(crate) async fn fill(filer: &Filer, set: &str, n: u64) -> Result<Driven> {
    let clients = filer.clients(GRPC_CLIENTS).await?;
    let set = set.to_owned();
    drive(&clients, Limits::operations(n), move |client, n| {
        create(client, set.clone(), n)
    })
    .await
}

/// Creates one file.
pub(crate) async fn create(mut client: Client, set: String, n: u64) -> Result<()> {
    let answer = client.create_entry(create_request(&set, n)).await?;
    let error = &answer.get_ref().error;
    anyhow::ensure!(error.is_empty(), "create: {error}");
    Ok(())
}

/// Waits until the filers of a system have used next to no CPU time for a while.
pub(crate) async fn wait_quiet(system: &System) -> Result<()> {
    /// How long they must be quiet.
    const WINDOW: Duration = Duration::from_millis(1500);
    /// What a quiet filer may use in that time.
    const USED_MAX: Duration = Duration::from_millis(60);
    /// Then it is measured as it is.
    const PATIENCE: Duration = Duration::from_secs(120);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let before = Cpu::of(system)?;
        tokio::time::sleep(WINDOW).await;
        let used = Cpu::of(system)?.since(before);
        if used.first + used.others <= USED_MAX {
            break;
        }
    }
    Ok(())
}
