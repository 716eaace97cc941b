// SPDX-License-Identifier: Apache-2.0
//! What happens to filers and master meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Cluster;

/// Longest pause between two faults.
const PAUSE_MS_MAX: u64 = 2_500;

/// Longest time that a process is frozen or gone: longer than a stream may be silent.
const AWAY_MS_MAX: u64 = 7_000;

/// How often each fault was inflicted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    /// SIGSTOP, and SIGCONT later.
    pub frozen: u32,
    /// SIGKILL.
    pub killed: u32,
    /// SIGTERM.
    pub stopped: u32,
    /// SIGKILL of the master.
    pub masters_killed: u32,
}

/// One process that is frozen or gone, and until when.
enum Away {
    Frozen(usize, Instant),
    Dead(usize, Instant),
    Master(Instant),
}

impl Away {
    fn until(&self) -> Instant {
        match self {
            Self::Frozen(_, until) | Self::Dead(_, until) | Self::Master(until) => *until,
        }
    }

    fn end(&self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Self::Frozen(filer, _) => cluster.filers[*filer].thaw(),
            Self::Dead(filer, _) => cluster.filers[*filer].restart(),
            Self::Master(_) => cluster.master.restart(),
        }
    }

    fn is_of(&self, which: usize) -> bool {
        match self {
            Self::Frozen(filer, _) | Self::Dead(filer, _) => *filer == which,
            Self::Master(_) => false,
        }
    }
}

/// Inflicts faults for so long, all filers at once among them, and then heals them all.
///
/// # Errors
///
/// When a process cannot be started again.
pub(super) async fn inflict(cluster: &mut Cluster, seed: u64, time: Duration) -> Result<Faults> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = Instant::now() + time;
    let mut faults = Faults::default();
    let mut away: Vec<Away> = Vec::new();
    while Instant::now() < end {
        let pause = Duration::from_millis(rng.random_range(100..PAUSE_MS_MAX));
        tokio::time::sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
        let now = Instant::now();
        let (over, still): (Vec<_>, Vec<_>) = away.into_iter().partition(|a| a.until() <= now);
        away = still;
        for ended in over {
            ended.end(cluster)?;
        }
        let until = now + Duration::from_millis(rng.random_range(200..AWAY_MS_MAX));
        let (filer, kind) = (
            rng.random_range(0..cluster.filers.len()),
            rng.random_range(0..10),
        );
        if kind == 9 {
            if !away.iter().any(|a| matches!(a, Away::Master(_))) {
                cluster.master.kill()?;
                away.push(Away::Master(until));
                faults.masters_killed += 1;
            }
            continue;
        }
        if away.iter().any(|a| a.is_of(filer)) {
            continue;
        }
        away.push(match kind {
            0..4 => {
                cluster.filers[filer].freeze()?;
                faults.frozen += 1;
                Away::Frozen(filer, until)
            }
            4..8 => {
                cluster.filers[filer].kill()?;
                faults.killed += 1;
                Away::Dead(filer, until)
            }
            _ => {
                cluster.filers[filer].terminate()?;
                faults.stopped += 1;
                Away::Dead(filer, until)
            }
        });
    }
    for ended in away {
        ended.end(cluster)?;
    }
    Ok(faults)
}
