// SPDX-License-Identifier: Apache-2.0
//! Open tree changes as rows of the engine. Layout: `docs/formats/replica.md`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_journal::Record;
use dulse_kv::{Engine, ReadExt};
use dulse_merge::intent::TreeIntent;
use dulse_merge::keys::Space;
use dulse_merge::{Change, Step, Txn};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::Identity;
use dulse_types::wire::{Reader, WireError, Writer};

use super::part_of;
use crate::error;
use crate::shared::Shared;

/// First byte of each row.
const FORMAT: u8 = 1;

/// What the keys of the rows begin with, and what they are all below.
const PREFIX: &[u8] = b"tree/";
const PREFIX_END: &[u8] = b"tree0";

/// An open tree change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    pub(crate) intent: TreeIntent,
    pub(crate) n_parts: u32,
    pub(crate) n_names: u64,
}

impl Open {
    pub(crate) fn new(intent: TreeIntent) -> Self {
        Self {
            intent,
            n_parts: 0,
            n_names: 0,
        }
    }

    /// Writes its row.
    pub(crate) fn put(&self, txn: &mut Txn<'_>) {
        txn.put(key(self.intent.id), self.encode());
    }

    fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(FORMAT);
        out.varint(u64::from(self.n_parts));
        out.varint(self.n_names);
        out.raw(&self.intent.encode());
        out.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let format = input.u8()?;
        if format != FORMAT {
            return Err(WireError::BadValue {
                what: "format of an open tree change",
                value: u64::from(format),
            });
        }
        let (n_parts, n_names) = (input.varint_u32()?, input.varint()?);
        let intent = TreeIntent::decode(bytes.get(input.position()..).unwrap_or_default())?;
        Ok(Self {
            intent,
            n_parts,
            n_names,
        })
    }
}

/// Removes the row of a tree change that is over.
pub(crate) fn remove(intent: Identity, txn: &mut Txn<'_>) {
    txn.delete(key(intent));
}

fn key(intent: Identity) -> Vec<u8> {
    let mut key = Space::Meta.key(PREFIX);
    key.extend_from_slice(&intent.to_bytes());
    key
}

/// The rows, in order of their beginning.
///
/// # Errors
///
/// `Corrupt`, `Io`.
pub(crate) fn load(engine: &dyn Engine) -> Result<Vec<Open>, Error> {
    let operation = Operation::Open;
    let (from, to) = (Space::Meta.key(PREFIX), Space::Meta.key(PREFIX_END));
    let rows = engine.scan(&from, &to, usize::MAX);
    let rows = rows.map_err(|e| error::engine(operation, e))?;
    let rows = rows.iter().map(|(_, value)| Open::decode(value));
    rows.map(|row| row.map_err(|e| error::corrupt(operation, e)))
        .collect()
}

/// Open tree changes while the log is replayed: what it says of them may be in the engine
/// already or not, and comes out the same.
pub(crate) struct Replayed {
    open: BTreeMap<Identity, Open>,
    changed: BTreeSet<Identity>,
    origin: dulse_types::Origin,
}

impl Replayed {
    pub(crate) fn load(shared: &Shared) -> Result<Self, Error> {
        let rows = load(&*shared.engine)?.into_iter();
        Ok(Self {
            open: rows.map(|row| (row.intent.id, row)).collect(),
            changed: BTreeSet::new(),
            origin: shared.origin,
        })
    }

    /// An intent was journaled.
    pub(crate) fn intent(&mut self, record: &Record) -> Result<(), Error> {
        let intent = TreeIntent::decode(&record.payload);
        let intent = intent.map_err(|e| error::corrupt(Operation::Open, e))?;
        let id = intent.id;
        // Whether its last part comes later in the log is seen then.
        self.open.entry(id).or_insert_with(|| Open::new(intent));
        self.changed.insert(id);
        Ok(())
    }

    /// A change was journaled; it may be a part. `is_merged` when the engine lacked it.
    pub(crate) fn change(&mut self, record: &Record, is_merged: bool) -> Result<(), Error> {
        if self.open.is_empty() || record.origin != self.origin {
            return Ok(());
        }
        let change = Change::decode(&record.payload);
        let change = change.map_err(|e| {
            Error::new(Operation::Open, ErrorKind::Corrupt)
                .with("stamp", record.stamp)
                .source(e)
        })?;
        let Some((intent, part, is_last)) = part_of(&change) else {
            return Ok(());
        };
        if is_last {
            self.open.remove(&intent);
            self.changed.insert(intent);
        } else if let Some(open) = self.open.get_mut(&intent).filter(|_| is_merged) {
            open.n_parts = open.n_parts.max(part.saturating_add(1));
            open.n_names += n_names(&change);
            self.changed.insert(intent);
        }
        Ok(())
    }

    /// Writes what is new; false when nothing is.
    pub(crate) fn write(&mut self, txn: &mut Txn<'_>) -> bool {
        let changed = std::mem::take(&mut self.changed);
        for id in &changed {
            match self.open.get(id) {
                Some(open) => open.put(txn),
                None => remove(*id, txn),
            }
        }
        !changed.is_empty()
    }
}

/// Names that a part moved or removed.
fn n_names(change: &Change) -> u64 {
    let names = change.steps.iter();
    names.filter(|step| matches!(step, Step::Name(_))).count() as u64
}
