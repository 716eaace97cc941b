// SPDX-License-Identifier: Apache-2.0
//! One disk is slow.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::all_there;
use crate::rig::{Rig, seed};

/// How long each of its syncs takes.
const SYNC: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_millis(500);

/// And each of its writes.
const WRITE: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_millis(5);

/// Writes at the filer on it, after which the test ends.
const ENOUGH_SLOW: usize = 40;

/// Writes at each other filer, at least.
const ENOUGH: usize = 150;

/// What the filer may take with its caches, in bytes.
const MEMORY_MAX: u64 = 400 << 20;

/// One figure of a filer's metrics.
async fn metric(rig: &Rig, filer: usize, name: &str) -> Result<f64> {
    let answer = rig.cluster.http.get(rig.cluster.url(filer, "/metrics"));
    let text = answer.send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no `{name}`"))?;
    Ok(value.trim().parse()?)
}

/// Looks at the filers until told: not one is unready for a moment, and nothing piles up.
async fn watch(rig: &Rig, over: &AtomicBool) -> Result<f64> {
    let mut queue: f64 = 0.0;
    while !over.load(Ordering::Relaxed) {
        for filer in 0..rig.cluster.filers.len() {
            let (is_ready, why) = rig.cluster.readiness(filer).await;
            ensure!(is_ready, "filer {filer} is not ready: {why}");
        }
        queue = queue.max(metric(rig, 0, "dulse_commit_queue").await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(queue)
}

pub(crate) async fn stalls_nobody(engine: &'static str) -> Result<()> {
    let seed = seed("stalls_nobody")?;
    let mut rig = Rig::start(seed, engine, &["redb", "sqlite"], &[]).await?;
    rig.settle().await?;
    let syncs = ["_sum", "_count"].map(|of| format!("dulse_journal_sync_seconds{of}"));
    let (sum, count) = (
        metric(&rig, 0, &syncs[0]).await?,
        metric(&rig, 0, &syncs[1]).await?,
    );
    rig.disk.slow_syncs(Some(SYNC));
    rig.disk.slow_writes(Some(WRITE));
    let mut writers = rig.writers();
    let (over, n_over) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = rig.disk.counts();
    let n_writers = writers.len();
    let working = writers.iter_mut().map(|writer| {
        let (over, n_over) = (&over, &n_over);
        async move {
            let enough = match writer.filer {
                0 => ENOUGH_SLOW / 4,
                _ => ENOUGH,
            };
            while writer.n_acknowledged < enough && writer.refusal.is_empty() {
                writer.step().await;
            }
            if n_over.fetch_add(1, Ordering::Relaxed) + 1 == n_writers {
                over.store(true, Ordering::Relaxed);
            }
        }
    });
    let (watched, _) = futures::join!(watch(&rig, &over), futures::future::join_all(working));
    let queue = watched?;
    let synced = rig.disk.counts().synced - before.synced;
    let refused: Vec<_> = writers.iter().filter(|w| !w.refusal.is_empty()).collect();
    let said: Vec<_> = refused.iter().map(|w| &w.refusal).collect();
    ensure!(said.is_empty(), "refused: {said:?}");
    println!("{synced} slow syncs, at most {queue} requests in the queue");
    // Nobody else waits for that disk: they would have had to wait for one sync each.
    ensure!(
        synced < ENOUGH as u64,
        "{synced} syncs of the slow disk during {ENOUGH} writes at others"
    );
    ensure!(queue <= n_writers as f64 + 16.0, "{queue} requests wait");
    // It is to be seen where the time goes.
    let sum = metric(&rig, 0, &syncs[0]).await? - sum;
    let count = metric(&rig, 0, &syncs[1]).await? - count;
    ensure!(
        count > 0.0 && sum >= count * SYNC.start.as_secs_f64() * 0.9,
        "{count} syncs, {sum} s"
    );
    let memory = rig.cluster.filers[0].peak_memory()?;
    ensure!(memory < MEMORY_MAX, "{memory} bytes of memory");

    rig.disk.slow_syncs(None);
    rig.disk.slow_writes(None);
    rig.settle().await?;
    all_there(&rig.cluster, &writers).await
}
