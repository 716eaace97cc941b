// SPDX-License-Identifier: Apache-2.0
//! Removing what has outlived its time to live, by ordinary changes.
//!
//! Readers hide it at once. The filer that announced it removes it; another one does half a minute
//! later, should that one be away. What no filer of ours announced, or long ago, is found by a walk
//! over the tree that one of them does every few hours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dulse_store::{Error, ListRange};
use dulse_types::FullPath;
use tokio::time::Instant;

use super::events::Cursor;
use super::{OnShared, State};
use crate::metrics;
use crate::state::FilerState;

/// How often what is due is removed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Entries removed by one change.
const PART_MAX: usize = 500;

/// Another filer's entries are left to it for this long, in seconds.
const OTHERS_LATER_S: i64 = 30;

/// Entries that are waited for, at most: the walk finds the others.
const HINTS_MAX: usize = 500_000;

/// How often the tree is walked over.
const WALK_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// When it is walked over first.
const FIRST_WALK: Duration = Duration::from_secs(300);

/// Rows of one look of the walk.
const WALK_ROWS: usize = 500;

/// Pause between two looks: some 2,000 rows in a second.
const WALK_PAUSE: Duration = Duration::from_millis(250);

/// Entries by the second behind which they have expired.
type Hints = BTreeMap<i64, BTreeSet<FullPath>>;

/// Runs until the filer stops.
pub(crate) async fn sweep(state: Arc<FilerState>, on: Arc<OnShared>) {
    // What was announced before is left to the walk.
    let mut cursor = Cursor::behind(on.promise_now());
    let (mut hints, mut n_hints) = (Hints::new(), 0);
    let mut walk_at = Instant::now() + FIRST_WALK;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if state.not_ready().is_some() {
            continue;
        }
        if let Err(error) = note_news(&mut cursor, &on, &mut hints, &mut n_hints) {
            tracing::warn!(%error, "announcements cannot be read; what expires is found later");
        }
        let now_s = crate::grpc::now_ns() / 1_000_000_000;
        let later = hints.split_off(&now_s);
        let due = std::mem::replace(&mut hints, later);
        let due: Vec<_> = due.into_values().flatten().collect();
        n_hints -= due.len();
        let failed = remove(&state, &due).await;
        n_hints += failed.len();
        if !failed.is_empty() {
            hints.entry(now_s).or_default().extend(failed);
        }
        if Instant::now() >= walk_at {
            walk_at = Instant::now() + WALK_EVERY;
            if is_walker(&on)
                && let Err(error) = walk(&state, &on).await
            {
                tracing::warn!(%error, "the walk for what has expired broke off");
            }
        }
    }
}

/// Notes what will expire of what was announced.
fn note_news(
    cursor: &mut Cursor,
    on: &OnShared,
    hints: &mut Hints,
    n_hints: &mut usize,
) -> Result<(), Error> {
    loop {
        let page = cursor.next(on)?;
        if page.is_empty() {
            return Ok(());
        }
        for (origin, announcement) in page {
            let later = match origin == on.origin() {
                true => 0,
                false => OTHERS_LATER_S,
            };
            for event in announcement.announced.events {
                let Some((path, entry)) = event.new else {
                    continue;
                };
                let Some(at) = entry.expires_after_s() else {
                    continue;
                };
                if *n_hints < HINTS_MAX && hints.entry(at + later).or_default().insert(path) {
                    *n_hints += 1;
                }
            }
        }
    }
}

/// Removes those that have expired; what was written anew is left alone. Gives those that may
/// be tried again.
async fn remove(state: &FilerState, paths: &[FullPath]) -> Vec<FullPath> {
    let mut failed = Vec::new();
    // A change is of one store; and one that is away holds up no other.
    for of_one in state.namespace.by_store(paths) {
        for part in of_one.chunks(PART_MAX) {
            match expire(state, part).await {
                Ok(()) => {}
                Err(error) if !is_final(&error) => {
                    tracing::warn!(%error, "expiry failed; trying again");
                    failed.extend_from_slice(part);
                }
                // One of them cannot be removed, and takes no other with it.
                Err(_) => failed.extend(remove_singly(state, part).await),
            }
        }
    }
    failed
}

/// Whether the change can never be made as it is.
fn is_final(error: &dulse_namespace::Error) -> bool {
    matches!(error.kind(), dulse_namespace::ErrorKind::Invalid)
}

async fn remove_singly(state: &FilerState, paths: &[FullPath]) -> Vec<FullPath> {
    let mut failed = Vec::new();
    for path in paths {
        match expire(state, std::slice::from_ref(path)).await {
            Ok(()) => {}
            Err(error) if !is_final(&error) => failed.push(path.clone()),
            Err(error) => {
                tracing::warn!(%path, %error, "it has expired, and cannot be removed");
            }
        }
    }
    failed
}

async fn expire(state: &FilerState, paths: &[FullPath]) -> Result<(), dulse_namespace::Error> {
    let n_expired = state.namespace.expire(paths).await?;
    metrics::ENTRIES_EXPIRED.add(n_expired as u64);
    Ok(())
}

/// Whether this filer is the one that walks: the smallest of those that answer.
fn is_walker(on: &OnShared) -> bool {
    let others = on.others.all();
    let mut live = others.iter().filter(|o| o.state == State::Following);
    live.all(|other| other.origin.is_none_or(|origin| origin > on.origin()))
}

/// Looks at the whole tree, or what of it is in this store, and removes what has expired.
async fn walk(state: &FilerState, on: &Arc<OnShared>) -> Result<(), dulse_namespace::Error> {
    let mut open = match state.is_default(on) {
        true => vec![FullPath::root()],
        false => on
            .store
            .locations()
            .iter()
            .map(|l| l.path.clone())
            .collect(),
    };
    while let Some(dir) = open.pop() {
        let mut start = String::new();
        loop {
            let range = ListRange {
                prefix: String::new(),
                start: start.clone(),
                inclusive: false,
                limit: WALK_ROWS,
            };
            let (store, at) = (Arc::clone(&on.store), dir.clone());
            let read = tokio::task::spawn_blocking(move || store.list(&at, &range));
            let Ok(rows) = read.await else {
                return Ok(());
            };
            let rows = rows?;
            let now_s = crate::grpc::now_ns() / 1_000_000_000;
            let mut expired = Vec::new();
            for row in &rows {
                let Ok(path) = FullPath::of(dir.as_str(), &row.name) else {
                    continue;
                };
                if row.entry.is_dir() {
                    open.push(path);
                } else if row.entry.is_expired(now_s) {
                    expired.push(path);
                }
            }
            // What fails is found by the next walk.
            remove(state, &expired).await;
            let is_last = rows.len() < WALK_ROWS;
            start = rows.last().map(|row| row.name.clone()).unwrap_or_default();
            tokio::time::sleep(WALK_PAUSE).await;
            if is_last {
                break;
            }
        }
    }
    Ok(())
}
