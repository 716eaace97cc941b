// SPDX-License-Identifier: Apache-2.0
//! What a filer hands to a peer that pulls: pure reading, used by service and simulation.

use bytes::Bytes;
use dulse_proto::replication::{Heartbeat, Known};
use dulse_replica::{Following, Shared};
use dulse_store::Error;
use dulse_types::{Origin, Stamp, Vector};

use crate::convert;

/// Bytes of changes in one batch.
pub const BATCH_BYTES: usize = 1 << 20;

/// The next changes of one origin for one puller.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Whose changes.
    pub origin: Origin,
    /// What the puller has of them.
    pub after: Stamp,
}

/// What the log has behind a cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// These, in order; the cursor moved behind them.
    Changes(Vec<Bytes>),
    /// Nothing yet.
    Idle,
    /// What follows the cursor is no longer kept: the first one kept follows this stamp.
    Cut(Stamp),
}

impl Cursor {
    /// Reads on; only what is on disk here is handed out.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn next(&mut self, shared: &Shared, max_bytes: usize) -> Result<Next, Error> {
        let records = match shared.following(self.origin, self.after, max_bytes)? {
            Following::Changes(records) => records,
            Following::Cut(at) => return Ok(Next::Cut(at)),
        };
        let Some(last) = records.last() else {
            return Ok(Next::Idle);
        };
        self.after = last.stamp;
        Ok(Next::Changes(
            records.into_iter().map(|r| r.payload).collect(),
        ))
    }
}

impl Cursor {
    /// How many changes lie behind the cursor.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn n_behind(&self, shared: &Shared) -> Result<u64, Error> {
        shared.n_changes_after(self.origin, self.after)
    }
}

/// The changes between what every other member has and a state that is handed out.
#[derive(Clone, Debug)]
pub struct KeptCursor {
    cursors: Vec<(Cursor, Stamp)>,
}

impl KeptCursor {
    /// From `floor`, where it is known, to the state's vector.
    #[must_use]
    pub fn new(floor: Option<&Vector>, state: &Vector) -> Self {
        let rows = floor.into_iter().flat_map(|floor| {
            let rows = state.iter().map(|(origin, until)| {
                let after = floor.get(origin);
                (Cursor { origin, after }, until)
            });
            rows.collect::<Vec<_>>()
        });
        Self {
            cursors: rows.collect(),
        }
    }

    /// The next of them; empty at the end. What this log no longer has is left out.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn next(&mut self, shared: &Shared, max_bytes: usize) -> Result<Vec<Bytes>, Error> {
        while let Some((cursor, until)) = self.cursors.last_mut() {
            let records = shared.changes_after(cursor.origin, cursor.after, max_bytes)?;
            let covered: Vec<_> = records.into_iter().filter(|r| r.stamp <= *until).collect();
            match covered.last() {
                Some(last) => {
                    cursor.after = last.stamp;
                    return Ok(covered.into_iter().map(|r| r.payload).collect());
                }
                None => drop(self.cursors.pop()),
            }
        }
        Ok(Vec::new())
    }
}

/// What a puller is told that asks for another process than this one.
pub const ANOTHER_FILER: &str =
    "another filer process is here than the one that was greeted; expected a new handshake";

/// Whether a pull is meant for this process. ⚠ A connection outlives the process at its other
/// end: what this one states would be taken for the word of the filer that was there before.
#[must_use]
pub fn is_asked(instance: u64, asked: u64) -> bool {
    asked == 0 || asked == instance
}

/// What this filer states about itself now.
#[must_use]
pub fn heartbeat(shared: &Shared, known: Vec<Known>, is_stopping: bool) -> Heartbeat {
    // Order: the promise first. What is stamped after it is above it; what was stamped
    // before is at or below the position read next.
    let promise = shared.promise();
    let (durable, judged) = (shared.acknowledged_vector(), shared.judged_vector());
    let (applied, sum) = shared.digest();
    Heartbeat {
        position: applied.get(shared.origin()).0,
        durable: convert::positions(&durable),
        applied: convert::positions(&applied),
        judged: convert::positions(&judged),
        digest: sum.sum.to_be_bytes().to_vec().into(),
        promise: promise.0,
        now_ns: shared.wall_ns(),
        known,
        is_stopping,
        is_unsure: shared.is_unsure(),
        leaving: Vec::new(),
    }
}
