// SPDX-License-Identifier: Apache-2.0
//! Reading rows through what is not written yet.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError};
use dulse_types::{Identity, Origin, Vector};

use crate::change::NameStep;
use crate::digest::{Deltas, Sum};
use crate::keys::{self, Space};
use crate::row::{ConflictRow, InodeRow, KvRow, MemberRow, NameRow};

/// An error of whatever keeps the rows.
pub type RowsError = Box<dyn std::error::Error + Send + Sync>;

/// A read-only view of rows, ordered bytewise by key.
pub trait Rows {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Whatever the keeper of the rows reports.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError>;

    /// At most `limit` rows with keys in `from..to`, ascending.
    ///
    /// # Errors
    ///
    /// Whatever the keeper of the rows reports.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError>;
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The keeper of the rows failed.
    #[error("read rows")]
    Rows(#[source] RowsError),
    /// A linked inode that a name belongs to has no row.
    #[error("inode {0} has a name but no content")]
    NoInode(Identity),
    /// A row does not decode.
    #[error("row of space {space} does not decode")]
    Corrupt {
        /// First byte of its key.
        space: u8,
        /// What is wrong with it.
        source: WireError,
    },
}

/// Rows to write, ascending by key; `None` removes.
pub type Writes = Vec<(Vec<u8>, Option<Bytes>)>;

/// What a rollback takes back: earlier values, latest last, and counted hashes.
#[derive(Default)]
struct Undo {
    writes: Vec<(Vec<u8>, Option<Option<Bytes>>)>,
    digests: Vec<(Vec<u8>, u128, bool)>,
}

/// A key that was in a range when somebody asked.
struct Witness {
    key: Vec<u8>,
    /// Whether it is a row as it was before, and no write of this transaction.
    is_below: bool,
}

/// Rows as they are, under writes that are collected here.
pub struct Txn<'a> {
    rows: &'a dyn Rows,
    writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    deltas: Deltas,
    undo: Option<Undo>,
    /// What was read: the rows below stay as they are while this lives, and one operation
    /// looks at the same few again and again.
    known: RefCell<HashMap<Vec<u8>, Option<Bytes>>>,
    /// For each range that was asked about, by its beginning, a key that was in it.
    witnesses: RefCell<HashMap<Vec<u8>, Witness>>,
    /// Identities made up here: no row below can be named by one.
    newborn: HashSet<[u8; Identity::LEN]>,
    /// What was applied before this transaction, for telling a write whose name has yet to
    /// arrive from one whose name is lost.
    /// `None` where nobody asks: then every place is looked at.
    pub applied: Option<Vector>,
    /// Writes to names that are not here although [`Txn::applied`] covers their birth. That
    /// cannot happen: it is kept as a partial name, and an alarm for whoever reads this.
    pub n_orphans: u64,
    /// Set by whoever merges others' changes, before the first of them: which conflicts they
    /// caused. Local operations see what they overwrite, so they cause none.
    pub losses: Option<Losses>,
}

/// Conflicts that the changes of a transaction caused, for [`crate::conflict::verdicts`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Losses {
    /// Lost, with a row each that is pending, or open already.
    pub lost: BTreeSet<Identity>,
    /// Recorded, and current again or in the chain of what is.
    pub back: BTreeSet<Identity>,
}

impl<'a> Txn<'a> {
    /// No writes yet.
    #[must_use]
    pub fn new(rows: &'a dyn Rows) -> Self {
        let (writes, deltas) = (BTreeMap::new(), Deltas::new());
        Self {
            rows,
            writes,
            deltas,
            undo: None,
            known: RefCell::default(),
            witnesses: RefCell::default(),
            newborn: HashSet::new(),
            applied: None,
            n_orphans: 0,
            losses: None,
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// `Rows`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if let Some(value) = self.writes.get(key) {
            return Ok(value.clone());
        }
        if self.is_of_newborn(key) {
            return Ok(None);
        }
        if let Some(value) = self.known.borrow().get(key) {
            return Ok(value.clone());
        }
        let value = self.rows.get(key).map_err(ReadError::Rows)?;
        self.known.borrow_mut().insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// Tells that an identity was made up just now: nothing is looked up by it below.
    pub fn born(&mut self, identity: Identity) {
        self.newborn.insert(identity.to_bytes());
    }

    fn is_of_newborn(&self, key: &[u8]) -> bool {
        const NAMED_BY_IDENTITY: [Space; 6] = [
            Space::Moved,
            Space::Partial,
            Space::Graves,
            Space::Inodes,
            Space::Links,
            Space::Garbage,
        ];
        let Some((space, mut rest)) = key.split_first() else {
            return false;
        };
        if key.starts_with(&keys::garbage_end()) {
            // What an inode holds.
            rest = &key[2..];
        }
        !self.newborn.is_empty()
            && NAMED_BY_IDENTITY.iter().any(|s| *s as u8 == *space)
            && rest
                .get(..Identity::LEN)
                .is_some_and(|identity| self.newborn.contains(identity))
    }

    /// Writes a key.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.write(key, Some(value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        match &mut self.undo {
            None => drop(self.writes.insert(key, value)),
            Some(undo) => {
                let before = self.writes.insert(key.clone(), value);
                undo.writes.push((key, before));
            }
        }
    }

    /// A step's name was not found.
    pub(crate) fn count_orphan(&mut self, step: &NameStep) {
        let covers = |applied: &Vector| applied.covers(step.name.birth());
        let is_lost = !step.is_birth && self.applied.as_ref().is_some_and(covers);
        self.n_orphans += u64::from(is_lost);
    }

    /// Whether this is certainly the first time that a name's birth is merged.
    pub(crate) fn is_first_birth(&self, step: &NameStep) -> bool {
        let covers = |applied: &Vector| applied.covers(step.name.birth());
        step.is_birth && !self.applied.as_ref().is_none_or(covers)
    }

    /// Starts remembering what [`Txn::rollback`] takes back.
    pub fn begin(&mut self) {
        self.undo = Some(Undo::default());
    }

    /// Keeps what was written since [`Txn::begin`].
    pub fn keep(&mut self) {
        self.undo = None;
    }

    /// Takes back what was written since [`Txn::begin`].
    pub fn rollback(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        for (key, before) in undo.writes.into_iter().rev() {
            match before {
                Some(value) => self.writes.insert(key, value),
                None => self.writes.remove(&key),
            };
        }
        for (dir, hash, was_added) in undo.digests {
            let sum = self.deltas.entry(dir).or_default();
            if was_added {
                sum.sub(hash)
            } else {
                sum.add(hash)
            }
        }
    }

    /// Bytes and rows that wait to be written, for bounding a group.
    #[must_use]
    pub fn n_writes(&self) -> usize {
        self.writes.len()
    }

    /// At most `limit` rows with keys in `from..to`, ascending.
    ///
    /// # Errors
    ///
    /// `Rows`.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut pending = self.writes.range::<[u8], _>(bounds).peekable();
        if pending.peek().is_none() {
            return self.rows.scan(from, to, limit).map_err(ReadError::Rows);
        }
        // Pending deletes may hide rows, so as many more are read.
        let n_pending = self.writes.range::<[u8], _>(bounds).count();
        let below = self
            .rows
            .scan(from, to, limit.saturating_add(n_pending))
            .map_err(ReadError::Rows)?;
        let mut merged: BTreeMap<Bytes, Option<Bytes>> =
            below.into_iter().map(|(k, v)| (k, Some(v))).collect();
        for (key, value) in pending {
            merged.insert(Bytes::copy_from_slice(key), value.clone());
        }
        let live = merged.into_iter().filter_map(|(k, v)| v.map(|v| (k, v)));
        Ok(live.take(limit).collect())
    }

    /// Whether any row lies in `from..to`.
    ///
    /// Cost: one scan, and no more than that again for every row of the range that is removed
    /// in ascending order: emptying a directory asks this once for each of its names.
    ///
    /// # Errors
    ///
    /// `Rows`.
    pub fn has_any(&self, from: &[u8], to: &[u8]) -> Result<bool, ReadError> {
        let begin = match self.witnesses.borrow().get(from) {
            Some(witness) if witness.key.as_slice() < to => {
                if self.is_there(witness) {
                    return Ok(true);
                }
                witness.key.clone()
            }
            _ => from.to_vec(),
        };
        let found = match self.any(&begin, to)? {
            None if *begin > *from => self.any(from, &begin)?,
            found => found,
        };
        let mut witnesses = self.witnesses.borrow_mut();
        let Some(found) = found else {
            witnesses.remove(from);
            return Ok(false);
        };
        witnesses.insert(from.to_vec(), found);
        Ok(true)
    }

    /// What is below stays as it is, what is written here may have been taken back.
    fn is_there(&self, witness: &Witness) -> bool {
        match self.writes.get(&witness.key) {
            Some(value) => value.is_some(),
            None => witness.is_below,
        }
    }

    fn any(&self, from: &[u8], to: &[u8]) -> Result<Option<Witness>, ReadError> {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut n_removed = 0;
        for (key, value) in self.writes.range::<[u8], _>(bounds) {
            if value.is_some() {
                let (key, is_below) = (key.clone(), false);
                return Ok(Some(Witness { key, is_below }));
            }
            n_removed += 1;
        }
        let rows = self.rows.scan(from, to, n_removed + 1);
        let rows = rows.map_err(ReadError::Rows)?.into_iter();
        let mut left = rows.filter(|(key, _)| !self.writes.contains_key(&key[..]));
        Ok(left.next().map(|(key, _)| Witness {
            key: key.to_vec(),
            is_below: true,
        }))
    }

    /// Counts a hash into the digest of a directory.
    pub fn digest_add(&mut self, dir: &[u8], hash: u128) {
        self.deltas.entry(dir.to_vec()).or_default().add(hash);
        self.remember(dir, hash, true);
    }

    /// Adds to the digest of a directory what it lacks of its rows: for repairing it.
    pub fn digest_correct(&mut self, dir: &[u8], lacking: Sum) {
        self.deltas.entry(dir.to_vec()).or_default().merge(lacking);
    }

    fn remember(&mut self, dir: &[u8], hash: u128, was_added: bool) {
        if let Some(undo) = &mut self.undo {
            undo.digests.push((dir.to_vec(), hash, was_added));
        }
    }

    /// Takes a hash off the digest of a directory.
    pub fn digest_sub(&mut self, dir: &[u8], hash: u128) {
        self.deltas.entry(dir.to_vec()).or_default().sub(hash);
        self.remember(dir, hash, false);
    }

    /// The row shown at a path, implied ones included.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn shown(&self, path: &[u8]) -> Result<Option<NameRow>, ReadError> {
        let value = self.get(&keys::entry(path))?;
        value
            .map(|v| decode_name(Space::Entries, &v, path))
            .transpose()
    }

    /// The names kept but not shown at a path.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn shadows(&self, path: &[u8]) -> Result<Vec<NameRow>, ReadError> {
        let from = keys::shadows_at(path);
        let mut to = from.clone();
        if let Some(last) = to.last_mut() {
            *last = 1;
        }
        let rows = self.scan(&from, &to, usize::MAX)?;
        rows.iter()
            .map(|(_, v)| decode_name(Space::Shadows, v, path))
            .collect()
    }

    /// A name kept by identity: partial or grave.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn kept(&self, space: Space, name: Identity) -> Result<Option<NameRow>, ReadError> {
        let value = self.get(&keys::by_identity(space, name))?;
        value.map(|v| decode_name(space, &v, b"")).transpose()
    }

    /// The content row of a hard-linked inode.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn inode(&self, inode: Identity) -> Result<Option<InodeRow>, ReadError> {
        let value = self.get(&keys::by_identity(Space::Inodes, inode))?;
        value
            .map(|v| InodeRow::decode(&v).map_err(|e| corrupt(Space::Inodes, e)))
            .transpose()
    }

    /// The value or delete of a key of the key-value space.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn kv(&self, key: &[u8]) -> Result<Option<KvRow>, ReadError> {
        for space in [Space::Kv, Space::KvGraves] {
            if let Some(value) = self.get(&space.key(key))? {
                return KvRow::decode(&value)
                    .map(Some)
                    .map_err(|e| corrupt(space, e));
            }
        }
        Ok(None)
    }

    /// A conflict, recorded, settled or pending.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn conflict(&self, id: Identity) -> Result<Option<ConflictRow>, ReadError> {
        let value = self.get(&keys::by_identity(Space::Conflicts, id))?;
        value
            .map(|v| ConflictRow::decode(&v).map_err(|e| corrupt(Space::Conflicts, e)))
            .transpose()
    }

    /// The members, in order of origin.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn members(&self) -> Result<Vec<Origin>, ReadError> {
        let rows = self.member_rows()?.into_iter();
        let members = rows.filter(|(_, row)| row.state == MemberRow::MEMBER);
        Ok(members.map(|(origin, _)| origin).collect())
    }

    /// Who is a member, or was.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn member_rows(&self) -> Result<Vec<(Origin, MemberRow)>, ReadError> {
        let (from, to) = Space::Members.range();
        let mut members = Vec::new();
        for (key, value) in self.scan(&from, &to, usize::MAX)? {
            let read = || {
                let origin = Origin(Reader::new(key.get(1..).unwrap_or_default()).u64_be()?);
                Ok((origin, MemberRow::decode(&value)?))
            };
            members.push(read().map_err(|e| corrupt(Space::Members, e))?);
        }
        Ok(members)
    }

    /// What is known of a member, or of one that was.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn member(&self, origin: Origin) -> Result<Option<MemberRow>, ReadError> {
        let row = self.get(&keys::member(origin))?;
        let row = row.map(|value| MemberRow::decode(&value)).transpose();
        row.map_err(|e| corrupt(Space::Members, e))
    }

    /// Takes the collected writes, digest rows brought up to date among them, and the
    /// differences of the digests.
    ///
    /// # Errors
    ///
    /// `Rows`, `Corrupt`.
    pub fn finish(mut self) -> Result<(Writes, Deltas), ReadError> {
        let deltas = std::mem::take(&mut self.deltas);
        for (dir, delta) in &deltas {
            let key = keys::digest(dir);
            // A damaged digest row must not stop the changes of its directory: it is derived,
            // and what it says wrong is found by counting the rows.
            let stored = self.get(&key)?;
            let stored = stored.and_then(|value| Sum::decode(&value).ok());
            let mut sum = stored.unwrap_or_default();
            sum.merge(*delta);
            if sum.is_empty() {
                self.delete(key);
            } else {
                self.put(key, sum.encode());
            }
        }
        Ok((self.writes.into_iter().collect(), deltas))
    }
}

fn corrupt(space: Space, source: WireError) -> ReadError {
    ReadError::Corrupt {
        space: space as u8,
        source,
    }
}

/// Decodes a name's row.
///
/// # Errors
///
/// `Corrupt`.
pub fn decode_name(space: Space, value: &Bytes, path: &[u8]) -> Result<NameRow, ReadError> {
    NameRow::decode(value, path).map_err(|e| corrupt(space, e))
}

/// No rows, for tests of what a transaction writes.
#[cfg(test)]
pub(crate) struct NoRows;

#[cfg(test)]
impl Rows for NoRows {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        Ok(Vec::new())
    }
}
