// SPDX-License-Identifier: Apache-2.0
//! Forgetting what nobody can speak of any more, a little at a time.
//!
//! ⚠ It goes by what was stable when the engine was last made durable: whatever concerns a
//! row that may be forgotten is then below the position that a replay begins at.
//!
//! ⚠ Up to where it went is written with it. A member that has less had acknowledged that, and was
//! set back: what is changed here since speaks of places that it does not know any more.

use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Batch, Read};
use dulse_merge::keys::Space;
use dulse_merge::{Txn, forget};
use dulse_store::{Error, Operation};
use dulse_types::Vector;
use dulse_types::wire::{Reader, WireError, Writer};

use crate::error;
use crate::sequencer::Replica;
use crate::shared::EngineRows;

/// Rows looked at by one call, so that writers hardly wait for it.
const ROWS_MAX: usize = 512;

/// First byte of the row that says up to where was forgotten.
const FORMAT: u8 = 1;

fn forgotten_key() -> Vec<u8> {
    Space::Meta.key(b"forgotten")
}

/// The write that forgets it: a state that is taken in comes from elsewhere.
pub(crate) fn unforgotten() -> (Vec<u8>, Option<Bytes>) {
    (forgotten_key(), None)
}

/// Up to where an earlier process forgot.
///
/// # Errors
///
/// `Corrupt`, `Io`.
pub(crate) fn load(read: &dyn Read) -> Result<Vector, Error> {
    let operation = Operation::Open;
    let row = read.get(&forgotten_key());
    let Some(row) = row.map_err(|e| error::engine(operation, e))? else {
        return Ok(Vector::new());
    };
    let decode = || {
        let input = &mut Reader::new(&row);
        match input.u8()? {
            FORMAT => Vector::read(input),
            other => Err(WireError::BadValue {
                what: "format of what was forgotten",
                value: other.into(),
            }),
        }
    };
    decode().map_err(|e| error::corrupt(operation, e))
}

/// How far forgetting has come.
#[derive(Default, Debug)]
pub(crate) struct Forgetting {
    /// What was stable at the last checkpoint.
    stable: Vector,
    /// Where the pass goes on; `None` when it is over.
    next: Option<Vec<u8>>,
    /// More became stable since the pass began.
    is_again: bool,
}

impl Forgetting {
    /// The engine was made durable while this was stable.
    pub(crate) fn checkpointed(&mut self, stable: &Vector) {
        if self.stable == *stable {
            return;
        }
        self.stable.clone_from(stable);
        if self.next.is_none() {
            self.next = Some(Vec::new());
        } else {
            self.is_again = true;
        }
    }
}

impl Replica {
    /// Looks at some more rows, and forgets those of which nothing can come any more. True
    /// while there are more to look at. Digests stay as they are.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `DiskFull`, `Io`.
    pub fn forget(&mut self) -> Result<bool, Error> {
        let Some(from) = self.forgetting.next.clone().filter(|_| !self.is_behind_log) else {
            return Ok(false);
        };
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        let pass = forget(
            &mut txn,
            shared.origin,
            &self.forgetting.stable,
            &from,
            ROWS_MAX,
        );
        let pass = pass.map_err(|e| error::read(Operation::Checkpoint, e))?;
        if pass.n_forgotten > 0 {
            let (mut writes, _) = txn
                .finish()
                .map_err(|e| error::read(Operation::Checkpoint, e))?;
            let before = shared.forgotten();
            let mut forgotten = before.clone();
            forgotten.merge_max(&self.forgetting.stable);
            if forgotten != before {
                let mut row = Writer::new();
                row.u8(FORMAT);
                forgotten.write(&mut row);
                writes.push((forgotten_key(), Some(row.into_bytes())));
                // Order: said before it is so, so that nobody is told of less.
                *shared.forgotten.lock() = forgotten;
            }
            let written = shared.engine.write(Batch { writes });
            written.map_err(|e| error::engine(Operation::Checkpoint, e))?;
            tracing::debug!(n_rows = pass.n_forgotten, "forgot what is stable");
            // Pending conflicts may be among it, which hold back what may be freed.
            self.judging.look_again();
        }
        self.forgetting.next = pass.next;
        if self.forgetting.next.is_none() && std::mem::take(&mut self.forgetting.is_again) {
            self.forgetting.next = Some(Vec::new());
        }
        Ok(self.forgetting.next.is_some())
    }
}
