// SPDX-License-Identifier: Apache-2.0
//! Taking in rows of other replicas where this one differs from them.
//!
//! What is repaired is one engine batch without a record in the journal: nothing of it is a
//! change. The engine keeps a prefix of its batches, so a crash loses the repair whole, or has
//! it on top of everything it was made from; lost, it is found and made again. ⚠ The engine
//! never gets ahead of the log by it: only what the vector covers is merged.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::{Batch, Read, ReadExt};
use dulse_merge::digest::{BUCKETS, Sum, bucket_of};
use dulse_merge::keys::{self, Space};
use dulse_merge::repair::{Outcome, Tie, is_row_covered, merge_row, replace_at, resettle};
use dulse_merge::txn::{ReadError, decode_name};
use dulse_merge::{NameRow, Txn};
use dulse_store::{Error, ErrorKind, Operation};
use xxhash_rust::xxh3::Xxh3;

use crate::error;
use crate::items::Census;
use crate::sequencer::Replica;
use crate::shared::{EngineRows, Shared};
use crate::transfer::ImportRow;

/// One row of another replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// The directory of the digest that it is for, for [`Repaired::left`].
    pub dir: Bytes,
    /// Its key there, and its value.
    pub row: ImportRow,
    /// Whose bytes count where versions do not decide.
    pub tie: Tie,
    /// Where else copies of the same name may lie here.
    pub paths: Vec<Bytes>,
}

/// A path whose rows give way to those of a replica that is trusted with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// As [`Foreign::dir`].
    pub dir: Bytes,
    /// The path.
    pub path: Bytes,
    /// What lay there when it was compared; anything else is left alone.
    pub seen: u128,
    /// All rows of names that the other has there.
    pub rows: Vec<ImportRow>,
}

/// A row that gives way to that of a replica that is trusted with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// As [`Foreign::dir`].
    pub dir: Bytes,
    /// Its key.
    pub key: Bytes,
    /// What it was when it was compared; anything else is left alone.
    pub seen: Option<Bytes>,
    /// What it is to be; `None` removes it.
    pub value: Option<Bytes>,
}

/// What one step of a repair does, in this order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Repair {
    /// Rows that are not names.
    pub restored: Vec<Restored>,
    /// Paths.
    pub replaced: Vec<Replacement>,
    /// Paths at which what shows is made again from the names that lie there.
    pub settled: Vec<Bytes>,
    /// Rows to be merged by the rules.
    pub merged: Vec<Foreign>,
    /// Digest rows of directories, each with what it lacks.
    pub corrected: Vec<(Bytes, Sum)>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Repaired {
    /// Rows, paths and digest rows that are other than before.
    pub n_changed: u64,
    /// What was written meanwhile, or says more than is applied here.
    pub n_left: u64,
    /// Rows that do not decode.
    pub n_refused: u64,
    /// The directories of what was left or refused.
    pub left: BTreeSet<Bytes>,
}

impl Repaired {
    /// Adds another step's.
    pub fn add(&mut self, other: Self) {
        self.n_changed += other.n_changed;
        self.n_left += other.n_left;
        self.n_refused += other.n_refused;
        self.left.extend(other.left);
    }

    fn n_not_taken(&self) -> u64 {
        self.n_left + self.n_refused
    }

    /// Something for a directory was tried, when so many had been left or refused.
    fn tried(&mut self, dir: Bytes, n_before: u64) {
        if self.n_not_taken() > n_before {
            self.left.insert(dir);
        }
    }
}

impl Replica {
    /// Takes in rows of other replicas. Its cost is a few reads for each row, and the digest
    /// rows of a bucket for each digest row that is corrected.
    ///
    /// # Errors
    ///
    /// `Invalid` while a whole state is taken in; `Corrupt`, `DiskFull`, `Io`; then nothing of
    /// it is done.
    pub fn repair(&mut self, repair: Repair) -> Result<Repaired, Error> {
        let operation = Operation::Repair;
        self.ready()?;
        if self.importing.is_some() || self.shared.is_fresh() {
            return Err(Error::new(operation, ErrorKind::Invalid)
                .with("because", "there is nothing here to repair yet"));
        }
        let shared = Arc::clone(&self.shared);
        let engine = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&engine);
        txn.applied = Some(shared.vector());
        let mut done = Repaired::default();
        let mut buckets = BTreeSet::new();
        for row in repair.restored {
            if row.key.first() == Some(&(Space::Digest as u8)) {
                buckets.insert(bucket_of(row.key.get(3..).unwrap_or_default()));
            }
            let (dir, n_before) = (row.dir.clone(), done.n_not_taken());
            restore(&shared, &mut txn, row, &mut done)?;
            done.tried(dir, n_before);
        }
        for replacement in repair.replaced {
            let (dir, n_before) = (replacement.dir.clone(), done.n_not_taken());
            replace(&shared, &mut txn, replacement, &mut done)?;
            done.tried(dir, n_before);
        }
        for path in &repair.settled {
            let settled = attempt(&mut txn, &mut done, |txn| resettle(txn, path))?;
            done.n_changed += u64::from(settled.is_some());
        }
        for foreign in repair.merged {
            let (key, value) = &foreign.row;
            let n_before = done.n_not_taken();
            let outcome = attempt(&mut txn, &mut done, |txn| {
                merge_row(txn, key, value, foreign.tie, &foreign.paths)
            })?;
            match outcome {
                None | Some(Outcome::Same) => {}
                Some(Outcome::Merged) => done.n_changed += 1,
                Some(Outcome::Newer) => done.n_left += 1,
                Some(Outcome::Refused) => done.n_refused += 1,
            }
            done.tried(foreign.dir, n_before);
        }
        for (dir, lacking) in &repair.corrected {
            done.n_changed += 1;
            buckets.insert(bucket_of(dir));
            txn.digest_correct(dir, *lacking);
        }
        let (mut writes, deltas) = txn.finish().map_err(|e| error::read(operation, e))?;
        crate::expiry::note(&mut writes);
        if writes.is_empty() {
            return Ok(done);
        }
        // Order: readers of vector and digest see both of one moment.
        let _vectors = shared.vectors.write();
        let written = shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
        shared.count(&deltas);
        for bucket in buckets {
            shared.recount(bucket)?;
        }
        Ok(done)
    }
}

impl Replica {
    /// Sums the buckets `from..until` anew from their digest rows, and gives those whose sum in
    /// memory was another: a digest row was lost with all that it summed. What the rows say
    /// counts from then on, as after a restart, so that other filers notice.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn recount(&mut self, from: u16, until: u16) -> Result<Vec<u16>, Error> {
        self.catch_up()?;
        let shared = Arc::clone(&self.shared);
        let _vectors = shared.vectors.write();
        let mut differing = Vec::new();
        for bucket in from..until.min(BUCKETS) {
            if shared.recount(bucket)? {
                differing.push(bucket);
            }
        }
        Ok(differing)
    }
}

fn restore(
    shared: &Shared,
    txn: &mut Txn<'_>,
    row: Restored,
    done: &mut Repaired,
) -> Result<(), Error> {
    let now = shared.engine.get(&row.key);
    let now = now.map_err(|e| error::engine(Operation::Repair, e))?;
    let space = row.key.first().copied().unwrap_or_default();
    // A digest row that lies where none can lie goes; all else of these is this filer's own.
    let is_own = [Space::Tail, Space::Vector, Space::Meta, Space::LocalKv]
        .iter()
        .any(|own| *own as u8 == space)
        || (space == Space::Digest as u8 && row.value.is_some());
    let applied = txn.applied.as_ref();
    // ⚠ Not ahead of the log.
    let is_covered = row
        .value
        .as_ref()
        .is_none_or(|value| is_row_covered(applied, &row.key, value));
    if now != row.seen || is_own || !is_covered {
        done.n_left += 1;
        return Ok(());
    }
    done.n_changed += 1;
    match row.value {
        Some(value) => txn.put(row.key.to_vec(), value),
        None => txn.delete(row.key.to_vec()),
    }
    Ok(())
}

fn replace(
    shared: &Shared,
    txn: &mut Txn<'_>,
    replacement: Replacement,
    done: &mut Repaired,
) -> Result<(), Error> {
    let path = &replacement.path;
    let (seen, _) = at_path(&*shared.engine, path)?;
    if seen != replacement.seen {
        done.n_left += 1;
        return Ok(());
    }
    let mut names = Vec::with_capacity(replacement.rows.len());
    for (key, value) in &replacement.rows {
        let is_there = keys::path_of(key).is_some_and(|at| at == path[..]);
        match decode_name(Space::Shadows, value, path) {
            Ok(row) if is_there && !row.is_implied => names.push(row),
            _ => {
                done.n_refused += 1;
                return Ok(());
            }
        }
    }
    // ⚠ Not ahead of the log.
    let is_covered = |row: &NameRow| dulse_merge::repair::is_covered(txn.applied.as_ref(), row);
    if !names.iter().all(is_covered) {
        done.n_left += 1;
        return Ok(());
    }
    let replaced = attempt(txn, done, |txn| replace_at(txn, path, &names))?;
    done.n_changed += u64::from(replaced.is_some());
    Ok(())
}

/// Does one thing or nothing: where a damaged row stands in its way, it is left for the next
/// round, which finds that row repaired.
fn attempt<T>(
    txn: &mut Txn<'_>,
    done: &mut Repaired,
    what: impl FnOnce(&mut Txn<'_>) -> Result<T, ReadError>,
) -> Result<Option<T>, Error> {
    txn.begin();
    match what(txn) {
        Ok(result) => {
            txn.keep();
            Ok(Some(result))
        }
        Err(ReadError::Rows(failure)) => {
            Err(error::read(Operation::Repair, ReadError::Rows(failure)))
        }
        Err(ReadError::Corrupt { .. } | ReadError::NoInode(_)) => {
            txn.rollback();
            done.n_left += 1;
            Ok(None)
        }
    }
}

/// A fingerprint of the rows at one path, and the rows.
fn at_path(read: &(impl Read + ?Sized), path: &[u8]) -> Result<(u128, Vec<ImportRow>), Error> {
    let engine = |e| error::engine(Operation::Repair, e);
    let entry = keys::entry(path);
    let shown = read.get(&entry).map_err(engine)?;
    let shadows = keys::shadows_at(path);
    let mut behind = shadows.clone();
    if let Some(last) = behind.last_mut() {
        *last = 1;
    }
    let mut rows: Vec<ImportRow> = shown
        .map(|value| (entry.into(), value))
        .into_iter()
        .collect();
    rows.extend(read.scan(&shadows, &behind, usize::MAX).map_err(engine)?);
    let mut print = Xxh3::new();
    for (key, value) in &rows {
        for bytes in [key, value] {
            print.update(&(bytes.len() as u64).to_be_bytes());
            print.update(bytes);
        }
    }
    Ok((print.digest128(), rows))
}

impl Shared {
    /// Sums one bucket anew, from its digest rows; whether that is another sum than before.
    pub(crate) fn recount(&self, bucket: u16) -> Result<bool, Error> {
        let (mut sum, mut at) = (Sum::default(), None);
        loop {
            let page = self.digests_page(bucket, bucket + 1, at)?;
            for (_, _, row) in page.rows {
                sum.merge(row);
            }
            at = page.next;
            if at.is_none() {
                break;
            }
        }
        Ok(self.sums.lock().set(bucket, sum))
    }
}

impl Census {
    /// A fingerprint of all that lies at a path, for [`Replacement::seen`].
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn print_of(&self, path: &[u8]) -> Result<u128, Error> {
        Ok(at_path(self.read(), path)?.0)
    }

    /// All names at a path as their rows, each behind the content of its inode where that has
    /// a row, and the places it had. Rows that do not decode are left out.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn rows_at(&self, path: &[u8]) -> Result<Vec<ImportRow>, Error> {
        let mut out = Vec::new();
        for (key, value) in at_path(self.read(), path)?.1 {
            let Ok(row) = decode_name(Space::Shadows, &value, path) else {
                continue;
            };
            if !row.is_implied {
                self.beside(&row, &mut out)?;
                out.push((key, value));
            }
        }
        Ok(out)
    }

    /// What is known of a name: where it is among the dead or the half arrived, and at these
    /// paths.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn rows_of(
        &self,
        name: dulse_types::Identity,
        paths: &[Bytes],
    ) -> Result<Vec<ImportRow>, Error> {
        let mut out = Vec::new();
        for space in [Space::Graves, Space::Partial] {
            let key = keys::by_identity(space, name);
            let Some(value) = self.get(&key)? else {
                continue;
            };
            if let Ok(row) = decode_name(space, &value, b"") {
                self.beside(&row, &mut out)?;
                out.push((key.into(), value));
            }
        }
        for path in paths {
            for (key, value) in at_path(self.read(), path)?.1 {
                let Ok(row) = decode_name(Space::Shadows, &value, path) else {
                    continue;
                };
                if !row.is_implied && row.name == name {
                    self.beside(&row, &mut out)?;
                    out.push((key, value));
                }
            }
        }
        Ok(out)
    }

    /// The rows of a key in these spaces.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn rows_by_key(&self, spaces: &[Space], key: &[u8]) -> Result<Vec<ImportRow>, Error> {
        let mut out = Vec::new();
        for space in spaces {
            let key = space.key(key);
            if let Some(value) = self.get(&key)? {
                out.push((key.into(), value));
            }
        }
        Ok(out)
    }

    fn beside(&self, row: &NameRow, out: &mut Vec<ImportRow>) -> Result<(), Error> {
        for (space, identity, is_wanted) in [
            (Space::Inodes, row.inode, row.is_linked),
            (Space::Moved, row.name, true),
        ] {
            let key = keys::by_identity(space, identity);
            if let Some(value) = self.get(&key)?.filter(|_| is_wanted) {
                out.push((key.into(), value));
            }
        }
        Ok(())
    }
}
