// SPDX-License-Identifier: Apache-2.0
//! One transaction: planned, intended, applied, ended.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dulse_store::{Commit, Error, ErrorKind, Outcome, Transaction};
use dulse_types::{Origin, Stamp};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Backend, Guard};
use crate::locks::{Locked, Locks};
use crate::log::{Ending, Log};
use crate::plan::Plan;
use crate::record::Payload;
use crate::settle::{Unsettled, Verdict, keys_of, settle};
use crate::steps::Clocks;

mod stepwise;

pub(crate) use stepwise::Pending;

/// Times that a transaction is planned again after others wrote what it had read.
const RETRIES_MAX: u32 = 32;

/// How long a database that cannot be reached is tried again, where nothing can have been
/// written.
const RETRY_TIME_MAX: Duration = Duration::from_secs(5);

/// Pause before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How long a transaction waits for one of the same path.
const LOCK_TIME_MAX: Duration = Duration::from_secs(30);

/// What transactions need.
pub(crate) struct Committer<B> {
    pub(crate) backend: B,
    pub(crate) log: Log,
    pub(crate) locks: Locks,
    pub(crate) origin: Origin,
    /// Order between filers, where the database has no transactions.
    pub(crate) clocks: Clocks,
    /// Plans that were begun and not ended: the database went away.
    pub(crate) pending: Mutex<Vec<Pending>>,
    /// Attempts that were made or not: the database went away before it said so.
    pub(crate) unsettled: Mutex<Vec<Unsettled>>,
    /// Whether keys of the tree are in this database.
    pub(crate) keeps_keys: AtomicBool,
}

/// What became of one attempt.
enum Attempt {
    Done(Commit),
    /// Nothing was written, and the same may succeed.
    Again(Error),
    Failed(Error),
}

impl<B: Backend> Committer<B> {
    /// Applies a transaction; as [`dulse_store::EntryStore::commit`].
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<Commit, Error> {
        let mut held = self.lock(transaction).await?;
        let began = Instant::now();
        let mut n_conflicts = 0;
        loop {
            let error = match self.attempt(transaction, &mut held).await {
                Attempt::Done(commit) => return Ok(commit),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(error) => error,
            };
            if error.kind() == ErrorKind::Conflict {
                n_conflicts += 1;
                if n_conflicts > RETRIES_MAX {
                    return Err(error);
                }
                // The one that won needs a moment; the more lose, the longer.
                tokio::time::sleep(RETRY_PAUSE / 16 * n_conflicts).await;
            } else {
                if began.elapsed() > RETRY_TIME_MAX {
                    return Err(error);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Waits for what a transaction writes to be free here.
    async fn lock(&self, transaction: &Transaction) -> Result<Vec<Locked>, Error> {
        if self.backend.rows().is_none() {
            return Ok(self.locks.of(transaction, false).await);
        }
        let lock = self.locks.of(transaction, true);
        // A plan that waits for the database holds what it writes.
        let held = tokio::time::timeout(LOCK_TIME_MAX, lock).await;
        held.map_err(|_| {
            let text = "a change of the same path waits for the database";
            crate::plan::failed(ErrorKind::Unavailable).with("because", text)
        })
    }

    async fn attempt(&self, transaction: &Transaction, held: &mut Vec<Locked>) -> Attempt {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |now| now.as_secs().cast_signed());
        let mut plan = match Plan::make(&self.backend, transaction, now_s).await {
            Ok(plan) => plan,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Attempt::Again(error),
            // An expectation that does not hold will not hold later either.
            Err(error) => return Attempt::Failed(error),
        };
        let is_key = |guard: &Guard| matches!(guard, Guard::Key(..));
        if !self.keeps_keys.load(Ordering::SeqCst) && plan.work.guards.iter().any(is_key) {
            let text = "hard links and keys are kept in the default store, and a change stays \
                        within one store";
            let error = crate::plan::failed(ErrorKind::Invalid);
            return Attempt::Failed(error.with("because", text));
        }
        if let Some(rows) = self.backend.rows() {
            return self.attempt_steps(rows, plan, held).await;
        }
        plan.work.ticket = self.ticket();
        let n_events = plan.announced.events.len() as u32;
        // What nobody is told of needs no intent.
        let position = if n_events == 0 {
            None
        } else {
            let intent = Payload::Intent {
                ticket: plan.work.ticket,
                announced: plan.announced.clone(),
            };
            match self.log.intend(&intent).await {
                Ok(position) => Some(position),
                Err(error) => return Attempt::Failed(error),
            }
        };
        let given = AtomicI64::new(0);
        let held = |clock_ns: i64| {
            let stamp = self.log.stamps(n_events, clock_ns);
            // One attempt has one stamp: an earlier one would hold back all others for ever.
            assert_eq!(
                given.swap(stamp.0, Ordering::SeqCst),
                0,
                "held is called once"
            );
            crate::backend::held()
        };
        let applied = self.backend.apply(&plan.work, &held).await;
        let stamp = Stamp(given.load(Ordering::SeqCst));
        let error = match applied {
            Ok(()) => {
                self.end(stamp, position, Ending::Applied).await;
                return Attempt::Done(commit_of(plan, self.origin, stamp));
            }
            Err(error) if error.outcome() == Outcome::NotApplied => {
                self.void(stamp, position).await;
                return if error.is_retryable() {
                    Attempt::Again(error)
                } else {
                    Attempt::Failed(error)
                };
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the answer to a write was lost; asking what became of it");
        let (ticket, keys) = (plan.work.ticket, keys_of(&plan.work));
        match settle(&self.backend, ticket, &plan.announced, &keys).await {
            Ok(Verdict::Applied) => {
                self.end(stamp, position, Ending::Applied).await;
                Attempt::Done(commit_of(plan, self.origin, stamp))
            }
            Ok(Verdict::NotApplied) => {
                self.void(stamp, position).await;
                Attempt::Again(error_of_lost())
            }
            Ok(Verdict::Seen(announced)) => {
                self.end(stamp, position, Ending::Seen(announced)).await;
                Attempt::Failed(error)
            }
            Err(unsettled) => {
                // The intent stays open and is asked for again. What has its stamp is let go,
                // else nothing later could be told.
                tracing::warn!(%unsettled, "what became of a write is not known until the database says it");
                self.end(stamp, None, Ending::Void).await;
                if let Some(position) = position {
                    self.unsettled.lock().push(Unsettled {
                        position,
                        ticket,
                        announced: plan.announced,
                    });
                }
                Attempt::Failed(error)
            }
        }
    }

    /// Names an attempt: no other of any filer has it, with the chance of two in 2⁶⁴.
    fn ticket(&self) -> i64 {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_nanos() as u64);
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.origin.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&now.to_be_bytes());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        bytes[16..].copy_from_slice(&number.to_be_bytes());
        xxh3_64(&bytes).cast_signed()
    }

    /// Writes what became of it. A journal that takes no more says so at the next intent; what
    /// was applied is applied, and is told at the next start.
    async fn end(&self, stamp: Stamp, position: Option<u64>, ending: Ending) {
        if stamp == Stamp::ZERO {
            return;
        }
        if let Err(error) = self.log.end(stamp, position, ending).await {
            tracing::error!(%error, "an applied change is told at the next start only");
        }
    }

    async fn void(&self, stamp: Stamp, position: Option<u64>) {
        if stamp != Stamp::ZERO {
            self.end(stamp, None, Ending::Void).await;
        }
        if let Some(position) = position
            && let Err(error) = self.log.void(position).await
        {
            tracing::warn!(%error, "the next start asks what became of a change that failed");
        }
    }
}

/// After the answer was lost and nothing was applied.
fn error_of_lost() -> Error {
    crate::plan::failed(ErrorKind::Unavailable)
        .with("because", "the connection broke before the change was made")
}

fn commit_of(mut plan: Plan, origin: Origin, stamp: Stamp) -> Commit {
    let n_events = plan.announced.events.len() as i64;
    let first = Stamp(stamp.0 - (n_events - 1).max(0));
    for (result, own) in plan.results.iter_mut().zip(&plan.own_events) {
        result.stamp = own.map_or(stamp, |own| first.plus(own));
    }
    Commit {
        origin,
        stamp: first,
        results: plan.results,
    }
}
