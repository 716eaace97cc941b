// SPDX-License-Identifier: Apache-2.0
//! Answers to clients that are held back until other filers have the write on disk.
//!
//! The sequencer goes on meanwhile: a write that waits is in the log and in the engine, readers
//! see it and peers pull it; only its answer is missing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dulse_store::{Commit, Done, Error, ErrorKind, Operation};
use dulse_types::Stamp;
use parking_lot::Mutex;

use crate::metrics;
use crate::waits::{WAITING_MAX, Waits};

/// How long an answer is held back, unless told otherwise: longer than a restart of a filer,
/// shorter than clients wait.
pub const PEERS_WAIT: Duration = Duration::from_secs(10);

/// An answer that is held back.
struct Held {
    began: Instant,
    commit: Commit,
    done: Done,
}

/// The answers of one filer, and what its members have.
pub(crate) struct Acknowledged {
    started: Instant,
    wait_max: Duration,
    /// Invariant: no answer is given while it is locked, since whoever gets one may write again.
    waits: Mutex<Waits<Held>>,
    /// Writes on their way to the log that will wait.
    n_coming: AtomicUsize,
}

impl Acknowledged {
    pub(crate) fn new(wait_max: Duration) -> Self {
        Self {
            started: Instant::now(),
            wait_max,
            waits: Mutex::default(),
            n_coming: AtomicUsize::new(0),
        }
    }

    /// Whether a write that waits for so many may be begun.
    ///
    /// ⚠ Refused before it is made where it could only wait in vain: not applied is a better
    /// answer than unknown.
    ///
    /// # Errors
    ///
    /// `Unavailable` when fewer are connected or too many wait.
    pub(crate) fn begin(&self, n_peers: usize) -> Result<(), Error> {
        let (n_connected, n_waiting) = {
            let waits = self.waits.lock();
            (waits.n_peers(), waits.len())
        };
        let why = if n_connected < n_peers {
            format!(
                "durability peers({n_peers}) needs {n_peers} connected filers beside this one; \
                 there are {n_connected}"
            )
        } else if n_waiting >= WAITING_MAX {
            format!("{WAITING_MAX} writes wait for other filers already")
        } else {
            self.n_coming.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        metrics::PEERS_REFUSED.add(1);
        let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
        Err(error.with("because", why))
    }

    /// What [`Acknowledged::begin`] let in is in the log, or is not.
    pub(crate) fn made(&self, n_peers: usize, result: Result<Commit, Error>, done: Done) {
        let commit = match result {
            Ok(commit) => commit,
            Err(error) => {
                self.n_coming.fetch_sub(1, Ordering::Relaxed);
                return done(Err(error));
            }
        };
        let stamp = commit.stamp;
        let held = Held {
            began: Instant::now(),
            commit,
            done,
        };
        let until = self.started.elapsed() + self.wait_max;
        let is_there = self.waits.lock().wait(stamp, n_peers, until, held);
        // Order: it is counted until it waits, so that whoever sends it knows.
        self.n_coming.fetch_sub(1, Ordering::Relaxed);
        is_there.into_iter().for_each(answer);
    }

    /// Whether anybody waits for what is sent to peers now.
    pub(crate) fn is_awaited(&self) -> bool {
        self.n_coming.load(Ordering::Relaxed) > 0 || !self.waits.lock().is_empty()
    }

    /// How many answers are held back.
    pub(crate) fn n_waiting(&self) -> usize {
        self.waits.lock().len()
    }

    /// What each connected member has of this filer's log on disk.
    pub(crate) fn told(&self, held: Vec<Stamp>) {
        let done = self.waits.lock().told(held);
        done.into_iter().for_each(answer);
    }

    /// When [`Acknowledged::expire`] has something to do next.
    pub(crate) fn next_end(&self) -> Option<Duration> {
        let next = self.waits.lock().next_end()?;
        Some(next.saturating_sub(self.started.elapsed()))
    }

    /// Ends what has waited too long.
    pub(crate) fn expire(&self) {
        let over = self.waits.lock().expired(self.started.elapsed());
        for (held, n_have, n_asked) in over {
            let within = format!("within {:.1} s", self.wait_max.as_secs_f64());
            unacknowledged(held, n_have, n_asked, &within);
        }
    }

    /// Ends all: this filer stops.
    pub(crate) fn end(&self) {
        let all = self.waits.lock().end();
        for (held, n_have, n_asked) in all {
            unacknowledged(held, n_have, n_asked, "before this filer stopped");
        }
    }
}

fn answer(held: Held) {
    metrics::PEERS_SECONDS.record(held.began.elapsed().as_secs_f64());
    (held.done)(Ok(held.commit));
}

fn unacknowledged(held: Held, n_have: usize, n_asked: usize, when: &str) {
    metrics::PEERS_UNKNOWN.add(1);
    let error = Error::new(Operation::Commit, ErrorKind::Unacknowledged);
    let why = format!("{n_have} of {n_asked} other filers had it on disk {when}");
    (held.done)(Err(error.with("because", why).unknown_outcome()));
}
