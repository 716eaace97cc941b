// SPDX-License-Identifier: Apache-2.0
//! Room on the disk: writes are refused before it is full, so that a checkpoint and a
//! recovery can always proceed.
//!
//! Of the reserve, one half lies in a file that is removed when others fill the disk, one
//! half is simply left free. An engine that ran out of room in the middle of a checkpoint
//! could not be trusted to go on; one that is never asked to need not be.

use std::sync::Arc;

use dulse_journal::{Disk, Space};
use dulse_store::{Error, ErrorKind, Operation};

use crate::options::Limits;

/// Name of the file that takes up room.
const FILE: &str = "reserve";

/// Of the disk, at most this part is the reserve, and this the log's budget.
const RESERVE_PART: u64 = 8;
const LOG_PART: u64 = 10;

/// How many bytes an engine may write for one byte of log until it is checkpointed: one
/// page for a small change, pages of the tree above it shared.
const ENGINE_FACTOR: u64 = 16;

/// Near the end of the disk, checkpoints come no closer than this, in bytes of log.
const CHECKPOINT_MIN_BYTES: u64 = 64 << 10;

/// What is known of the room, and whether writes are refused for want of it.
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    reserve_bytes: u64,
    log_budget_bytes: u64,
    is_short: bool,
    /// Bytes until writes are refused, as of the last look.
    left_bytes: u64,
}

/// What a look at the disk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// There is room.
    Enough,
    /// There is none since this look: the reserve was released for what must go on.
    ShortNow,
    /// There is none still.
    Short,
}

impl Room {
    /// Looks at the disk and sets the reserve aside, or releases it when the disk is full.
    pub(crate) fn new(disk: Arc<dyn Disk>, limits: &Limits) -> Self {
        let mut room = Self {
            disk,
            reserve_bytes: limits.reserve_bytes,
            log_budget_bytes: limits.log_budget_bytes,
            // Taking the reserve is how it becomes false.
            is_short: true,
            left_bytes: u64::MAX,
        };
        if room.look() != Look::Enough {
            room.release();
        }
        room
    }

    /// Looks at the disk. Cost: one system call.
    pub(crate) fn look(&mut self) -> Look {
        // A disk that cannot tell is found full by the write itself.
        let Ok(Some(space)) = self.disk.space() else {
            self.is_short = false;
            return Look::Enough;
        };
        let half = self.half(space);
        self.left_bytes = space.free_bytes.saturating_sub(half);
        if self.is_short {
            let is_over = space.free_bytes >= 2 * half && self.disk.reserve(FILE, half).is_ok();
            self.is_short = !is_over;
            return if is_over { Look::Enough } else { Look::Short };
        }
        if space.free_bytes >= half {
            return Look::Enough;
        }
        self.is_short = true;
        self.release();
        Look::ShortNow
    }

    /// What writers are told.
    pub(crate) fn error(&self) -> Error {
        let error = Error::new(Operation::Commit, ErrorKind::DiskFull);
        match self.disk.space() {
            Ok(Some(space)) => error
                .with("free bytes", space.free_bytes)
                .with("expected at least", 2 * self.half(space)),
            _ => error,
        }
    }

    /// Whether the engine may have written so much since its checkpoint, `log_bytes` of log
    /// ago, that another one is due for want of room.
    pub(crate) fn is_tight(&self, log_bytes: u64) -> bool {
        log_bytes >= CHECKPOINT_MIN_BYTES
            && log_bytes.saturating_mul(ENGINE_FACTOR) >= self.left_bytes
    }

    /// How large the log may be. Cost: one system call.
    pub(crate) fn log_budget_bytes(&self) -> u64 {
        let budget = self.log_budget_bytes;
        match self.disk.space() {
            Ok(Some(space)) => budget.min(space.total_bytes / LOG_PART),
            _ => budget,
        }
    }

    fn half(&self, space: Space) -> u64 {
        self.reserve_bytes.min(space.total_bytes / RESERVE_PART) / 2
    }

    fn release(&self) {
        // When it is not there, there is nothing to release.
        let _ = self.disk.remove(FILE);
    }
}
