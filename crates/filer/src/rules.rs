// SPDX-License-Identifier: Apache-2.0
//! Keeps the rules of `filer.conf` that hold as the tree has them.
//!
//! Level-triggered: the entry is looked at after changes, at most twice a second, and read
//! when it is another one. Rules that cannot be read leave those in force that were.

use std::sync::Arc;
use std::time::Duration;

use dulse_blobs::views_of;
use dulse_namespace::{RULES_LEN_MAX, RULES_PATH, Rules};
use dulse_replica::Progress;
use dulse_types::{Entry, FullPath};
use futures::TryStreamExt;
use tokio::sync::watch;

use crate::shared::News;
use crate::state::{FilerState, Kept};

/// Looks at the entry are at least this far apart.
const LOOK_TIME_MIN: Duration = Duration::from_millis(500);

/// How often it is looked at on a shared store when nothing is announced.
const UNANNOUNCED_EVERY: Duration = Duration::from_secs(10);

/// Pause after rules that could not be read.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Runs until the filer stops.
pub(crate) async fn follow(state: Arc<FilerState>) {
    let Ok(path) = FullPath::parse(RULES_PATH) else {
        return;
    };
    let mut changes = Changes::of(&state, &path);
    let mut in_force: Option<Entry> = None;
    loop {
        changes.mark_seen();
        match take_over(&state, &path, &in_force).await {
            Ok(entry) => in_force = entry,
            Err(error) => {
                tracing::warn!(%error, "the rules of {RULES_PATH} are not taken over");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
        }
        tokio::time::sleep(LOOK_TIME_MIN).await;
        if !changes.next().await {
            return;
        }
    }
}

/// What says that the tree has changed.
enum Changes {
    Replica(watch::Receiver<Progress>),
    /// And now and then without: upstream's filers on the same store announce nothing here.
    Announced(News),
}

impl Changes {
    fn of(state: &FilerState, path: &FullPath) -> Self {
        match (state.shared_of(path), &state.kept) {
            (None, Kept::Embedded(own)) => Self::Replica(own.store.progress()),
            (Some(on), _) | (None, Kept::Shared(on)) => Self::Announced(on.news()),
        }
    }

    fn mark_seen(&mut self) {
        match self {
            Self::Replica(progress) => {
                progress.borrow_and_update();
            }
            Self::Announced(news) => news.mark_seen(),
        }
    }

    /// Returns at the next change; false when the filer stops.
    async fn next(&mut self) -> bool {
        match self {
            Self::Replica(progress) => progress.changed().await.is_ok(),
            Self::Announced(news) => {
                let next = tokio::time::timeout(UNANNOUNCED_EVERY, news.next()).await;
                next.unwrap_or(true)
            }
        }
    }
}

/// Takes the rules over if they are others than those in force; gives their entry.
async fn take_over(
    state: &FilerState,
    path: &FullPath,
    in_force: &Option<Entry>,
) -> Result<Option<Entry>, String> {
    let found = state.namespace.find_opt(path).map_err(|e| e.to_string())?;
    let entry = found.map(|found| found.entry);
    if entry != *in_force {
        let rules = read(state, entry.as_ref()).await?;
        state.namespace.set_rules(rules);
        tracing::info!("the rules of {RULES_PATH} hold as they are now");
    }
    Ok(entry)
}

async fn read(state: &FilerState, entry: Option<&Entry>) -> Result<Rules, String> {
    let Some(entry) = entry else {
        return Ok(Rules::default());
    };
    let fields = entry.fields().map_err(|e| e.to_string())?;
    let size = fields.size();
    if size > RULES_LEN_MAX as u64 {
        return Err(format!("{size} bytes; at most {RULES_LEN_MAX}"));
    }
    let mut text = fields.content.to_vec();
    if text.is_empty() {
        let resolved = state.blobs.resolve(fields.chunks).await;
        let resolved = resolved.map_err(|e| e.to_string())?;
        let views = views_of(&resolved.data, 0..size).map_err(|e| e.to_string())?;
        let mut pieces = std::pin::pin!(state.blobs.stream(views));
        while let Some(piece) = pieces.try_next().await.map_err(|e| e.to_string())? {
            text.extend_from_slice(&piece);
        }
    }
    Rules::parse(&text).map_err(|e| e.to_string())
}
