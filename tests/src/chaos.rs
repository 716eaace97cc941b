// SPDX-License-Identifier: Apache-2.0
//! Workloads under random faults, judged by what was acknowledged.
//!
//! Three filers, a master and a volume server as real processes; filers are frozen, killed
//! with -9 and stopped while clients write to them. The checkers know requests and answers
//! and nothing else: an answer that came is a promise, one that did not come may be either.
//!
//! - *Registers*: each client writes growing numbers to files of its own at one filer. In
//!   the end a file holds the last acknowledged number, or one without an answer that may
//!   have been carried out after it.
//! - *Sets*: each client adds names to shared directories and removes some of its own. What
//!   was added is there, what was removed is not, nothing is there that nobody asked for.
//! - *Trees*: clients move directories to new names of their own choice at different filers.
//!   Each file in them is somewhere, exactly once: no rename loses or doubles one.
//! - *Watching*: at each filer a subscriber that resumes where its stream broke has seen
//!   every acknowledged addition.

mod clients;
mod faults;
mod judge;
mod register;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::Cluster;
pub use faults::Faults;
use register::Register;

/// Engines of the filers: they must agree whatever they are.
const ENGINES: [&str; 3] = ["redb", "sqlite", "leveldb"];

/// How long filers may take to agree once all is healed.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(180);

/// How often `dulse verify` is asked that cannot compare the filers.
const VERIFY_TRIES_MAX: u32 = 3;

/// Pause before it is asked again.
const AFTER_VERIFY: Duration = Duration::from_secs(5);

/// What was asked and answered.
#[derive(Default, Debug)]
struct Ledger {
    /// What each register may hold.
    registers: BTreeMap<String, Register>,
    /// Paths in sets: what is certain of each, `None` when nothing is.
    sets: BTreeMap<String, Option<bool>>,
    /// Every path whose addition was acknowledged, whatever became of it.
    added: BTreeSet<String>,
    /// Names of files that are moved about with their directories.
    wanderers: BTreeSet<String>,
    counts: Counts,
}

/// Answers.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Requests that were refused, as by a filer that is not ready.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answers to writes.
    pub counts: Counts,
    /// Faults, by kind.
    pub faults: Faults,
    /// Entries at the end, the same at every filer.
    pub n_entries: usize,
    /// Events that the subscribers saw, together.
    pub n_events: u64,
    /// Time until all agreed.
    pub settled: Duration,
}

/// Runs workloads under faults for so long, then heals everything and checks.
///
/// # Errors
///
/// What was promised and does not hold.
pub async fn run(seed: u64, time: Duration) -> Result<Report> {
    let mut cluster = Cluster::start(&ENGINES).await?;
    let ledger = Arc::new(std::sync::Mutex::new(Ledger::default()));
    let over = Arc::new(AtomicBool::new(false));
    clients::prepare(&cluster, &ledger).await?;
    let watchers = watch::start(&cluster.filer_ports);
    let working = clients::start(&cluster, seed, &ledger, &over);
    let faults = faults::inflict(&mut cluster, seed, time).await;
    over.store(true, Ordering::Relaxed);
    for client in working {
        client.await?;
    }
    let faults = faults?;
    let began = Instant::now();
    settle(&mut cluster, began).await?;
    let settled = began.elapsed();
    verify(&cluster).await?;
    let ledger = std::mem::take(&mut *lock(&ledger));
    let n_entries = judge::trees(&cluster, &ledger).await?;
    let n_events = watch::judge(watchers, &ledger.added).await?;
    Ok(Report {
        counts: ledger.counts,
        faults,
        n_entries,
        n_events,
        settled,
    })
}

/// Waits until every filer serves and all agree. Who ended by itself is told at once: nobody
/// would start it again.
async fn settle(cluster: &mut Cluster, began: Instant) -> Result<()> {
    for filer in 0..ENGINES.len() {
        while let Err(error) = cluster.wait_ready(filer).await {
            ensure!(!cluster.filers[filer].has_ended()?, "it ended: {error:#}");
            ensure!(began.elapsed() < SETTLE_TIME_MAX, "{error:#}");
        }
    }
    while let Err(error) = cluster.wait_converged().await {
        ensure!(
            began.elapsed() < SETTLE_TIME_MAX,
            "{error:#}, long after all was healed"
        );
    }
    Ok(())
}

/// `dulse verify` says that all are equal; that it could not compare them is another answer,
/// and asked for again: a machine under load may not answer it in time.
async fn verify(cluster: &Cluster) -> Result<()> {
    for _ in 0..VERIFY_TRIES_MAX {
        match cluster.verify()? {
            Some(0) => return Ok(()),
            Some(1) => bail!("`dulse verify` finds differences"),
            other => println!("`dulse verify` could not compare the filers: {other:?}"),
        }
        tokio::time::sleep(AFTER_VERIFY).await;
    }
    bail!("`dulse verify` could not compare the filers {VERIFY_TRIES_MAX} times")
}

fn lock(ledger: &std::sync::Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
