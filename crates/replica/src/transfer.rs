// SPDX-License-Identifier: Apache-2.0
//! Handing out the whole state, and taking it in at a fresh replica.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Record, RecordKind};
use dulse_kv::{Batch, Read, ReadExt};
use dulse_merge::forget::forget_orphans;
use dulse_merge::keys::Space;
use dulse_merge::touched::{Ranges, touched};
use dulse_merge::{Change, Txn};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::Vector;
use dulse_types::wire::{Reader, WireError, Writer};

use crate::error;
use crate::forgetting;
use crate::recover::load_sums;
use crate::sequencer::Replica;
use crate::shared::{EngineRows, Shared};

/// One row of a transfer: the whole key, its space in front, and the value.
pub type ImportRow = (Bytes, Bytes);

/// Rows of one part of a transfer.
pub const PART_ROWS: usize = 2_000;

/// An interrupted transfer goes on only if at most this many changes came since; with more,
/// sending everything anew costs less.
const RESUME_CHANGES_MAX: usize = 200_000;

/// Bytes of changes read at once while telling what they touched.
const RESUME_READ_BYTES: usize = 4 << 20;

/// Rows taken in between two syncs of the engine: what a crash costs of a transfer.
const SYNC_EVERY_ROWS: usize = 200_000;

/// Where a transfer stands: every row up to `after` is of the state `vector`, or newer
/// where a transfer that went on was interrupted again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportCursor {
    /// The state.
    pub vector: Vector,
    /// The newest state of which anything was taken in. ⚠ Who goes on must have all of it:
    /// rows newer than the vector that comes with them would be counted twice.
    pub newest: Vector,
    /// The last key taken in, in the order of [`Export`].
    pub after: Bytes,
}

impl ImportCursor {
    fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(IMPORT_VERSION);
        self.vector.write(&mut out);
        self.newest.write(&mut out);
        out.bytes(&self.after);
        out.into_bytes()
    }
}

/// One part of a transfer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ExportPart {
    /// Ranges of keys whose rows all give way to those of this part.
    pub replaced: Vec<(Bytes, Bytes)>,
    /// Rows, ascending in the order of the transfer.
    pub rows: Vec<ImportRow>,
    /// The last key of the transfer so far; empty while it only catches up.
    pub after: Bytes,
}

impl ExportPart {
    /// Whether it is the end of the rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.rows.is_empty()
    }
}

/// Every replicated row of one engine snapshot, with its vector. ⚠ One snapshot: rows and
/// vector are of one moment.
pub struct Export {
    snapshot: Box<dyn Read>,
    vector: Vector,
    /// What is sent again because a transfer goes on, each range with whether its rows at
    /// the receiver must still be dropped.
    again: VecDeque<(Vec<u8>, Vec<u8>, bool)>,
    spaces: VecDeque<Space>,
    from: Vec<u8>,
}

impl Shared {
    /// Takes a snapshot of everything that a transfer carries, and makes all that is in it
    /// durable in the journal.
    ///
    /// ⚠ What the joiner acknowledges must be on disk where it comes from: own changes under
    /// `os`, which a power loss would make this filer forget, and peers' changes, which the
    /// joiner's log could not relay when its provider and their origin are lost – the changes
    /// that go with the state are read from what is on disk.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `DiskFull`, `Io`.
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
        // Order: behind the snapshot, so that all of it is covered.
        self.sync()?;
        let spaces = transferred();
        let from = Space::Entries.range().0;
        Ok(Export {
            snapshot,
            vector,
            again: VecDeque::new(),
            spaces,
            from,
        })
    }
}

/// The spaces of a transfer in their order. Digest rows follow from the others and are sent
/// so as not to be computed again.
fn transferred() -> VecDeque<Space> {
    Space::REPLICATED
        .into_iter()
        .chain([Space::Digest])
        .collect()
}

/// Spaces of which a transfer that goes on sends again all that it had sent: they are
/// small, or change without a change in the log. ⚠ Pending conflicts are each replica's own,
/// and the garbage says which chunks they pin: rows of one provider and pins of another would
/// pin chunks for ever that no conflict names.
const SENT_AGAIN: [Space; 4] = [
    Space::Conflicts,
    Space::Garbage,
    Space::Members,
    Space::Digest,
];

impl Export {
    /// The vector of the snapshot.
    #[must_use]
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Goes on where an interrupted transfer stood, perhaps from another provider: sends
    /// again what the changes since then touched, then what had not been sent. False when
    /// that cannot be done, because the log does not reach back or this filer lacks what
    /// the other had; then everything is sent.
    ///
    /// Cost: the changes since then are read and decoded.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn resume(&mut self, shared: &Shared, cursor: &ImportCursor) -> Result<bool, Error> {
        let operation = Operation::Transfer;
        let first = cursor.after.first().copied().unwrap_or(0);
        let at = self.spaces.iter().position(|s| *s as u8 == first);
        let (Some(at), true) = (at, self.vector.includes(&cursor.newest)) else {
            return Ok(false);
        };
        let Some(touched) = self.touched_since(shared, &cursor.vector)? else {
            return Ok(false);
        };
        for (origin, stamp) in cursor.newest.iter() {
            // ⚠ Of a log that parted from what the other had, it has rows that nothing here names.
            if shared.forked_at(origin, stamp)?.is_some() {
                return Ok(false);
            }
        }
        let ranges = touched.into_iter().map(|(from, to)| (from, to, true));
        self.again = ranges.collect();
        for space in self.spaces.iter().take(at + 1) {
            if SENT_AGAIN.contains(space) {
                let (from, to) = space.range();
                self.again.push_back((from, to, true));
            }
        }
        self.spaces.drain(..at);
        self.from = cursor.after.to_vec();
        self.from.push(0);
        let vector = &self.vector;
        tracing::info!(%vector, since = %cursor.vector, ranges = self.again.len(),
            kind = ?operation, "a transfer goes on");
        Ok(true)
    }

    fn touched_since(&self, shared: &Shared, since: &Vector) -> Result<Option<Ranges>, Error> {
        let operation = Operation::Transfer;
        let rows = EngineRows(&*self.snapshot);
        let txn = Txn::new(&rows);
        let mut ranges = Ranges::new();
        let mut n_changes = 0;
        for (origin, until) in self.vector.iter() {
            let mut after = since.get(origin);
            while after < until {
                let records = shared.changes_after(origin, after, RESUME_READ_BYTES)?;
                let first = records.first();
                // It must follow; that it is the same log was asked before.
                if first.is_none_or(|record| record.prev != after) {
                    return Ok(None);
                }
                for record in records.iter().filter(|record| record.stamp <= until) {
                    let change = Change::decode(&record.payload)
                        .map_err(|e| Error::new(operation, ErrorKind::Corrupt).source(e))?;
                    let is_known = touched(&txn, &change, &mut ranges);
                    if !is_known.map_err(|e| error::read(operation, e))? {
                        return Ok(None);
                    }
                    n_changes += 1;
                }
                after = records.last().map_or(until, |record| record.stamp);
                if n_changes > RESUME_CHANGES_MAX {
                    return Ok(None);
                }
            }
        }
        Ok(Some(ranges))
    }

    /// The next rows, about `max`; empty at the end.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn next_part(&mut self, max: usize) -> Result<ExportPart, Error> {
        while !self.again.is_empty() {
            // A range may end where the part before it was full: an empty part would be taken
            // for the end.
            let part = self.next_again(max)?;
            if !part.is_empty() {
                return Ok(part);
            }
        }
        while let Some(space) = self.spaces.front() {
            let rows = self.scan(&self.from, &space.range().1, max)?;
            if let Some((last, _)) = rows.last() {
                let after = last.clone();
                self.from = after.to_vec();
                self.from.push(0);
                return Ok(ExportPart {
                    replaced: Vec::new(),
                    rows,
                    after,
                });
            }
            self.spaces.pop_front();
            if let Some(next) = self.spaces.front() {
                self.from = next.range().0;
            }
        }
        Ok(ExportPart::default())
    }

    fn next_again(&mut self, max: usize) -> Result<ExportPart, Error> {
        let mut part = ExportPart::default();
        while part.rows.len() + part.replaced.len() < max
            && let Some((from, to, is_replaced)) = self.again.pop_front()
        {
            let room = max - part.rows.len();
            let rows = self.scan(&from, &to, room)?;
            if rows.len() == room
                && let Some((last, _)) = rows.last()
            {
                let mut behind = last.to_vec();
                behind.push(0);
                self.again.push_front((behind, to.clone(), false));
            }
            if is_replaced {
                part.replaced.push((from.into(), to.into()));
            }
            part.rows.extend(rows);
        }
        Ok(part)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<ImportRow>, Error> {
        let rows = self.snapshot.scan(from, to, limit);
        rows.map_err(|e| error::engine(Operation::Transfer, e))
    }
}

/// First byte of the row that says where a transfer stands.
const IMPORT_VERSION: u8 = 1;

fn import_key() -> Vec<u8> {
    Space::Meta.key(b"import")
}

/// A transfer that is being taken in.
pub(crate) struct Importing {
    vector: Vector,
    /// Its beginning came earlier, perhaps from another provider.
    is_resumed: bool,
    /// Rows since the engine was synced.
    n_rows: usize,
}

impl Importing {
    fn new(vector: Vector, is_resumed: bool) -> Self {
        Self {
            vector,
            is_resumed,
            n_rows: 0,
        }
    }
}

impl Shared {
    /// Where an interrupted transfer stands; `None` when there is none to go on with.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn import_cursor(&self) -> Result<Option<ImportCursor>, Error> {
        let operation = Operation::Transfer;
        let value = self.engine.get(&import_key());
        let Some(value) = value.map_err(|e| error::engine(operation, e))? else {
            return Ok(None);
        };
        let read = || {
            let input = &mut Reader::new(&value);
            match input.u8()? {
                IMPORT_VERSION => Ok(ImportCursor {
                    vector: Vector::read(input)?,
                    newest: Vector::read(input)?,
                    after: Bytes::copy_from_slice(input.bytes()?),
                }),
                version => Err(WireError::BadValue {
                    what: "import version",
                    value: version.into(),
                }),
            }
        };
        read().map(Some).map_err(|e| error::corrupt(operation, e))
    }
}

impl Replica {
    /// Begins to take in a state: drops what an interrupted import left.
    ///
    /// # Errors
    ///
    /// `Invalid` when this replica has a history of its own.
    pub fn begin_import(&mut self, vector: Vector) -> Result<(), Error> {
        self.require_fresh()?;
        let forgotten = self.shared.engine.write(Batch {
            writes: vec![
                (import_key(), None),
                // ⚠ One whose end failed may have left it: it is not true of what comes now.
                (Space::Vector.key(b""), None),
                forgetting::unforgotten(),
            ],
        });
        *self.shared.forgotten.lock() = Vector::new();
        forgotten.map_err(|e| error::engine(Operation::Transfer, e))?;
        for space in transferred() {
            let (from, to) = space.range();
            self.clear(&from, &to)?;
        }
        self.importing = Some(Importing::new(vector, false));
        self.forget_kept()
    }

    /// Goes on taking in a state, from where [`Shared::import_cursor`] says, with rows of a
    /// newer one.
    ///
    /// # Errors
    ///
    /// `Invalid` when this replica has a history of its own.
    pub fn resume_import(&mut self, vector: Vector) -> Result<(), Error> {
        let operation = Operation::Transfer;
        self.require_fresh()?;
        let Some(mut cursor) = self.shared.import_cursor()? else {
            return Err(Error::new(operation, ErrorKind::Invalid)
                .with("because", "there is no transfer to go on with"));
        };
        cursor.newest = vector.clone();
        let noted = self.shared.engine.write(Batch {
            writes: vec![(import_key(), Some(cursor.encode()))],
        });
        noted.map_err(|e| error::engine(operation, e))?;
        self.importing = Some(Importing::new(vector, true));
        self.forget_kept()
    }

    fn require_fresh(&self) -> Result<(), Error> {
        if self.shared.vector().is_empty() {
            return Ok(());
        }
        Err(Error::new(Operation::Transfer, ErrorKind::Invalid)
            .with("because", "only a fresh replica takes in a whole state"))
    }

    /// The changes kept for others come anew with each transfer.
    fn forget_kept(&mut self) -> Result<(), Error> {
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
        self.ready()?;
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

    fn clear(&mut self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        let operation = Operation::Transfer;
        loop {
            let rows = self.shared.engine.scan(from, to, PART_ROWS);
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

    /// Takes in a part of a transfer. Where the transfer stands is written with its rows, so
    /// that it can go on after a crash.
    ///
    /// # Errors
    ///
    /// `Invalid` for rows of spaces that no transfer carries, or when none has begun;
    /// `DiskFull`, `Io`.
    pub fn import(&mut self, part: ExportPart) -> Result<(), Error> {
        let operation = Operation::Transfer;
        self.ready()?;
        let is_carried = |key: &Bytes| {
            transferred()
                .iter()
                .any(|s| key.first() == Some(&(*s as u8)))
        };
        let mut keys = part.rows.iter().map(|(key, _)| key);
        let froms = part.replaced.iter().map(|(from, _)| from);
        if let Some(key) = keys
            .find(|k| !is_carried(k))
            .or(froms.clone().find(|k| !is_carried(k)))
        {
            return Err(Error::new(operation, ErrorKind::Invalid)
                .with("space", format!("{:?}", key.first())));
        }
        let Some(importing) = &mut self.importing else {
            return Err(
                Error::new(operation, ErrorKind::Invalid).with("because", "no transfer has begun")
            );
        };
        let (n_rows, after) = (part.rows.len(), part.after);
        let rows = part.rows.into_iter();
        let mut writes: Vec<_> = rows
            .map(|(key, value)| (key.to_vec(), Some(value)))
            .collect();
        if !after.is_empty() {
            let vector = importing.vector.clone();
            let newest = vector.clone();
            let cursor = ImportCursor {
                vector,
                newest,
                after,
            };
            writes.push((import_key(), Some(cursor.encode())));
        }
        crate::expiry::note(&mut writes);
        importing.n_rows += n_rows;
        let is_due = importing.n_rows >= SYNC_EVERY_ROWS;
        if is_due {
            importing.n_rows = 0;
        }
        for (from, to) in part.replaced {
            self.clear(&from, &to)?;
        }
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
        if is_due {
            let synced = self.shared.engine.checkpoint();
            synced.map_err(|e| error::engine(operation, e))?;
        }
        Ok(())
    }

    /// Ends a transfer: durable first, then the vector, so that a crash begins anew.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn finish_import(&mut self) -> Result<(), Error> {
        let operation = Operation::Transfer;
        let Some(Importing {
            vector, is_resumed, ..
        }) = self.importing.take()
        else {
            return Err(
                Error::new(operation, ErrorKind::Invalid).with("because", "no transfer has begun")
            );
        };
        if is_resumed {
            self.forget_orphans()?;
        }
        self.shared
            .journal
            .sync()
            .map_err(|e| error::journal(operation, e))?;
        self.shared
            .engine
            .checkpoint()
            .map_err(|e| error::engine(operation, e))?;
        // ⚠ The engine must never have more than the checkpoint and the log behind it say.
        self.note_checkpoint(self.shared.journal.end(), &vector)?;
        let mut out = Writer::new();
        vector.write(&mut out);
        let writes = vec![
            (import_key(), None),
            (Space::Vector.key(b""), Some(out.into_bytes())),
        ];
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
        // ⚠ Before it is published: what is published is acknowledged, and a crash that lost this
        // row would leave a fresh replica.
        let on_disk = self.shared.engine.checkpoint();
        on_disk.map_err(|e| error::engine(operation, e))?;
        for (_, stamp) in vector.iter() {
            self.shared.clock.see(stamp);
        }
        {
            let mut vectors = self.shared.vectors.write();
            load_sums(&self.shared)?;
            vectors.applied = vector.clone();
            vectors.durable = vector;
        }
        self.checkpoint()
    }

    /// What came of two providers may speak of what one of them had forgotten.
    fn forget_orphans(&mut self) -> Result<(), Error> {
        let operation = Operation::Transfer;
        let mut next = Some(Vec::new());
        while let Some(from) = next {
            let rows = EngineRows(&*self.shared.engine);
            let mut txn = Txn::new(&rows);
            let pass = forget_orphans(&mut txn, &from, PART_ROWS);
            let pass = pass.map_err(|e| error::read(operation, e))?;
            if pass.n_forgotten > 0 {
                let (writes, _) = txn.finish().map_err(|e| error::read(operation, e))?;
                let written = self.shared.engine.write(Batch { writes });
                written.map_err(|e| error::engine(operation, e))?;
            }
            next = pass.next;
        }
        Ok(())
    }

    /// What readers share, for those who hold a replica only for a moment.
    #[must_use]
    pub fn reader(&self) -> Arc<Shared> {
        self.shared()
    }
}
