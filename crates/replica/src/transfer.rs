// SPDX-License-Identifier: Apache-2.0
//! Handing out the whole state, and taking it in at a fresh replica.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Record, RecordKind};
use dulse_kv::{Batch, Read, ReadExt};
use dulse_merge::Change;
use dulse_merge::keys::Space;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::Vector;
use dulse_types::wire::{Reader, Writer};

use crate::error;
use crate::recover::load_sums;
use crate::sequencer::Replica;
use crate::shared::Shared;

/// One row of a transfer: the whole key, its space in front, and the value.
pub type ImportRow = (Bytes, Bytes);

/// Rows of one part of a transfer.
const PART_ROWS: usize = 2_000;

/// Every replicated row of one engine snapshot, with its vector. ⚠ One snapshot: rows and
/// vector are of one moment.
pub struct Export {
    snapshot: Box<dyn Read>,
    vector: Vector,
    spaces: Vec<Space>,
    from: Vec<u8>,
}

impl Shared {
    /// Takes a snapshot of everything that a transfer carries.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn export(&self) -> Result<Export, Error> {
        let operation = Operation::Transfer;
        let snapshot = self
            .engine
            .snapshot()
            .map_err(|e| error::engine(operation, e))?;
        let vector = snapshot.get(&Space::Vector.key(b""));
        let vector = match vector.map_err(|e| error::engine(operation, e))? {
            Some(value) => {
                Vector::read(&mut Reader::new(&value)).map_err(|e| error::corrupt(operation, e))?
            }
            None => Vector::new(),
        };
        let mut spaces = Space::REPLICATED.to_vec();
        // Digest rows follow from the others and are sent so as not to be computed again.
        spaces.push(Space::Digest);
        let from = spaces[0].range().0;
        Ok(Export {
            snapshot,
            vector,
            spaces,
            from,
        })
    }
}

impl Export {
    /// The vector of the snapshot.
    #[must_use]
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The next rows; empty at the end.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn next_part(&mut self) -> Result<Vec<ImportRow>, Error> {
        while let Some(space) = self.spaces.first() {
            let to = space.range().1;
            let rows = self.snapshot.scan(&self.from, &to, PART_ROWS);
            let rows = rows.map_err(|e| error::engine(Operation::Transfer, e))?;
            if let Some((last, _)) = rows.last() {
                self.from = last.to_vec();
                self.from.push(0);
                return Ok(rows);
            }
            self.spaces.remove(0);
            if let Some(next) = self.spaces.first() {
                self.from = next.range().0;
            }
        }
        Ok(Vec::new())
    }
}

impl Replica {
    /// Begins to take in a state: drops what an interrupted import left.
    ///
    /// # Errors
    ///
    /// `Invalid` when this replica has a history of its own.
    pub fn begin_import(&mut self) -> Result<(), Error> {
        if !self.shared.vector().is_empty() {
            return Err(Error::new(Operation::Transfer, ErrorKind::Invalid)
                .with("because", "only a fresh replica takes in a whole state"));
        }
        for space in Space::REPLICATED.into_iter().chain([Space::Digest]) {
            self.clear(space)?;
        }
        // The checkpoint keeps the clock's ceiling; of the log nothing else is needed.
        self.checkpoint()?;
        let forgotten = self.shared.journal.forget_all();
        forgotten.map_err(|e| error::journal(Operation::Transfer, e))
    }

    /// Keeps changes that the coming state covers, for those who may still lack them.
    ///
    /// # Errors
    ///
    /// `Corrupt` when one cannot be decoded; `DiskFull`, `Io`.
    pub fn import_kept(&mut self, changes: &[Bytes]) -> Result<(), Error> {
        let operation = Operation::Transfer;
        let record = |payload: &Bytes| {
            let change = Change::decode(payload)
                .map_err(|e| Error::new(operation, ErrorKind::Corrupt).source(e))?;
            Ok(Record {
                kind: RecordKind::Kept,
                origin: change.origin,
                stamp: change.stamp,
                prev: change.prev,
                payload: payload.clone(),
            })
        };
        let records: Result<Vec<Record>, Error> = changes.iter().map(record).collect();
        let appended = self.shared.journal.append(&records?);
        appended.map(drop).map_err(|e| error::journal(operation, e))
    }

    fn clear(&mut self, space: Space) -> Result<(), Error> {
        let operation = Operation::Transfer;
        let (from, to) = space.range();
        loop {
            let rows = self.shared.engine.scan(&from, &to, PART_ROWS);
            let rows = rows.map_err(|e| error::engine(operation, e))?;
            if rows.is_empty() {
                return Ok(());
            }
            let writes = rows
                .into_iter()
                .map(|(key, _)| (key.to_vec(), None))
                .collect();
            let written = self.shared.engine.write(Batch { writes });
            written.map_err(|e| error::engine(operation, e))?;
        }
    }

    /// Takes in rows of a transfer.
    ///
    /// # Errors
    ///
    /// `Invalid` for rows of spaces that no transfer carries; `DiskFull`, `Io`.
    pub fn import(&mut self, rows: Vec<ImportRow>) -> Result<(), Error> {
        let carried = |key: &Bytes| {
            let spaces = Space::REPLICATED.into_iter().chain([Space::Digest]);
            key.first()
                .is_some_and(|first| spaces.into_iter().any(|s| s as u8 == *first))
        };
        if let Some((key, _)) = rows.iter().find(|(key, _)| !carried(key)) {
            return Err(Error::new(Operation::Transfer, ErrorKind::Invalid)
                .with("space", format!("{:?}", key.first())));
        }
        let writes = rows
            .into_iter()
            .map(|(key, value)| (key.to_vec(), Some(value)))
            .collect();
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Transfer, e))
    }

    /// Ends a transfer: durable first, then the vector, so that a crash begins anew.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn finish_import(&mut self, vector: Vector) -> Result<(), Error> {
        let operation = Operation::Transfer;
        self.shared
            .journal
            .sync()
            .map_err(|e| error::journal(operation, e))?;
        self.shared
            .engine
            .checkpoint()
            .map_err(|e| error::engine(operation, e))?;
        let mut out = Writer::new();
        vector.write(&mut out);
        let writes = vec![(Space::Vector.key(b""), Some(out.into_bytes()))];
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
        load_sums(&self.shared)?;
        for (_, stamp) in vector.iter() {
            self.shared.clock.see(stamp);
        }
        {
            let mut vectors = self.shared.vectors.write();
            vectors.applied = vector.clone();
            vectors.durable = vector;
        }
        self.checkpoint()
    }

    /// What readers share, for those who hold a replica only for a moment.
    #[must_use]
    pub fn reader(&self) -> Arc<Shared> {
        self.shared()
    }
}
