// SPDX-License-Identifier: Apache-2.0
//! What became of an attempt whose answer was lost: asked of the database, else read back.

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

/// Finds out, for as long as it makes sense to let somebody wait.
///
/// - `keys`: what it writes to keys, of which nothing is announced.
pub(crate) async fn settle<B: Backend>(
    backend: &B,
    ticket: i64,
    announced: &Announced,
    keys: &[Key],
) -> Result<Verdict, Error> {
    let mut n_left = SETTLE_TIME_MAX.as_millis() / SETTLE_PAUSE.as_millis();
    loop {
        match once(backend, ticket, announced, keys).await {
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
        // Nobody waits for what became of keys.
        let verdict = settle(&committer.backend, ticket, &announced, &[]).await?;
        let (n_events, ending) = match verdict {
            Verdict::NotApplied => {
                committer.log.void(position).await?;
                continue;
            }
            Verdict::Applied => (announced.events.len(), Ending::Applied),
            Verdict::Seen(seen) => (seen.events.len(), Ending::Seen(seen)),
        };
        tracing::info!(position, n_events, "a change of an earlier run is told now");
        let clock = committer.backend.clock_ns().await?;
        let stamp = committer.log.stamps(n_events as u32, clock);
        committer.log.end(stamp, Some(position), ending).await?;
    }
    Ok(())
}

async fn once<B: Backend>(
    backend: &B,
    ticket: i64,
    announced: &Announced,
    keys: &[Key],
) -> Result<Verdict, Error> {
    let path = ends(&announced.events).into_iter().next();
    let path = path.as_ref().map(|(path, ..)| path);
    let settled = backend.settle(ticket, path).await?;
    match settled {
        Settled::Applied => return Ok(Verdict::Applied),
        Settled::NotApplied => return Ok(Verdict::NotApplied),
        // Read only now: before it was over, it could still have come.
        Settled::Over | Settled::Perhaps => {}
    }
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
