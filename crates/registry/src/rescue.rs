// SPDX-License-Identifier: Apache-2.0
//! What a damaged store still gives: the changes in its journal that nobody else has.
//!
//! The store that takes its place has an origin of its own: the journal of the damaged one may
//! have lost its end, which others may have seen, and two histories under one origin would
//! never agree. So the old origin's changes are merged as what they are, changes of the old
//! origin, each behind its predecessor, and reach the others by relay, as those of any filer
//! that is gone. Then the old origin is removed from the cluster: nobody waits for it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Journal, JournalError, JournalOptions, RealDisk, RecordKind};
use dulse_types::Origin;

/// Bytes of the journal read at once.
const READ_BYTES: usize = 1 << 20;

/// The journal of a store that was set aside, read from its beginning.
pub struct Rescue {
    journal: Journal,
    origin: Origin,
    at: u64,
}

impl Rescue {
    /// Opens the journal of what was set aside; `None` when it holds nothing.
    ///
    /// # Errors
    ///
    /// When the journal is damaged, too.
    pub fn open(aside: &Path) -> Result<Option<Self>, JournalError> {
        let disk = Arc::new(RealDisk::open(&aside.join("journal"))?);
        let Some(store) = dulse_journal::store_of(&*disk)? else {
            return Ok(None);
        };
        let options = JournalOptions {
            store,
            segment_size_bytes: u64::MAX,
        };
        let (journal, _) = Journal::open(disk, options)?;
        let at = journal.begin();
        Ok(Some(Self {
            journal,
            origin: Origin(store),
            at,
        }))
    }

    /// Who stamped the changes of the damaged store.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The next changes, in the order they came in; empty at the end.
    ///
    /// # Errors
    ///
    /// Where the journal is damaged; what came before was given.
    pub fn next_changes(&mut self) -> Result<Vec<Bytes>, JournalError> {
        let end = self.journal.end();
        while self.at < end {
            let records = self.journal.read(self.at, end, READ_BYTES)?;
            let Some((_, behind)) = records.last() else {
                break;
            };
            self.at = *behind;
            let changes = records.into_iter().filter_map(|(record, _)| {
                let is_change = matches!(record.kind, RecordKind::Change | RecordKind::Kept);
                is_change.then_some(record.payload)
            });
            let changes: Vec<Bytes> = changes.collect();
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
        Ok(Vec::new())
    }
}
