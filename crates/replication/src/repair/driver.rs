// SPDX-License-Identifier: Apache-2.0
//! The task that repairs this filer: one round at a time, when the watch says so, and what the
//! scrub finds in between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_replica::Repair;
use dulse_types::{Origin, ServerAddress};

use super::remote::{Own, Remote};
use super::round::{self, Peer, Report, Target};
use super::scrub::Scrubber;
use super::watch::Seen;
use crate::status::PeerState;
use crate::{Inner, metrics};

/// How often the watch is asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs until this filer stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut stop = inner.stop.subscribe();
    let mut scrubber = Scrubber::new(Arc::clone(&inner));
    loop {
        let now = inner.now();
        let due = inner.repairs.watch.lock().due(now);
        if let Some(peer) = due {
            against(&inner, peer).await;
            continue;
        }
        let pause = scrubber.step().await.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = inner.repairs.wake.notified() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// I1: equal vectors mean equal digests. Anything else is a bug or damage: it names itself, and
/// is repaired.
pub(crate) fn compared(inner: &Inner, peer: Origin, is_equal: bool) {
    let mut watch = inner.repairs.watch.lock();
    let seen = watch.compared(inner.now(), peer, is_equal);
    metrics::DIVERGED.set(watch.n_alarms() as f64);
    drop(watch);
    if !is_equal {
        metrics::DIVERGENCE.add(1);
        inner.repairs.wake.notify_one();
    }
    match seen {
        Seen::Known => {}
        Seen::Tell => tracing::error!(%peer, "I1 is violated: another filer has the same changes \
            and another digest; the differing rows are being repaired"),
        Seen::Over => tracing::warn!(%peer, "I1 holds again: the digests are equal"),
    }
}

/// Filers that can be asked now.
pub(crate) fn reachable(inner: &Inner) -> Vec<(Origin, ServerAddress)> {
    let applied = inner.store.shared().vector();
    let peers = inner.core.lock().peers(&applied).into_iter();
    peers
        .filter(|peer| matches!(peer.state, PeerState::Streaming | PeerState::Stuck))
        .map(|peer| (peer.origin, peer.address))
        .collect()
}

/// Connects to those that answer, the wanted one first.
pub(super) async fn connect(
    inner: &Inner,
    first: Origin,
    peers: Vec<(Origin, ServerAddress)>,
) -> Result<(Remote, Vec<Remote>), String> {
    let (mut wanted, mut others) = (None, Vec::new());
    for (origin, address) in peers {
        match Remote::connect(inner, &address).await {
            Ok(remote) if origin == first => wanted = Some(remote),
            Ok(remote) => others.push(remote),
            Err(error) if origin == first => return Err(error),
            Err(error) => tracing::debug!(%error, "a filer cannot be asked"),
        }
    }
    let wanted = wanted.ok_or_else(|| format!("filer {first} cannot be reached"))?;
    Ok((wanted, others))
}

async fn against(inner: &Arc<Inner>, peer: Origin) {
    let result = one_round(inner, peer, Target::All).await;
    let is_cut = result.as_ref().is_ok_and(|report| report.is_cut);
    inner.repairs.watch.lock().ended(inner.now(), peer, is_cut);
    if let Err(error) = result {
        tracing::warn!(%peer, %error, "repair failed; tried again later");
    }
}

/// One round against one peer; what it did is told and counted.
pub(super) async fn one_round(
    inner: &Arc<Inner>,
    peer: Origin,
    target: Target,
) -> Result<Report, String> {
    let (mut wanted, mut others) = connect(inner, peer, reachable(inner)).await?;
    let mut own = Own::new(inner);
    let run = tokio::task::spawn_blocking(move || {
        let mut others: Vec<&mut dyn Peer> =
            others.iter_mut().map(|p| p as &mut dyn Peer).collect();
        round::run(&mut own, &mut wanted, &mut others, &target)
    });
    let report = run.await.map_err(|e| e.to_string())??;
    told(&report, peer);
    Ok(report)
}

/// The same for rows that count in no digest: any peers will do.
pub(super) async fn restore(inner: &Arc<Inner>, keys: Vec<Bytes>) -> Result<Report, String> {
    let mut peers = Vec::new();
    for (_, address) in reachable(inner) {
        if let Ok(remote) = Remote::connect(inner, &address).await {
            peers.push(remote);
        }
    }
    let mut own = Own::new(inner);
    let run = tokio::task::spawn_blocking(move || {
        let mut peers: Vec<&mut dyn Peer> = peers.iter_mut().map(|p| p as &mut dyn Peer).collect();
        round::restore(&mut own, &mut peers, &keys)
    });
    let report = run.await.map_err(|e| e.to_string())??;
    metrics::REPAIRED.add(report.repaired.n_changed);
    metrics::REPAIR_BYTES.add(report.n_bytes);
    Ok(report)
}

/// Makes derived rows again.
pub(super) async fn settle(inner: &Inner, paths: Vec<Bytes>) -> Result<(), String> {
    let repair = Repair {
        settled: paths,
        ..Repair::default()
    };
    let done = inner.store.repair(repair).await;
    let done = done.map_err(|e| e.to_string())?;
    metrics::REPAIRED.add(done.n_changed);
    Ok(())
}

fn told(report: &Report, peer: Origin) {
    metrics::ROUNDS.add(1);
    metrics::REPAIRED.add(report.repaired.n_changed);
    metrics::REPAIR_BYTES.add(report.n_bytes);
    tracing::warn!(
        %peer,
        directories = report.n_directories,
        differences = report.n_items,
        fetched_rows = report.n_rows,
        sent_bytes = report.n_sent_bytes,
        fetched_bytes = report.n_bytes,
        changed_rows = report.repaired.n_changed,
        left = report.repaired.n_left,
        refused = report.repaired.n_refused,
        silent = report.n_silent,
        examples = ?report.examples,
        "compared with another filer and took in what differs"
    );
}
