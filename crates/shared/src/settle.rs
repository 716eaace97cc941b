// SPDX-License-Identifier: Apache-2.0
//! What became of an attempt whose answer was lost: asked of the database, else read back.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::{Entry, FullPath};

use crate::backend::{Backend, Settled, Work, Write};
use crate::commit::Committer;
use crate::log::{Ending, Intended, OpenIntent};
use crate::record::{Announced, Event};
use crate::rows::Rows;
use crate::value;

/// How long a running filer asks before its caller is told that nobody knows.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause before the database is asked again.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// Pause between the stamp of what is told late and the look at it. What others wrote under earlier
/// stamps is made by then: they take one while they commit. What they write under later ones may
/// be seen, and is told behind it.
const OTHERS_PAUSE: Duration = Duration::from_secs(2);

/// What became of an attempt.
pub(crate) enum Verdict {
    Applied,
    NotApplied,
    /// Others have written there since, or part of it shows: what is there now.
    Seen(Announced),
}

/// A key, and its value if the attempt was made; none where it goes.
pub(crate) type Key = (Bytes, Option<Bytes>);

/// What an attempt writes to keys.
pub(crate) fn keys_of(work: &Work) -> Vec<Key> {
    let keys = work.writes.iter().filter_map(|write| match write {
        Write::PutKey(key, value) => Some((key.clone(), Some(value.clone()))),
        Write::RemoveKey(key) => Some((key.clone(), None)),
        _ => None,
    });
    keys.collect()
}

/// An attempt of which the database did not say what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unsettled {
    /// Where its intent is.
    pub(crate) position: u64,
    pub(crate) ticket: i64,
    pub(crate) announced: Announced,
}

/// Finds out, for as long as it makes sense to let somebody wait.
///
/// - `keys`: what it writes to keys, of which nothing is announced.
pub(crate) async fn settle<B: Backend>(
    backend: &B,
    ticket: i64,
    announced: &Announced,
    keys: &[Key],
) -> Result<Verdict, Error> {
    patiently(|| once(backend, ticket, announced, keys)).await
}

/// Asks again while the database cannot be reached.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut n_left = SETTLE_TIME_MAX.as_millis() / SETTLE_PAUSE.as_millis();
    loop {
        match ask().await {
            Err(error) if error.kind() == ErrorKind::Unavailable && n_left > 0 => {
                n_left -= 1;
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Settles what an earlier run left open; a store that cannot be asked does not open.
pub(crate) async fn settle_open<B: Backend>(
    committer: &Committer<B>,
    open: Vec<OpenIntent>,
) -> Result<(), Error> {
    let is_stepwise = |intent: &OpenIntent| matches!(intent.intended, Intended::Steps { .. });
    if let Some(rows) = committer.backend.rows()
        && open.iter().any(is_stepwise)
    {
        // What the earlier run sent may still be on its way.
        tokio::time::sleep(rows.late_max()).await;
    }
    let mut over = Vec::new();
    for intent in open {
        let position = intent.position;
        let (ticket, announced) = match intent.intended {
            Intended::Whole { ticket, announced } => (ticket, announced),
            Intended::Steps { .. } => {
                let Some(rows) = committer.backend.rows() else {
                    let text = "the journal is of a filer on a database without transactions";
                    let error = Error::new(Operation::Open, ErrorKind::Invalid);
                    return Err(error.with("because", text));
                };
                committer.resume(rows, &intent).await?;
                continue;
            }
        };
        let attempt = Unsettled {
            position,
            ticket,
            announced,
        };
        let ask = || asked(&committer.backend, attempt.ticket, &attempt.announced);
        let settled = patiently(ask).await?;
        over.push((attempt, settled));
    }
    tell_late(committer, &over).await
}

impl<B: Backend> Committer<B> {
    /// Asks again what became of attempts of this run of which nobody could say it. What is known
    /// now is told.
    pub(crate) async fn resume_unsettled(&self) {
        let unsettled = self.unsettled.lock().clone();
        let mut over = Vec::new();
        for attempt in unsettled {
            match asked(&self.backend, attempt.ticket, &attempt.announced).await {
                Ok(settled) => over.push((attempt, settled)),
                Err(error) => {
                    tracing::debug!(%error, "what became of a write is not known yet");
                    break;
                }
            }
        }
        if let Err(error) = tell_late(self, &over).await {
            tracing::debug!(%error, "what became of a write is not told yet");
        }
        // What has its outcome is not asked for again.
        let mut unsettled = self.unsettled.lock();
        unsettled.retain(|attempt| self.log.is_open(attempt.position));
    }
}

/// Asks the database, once, what became of an attempt.
async fn asked<B: Backend>(
    backend: &B,
    ticket: i64,
    announced: &Announced,
) -> Result<Settled, Error> {
    let path = ends(&announced.events).into_iter().next();
    backend
        .settle(ticket, path.as_ref().map(|(path, ..)| path))
        .await
}

/// Tells of attempts that are over, under stamps of now.
///
/// ⚠ The stamps are taken before it is looked what is there: what another filer writes behind the
/// look has a later one, and is told behind it.
async fn tell_late<B: Backend>(
    committer: &Committer<B>,
    over: &[(Unsettled, Settled)],
) -> Result<(), Error> {
    let log = &committer.log;
    let mut made = Vec::new();
    for (attempt, settled) in over {
        match settled {
            Settled::NotApplied => log.void(attempt.position).await?,
            settled => made.push((attempt, *settled)),
        }
    }
    if made.is_empty() {
        return Ok(());
    }
    let clock = committer.backend.clock_ns().await?;
    let stamp = |announced: &Announced| {
        let n = announced.events.len().max(ends(&announced.events).len());
        log.stamps(n as u32, clock)
    };
    let stamps: Vec<_> = made.iter().map(|(of, _)| stamp(&of.announced)).collect();
    tokio::time::sleep(OTHERS_PAUSE).await;
    let mut result = Ok(());
    for ((attempt, settled), stamp) in made.into_iter().zip(stamps) {
        if result.is_err() {
            // A stamp that is held holds back all later ones.
            let _ = log.end(stamp, None, Ending::Void).await;
            continue;
        }
        let position = attempt.position;
        // Nobody waits for what became of keys.
        let verdict = look_back(&committer.backend, settled, &attempt.announced, &[]).await;
        result = match verdict {
            Ok(Verdict::Applied) => log.end(stamp, Some(position), Ending::Applied).await,
            Ok(Verdict::Seen(seen)) => log.end(stamp, Some(position), Ending::Seen(seen)).await,
            Ok(Verdict::NotApplied) => {
                let let_go = log.end(stamp, None, Ending::Void).await;
                let_go.and(log.void(position).await)
            }
            Err(error) => log.end(stamp, None, Ending::Void).await.and(Err(error)),
        };
        if result.is_ok() {
            tracing::info!(position, "it is known now what became of a change");
        }
    }
    result
}

async fn once<B: Backend>(
    backend: &B,
    ticket: i64,
    announced: &Announced,
    keys: &[Key],
) -> Result<Verdict, Error> {
    let settled = asked(backend, ticket, announced).await?;
    match settled {
        Settled::Applied => Ok(Verdict::Applied),
        Settled::NotApplied => Ok(Verdict::NotApplied),
        Settled::Over | Settled::Perhaps => look_back(backend, settled, announced, keys).await,
    }
}

/// What became of an attempt by what is there. It is over: before that it could still come.
async fn look_back<B: Backend>(
    backend: &B,
    settled: Settled,
    announced: &Announced,
    keys: &[Key],
) -> Result<Verdict, Error> {
    let mut now = Vec::new();
    let (mut is_after, mut is_before) = (true, true);
    for (path, before, after) in ends(&announced.events) {
        let there = match backend.get(&path).await? {
            Some(row) => Some(value::decode(row)?),
            None => None,
        };
        is_before &= same(there.as_ref(), before.as_ref());
        is_after &= same(there.as_ref(), after.as_ref());
        now.push((path, before, there));
    }
    for (key, after) in keys {
        is_after &= backend.kv_get(key).await? == *after;
        // What it was is not kept: that it was not written is never told by it.
        is_before = false;
    }
    if is_after {
        return Ok(Verdict::Applied);
    }
    // Where it may have been there, others may have made it undone.
    if is_before && settled == Settled::Over {
        return Ok(Verdict::NotApplied);
    }
    let events = now.into_iter().filter_map(|(path, before, there)| {
        let old = before.map(|entry| (path.clone(), entry));
        let new = there.map(|entry| (path, entry));
        // Nobody may drop chunks by it: what is there may hold them.
        (old.is_some() || new.is_some()).then_some(Event {
            old,
            new,
            delete_chunks: false,
        })
    });
    Ok(Verdict::Seen(Announced {
        events: events.collect(),
        ..announced.clone()
    }))
}

/// Each path that events touch, with what it was before the first and is behind the last.
fn ends(events: &[Event]) -> Vec<(FullPath, Option<Entry>, Option<Entry>)> {
    let mut out: Vec<(FullPath, Option<Entry>, Option<Entry>)> = Vec::new();
    let mut at = std::collections::BTreeMap::new();
    let mut touch = |path: &FullPath, old: Option<&Entry>, new: Option<&Entry>| {
        let i = *at.entry(path.clone()).or_insert_with(|| {
            out.push((path.clone(), old.cloned(), None));
            out.len() - 1
        });
        out[i].2 = new.cloned();
    };
    for event in events {
        match (&event.old, &event.new) {
            (Some((from, old)), Some((to, new))) if from == to => touch(from, Some(old), Some(new)),
            (old, new) => {
                if let Some((from, old)) = old {
                    touch(from, Some(old), None);
                }
                if let Some((to, new)) = new {
                    touch(to, None, Some(new));
                }
            }
        }
    }
    out
}

/// Whether two are the same entry, in whatever order their fields are.
fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || a.unknown() == b.unknown() && a.fields().ok() == b.fields().ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
