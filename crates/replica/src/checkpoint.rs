// SPDX-License-Identifier: Apache-2.0
//! Making the engine durable, catching up with the log, and cutting the log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dulse_journal::Checkpoint;
use dulse_kv::Batch;
use dulse_store::{Error, Operation};
use dulse_types::Vector;
use dulse_types::wire::Writer;

use crate::error;
use crate::recover;
use crate::sequencer::Replica;
use crate::tail::Tail;
use crate::trees::rows;

/// A checkpoint that failed is not tried again with every group.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Replica {
    /// Makes the engine durable and notes the journal position it covers.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.catch_up()?;
        let operation = Operation::Checkpoint;
        self.checkpointed_at_ns = self.shared.wall.now_ns();
        // Until the end is reached.
        self.has_checkpoint_failed = true;
        self.sync()?;
        let position = self.shared.journal.end();
        self.drop_tail()?;
        let durable = self.shared.engine.checkpoint();
        durable.map_err(|e| error::engine(operation, e))?;
        // ⚠ Not what is published: a transfer whose end failed may have left more.
        let has = recover::engine_vector(&*self.shared.engine)?;
        self.note_checkpoint(position, &has)?;
        self.checkpointed = position;
        self.has_checkpoint_failed = false;
        self.forgetting.checkpointed(&self.stable);
        if let Err(error) = self.cut_log() {
            tracing::warn!(%error, "the log could not be cut; tried again later");
        }
        Ok(())
    }

    /// Writes the checkpoint file: the engine has nothing above `vector`.
    pub(crate) fn note_checkpoint(&self, position: u64, vector: &Vector) -> Result<(), Error> {
        let mut out = Writer::new();
        out.i64_be(self.shared.clock.ceiling().0);
        vector.write(&mut out);
        let content = out.into_vec();
        let checkpoint = Checkpoint { position, content };
        let written = self.shared.journal.write_checkpoint(&checkpoint);
        written.map_err(|e| error::journal(Operation::Checkpoint, e))
    }

    /// Makes everything in the journal durable.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.shared.sync()
    }

    /// Checkpoints when enough was written or enough time has passed since the last one. What
    /// is in the log and applied stays answered whatever comes of it: the log is kept until a
    /// checkpoint succeeds.
    pub fn checkpoint_when_due(&mut self) {
        if self.is_checkpoint_due()
            && let Err(error) = self.checkpoint()
        {
            tracing::error!(%error, "checkpoint failed; tried again soon");
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let log_bytes = self.shared.journal.end() - self.checkpointed;
        if log_bytes == 0 || self.is_behind_log {
            return false;
        }
        // A clock that was set back counts as well.
        let since = self.checkpointed_at_ns.abs_diff(self.shared.wall.now_ns());
        if self.has_checkpoint_failed {
            return u128::from(since) >= RETRY_AFTER.as_nanos();
        }
        log_bytes >= self.limits.checkpoint_every_bytes
            || u128::from(since) >= self.limits.checkpoint_every.as_nanos()
            || self.room.is_tight(log_bytes)
    }

    fn drop_tail(&mut self) -> Result<(), Error> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let mut writes = Vec::new();
        self.tail.drop_synced(u64::MAX, &mut writes);
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|failure| {
            // The rows are still there; what is listed is read again.
            self.is_behind_log = true;
            error::engine(Operation::Checkpoint, failure)
        })
    }

    /// Has the engine take in what the log has and it lacks, after a batch that failed.
    ///
    /// # Errors
    ///
    /// As long as that cannot be done: `DiskFull`, `Io`, or `Unavailable` when the journal is
    /// closed for writing.
    pub(crate) fn catch_up(&mut self) -> Result<(), Error> {
        if !self.is_behind_log {
            return Ok(());
        }
        let caught = self.replay_what_it_lacks();
        let is_behind = caught.is_err();
        self.shared.is_behind.store(is_behind, Ordering::Relaxed);
        caught
    }

    fn replay_what_it_lacks(&mut self) -> Result<(), Error> {
        // Order: what the engine takes in without carrying it is on disk in the log.
        self.shared.sync()?;
        let (vector, _) = recover::replay(&self.shared, self.checkpointed)?;
        self.tail = Tail::load(&*self.shared.engine)?;
        // What was journaled and not applied may have begun one, or ended it.
        let open = rows::load(&*self.shared.engine)?;
        self.trees.reload(open, self.shared.origin);
        {
            // Order: whoever reads vector and digest sees both of one moment.
            let mut vectors = self.shared.vectors.write();
            recover::load_sums(&self.shared)?;
            vectors.durable.merge_max(&vector);
            vectors.applied = vector;
        }
        self.is_behind_log = false;
        self.shared.clock.published();
        tracing::info!("the engine has caught up with the log");
        Ok(())
    }

    /// Drops the oldest parts of the log: what every member has, the engine has durably, and
    /// is too old, or too much.
    pub(crate) fn cut_log(&mut self) -> Result<(), Error> {
        let retention = i64::try_from(self.limits.log_retention.as_nanos()).unwrap_or(i64::MAX);
        let kept_from = self.shared.now_ns().saturating_sub(retention);
        let journal = &self.shared.journal;
        while let Some(oldest) = journal.oldest() {
            let is_superfluous =
                oldest.newest.0 < kept_from || journal.size_bytes() > self.room.log_budget_bytes();
            // ⚠ What a member may still pull stays, whatever it costs.
            let is_settled = oldest.end <= self.checkpointed && self.stable.includes(&oldest.lasts);
            if !is_superfluous || !is_settled {
                break;
            }
            let dropped = journal.drop_before(oldest.end);
            let bytes = dropped.map_err(|e| error::journal(Operation::Checkpoint, e))?;
            tracing::info!(bytes, newest = %oldest.newest, "dropped a part of the log");
        }
        let is_over = journal.size_bytes() > self.room.log_budget_bytes()
            && journal.oldest().is_some_and(|oldest| {
                oldest.end <= self.checkpointed && !self.stable.includes(&oldest.lasts)
            });
        self.shared.is_log_over.store(is_over, Ordering::Relaxed);
        Ok(())
    }
}
