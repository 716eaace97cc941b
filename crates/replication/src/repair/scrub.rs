// SPDX-License-Identifier: Apache-2.0
//! The background pass over all that is stored: at a bounded rate, step by step, what it finds
//! repaired at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dulse_cluster::Now;
use dulse_merge::digest::BUCKETS;
use dulse_replica::ScrubCursor;
use tokio::sync::watch;

use super::driver::{one_round, reachable, restore, settle};
use super::round::Target;
use crate::{Inner, metrics};

/// From one pass to the beginning of the next.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// After a start, until the first pass begins.
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// Rows of one step at least, so that a slow rate is few steps and not many snapshots.
const STEP_ROWS_MIN: u64 = 100;

/// Rows of one step at most.
const STEP_ROWS_MAX: u64 = 10_000;

/// From one pass that a damaged row asked for to the next: reads may come upon it all the time.
const DAMAGE_EVERY: Duration = Duration::from_secs(60);

/// Buckets whose sums are compared with those in memory by one call to the sequencer.
const BUCKETS_AT_ONCE: u16 = 64;

/// How far the scrub is, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubStatus {
    /// Whether a pass is running.
    pub is_running: bool,
    /// Rows looked at by the pass that is running, else by the last one.
    pub n_rows: u64,
    /// Passes completed since start.
    pub n_passes: u64,
    /// When the last pass was completed, in nanoseconds since 1970; 0 for none since start.
    pub last_pass_ns: i64,
    /// Places that the running pass, else the last one, found damaged.
    pub n_found: u64,
    /// Of those, places that could not be repaired.
    pub n_left: u64,
}

/// The pass.
pub(super) struct Scrubber {
    inner: Arc<Inner>,
    cursor: Option<ScrubCursor>,
    not_before: Now,
    asked: watch::Receiver<u64>,
    /// Reads that came upon damage.
    damage: watch::Receiver<u64>,
    damage_not_before: Now,
    /// A pass that was asked for runs without a pause.
    is_asked: bool,
    status: ScrubStatus,
}

impl Scrubber {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let asked = inner.repairs.ask_scrub.subscribe();
        let damage = inner.store.damage();
        Self {
            inner,
            cursor: None,
            not_before: FIRST_AFTER,
            asked,
            damage,
            damage_not_before: Now::ZERO,
            is_asked: false,
            status: ScrubStatus::default(),
        }
    }

    /// Does one step if one is due; gives the pause until the next.
    pub(super) async fn step(&mut self) -> Option<Duration> {
        if self.asked.has_changed().unwrap_or(false) {
            self.asked.borrow_and_update();
            self.is_asked = true;
            self.cursor = Some(self.begin());
        }
        // A read came upon a damaged row: there may be more, and where it is the pass finds out.
        if self.damage.has_changed().unwrap_or(false)
            && self.cursor.is_none()
            && self.inner.now() >= self.damage_not_before
            && self.may_begin()
        {
            self.damage.borrow_and_update();
            self.damage_not_before = self.inner.now() + DAMAGE_EVERY;
            self.is_asked = true;
            self.cursor = Some(self.begin());
        }
        let rate = self.inner.options.scrub_rate;
        if self.cursor.is_none() {
            if rate == 0 || self.inner.now() < self.not_before || !self.may_begin() {
                return None;
            }
            self.cursor = Some(self.begin());
        }
        let cursor = self.cursor.take()?;
        let rows = match self.is_asked {
            true => STEP_ROWS_MAX,
            false => (rate / 10).clamp(STEP_ROWS_MIN, STEP_ROWS_MAX),
        };
        let shared = Arc::clone(self.inner.store.shared());
        let step = tokio::task::spawn_blocking(move || shared.scrub(&cursor, rows)).await;
        let found = match step {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(%error, "the scrub cannot read the store");
                self.status.n_left += 1;
                self.over(false);
                return None;
            }
            Err(_) => return None,
        };
        self.status.n_rows += found.n_rows;
        metrics::SCRUBBED.add(found.n_rows);
        self.mend(found.directories, found.damaged, found.unsettled)
            .await;
        match found.next {
            Some(next) => self.cursor = Some(next),
            None => {
                self.recount().await;
                self.over(true);
            }
        }
        self.tell();
        if self.is_asked {
            return Some(Duration::ZERO);
        }
        Some(Duration::from_secs_f64(found.n_rows as f64 / rate as f64))
    }

    /// Nothing is looked at before this filer has all that the others had.
    fn may_begin(&self) -> bool {
        self.inner.ready.borrow().is_none()
    }

    fn begin(&mut self) -> ScrubCursor {
        self.status = ScrubStatus {
            is_running: true,
            n_rows: 0,
            n_found: 0,
            n_left: 0,
            ..self.status
        };
        self.tell();
        ScrubCursor::begin()
    }

    fn over(&mut self, is_complete: bool) {
        self.cursor = None;
        self.is_asked = false;
        self.not_before = self.inner.now() + PASS_EVERY;
        self.status.is_running = false;
        if is_complete {
            self.status.n_passes += 1;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.status.last_pass_ns = now
                .ok()
                .and_then(|now| i64::try_from(now.as_nanos()).ok())
                .unwrap_or(0);
            metrics::SCRUB_UNREPAIRED.set(self.status.n_left as f64);
            let status = self.status;
            tracing::info!(
                rows = status.n_rows,
                damaged = status.n_found,
                unrepaired = status.n_left,
                "looked through the whole store"
            );
        }
        self.tell();
    }

    fn tell(&self) {
        self.inner.repairs.scrub.send_replace(self.status);
    }

    async fn mend(&mut self, dirs: Vec<Bytes>, damaged: Vec<Bytes>, unsettled: Vec<Bytes>) {
        let n_found = (dirs.len() + damaged.len() + unsettled.len()) as u64;
        if n_found == 0 {
            return;
        }
        self.status.n_found += n_found;
        metrics::SCRUB_FOUND.add(n_found);
        let example = dirs.iter().chain(&unsettled).next();
        let example = example.map(|dir| String::from_utf8_lossy(dir).into_owned());
        tracing::error!(
            directories = dirs.len(),
            rows = damaged.len(),
            derived = unsettled.len(),
            example,
            "I1 is violated: stored rows are not what their digest says; repairing them from \
             the other filers"
        );
        if !unsettled.is_empty()
            && let Err(error) = settle(&self.inner, unsettled).await
        {
            tracing::warn!(%error, "derived rows could not be made again");
        }
        if !damaged.is_empty()
            && let Err(error) = restore(&self.inner, damaged.clone()).await
        {
            self.status.n_left += damaged.len() as u64;
            tracing::error!(%error, rows = damaged.len(), "damaged rows cannot be repaired");
        }
        let mut left = dirs;
        for (peer, _) in reachable(&self.inner) {
            if left.is_empty() {
                break;
            }
            let target = Target::Directories(left.clone());
            if let Err(error) = one_round(&self.inner, peer, target).await {
                tracing::warn!(%peer, %error, "repair failed; another filer is asked");
            }
            left = self.inconsistent(left).await;
        }
        if !left.is_empty() {
            self.status.n_left += left.len() as u64;
            tracing::error!(
                directories = left.len(),
                "damaged directories cannot be repaired now: no other filer has a copy that \
                 checks out; looked at again by the next pass"
            );
        }
    }

    async fn inconsistent(&self, dirs: Vec<Bytes>) -> Vec<Bytes> {
        let shared = Arc::clone(self.inner.store.shared());
        let look = tokio::task::spawn_blocking(move || {
            let census = shared.census().ok();
            let is_bad = |dir: &Bytes| {
                let census = census.as_ref();
                !census.is_some_and(|census| census.is_consistent(dir).unwrap_or(false))
            };
            dirs.into_iter().filter(is_bad).collect()
        });
        look.await.unwrap_or_default()
    }

    /// Digest rows that were lost with all that they summed show in the sums in memory alone.
    async fn recount(&mut self) {
        let mut from = 0;
        while from < BUCKETS {
            let until = from + BUCKETS_AT_ONCE;
            match self.inner.store.recount(from, until).await {
                Ok(differing) if differing.is_empty() => {}
                Ok(differing) => {
                    self.status.n_found += differing.len() as u64;
                    metrics::SCRUB_FOUND.add(differing.len() as u64);
                    tracing::error!(
                        buckets = differing.len(),
                        "I1 is violated: digest rows are not those that were summed; the other \
                         filers are compared with"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "the sums of the digest cannot be compared");
                    return;
                }
            }
            from = until;
        }
    }
}
