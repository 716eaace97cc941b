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

/// The same where damage lies ahead: one record, whatever its size.
const ONE_RECORD: usize = 1;

/// The journal of a store that was set aside, read from its beginning.
pub struct Rescue {
    journal: Journal,
    origin: Origin,
    at: u64,
    at_once: usize,
}

/// Whose log lies in what was set aside, also where that log cannot be opened; `None` where
/// nothing tells.
#[must_use]
pub fn origin_aside(aside: &Path) -> Option<Origin> {
    let disk = RealDisk::open(&aside.join("journal")).ok()?;
    dulse_journal::any_store_of(&disk).map(Origin)
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
            at_once: READ_BYTES,
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
            let records = match self.journal.read(self.at, end, self.at_once) {
                // What lies before the damage is whole.
                Err(JournalError::Corrupt { .. }) if self.at_once > ONE_RECORD => {
                    self.at_once = ONE_RECORD;
                    continue;
                }
                read => read?,
            };
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use dulse_journal::Record;
    use dulse_types::Stamp;

    use super::*;

    const OWN: u64 = 7;

    fn change(stamp: i64) -> Record {
        Record {
            kind: RecordKind::Change,
            origin: Origin(OWN),
            stamp: Stamp(stamp),
            prev: Stamp(stamp - 1),
            payload: Bytes::from(vec![b'x'; 100]),
        }
    }

    /// Bug: what was read together with the damage was not given.
    #[test]
    fn what_lies_before_the_damage_is_given_and_whose_log_it_is_known_without_the_first_header() {
        let aside = tempfile::tempdir().unwrap();
        let dir = aside.path().join("journal");
        std::fs::create_dir(&dir).unwrap();
        let options = JournalOptions {
            store: OWN,
            segment_size_bytes: 1_000,
        };
        let disk = Arc::new(RealDisk::open(&dir).unwrap());
        let (journal, _) = Journal::open(disk, options).unwrap();
        for stamp in 1..=20 {
            journal.append(&[change(stamp)]).unwrap();
            journal.sync().unwrap();
        }
        drop(journal);
        let mut segments: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        segments.retain(|file| file.as_ref().unwrap().path().extension() == Some("seg".as_ref()));
        let mut segments = segments.into_iter().map(|file| file.unwrap().path());
        let first = segments.by_ref().min().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(first).unwrap();
        file.write_all_at(b"?", 500).unwrap();
        let mut rescue = Rescue::open(aside.path()).unwrap().unwrap();
        let mut n_given = 0;
        let error = loop {
            match rescue.next_changes() {
                Ok(changes) => n_given += changes.len(),
                Err(error) => break error,
            }
            assert!(n_given < 20);
        };
        assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
        // At byte 500 of the first segment is the third or fourth.
        assert!((2..=3).contains(&n_given), "{n_given}");
        drop(rescue);
        file.write_all_at(b"?", 20).unwrap();
        assert!(Rescue::open(aside.path()).is_err());
        assert_eq!(origin_aside(aside.path()), Some(Origin(OWN)));
    }
}
