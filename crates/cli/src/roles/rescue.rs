// SPDX-License-Identifier: Apache-2.0
//! What damaged stores that were set aside still give, taken in once this filer is ready.
//!
//! What passes is waited for, however long: a full disk, a full queue. Only what cannot be read,
//! or must not be merged any more, is lost, and that is told.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use dulse_filer::{Filer, FilerState};
use dulse_journal::JournalError;
use dulse_registry::Rescue;
use dulse_replica::{Applied, ReplicaStore};
use dulse_replication::RemoveError;
use dulse_types::{Origin, Stamp};

/// Pause after a failure that may pass.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// How often a log on a disk that fails is read again before it counts as one that cannot be
/// read: five minutes.
const READ_TRIES_MAX: u32 = 60;

/// Goes through what was set aside, in the background: what a log has and nobody else is
/// merged, and the origin of each damaged store is removed from the cluster.
pub(super) fn begin(filer: &Filer, dir: &Path) {
    let waiting = match dulse_registry::to_be_rescued(dir) {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::error!(%error, "cannot look for what was set aside; the next start does");
            return;
        }
    };
    if waiting.is_empty() {
        return;
    }
    let state = Arc::clone(filer.state());
    tokio::spawn(async move {
        // Order: the oldest first. A later log may tell that the origin of an earlier one was
        // removed, and then nothing of it would be taken.
        for aside in waiting {
            if let Err(error) = one(&state, &aside).await {
                let aside = aside.display();
                tracing::error!(%error, %aside, "not gone through; the next start tries again");
            }
        }
    });
}

async fn one(state: &FilerState, aside: &Path) -> Result<()> {
    let own = state.embedded()?;
    let mut ready = state.ready();
    ready.wait_for(Option::is_none).await?;
    let found = gather(&own.store, aside, RETRY_DELAY).await?;
    found.tell(aside);
    if let Some(old) = found.origin {
        until_removed(old, RETRY_DELAY, || own.replicator.remove(old, true)).await;
    }
    // Order: behind the removal, which nobody would ask for again, and all wait for that origin.
    while let Err(error) = dulse_registry::rescued(aside) {
        tracing::warn!(%error, "cannot note that a damaged store was gone through; trying again");
        tokio::time::sleep(RETRY_DELAY).await;
    }
    Ok(())
}

/// What came of one log.
#[derive(Default)]
struct Found {
    /// Whose it is, where that can be told.
    origin: Option<Origin>,
    n_rescued: u64,
    /// Changes that this filer cannot take: damaged, or behind such a one.
    n_lost: u64,
    /// Changes of filers that were removed meanwhile.
    n_refused: u64,
    /// Why no more of it can be read.
    unreadable: Option<JournalError>,
}

impl Found {
    fn tell(&self, aside: &Path) {
        let (aside, n_rescued) = (aside.display(), self.n_rescued);
        let origin = self.origin.map(|origin| origin.to_string());
        tracing::warn!(n_rescued, origin, %aside, "went through the log of a damaged store");
        if let Some(error) = &self.unreadable {
            tracing::error!(
                %error,
                %aside,
                "the log of the damaged store cannot be read any further: changes behind that \
                 which were acknowledged by it alone are lost"
            );
            if origin.is_none() {
                tracing::error!(
                    %aside,
                    "whose log it is cannot be told either: remove the silent member at this \
                     filer's address with `dulse cluster remove`"
                );
            }
        }
        if self.n_lost > 0 {
            let n_lost = self.n_lost;
            tracing::error!(n_lost, %aside, "changes in the log of a damaged store are lost");
        }
        if self.n_refused > 0 {
            let n_refused = self.n_refused;
            tracing::error!(
                n_refused,
                %aside,
                "changes that only the log of a damaged store has are lost: whoever made them was \
                 removed meanwhile, and the others may have freed what they name"
            );
        }
    }
}

/// Merges what a log has; `pause` lies between two tries of what may pass.
async fn gather(store: &ReplicaStore, aside: &Path, pause: Duration) -> Result<Found> {
    let mut found = Found::default();
    let path = aside.to_owned();
    let rescue = match patiently(pause, move || Rescue::open(&path)).await? {
        Ok(Some(rescue)) => rescue,
        Ok(None) => return Ok(found),
        Err(error) => {
            found.unreadable = Some(error);
            found.origin = dulse_registry::origin_aside(aside);
            return Ok(found);
        }
    };
    found.origin = Some(rescue.origin());
    let rescue = Arc::new(Mutex::new(rescue));
    loop {
        let rescue = Arc::clone(&rescue);
        let next = move || {
            let mut rescue = rescue.lock().unwrap_or_else(PoisonError::into_inner);
            rescue.next_changes()
        };
        let changes = match patiently(pause, next).await? {
            Ok(changes) if changes.is_empty() => return Ok(found),
            Ok(changes) => changes,
            Err(error) => {
                found.unreadable = Some(error);
                return Ok(found);
            }
        };
        for result in until_applied(store, changes, pause).await {
            match result {
                Applied::Now => found.n_rescued += 1,
                Applied::Already => {}
                Applied::Hole { .. } | Applied::Undecodable(_) => found.n_lost += 1,
                Applied::Refused { .. } => found.n_refused += 1,
            }
        }
    }
}

/// Reads again where the disk failed, which may pass; what is damaged stays so.
async fn patiently<T: Send + 'static>(
    pause: Duration,
    read: impl Fn() -> Result<T, JournalError> + Send + Sync + 'static,
) -> Result<Result<T, JournalError>> {
    let read = Arc::new(read);
    let mut n_tries = 1;
    loop {
        let again = Arc::clone(&read);
        match tokio::task::spawn_blocking(move || again()).await? {
            Err(error @ JournalError::Disk(_)) if error.is_full() || n_tries < READ_TRIES_MAX => {
                tracing::warn!(%error, "cannot read the log of a damaged store; trying again");
            }
            done => return Ok(done),
        }
        n_tries += 1;
        tokio::time::sleep(pause).await;
    }
}

/// Merges changes; what keeps them from being merged passes, or ends this process.
async fn until_applied(store: &ReplicaStore, changes: Vec<Bytes>, pause: Duration) -> Vec<Applied> {
    loop {
        match store.apply_remote(changes.clone()).await {
            Ok(applied) => return applied,
            Err(error) => {
                tracing::warn!(%error, "cannot merge what a damaged store has; trying again");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Removes an origin from the cluster. One that somebody removed before is no error.
async fn until_removed<F>(old: Origin, pause: Duration, remove: impl Fn() -> F)
where
    F: Future<Output = Result<Stamp, RemoveError>>,
{
    loop {
        match remove().await {
            Ok(_) | Err(RemoveError::Unknown(_)) => return,
            Err(error @ RemoveError::Own(_)) => {
                tracing::warn!(%error, "what was set aside is of this very store");
                return;
            }
            Err(
                error @ (RemoveError::NotReady(_) | RemoveError::Store(_) | RemoveError::Live(_)),
            ) => {
                tracing::warn!(
                    %error,
                    origin = %old,
                    "the damaged store's origin was not removed; trying again"
                );
            }
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
