// SPDX-License-Identifier: Apache-2.0
//! One write or read, through lost answers and a database that is away for a while.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, ListRange, Outcome};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;

use super::Runner;
use crate::plan::failed;
use crate::rows::{At, RowWrite, Rows};

/// How long a write or read of a plan that has begun is tried before it is left to a later run.
const STEP_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause before it is tried again.
const STEP_PAUSE: Duration = Duration::from_millis(100);

/// Names read at a time.
const PAGE: usize = 1_000;

/// What became of one write.
pub(crate) enum Put {
    Made,
    /// The answer was lost, and what was to go is not there: this went, or others took it.
    Gone,
    /// Nothing was written: a row is not as it was read.
    Differs,
    /// The answer was lost, and others have or may have written there since.
    Lost,
}

impl<R: Rows> Runner<'_, R> {
    /// Makes one write.
    pub(crate) async fn put(&self, group: &[RowWrite]) -> Result<Put, Error> {
        let is_nothing = |row: &&RowWrite| row.before.is_none() && row.after.is_none();
        for row in group.iter().filter(is_nothing) {
            // Nothing that stays nothing is not written, but looked at.
            if self.read(&row.at).await?.is_some() {
                return Ok(Put::Differs);
            }
        }
        let group: Vec<RowWrite> = group
            .iter()
            .filter(|row| !is_nothing(row))
            .cloned()
            .collect();
        match group.is_empty() {
            true => Ok(Put::Made),
            false => self.put_rows(&group, None).await,
        }
    }

    /// Makes writes of one level, which do not depend on one another; gives what became of each.
    pub(super) async fn put_all(&self, groups: &[Vec<RowWrite>]) -> Vec<Result<Put, Error>> {
        let is_nothing = |row: &RowWrite| row.before.is_none() && row.after.is_none();
        let n_max = self.rows.writes_max();
        if groups.len() <= 1 || groups.iter().flatten().any(is_nothing) {
            let puts: Vec<_> = groups.iter().map(|group| self.put(group)).collect();
            return stream::iter(puts).buffered(n_max).collect().await;
        }
        let firsts = self.rows.write_all(groups).await;
        // One without an answer would be taken for none at all.
        assert_eq!(firsts.len(), groups.len(), "each write has an answer");
        let puts = groups.iter().zip(firsts);
        let puts: Vec<_> = puts
            .map(|(group, first)| self.put_rows(group, Some(first)))
            .collect();
        stream::iter(puts).buffered(n_max).collect().await
    }

    /// - `first`: what a first try gave, where it was made already.
    async fn put_rows(
        &self,
        group: &[RowWrite],
        mut first: Option<Result<bool, Error>>,
    ) -> Result<Put, Error> {
        let began = Instant::now();
        let mut is_lost = false;
        loop {
            let tried = match first.take() {
                Some(tried) => tried,
                None => self.rows.write(group).await,
            };
            let error = match tried {
                Ok(true) => return Ok(Put::Made),
                Ok(false) if !is_lost => return Ok(Put::Differs),
                Ok(false) => failed(ErrorKind::Conflict).unknown_outcome(),
                Err(error) => error,
            };
            if error.outcome() == Outcome::Unknown {
                if error.kind() != ErrorKind::Conflict {
                    // Looked at only when nothing can come any more.
                    tokio::time::sleep(self.rows.late_max()).await;
                }
                is_lost = true;
                self.was_lost.store(true, Ordering::SeqCst);
                let rows: Vec<At> = group.iter().map(|row| row.at.clone()).collect();
                self.settle(&rows).await.map_err(Error::unknown_outcome)?;
                match self.seen(group).await.map_err(Error::unknown_outcome)? {
                    // A value says whose it is; that nothing is there does not.
                    Some(Put::Made) if group.iter().all(RowWrite::goes) => return Ok(Put::Gone),
                    Some(put) => return Ok(put),
                    // Not made, or made and removed by others, who have its chunks.
                    None if group.iter().all(RowWrite::is_new) => return Ok(Put::Lost),
                    None if began.elapsed() < STEP_TIME_MAX => {
                        if error.kind() == ErrorKind::Conflict {
                            // It was not waited for: whoever has too much to do gets time.
                            tokio::time::sleep(STEP_PAUSE).await;
                        }
                        continue;
                    }
                    None => return Err(error),
                }
            }
            if !error.is_retryable() || began.elapsed() > STEP_TIME_MAX {
                return Err(if is_lost {
                    error.unknown_outcome()
                } else {
                    error
                });
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }

    /// What became of a write whose answer was lost; `None` when it was not made.
    async fn seen(&self, group: &[RowWrite]) -> Result<Option<Put>, Error> {
        let (mut is_before, mut is_after) = (true, true);
        for row in group {
            let now = self.read(&row.at).await?;
            is_before &= now == row.before;
            is_after &= now == row.after;
        }
        Ok(match (is_before, is_after) {
            (_, true) => Some(Put::Made),
            (true, _) => None,
            _ => Some(Put::Lost),
        })
    }

    /// Sees to it that nothing that was asked of rows before appears any more.
    pub(super) async fn settle(&self, rows: &[At]) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            match self.rows.settle(rows).await {
                Err(error) if error.is_retryable() && began.elapsed() < STEP_TIME_MAX => {
                    tokio::time::sleep(STEP_PAUSE).await;
                }
                settled => return settled,
            }
        }
    }

    /// What is in a row.
    pub(crate) async fn read(&self, at: &At) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        loop {
            let value = match at {
                At::Path(path) => self.rows.get(path).await,
                At::Key(key) => self.rows.kv_get(key).await,
            };
            match value {
                Err(error) if error.is_retryable() && began.elapsed() < STEP_TIME_MAX => {
                    tokio::time::sleep(STEP_PAUSE).await;
                }
                value => return value,
            }
        }
    }

    /// What is in each row.
    pub(crate) async fn read_all(&self) -> Result<Vec<Option<Bytes>>, Error> {
        let reads = self.steps.rows.iter().map(|row| self.read(&row.at));
        let reads: Vec<_> = reads.collect();
        let reads = stream::iter(reads).buffered(self.rows.writes_max());
        let values: Vec<Result<Option<Bytes>, Error>> = reads.collect().await;
        values.into_iter().collect()
    }

    /// Names in a directory, counted up to `limit`.
    pub(super) async fn count(&self, dir: &FullPath, limit: u64) -> Result<u64, Error> {
        let (mut n, mut start) = (0, String::new());
        let began = Instant::now();
        loop {
            let left = usize::try_from(limit - n).unwrap_or(PAGE);
            let range = ListRange {
                prefix: String::new(),
                start: start.clone(),
                inclusive: false,
                limit: PAGE.min(left),
            };
            let page = match self.rows.list(dir, &range).await {
                Err(error) if error.is_retryable() && began.elapsed() < STEP_TIME_MAX => {
                    tokio::time::sleep(STEP_PAUSE).await;
                    continue;
                }
                page => page?,
            };
            n += page.len() as u64;
            match page.last() {
                Some((name, _)) if page.len() == range.limit && n < limit => {
                    start.clone_from(name);
                }
                _ => return Ok(n),
            }
        }
    }
}
