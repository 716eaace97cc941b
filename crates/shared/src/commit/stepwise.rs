// SPDX-License-Identifier: Apache-2.0
//! One transaction where the database has none: planned, journaled whole, written row by row,
//! told.

use std::time::Duration;

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, Outcome};
use dulse_types::Stamp;

use super::{Attempt, Committer, commit_of};
use crate::backend::Backend;
use crate::locks::Locked;
use crate::log::{Ending, Intended, OpenIntent};
use crate::plan::{Plan, failed};
use crate::record::{Announced, Event, Payload};
use crate::rows::{At, Rows};
use crate::steps::{Ran, Runner, Steps};
use crate::value;

/// How long the others' numbers are asked for before a change is left to a later run.
const TELL_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause before they are asked for again.
const TELL_PAUSE: Duration = Duration::from_millis(100);

/// A plan that was begun and not ended.
pub(crate) struct Pending {
    intent: OpenIntent,
    /// Nobody else here writes what it writes, meanwhile.
    _locks: Vec<Locked>,
}

/// What is to be told of a plan that was run.
struct Told<'a> {
    steps: &'a Steps,
    finals: &'a [Option<Bytes>],
    position: Option<u64>,
    /// Given before the first row was written, by this run; held until it is told, so that
    /// nothing later is told before it.
    stamp: Stamp,
    /// Whether no earlier run wrote any of it, under a stamp that is gone.
    is_first: bool,
}

impl<B: Backend> Committer<B> {
    pub(super) async fn attempt_steps<R: Rows>(
        &self,
        rows: &R,
        mut plan: Plan,
        held: &mut Vec<Locked>,
    ) -> Attempt {
        if let Some(text) = unlisted_move(&plan.announced, rows) {
            return Attempt::Failed(failed(ErrorKind::Invalid).with("because", text));
        }
        let work = std::mem::take(&mut plan.work);
        let steps = Steps::of(work, &plan.announced, rows);
        let n_events = plan.announced.events.len() as u32;
        let intended = || Intended::Steps {
            announced: plan.announced.clone(),
            checks: steps.checks.clone(),
            rows: steps.rows.clone(),
        };
        // One write that nobody is told of is made or not: it needs no intent.
        let position = if n_events == 0 && steps.is_one_write() {
            None
        } else {
            let intent = Payload::Steps {
                announced: plan.announced.clone(),
                checks: steps.checks.clone(),
                rows: steps.rows.clone(),
            };
            match self.log.intend(&intent).await {
                Ok(position) => Some(position),
                Err(error) => return Attempt::Failed(error),
            }
        };
        let stamp = self.log.stamps(n_events, self.clocks.floor());
        if n_events > 0
            && let Err(error) = self.clocks.raise(rows, &self.log, stamp).await
        {
            self.void(stamp, position).await;
            return again(failed(error.kind()).source(error));
        }
        let told = |finals| Told {
            steps: &steps,
            finals,
            position,
            stamp,
            is_first: true,
        };
        let error = match Runner::new(rows, &steps, &plan.announced).run().await {
            Ok((
                Ran::Made {
                    announced,
                    is_adjusted,
                    is_unsure,
                },
                finals,
            )) => match self.tell(rows, told(&finals), announced, is_adjusted).await {
                Ok(_) if is_unsure => {
                    return Attempt::Failed(failed(ErrorKind::Unavailable).unknown_outcome());
                }
                Ok(stamp) => return Attempt::Done(commit_of(plan, self.origin, stamp)),
                Err(error) => error,
            },
            Ok((
                Ran::Undone {
                    touched,
                    is_over,
                    refused,
                },
                finals,
            )) => {
                let conflict = failed(ErrorKind::Conflict);
                match self.tell_touched(rows, told(&finals), &touched).await {
                    Ok(()) if is_over => return Attempt::Failed(conflict.unknown_outcome()),
                    Ok(()) => return refused.map_or(Attempt::Again(conflict), Attempt::Failed),
                    Err(error) => error,
                }
            }
            Err(error) if error.outcome() == Outcome::NotApplied => {
                self.void(stamp, position).await;
                return again(error);
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "a change was begun and not ended; it is when the database answers");
        self.end(stamp, None, Ending::Void).await;
        if let Some(position) = position {
            let intent = OpenIntent {
                position,
                intended: intended(),
            };
            self.pending.lock().push(Pending {
                intent,
                _locks: std::mem::take(held),
            });
        }
        Attempt::Failed(error.unknown_outcome())
    }

    /// Ends plans of this run that were begun; what cannot be ended now stays.
    pub(crate) async fn resume_pending<R: Rows>(&self, rows: &R) {
        loop {
            let Some(pending) = self.pending.lock().pop() else {
                return;
            };
            match self.resume(rows, &pending.intent).await {
                Ok(()) => tracing::info!("a change that was begun is ended"),
                Err(error) => {
                    tracing::debug!(%error, "a change that was begun is not ended yet");
                    self.pending.lock().push(pending);
                    return;
                }
            }
        }
    }

    /// Ends a plan that was begun, and tells what became of it. It may be done any number of
    /// times.
    pub(crate) async fn resume<R: Rows>(&self, rows: &R, intent: &OpenIntent) -> Result<(), Error> {
        let Intended::Steps {
            announced,
            checks,
            rows: planned,
        } = &intent.intended
        else {
            return Ok(());
        };
        let steps = Steps::new(planned.clone(), checks.clone(), announced, rows);
        let n_events = announced.events.len() as u32;
        let before = self.log.stamps(n_events, self.clocks.floor());
        let result = async {
            if n_events > 0 {
                self.clocks.raise(rows, &self.log, before).await?;
            }
            let mut runner = Runner::new(rows, &steps, announced);
            let (ran, finals) = match runner.look_back().await? {
                true => runner.run().await?,
                false => (runner.nothing(), Vec::new()),
            };
            let told = Told {
                steps: &steps,
                finals: &finals,
                position: Some(intent.position),
                stamp: before,
                is_first: false,
            };
            match ran {
                Ran::Made {
                    announced,
                    is_adjusted,
                    ..
                } => self
                    .tell(rows, told, announced, is_adjusted)
                    .await
                    .map(drop),
                Ran::Undone { touched, .. } => self.tell_touched(rows, told, &touched).await,
            }
        };
        let result = result.await;
        if result.is_err() {
            self.end(before, None, Ending::Void).await;
        }
        result
    }

    /// Tells of a plan that was made; gives the stamp of it.
    ///
    /// # Errors
    ///
    /// Nothing is told then, and the stamp of the plan is still held.
    async fn tell<R: Rows>(
        &self,
        rows: &R,
        told: Told<'_>,
        announced: Announced,
        is_adjusted: bool,
    ) -> Result<Stamp, Error> {
        if announced.events.is_empty() {
            self.void(told.stamp, told.position).await;
            return Ok(told.stamp);
        }
        let others = self.others(rows).await?;
        let is_first = told.is_first && !is_adjusted;
        if is_first && others <= told.stamp.0 {
            self.end(told.stamp, told.position, Ending::Applied).await;
            return Ok(told.stamp);
        }
        let n = announced.events.len().max(told.steps.rows.len());
        let (fresh, now) = self.fresh(rows, &told, n, others).await?;
        let paths = || {
            let rows = told.steps.rows.iter().enumerate();
            rows.filter(|(_, row)| matches!(row.at, At::Path(_)))
        };
        let n_own = paths().filter(|(i, _)| now[*i] == told.finals[*i]).count();
        if n_own == 0 && is_first && paths().next().is_some() {
            // Others have written over all of it, and are told later.
            self.end(fresh, None, Ending::Void).await;
            self.end(told.stamp, told.position, Ending::Applied).await;
            return Ok(told.stamp);
        }
        let ending = if n_own < paths().count() {
            let all: Vec<usize> = paths().map(|(i, _)| i).collect();
            Ending::Seen(self.seen(fresh, announced, &told, &all, &now).await?)
        } else if is_adjusted {
            Ending::Seen(announced)
        } else {
            Ending::Applied
        };
        self.end(told.stamp, None, Ending::Void).await;
        self.end(fresh, told.position, ending).await;
        Ok(fresh)
    }

    /// Tells of rows of a plan that came to nothing, as they are now.
    ///
    /// # Errors
    ///
    /// As [`Committer::tell`].
    async fn tell_touched<R: Rows>(
        &self,
        rows: &R,
        told: Told<'_>,
        touched: &[usize],
    ) -> Result<(), Error> {
        let is_path = |i: &&usize| matches!(told.steps.rows[**i].at, At::Path(_));
        let mut touched: Vec<usize> = touched.iter().filter(is_path).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        if touched.is_empty() {
            self.void(told.stamp, told.position).await;
            return Ok(());
        }
        let others = self.others(rows).await?;
        let (fresh, now) = self.fresh(rows, &told, touched.len(), others).await?;
        let none = Announced::default();
        let seen = self.seen(fresh, none, &told, &touched, &now).await?;
        self.end(told.stamp, None, Ending::Void).await;
        match seen.events.is_empty() {
            true => self.void(fresh, told.position).await,
            false => self.end(fresh, told.position, Ending::Seen(seen)).await,
        }
        Ok(())
    }

    /// A stamp above all that others may have given, and the rows as they are behind it.
    async fn fresh<R: Rows>(
        &self,
        rows: &R,
        told: &Told<'_>,
        n: usize,
        others: i64,
    ) -> Result<(Stamp, Vec<Option<Bytes>>), Error> {
        let floor = self.clocks.floor().max(others.saturating_add(1));
        let fresh = self.log.stamps(n as u32, floor);
        let looked = async {
            self.clocks.raise(rows, &self.log, fresh).await?;
            let runner = Runner::new(rows, told.steps, &Announced::default());
            // Order: read behind the number, so that whoever writes later meets it.
            runner.read_all().await
        };
        match looked.await {
            Ok(now) => Ok((fresh, now)),
            Err(error) => {
                self.end(fresh, None, Ending::Void).await;
                Err(error.unknown_outcome())
            }
        }
    }

    /// Events that say what some rows are now.
    async fn seen(
        &self,
        fresh: Stamp,
        announced: Announced,
        told: &Told<'_>,
        rows: &[usize],
        now: &[Option<Bytes>],
    ) -> Result<Announced, Error> {
        let seen = as_it_is(announced, told.steps, rows, now);
        if seen.is_err() {
            // A stamp that is held holds back all later ones.
            self.end(fresh, None, Ending::Void).await;
        }
        seen
    }

    /// The greatest number of another filer.
    async fn others<R: Rows>(&self, rows: &R) -> Result<i64, Error> {
        let mut n_left = TELL_TIME_MAX.as_millis() / TELL_PAUSE.as_millis();
        loop {
            match self.clocks.others(rows, self.origin).await {
                Err(error) if error.is_retryable() && n_left > 0 => {
                    n_left -= 1;
                    tokio::time::sleep(TELL_PAUSE).await;
                }
                other => return other.map_err(Error::unknown_outcome),
            }
        }
    }
}

/// Events that say what some rows are now.
fn as_it_is(
    announced: Announced,
    steps: &Steps,
    rows: &[usize],
    now: &[Option<Bytes>],
) -> Result<Announced, Error> {
    let mut events = Vec::with_capacity(rows.len());
    for i in rows {
        let row = &steps.rows[*i];
        let At::Path(path) = &row.at else { continue };
        let entry = |value: Option<&Bytes>| match value {
            None => Ok(None),
            Some(value) => value::decode(value.clone()).map(|entry| Some((path.clone(), entry))),
        };
        let (old, new) = (
            entry(row.before.as_ref().or(row.after.as_ref()))?,
            entry(now[*i].as_ref())?,
        );
        if old.is_some() || new.is_some() {
            // Nobody may drop chunks by it: what is there may hold them.
            events.push(Event {
                old,
                new,
                delete_chunks: false,
            });
        }
    }
    Ok(Announced {
        events,
        ..announced
    })
}

/// Why a directory does not move: what is in it would stay behind, or be listed no more.
fn unlisted_move<R: Rows>(announced: &Announced, rows: &R) -> Option<String> {
    announced.events.iter().find_map(|event| {
        let ((from, old), (to, _)) = (event.old.as_ref()?, event.new.as_ref()?);
        if from == to || !old.is_dir() {
            None
        } else if !rows.groups(from) {
            Some(format!(
                "nobody knows what is in `{from}`, whose names are not listed, so it cannot be \
                 moved"
            ))
        } else if !rows.groups(to) {
            Some(format!(
                "the names in `{to}` are not listed, so nobody would find what is in `{from}` \
                 there; make `{to}` as a new directory"
            ))
        } else {
            None
        }
    })
}

/// What follows from a failure after which nothing was written.
fn again(error: Error) -> Attempt {
    match error.is_retryable() {
        true => Attempt::Again(error),
        false => Attempt::Failed(error),
    }
}
