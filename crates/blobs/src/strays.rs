// SPDX-License-Identifier: Apache-2.0
//! Chunks that were written, or may have been, and that no entry will ever name:
//! of uploads that failed, were cut off, or were written again elsewhere.
//!
//! They are kept in memory: what a crash forgets stays on its volume server, as any
//! chunk does whose upload ended between the last byte and the entry.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_types::FileId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::blobs::Blobs;
use crate::metrics;
use crate::retries::Retries;

/// Strays remembered, some 40 bytes each. Above it the oldest are left where they are.
const STRAYS_MAX: usize = 200_000;

/// How long an upload that was cut off may still be on its way to the disk.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(5);

/// Strays deleted at once.
const PART_MAX: usize = 1_000;

/// How often strays that wait for something are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What waits to be deleted.
#[derive(Default)]
pub(crate) struct Strays {
    waiting: Mutex<VecDeque<(FileId, Instant)>>,
    wake: Notify,
}

/// An upload on its way: unless it is told otherwise, its chunk is a stray.
pub(crate) struct Doubt {
    strays: Arc<Strays>,
    id: Option<FileId>,
}

impl Doubt {
    /// The chunk is written and someone knows of it, or it certainly is not.
    pub(crate) fn dispel(mut self) {
        self.id = None;
    }

    /// The server has answered: nothing is on its way any longer.
    pub(crate) fn settle(mut self) {
        if let Some(id) = self.id.take() {
            self.strays.push(&[id], Duration::ZERO);
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.strays.push(&[id], IN_FLIGHT_MAX);
        }
    }
}

impl Strays {
    pub(crate) fn doubt(self: &Arc<Self>, id: FileId) -> Doubt {
        Doubt {
            strays: Arc::clone(self),
            id: Some(id),
        }
    }

    fn push(&self, ids: &[FileId], delay: Duration) {
        let due = Instant::now() + delay;
        let mut waiting = self.waiting.lock();
        waiting.extend(ids.iter().map(|id| (*id, due)));
        let n_left = waiting.len().saturating_sub(STRAYS_MAX);
        if n_left > 0 {
            tracing::warn!(
                n_left,
                "chunks that nothing names are left on volume servers"
            );
            metrics::STRAYS_LEFT.add(n_left as u64);
            waiting.drain(..n_left);
        }
        metrics::STRAYS_WAITING.set(waiting.len() as f64);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes some that are due.
    fn take(&self, retries: &Retries, now: Instant) -> Vec<FileId> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        waiting.retain(|(id, due)| {
            let is_taken =
                taken.len() < PART_MAX && *due <= now && retries.is_due(id.volume_id, now);
            if is_taken {
                taken.push(*id);
            }
            !is_taken
        });
        metrics::STRAYS_WAITING.set(waiting.len() as f64);
        taken
    }
}

impl Blobs {
    /// Hands over chunks that are written and that no entry will name.
    ///
    /// They are deleted by [`Blobs::sweep`], for as long as it takes.
    pub fn discard(&self, ids: &[FileId]) {
        if !ids.is_empty() {
            self.strays.push(ids, Duration::ZERO);
        }
    }

    /// Deletes strays until the task is ended. Whoever owns this handle runs it once.
    pub async fn sweep(self: Arc<Self>) {
        let mut retries = Retries::default();
        loop {
            let is_empty = self.strays.waiting.lock().is_empty();
            if is_empty {
                self.strays.wake.notified().await;
            }
            let taken = self.strays.take(&retries, Instant::now());
            if taken.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            self.sweep_part(&taken, &mut retries).await;
        }
    }

    async fn sweep_part(&self, taken: &[FileId], retries: &mut Retries) {
        let deleted = self.delete(taken).await;
        let now = Instant::now();
        let mut n_freed = 0;
        for id in taken.iter().filter(|id| deleted.is_done(**id)) {
            retries.forget(id.volume_id);
            n_freed += 1;
        }
        let mut again = Vec::from_iter(deleted.failed.iter().copied());
        let volumes = deleted.failed.iter().map(|id| id.volume_id);
        for volume in std::collections::BTreeSet::from_iter(volumes) {
            retries.failed(volume, now);
        }
        for (volume, ids) in deleted.missing {
            if retries.said_missing(volume, now) {
                n_freed += ids.len() as u64;
            } else {
                again.extend(ids);
            }
        }
        metrics::STRAYS_FREED.add(n_freed);
        if !again.is_empty() {
            let n_failed = again.len() as u64;
            metrics::STRAYS_FAILED.add(n_failed);
            self.strays.push(&again, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u64) -> FileId {
        FileId {
            volume_id: 1,
            key,
            cookie: 0,
        }
    }

    #[test]
    fn an_upload_in_doubt_is_a_stray_after_a_while() {
        let strays = Arc::new(Strays::default());
        strays.doubt(id(1)).dispel();
        drop(strays.doubt(id(2)));
        strays.push(&[id(3)], Duration::ZERO);
        let retries = Retries::default();
        let now = Instant::now();
        assert_eq!(strays.take(&retries, now), [id(3)]);
        assert_eq!(strays.take(&retries, now + IN_FLIGHT_MAX * 2), [id(2)]);
        assert!(strays.waiting.lock().is_empty());
    }

    #[test]
    fn of_too_many_strays_the_oldest_are_left() {
        let strays = Strays::default();
        let ids: Vec<_> = (0..STRAYS_MAX as u64 + 5).map(id).collect();
        strays.push(&ids, Duration::ZERO);
        let first = strays.waiting.lock().front().map(|(id, _)| id.key);
        assert_eq!(first, Some(5));
    }
}
