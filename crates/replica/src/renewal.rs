// SPDX-License-Identifier: Apache-2.0
//! Taking a new origin: what only this store has is set aside, then origin and log begin
//! anew, and the state is fetched like a fresh filer's.
//!
//! Each step is on disk before the next begins, so a crash anywhere repeats it: (1) what others
//! lack is copied to a space of its own; (2) a row says that the store is to be renewed, as
//! whom; (3) at the next opening the log goes, and one batch sets the new origin, forgets the
//! vector and that row. Not while running: whoever reads the store holds on to its origin.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::Disk;
use dulse_kv::{Batch, Engine, Read, ReadExt};
use dulse_merge::apply::{live_names, moved_paths};
use dulse_merge::keys::{self, Space};
use dulse_merge::txn::decode_name;
use dulse_merge::{KvRow, MemberRow, NameRow, Txn};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::wire::{Reader, Writer};
use dulse_types::{FileId, Origin, Vector, Version};

use crate::error;
use crate::reissue::Known;
use crate::reissue::chunks::named_here_alone;
use crate::reissue::item::{Item, NameItem};
use crate::sequencer::{Replica, stored_origin};
use crate::shared::{EngineRows, Following};

/// Bytes of changes that are read at once.
const PART_BYTES: usize = 1 << 20;

/// Rows read at once, and items written by one batch.
const PART_ROWS: usize = 1_000;

/// The file of the journal's directory that is not the log's: it takes up room.
const RESERVE: &str = "reserve";

/// What is made anew first: the dead, so that they are in nobody's way, then names that others
/// know, then those that they do not.
/// But before all, what third filers wrote, and further names of files that others know: one of their names may be among the
/// dead.
const CHANGE: u8 = 0;
const LINK: u8 = 0;
const DEAD: u8 = 1;
const KNOWN: u8 = 2;
/// A second try of those.
pub(crate) const AGAIN: u8 = 3;
const UNKNOWN: u8 = 4;

/// Why a store takes a new origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// What others have of this origin, and of those that they hold for gone: what is here
    /// beyond it, nobody else has.
    pub known: Known,
    /// Origins of `known` of whose log there is one only: what the state has of them that is
    /// fetched is what this store had of them, though it may be more than others said.
    pub whole: Vec<Origin>,
    /// What others have at least of third filers of which more is here: it is kept as it is, and
    /// taken in again behind the state.
    pub of_thirds: Vector,
    /// Whether the old origin is still used, by another process on a copy of this store.
    pub is_in_use: bool,
    /// Randomness for the new origin.
    pub random: u64,
}

/// A random origin; its low half is never 0.
pub(crate) fn new_origin(random: u64) -> Origin {
    let (high, low) = ((random >> 32) as u32, random as u32);
    Origin::new(high, low.max(1)).unwrap_or(Origin(1))
}

fn renewal_key() -> Vec<u8> {
    Space::Meta.key(b"renewal")
}

/// Key of the row that lists the origins this store had and that are to be shut out.
pub(crate) fn former_key() -> Vec<u8> {
    Space::Meta.key(b"former")
}

/// Key of the row that lists those of [`Renewal::whole`].
pub(crate) fn whole_key() -> Vec<u8> {
    Space::Meta.key(b"whole")
}

/// Reads a list of origins.
pub(crate) fn origins(read: &(impl Read + ?Sized), key: &[u8]) -> Result<Vec<Origin>, Error> {
    let value = read.get(key);
    let value = value.map_err(|e| error::engine(Operation::Open, e))?;
    let mut out = Vec::new();
    let value = value.unwrap_or_default();
    for origin in value.chunks(8) {
        let origin = Reader::new(origin).u64_be();
        out.push(Origin(
            origin.map_err(|e| error::corrupt(Operation::Open, e))?,
        ));
    }
    Ok(out)
}

pub(crate) fn origins_row(of: &[Origin]) -> Option<Bytes> {
    let mut out = Writer::new();
    for origin in of {
        out.u64_be(origin.0);
    }
    (!of.is_empty()).then(|| out.into_bytes())
}

impl Replica {
    /// Prepares a new origin, which the store has when it is opened the next time. Everything
    /// that nobody else has is set aside before, and made anew after the state was fetched; see
    /// [`Replica::reissue`]. Gives how many names and keys that are.
    ///
    /// Cost: one scan of all rows.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `DiskFull`, `Io`; then nothing has changed but for copies that do no harm.
    pub fn renew(&mut self, renewal: &Renewal) -> Result<u64, Error> {
        let operation = Operation::Transfer;
        self.ready()?;
        // Order: what is set aside comes before what says that the rest may go. An engine keeps
        // a prefix of its batches, so the latter is never there alone.
        let n_items = self.set_aside(renewal)?;
        let mut row = Writer::new();
        row.u64_be(new_origin(renewal.random).0);
        row.u8(u8::from(renewal.is_in_use));
        let mut whole = origins(&*self.shared.engine, &whole_key())?;
        whole.extend_from_slice(&renewal.whole);
        let writes = vec![
            (renewal_key(), Some(row.into_bytes())),
            (whole_key(), origins_row(&whole)),
        ];
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(operation, e))?;
        let durable = self.shared.engine.checkpoint();
        durable.map_err(|e| error::engine(operation, e))?;
        Ok(n_items)
    }

    fn set_aside(&mut self, renewal: &Renewal) -> Result<u64, Error> {
        let known = &renewal.known;
        let mut aside = Aside {
            replica: self,
            known,
            n_items: 0,
            // ⚠ What an earlier renewal set aside stays.
            next: u64::MAX,
            writes: Vec::new(),
            chunks: BTreeSet::new(),
        };
        aside.next = aside.first_free()?;
        // ⚠ First of all: what is made anew lies on top of it.
        aside.changes(&renewal.of_thirds)?;
        if aside.is_all_known() {
            aside.flush()?;
            return Ok(aside.n_items);
        }
        aside.chunks = named_here_alone(&self.shared, known)?;
        aside.names(Space::Graves)?;
        aside.names(Space::Entries)?;
        aside.names(Space::Shadows)?;
        aside.keys(Space::Kv)?;
        aside.keys(Space::KvGraves)?;
        aside.flush()?;
        Ok(aside.n_items)
    }
}

/// Copies what others lack.
struct Aside<'a> {
    replica: &'a Replica,
    known: &'a Known,
    n_items: u64,
    next: u64,
    writes: Vec<(Vec<u8>, Option<Bytes>)>,
    /// What only this store named.
    chunks: BTreeSet<FileId>,
}

impl Aside<'_> {
    fn is_all_known(&self) -> bool {
        let vector = self.replica.shared.vector();
        let mut lasts = vector
            .iter()
            .map(|(origin, stamp)| Version { stamp, origin });
        !lasts.any(|last| self.is_ours_alone(last))
    }

    /// What third filers wrote that others lack: it may be that nobody else has it any more.
    fn changes(&mut self, of_thirds: &Vector) -> Result<(), Error> {
        let shared = Arc::clone(&self.replica.shared);
        shared.sync()?;
        for (third, mut after) in of_thirds.iter() {
            // What follows what they have, or nothing.
            while let Following::Changes(records) = shared.following(third, after, PART_BYTES)?
                && let Some(last) = records.last()
            {
                after = last.stamp;
                for record in records {
                    self.add(CHANGE, &Item::Change(record.payload))?;
                }
            }
        }
        Ok(())
    }

    fn is_ours_alone(&self, version: Version) -> bool {
        self.known.lacks(version)
    }

    fn first_free(&self) -> Result<u64, Error> {
        let (from, to) = Space::Reissue.range();
        let rows = self.replica.shared.engine.scan(&from, &to, usize::MAX);
        let rows = rows.map_err(|e| error::engine(Operation::Transfer, e))?;
        let numbers = rows.iter().filter_map(|(key, _)| {
            // Behind space, phase and order.
            let number = key.get(10..)?;
            Reader::new(number).u64_be().ok()
        });
        Ok(numbers.max().map_or(0, |last| last.saturating_add(1)))
    }

    fn add(&mut self, phase: u8, item: &Item) -> Result<(), Error> {
        // Of the dead, those born last go first: children before their directories.
        let order = match phase {
            DEAD => u64::MAX - self.next,
            _ => self.next,
        };
        self.next += 1;
        self.n_items += 1;
        let key = reissue_key(phase, order, self.next);
        self.writes.push((key, Some(item.encode())));
        if self.writes.len() >= PART_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let writes = std::mem::take(&mut self.writes);
        let written = self.replica.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Transfer, e))
    }

    fn each(
        &mut self,
        space: Space,
        mut take: impl FnMut(&mut Self, &Bytes, &Bytes) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut from, to) = space.range();
        loop {
            let rows = self.replica.shared.engine.scan(&from, &to, PART_ROWS);
            let rows = rows.map_err(|e| error::engine(Operation::Transfer, e))?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            from = last.to_vec();
            from.push(0);
            for (key, value) in &rows {
                take(self, key, value)?;
            }
        }
    }

    fn names(&mut self, space: Space) -> Result<(), Error> {
        self.each(space, |aside, key, value| {
            let row = decode_name(space, value, &path_of(space, key));
            aside.name(row.map_err(|e| error::read(Operation::Transfer, e))?)
        })
    }

    fn name(&mut self, row: NameRow) -> Result<(), Error> {
        if row.is_implied {
            return Ok(());
        }
        let shared = Arc::clone(&self.replica.shared);
        let rows = EngineRows(&*shared.engine);
        let txn = Txn::new(&rows);
        let fail = |e| error::read(Operation::Transfer, e);
        let inode = match row.is_linked {
            true => txn.inode(row.inode).map_err(fail)?,
            false => None,
        };
        let content = inode.as_ref().map_or(&row.content, |inode| &inode.content);
        let written = [
            row.place,
            row.touch,
            content.data_version,
            content.attributes_version,
        ];
        let is_live = row.is_live();
        let is_new = match is_live {
            true => written.iter().any(|version| self.is_ours_alone(*version)),
            // Whoever killed it is not kept; what was merged since it is dead is.
            false => row
                .merged
                .iter()
                .any(|(origin, stamp)| self.is_ours_alone(Version { stamp, origin })),
        };
        let is_known = !self.is_ours_alone(row.name.birth());
        if !is_new || (!is_live && !is_known) {
            return Ok(());
        }
        let is_inode_known = !self.is_ours_alone(row.inode.birth());
        let names = match row.is_linked {
            true => live_names(&txn, row.inode).map_err(fail)?,
            false => Vec::new(),
        };
        // ⚠ All names of a file that others do not know are made anew as one file: two that
        // name the same chunks would each have them freed.
        let first = names.first().filter(|_| is_live && !is_inode_known);
        if first.is_some_and(|first| first.name != row.name) {
            return Ok(());
        }
        let mut links: Vec<Bytes> = Vec::new();
        for other in names.iter().filter(|other| other.name != row.name) {
            links.push(other.path.clone());
            if is_inode_known {
                links.extend(moved_paths(&txn, other.name).map_err(fail)?);
            }
        }
        if row.is_linked && is_inode_known && row.name != row.inode {
            let grave = txn.kept(Space::Graves, row.inode).map_err(fail)?;
            links.extend(grave.map(|grave| grave.path));
            links.extend(moved_paths(&txn, row.inode).map_err(fail)?);
        }
        let paths = moved_paths(&txn, row.name).map_err(fail)?;
        let phase = match (is_live, is_known) {
            (false, _) => DEAD,
            (true, true) => KNOWN,
            (true, false) if is_inode_known => LINK,
            (true, false) => UNKNOWN,
        };
        let mut chunks = content.data.file_ids();
        chunks.retain(|chunk| self.chunks.contains(chunk));
        let item = NameItem {
            row,
            inode,
            paths,
            known: self.known.clone(),
            links,
            chunks,
        };
        self.add(phase, &Item::Name(Box::new(item)))
    }

    fn keys(&mut self, space: Space) -> Result<(), Error> {
        self.each(space, |aside, key, value| {
            let row = KvRow::decode(value);
            let row = row.map_err(|e| error::corrupt(Operation::Transfer, e))?;
            if !aside.is_ours_alone(row.version) {
                return Ok(());
            }
            let key = key.slice(1..);
            aside.add(DEAD, &Item::Key { key, row })
        })
    }
}

/// Key of what is set aside: phase, order, and a number that tells two apart.
pub(crate) fn reissue_key(phase: u8, order: u64, number: u64) -> Vec<u8> {
    let mut rest = vec![phase];
    rest.extend_from_slice(&order.to_be_bytes());
    rest.extend_from_slice(&number.to_be_bytes());
    Space::Reissue.key(&rest)
}

/// The path in a row's key; empty where it is in the row.
fn path_of(space: Space, key: &[u8]) -> Vec<u8> {
    if !matches!(space, Space::Entries | Space::Shadows) {
        return Vec::new();
    }
    let mut parts = key.get(1..).unwrap_or_default().split(|byte| *byte == 0);
    let (dir, name) = (parts.next().unwrap_or_default(), parts.next());
    keys::join_path(dir, name.unwrap_or_default())
}

/// Finishes a renewal that was prepared, at the opening of the store. Gives the old origin.
pub(crate) fn finish(disk: &dyn Disk, engine: &dyn Engine) -> Result<Option<Origin>, Error> {
    let operation = Operation::Open;
    let row = engine.get(&renewal_key());
    let Some(row) = row.map_err(|e| error::engine(operation, e))? else {
        return Ok(None);
    };
    let input = &mut Reader::new(&row);
    let mut read = || Ok((Origin(input.u64_be()?), input.u8()? != 0));
    let (origin, is_in_use) = read().map_err(|e| error::corrupt(operation, e))?;
    let Some(old) = stored_origin(engine)? else {
        return Err(Error::new(operation, ErrorKind::Corrupt).with("because", "it has no origin"));
    };
    // Order: the log first. Until the batch below is there, all this is done again.
    let gone = |e| error::journal(operation, dulse_journal::JournalError::Disk(e));
    for file in disk.list().map_err(gone)? {
        if file != RESERVE {
            disk.remove(&file).map_err(gone)?;
        }
    }
    let mut former = origins(engine, &former_key())?;
    if !is_in_use {
        former.push(old);
    }
    let mut writes = vec![
        (
            Space::Meta.key(b"origin"),
            Some(Bytes::copy_from_slice(&origin.0.to_be_bytes())),
        ),
        (former_key(), origins_row(&former)),
        (Space::Meta.key(b"import"), None),
        (Space::Vector.key(b""), None),
        (renewal_key(), None),
    ];
    // ⚠ Records that were not on disk in the old log yet: they are merged here already.
    let (from, to) = Space::Tail.range();
    let tail = engine.scan(&from, &to, usize::MAX);
    let tail = tail.map_err(|e| error::engine(operation, e))?;
    writes.extend(tail.into_iter().map(|(key, _)| (key.to_vec(), None)));
    // ⚠ Whom this store held for gone may be the very ones to join.
    let (from, to) = Space::Members.range();
    let members = engine.scan(&from, &to, usize::MAX);
    for (key, value) in members.map_err(|e| error::engine(operation, e))? {
        let row = MemberRow::decode(&value).map_err(|e| error::corrupt(operation, e))?;
        if row.state != MemberRow::MEMBER {
            writes.push((key.to_vec(), None));
        }
    }
    let written = engine
        .write(Batch { writes })
        .and_then(|()| engine.checkpoint());
    written.map_err(|e| error::engine(operation, e))?;
    tracing::warn!(%old, new = %origin, "the store has a new origin");
    Ok(Some(old))
}
