// SPDX-License-Identifier: Apache-2.0
//! What all subscribers share: how far the log is complete, looked at once for all.
//!
//! One task asks for the low watermark and tells it; a thousand subscribers wait for that
//! and cost nothing while nothing happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dulse_replica::Shared;
use dulse_store::Error;
use dulse_types::{Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::HEARTBEAT_EVERY;
use super::log::Log;
use super::source::Source;
use crate::shared::{News, OnShared};
use crate::state::Embedded;

/// Looks at the log are at least this far apart: what happens between counts as one.
const ROUND_TIME_MIN: Duration = Duration::from_millis(1);

/// While events wait for the watermark it is asked for this often: it moves when peers
/// promise, and nothing else tells of that.
const WATERMARK_EVERY: Duration = Duration::from_millis(2);

/// Stretches of late events that are remembered for subscribers who resume.
const LATE_MAX: usize = 1_024;

/// Bytes of changes that all subscribers behind the shared end of the log may hold.
const BEHIND_BYTES_MAX: usize = 64 << 20;

/// Bytes of one subscriber's page at least and at most.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);

/// How far the log is complete.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Head {
    /// No event at or below it is still to come, of any filer that answers.
    pub limit: Stamp,
    /// What is on disk here. Order: read after `limit`, so it holds all that it promises.
    pub durable: Vector,
}

/// Events of one origin that came after the watermark had passed them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Late {
    origin: Origin,
    /// They lie behind it.
    from: Stamp,
    /// Cursors up to it may lack them.
    until: Stamp,
}

/// See the module. Public for the simulation.
pub struct Hub {
    pub(super) log: Log,
    heads: watch::Sender<Arc<Head>>,
    late: Mutex<VecDeque<Late>>,
    n_streams: AtomicUsize,
    arrived: Notify,
}

/// A subscriber that counts while it lives.
pub(super) struct Seat(Arc<Hub>);

impl Hub {
    /// Nothing is told yet, of a replica's log.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self::over(shared)
    }

    /// The same of any log.
    pub(super) fn over(source: Arc<dyn Source>) -> Self {
        Self {
            log: Log::new(source),
            heads: watch::Sender::new(Arc::default()),
            late: Mutex::default(),
            n_streams: AtomicUsize::new(0),
            arrived: Notify::new(),
        }
    }

    /// Counts a subscriber in.
    pub(super) fn sit(self: &Arc<Self>) -> Seat {
        self.n_streams.fetch_add(1, Ordering::Relaxed);
        self.arrived.notify_one();
        Seat(Arc::clone(self))
    }

    /// Told whenever the log is complete further.
    pub(super) fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.heads.subscribe()
    }

    /// Bytes of one page: less when there are many subscribers.
    pub(super) fn page_bytes(&self) -> usize {
        let n_lanes = self.n_streams.load(Ordering::Relaxed).max(1)
            * self.heads.borrow().durable.len().max(1);
        (BEHIND_BYTES_MAX / n_lanes).clamp(*PAGE_BYTES.start(), *PAGE_BYTES.end())
    }

    /// What may be told at a watermark. Order: both vectors were read after the watermark
    /// was asked for, `applied` first.
    #[must_use]
    pub fn head(&self, watermark: Stamp, applied: &Vector, durable: Vector) -> Head {
        let limit = readable(watermark, applied, &durable);
        Head {
            limit: limit.max(self.heads.borrow().limit),
            durable,
        }
    }

    /// Where a subscriber that resumes at `since` must begin with origins whose events came
    /// late: behind which stamp.
    pub(super) fn late_since(&self, since: Stamp) -> Vec<(Origin, Stamp)> {
        let late = self.late.lock();
        let missed = late.iter().filter(|late| since <= late.until);
        // Below `since` only: what lies above it is read anyway.
        let missed = missed.filter(|late| late.from < since);
        missed.map(|late| (late.origin, late.from)).collect()
    }

    /// Tells a new head; events that it adds below the old one's limit are late.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn publish(&self, head: Head) -> Result<(), Error> {
        let before = Arc::clone(&self.heads.borrow());
        for (origin, last) in head.durable.iter() {
            let from = before.durable.get(origin);
            if before.limit == Stamp::ZERO || last <= from || from >= before.limit {
                continue;
            }
            let n_late = self.n_events(origin, from, last.min(before.limit))?;
            if n_late > 0 {
                let n_late = i64::try_from(n_late).unwrap_or(i64::MAX);
                self.remember(Late {
                    origin,
                    from,
                    until: Stamp(before.limit.0.saturating_add(n_late)),
                });
            }
        }
        self.heads.send_replace(Arc::new(head));
        Ok(())
    }

    /// Events of an origin in `(after, until]`.
    fn n_events(&self, origin: Origin, mut after: Stamp, until: Stamp) -> Result<usize, Error> {
        let mut n_events = 0;
        while after < until {
            let page = self.log.page(origin, after, until, *PAGE_BYTES.end())?;
            let stamps = page.changes.iter().flat_map(|told| &told.events);
            n_events += stamps.filter(|(stamp, _)| *stamp <= until).count();
            if page.reached <= after {
                break;
            }
            after = page.reached;
        }
        Ok(n_events)
    }

    fn remember(&self, late: Late) {
        tracing::info!(origin = %late.origin, from = %late.from,
            "events came after the watermark had passed them; subscribers are told them late");
        let mut all = self.late.lock();
        if all.len() >= LATE_MAX {
            all.pop_front();
            tracing::warn!(
                "too many stretches of late events; a subscriber that resumes \
                before the oldest may miss some"
            );
        }
        all.push_back(late);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.n_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The watermark as far as the log can be read: peers' changes are applied before they are
/// on disk here, and only what is on disk is read.
fn readable(limit: Stamp, applied: &Vector, durable: &Vector) -> Stamp {
    let behind = applied
        .iter()
        .map(|(origin, stamp)| (durable.get(origin), stamp));
    let behind = behind.filter(|(on_disk, stamp)| on_disk < stamp);
    behind.map(|(on_disk, _)| on_disk).fold(limit, Stamp::min)
}

/// What happens in directories' own stores, beside a default store.
pub(super) struct Located(Vec<(Arc<OnShared>, News)>);

impl Located {
    pub(super) fn of(all: &[Arc<OnShared>]) -> Self {
        Self(all.iter().map(|on| (Arc::clone(on), on.news())).collect())
    }

    fn note_subscribers(&self, has_some: bool) {
        for (on, _) in &self.0 {
            on.note_subscribers(has_some);
        }
    }

    fn mark_seen(&mut self) {
        for (_, news) in &mut self.0 {
            news.mark_seen();
        }
    }

    /// Up to which stamp all is here, given the same of the default store. A database that does
    /// not answer, or not end a change, holds nobody up: what it has is told late then.
    fn limit(&self, of_default: Stamp) -> Stamp {
        let moving = self.0.iter().filter_map(|(on, _)| on.limit_of_moving());
        moving.fold(of_default, Stamp::min)
    }

    /// Has the clocks asked that hold up to there what waits.
    fn hurry(&self, limit: Stamp) {
        for (on, _) in self.0.iter().filter(|(on, _)| on.holds(limit)) {
            on.hurry();
        }
    }

    /// Adds what can be read here. Order: behind [`Located::limit`], so that it holds all below.
    fn read_into(&self, vector: &mut Vector) {
        for (on, _) in &self.0 {
            vector.merge_max(&on.readable());
        }
    }

    /// Returns when more is announced, never without any; false when the filer stops.
    async fn next(&mut self) -> bool {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let all = self.0.iter_mut().map(|(_, news)| Box::pin(news.next()));
        futures::future::select_all(all).await.0
    }
}

/// Whether events wait for the watermark.
fn waits(head: &Head) -> bool {
    head.durable.iter().any(|(_, stamp)| stamp > head.limit)
}

/// Follows the announcements on a shared store until the filer stops.
pub(super) async fn follow_shared(on: Arc<OnShared>, mut located: Located, hub: Arc<Hub>) {
    let mut news = on.news();
    let mut last = Instant::now();
    loop {
        let has_subscribers = hub.n_streams.load(Ordering::Relaxed) > 0;
        on.note_subscribers(has_subscribers);
        located.note_subscribers(has_subscribers);
        if !has_subscribers {
            hub.arrived.notified().await;
            continue;
        }
        news.mark_seen();
        located.mark_seen();
        // Order: what can be read is asked for behind the limit, so it holds all below it.
        let limit = located.limit(on.limit());
        let mut durable = on.readable();
        located.read_into(&mut durable);
        let head = hub.head(limit, &durable, durable.clone());
        let before = Arc::clone(&hub.heads.borrow());
        if waits(&head) {
            located.hurry(head.limit);
        }
        let is_news = head.durable != before.durable || head.limit > before.limit;
        if is_news || last.elapsed() >= HEARTBEAT_EVERY {
            last = Instant::now();
            if let Err(error) = hub.publish(head) {
                tracing::error!(%error, "subscribers wait: the announcements cannot be read");
            }
        }
        tokio::time::sleep(ROUND_TIME_MIN).await;
        tokio::select! {
            goes_on = news.next() => if !goes_on { return },
            goes_on = located.next() => if !goes_on { return },
            () = hub.arrived.notified() => {}
            () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
        }
    }
}

/// Follows the log until the filer stops.
pub(super) async fn follow(own: Embedded, mut located: Located, hub: Arc<Hub>) {
    let mut progress = own.store.progress();
    let mut last = Instant::now();
    loop {
        if hub.n_streams.load(Ordering::Relaxed) == 0 {
            located.note_subscribers(false);
            hub.arrived.notified().await;
        }
        located.note_subscribers(true);
        progress.borrow_and_update();
        located.mark_seen();
        let limit = located.limit(Stamp(own.replicator.low_watermark().await));
        let mut applied = own.store.shared().vector();
        let mut durable = own.store.shared().durable_vector();
        located.read_into(&mut applied);
        located.read_into(&mut durable);
        let before = Arc::clone(&hub.heads.borrow());
        let head = hub.head(limit, &applied, durable);
        let limit = head.limit;
        let is_waiting = waits(&head);
        if is_waiting {
            located.hurry(limit);
        }
        let is_news = head.durable != before.durable || waits(&before) && limit > before.limit;
        if is_news || last.elapsed() >= HEARTBEAT_EVERY {
            last = Instant::now();
            if let Err(error) = hub.publish(head) {
                tracing::error!(%error, "subscribers wait: the log cannot be read");
            }
        }
        tokio::time::sleep(ROUND_TIME_MIN).await;
        let pause = if is_waiting {
            WATERMARK_EVERY
        } else {
            HEARTBEAT_EVERY
        };
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            goes_on = located.next() => if !goes_on { return },
            () = hub.arrived.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(of: &[(u64, i64)]) -> Vector {
        of.iter().map(|(o, s)| (Origin(*o), Stamp(*s))).collect()
    }

    #[test]
    fn the_watermark_stays_below_what_is_applied_and_not_on_disk() {
        let applied = vector(&[(1, 90), (2, 70)]);
        let all = readable(Stamp(100), &applied, &applied);
        assert_eq!(all, Stamp(100), "what is idle holds nothing up");
        let part = readable(Stamp(100), &applied, &vector(&[(1, 90), (2, 60)]));
        assert_eq!(part, Stamp(60));
        let none = readable(Stamp(100), &applied, &vector(&[(1, 90)]));
        assert_eq!(none, Stamp::ZERO, "nothing of it is on disk");
    }
}
