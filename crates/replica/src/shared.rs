// SPDX-License-Identifier: Apache-2.0
//! What readers share with the sequencer: engine, journal, vectors, digest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dulse_journal::{Journal, JournalError, Record, RecordKind};
use dulse_kv::{Engine, Read, ReadExt};
use dulse_merge::digest::{BUCKETS, Deltas, Sum, bucket_of};
use dulse_merge::keys::{self, Space};
use dulse_merge::row::MemberRow;
use dulse_merge::txn::{ReadError, RowsError, decode_name};
use dulse_merge::{KvRow, NameRow, Rows, Txn};
use dulse_store::{Error, ListRange, Listed, Operation, Token};
use dulse_types::wire::Reader;
use dulse_types::{Entry, FullPath, Identity, Origin, Stamp, Vector, Version};
use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_128;

use crate::apart::Apart;
use crate::clock::{Clock, HybridClock};
use crate::conflicts::ConflictCounts;
use crate::error;
use crate::guard::{ClockBound, Guard};
use crate::trees::TreeProgress;
use crate::unsaid::{Judged, Unsaid};

/// Most joins that are told of one filer: who admitted whom, back to the founder.
pub const JOINS_MAX: usize = 16;

/// Lives as long as the replica; cheap to clone behind an `Arc`.
pub struct Shared {
    pub(crate) origin: Origin,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) journal: Journal,
    pub(crate) vectors: RwLock<Vectors>,
    pub(crate) sums: Mutex<Sums>,
    /// What the last look through all conflicts counted.
    pub(crate) conflicts: Mutex<ConflictCounts>,
    pub(crate) clock: HybridClock,
    pub(crate) wall: Arc<dyn Clock>,
    /// See [`Shared::is_behind`].
    pub(crate) is_behind: AtomicBool,
    /// See [`Shared::is_log_over`].
    pub(crate) is_log_over: AtomicBool,
    /// See [`Shared::hold_verdicts`].
    pub(crate) are_verdicts_held: AtomicBool,
    /// See [`Shared::acknowledged_vector`].
    pub(crate) unsaid: Mutex<Unsaid>,
    /// See [`Shared::judged_vector`].
    pub(crate) judged: Mutex<Judged>,
    /// See [`Shared::forgotten`].
    pub(crate) forgotten: Mutex<Vector>,
    /// Written by the sequencer.
    pub(crate) trees: Mutex<Vec<TreeProgress>>,
    pub(crate) guard: Guard,
    /// See [`Shared::met`].
    pub(crate) apart: Apart,
}

/// Sums of the digest's buckets and their total.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub(crate) buckets: Vec<Sum>,
    pub(crate) total: Sum,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            buckets: vec![Sum::default(); usize::from(BUCKETS)],
            total: Sum::default(),
        }
    }
}

impl Sums {
    pub(crate) fn merge(&mut self, dir: &[u8], delta: Sum) {
        self.buckets[usize::from(bucket_of(dir))].merge(delta);
        self.total.merge(delta);
    }

    /// A bucket's sum was found to be this; whether it was another one before.
    pub(crate) fn set(&mut self, bucket: u16, sum: Sum) -> bool {
        let Some(before) = self.buckets.get_mut(usize::from(bucket)) else {
            return false;
        };
        let is_other = *before != sum;
        let negative = Sum {
            sum: before.sum.wrapping_neg(),
            count: -before.count,
        };
        *before = sum;
        self.total.merge(negative);
        self.total.merge(sum);
        is_other
    }
}

/// What is applied, and what of it is on disk in the journal.
#[derive(Clone, Default, Debug)]
pub(crate) struct Vectors {
    pub(crate) applied: Vector,
    pub(crate) durable: Vector,
}

/// What follows a stamp in an origin's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Following {
    /// These, in order; none when there is nothing yet.
    Changes(Vec<Record>),
    /// It is no longer kept: the log goes on behind this stamp.
    Cut(Stamp),
}

/// Rows of an engine as the model reads them.
pub(crate) struct EngineRows<'a, R: Read + ?Sized>(pub(crate) &'a R);

impl<R: Read + ?Sized> Rows for EngineRows<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.0.get(key).map_err(Into::into)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        self.0.scan(from, to, limit).map_err(Into::into)
    }
}

impl Shared {
    /// Who stamps the changes made here.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The engine's name.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Bytes that the engine takes on disk, and the snapshots that hold on to replaced ones.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub fn engine_usage(&self) -> Result<(u64, usize), Error> {
        let usage = self.engine.usage();
        let usage = usage.map_err(|e| error::engine(Operation::Find, e))?;
        Ok((usage.disk_bytes, usage.n_snapshots))
    }

    /// What is applied of everybody's log.
    #[must_use]
    pub fn vector(&self) -> Vector {
        self.vectors.read().applied.clone()
    }

    /// How far the own log goes: what is in it can be with others before it is applied here, while
    /// the engine takes its time.
    #[must_use]
    pub fn logged(&self) -> Stamp {
        let applied = self.vectors.read().applied.get(self.origin);
        self.journal.last(self.origin).max(applied)
    }

    /// What of that is on disk here.
    #[must_use]
    pub fn durable_vector(&self) -> Vector {
        self.vectors.read().durable.clone()
    }

    /// What others may be told to be on disk here: [`Shared::durable_vector`], ⚠ without what
    /// made own writes lose while this replica has not said so in its log.
    #[must_use]
    pub fn acknowledged_vector(&self) -> Vector {
        let durable = self.durable_vector();
        self.unsaid.lock().bound(self.origin, durable)
    }

    /// Up to where this replica has said what it had to say of losses. It lags behind
    /// [`Shared::acknowledged_vector`] by a look at all conflicts, which is made once in a while.
    #[must_use]
    pub fn judged_vector(&self) -> Vector {
        let durable = self.durable_vector().get(self.origin);
        self.judged.lock().told(durable)
    }

    /// A stamp at or below which no later change of this replica will be: its clock promise.
    /// Cost: one lock; it never waits for a commit.
    ///
    /// ⚠ While it is not known whether others have more of this origin, that is its last change:
    /// a store that was set back would promise what its own lost changes break.
    #[must_use]
    pub fn promise(&self) -> Stamp {
        if self.are_verdicts_held.load(Ordering::Relaxed) {
            return self.vector().get(self.origin);
        }
        self.clock.promise(self.now_ns())
    }

    /// A peer remembers that this origin promised this: no later change will be at or below it.
    ///
    /// ⚠ A store that was set back has forgotten what it promised, and its clock may be behind.
    pub fn keep_promise(&self, promised: Stamp) {
        self.clock.see(promised);
    }

    /// Whether an idle replica should raise its ceiling so that its promises go on.
    #[must_use]
    pub fn needs_ceiling(&self) -> bool {
        self.clock.idle_ceiling(self.now_ns()).is_some()
    }

    /// The tree changes that are being done in parts.
    #[must_use]
    pub fn trees(&self) -> Vec<TreeProgress> {
        self.trees.lock().clone()
    }

    /// The time this replica stamps with, in nanoseconds since 1970: the wall clock as far as
    /// it is believed; the least number while nothing is known of it.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.guard
            .believed(self.wall.now_ns(), self.wall.monotonic())
    }

    /// The wall clock as it is, in nanoseconds since 1970: what others are told.
    #[must_use]
    pub fn wall_ns(&self) -> i64 {
        self.wall.now_ns()
    }

    /// How far the wall clock is believed from now on.
    pub fn bound_clock(&self, bound: ClockBound) {
        self.guard.set(bound, self.wall.monotonic());
    }

    /// Whether the clock allows local writes.
    ///
    /// # Errors
    ///
    /// `ClockSkew`.
    pub(crate) fn check_clock(&self) -> Result<(), Error> {
        self.guard.check(self.wall.now_ns(), self.wall.monotonic())
    }

    /// Whether nothing ever happened here: neither founded nor joined. What an interrupted
    /// transfer left does not count.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.vectors.read().applied.is_empty()
    }

    /// Vector and digest of one moment.
    #[must_use]
    pub fn digest(&self) -> (Vector, Sum) {
        let vectors = self.vectors.read();
        (vectors.applied.clone(), self.sums.lock().total)
    }

    /// Whether the engine did not take in what the log has when that was last tried: writes are
    /// refused until it does.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Whether the log is over its budget and cannot be cut, since a member lacks what is in it.
    #[must_use]
    pub fn is_log_over(&self) -> bool {
        self.is_log_over.load(Ordering::Relaxed)
    }

    /// Conflicts that are recorded and not settled.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn n_conflicts(&self) -> Result<usize, Error> {
        let (from, to) = Space::Conflicts.range();
        let rows = self.engine.scan(&from, &to, usize::MAX);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let mut count = 0;
        for (_, value) in rows {
            let row = dulse_merge::ConflictRow::decode(&value);
            let row = row.map_err(|e| error::corrupt(Operation::List, e))?;
            count += usize::from(row.is_open());
        }
        Ok(count)
    }

    /// Live names, contents of hard-linked inodes and keys.
    #[must_use]
    pub fn n_entries(&self) -> u64 {
        u64::try_from(self.digest().1.count).unwrap_or(0)
    }

    /// All digest rows of some buckets: directory and sum.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn directory_digests(
        &self,
        from: u16,
        until: u16,
    ) -> Result<Vec<(u16, Bytes, Sum)>, Error> {
        let (mut out, mut at) = (Vec::new(), None);
        loop {
            let page = self.digests_page(from, until, at)?;
            out.extend(page.rows);
            at = page.next;
            if at.is_none() {
                return Ok(out);
            }
        }
    }

    /// Name, identity and hash of every live row of one directory, shadows included.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn directory_rows(&self, dir: &[u8]) -> Result<Vec<(Bytes, Identity, u128)>, Error> {
        let (mut out, mut after) = (Vec::new(), None);
        loop {
            let page = self.names_page(dir, after)?;
            out.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(out);
            }
        }
    }

    /// The members as the log knows them, in the order of their origins.
    ///
    /// ⚠ An origin of which something is applied and nothing else is said is a member whose join
    /// is on its way: changes of different origins may arrive in any order, and whoever journaled
    /// the join may be shut out. Left out, it would hold back nothing: what it lacks would count
    /// as stable.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn members(&self) -> Result<Vec<(Origin, MemberRow)>, Error> {
        let (from, to) = Space::Members.range();
        let rows = self.engine.scan(&from, &to, usize::MAX);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let parsed = rows.into_iter().map(|(key, value)| {
            let read = || {
                let origin = Origin(Reader::new(key.get(1..).unwrap_or_default()).u64_be()?);
                Ok((origin, MemberRow::decode(&value)?))
            };
            read().map_err(|e| error::corrupt(Operation::List, e))
        });
        let mut rows = parsed.collect::<Result<BTreeMap<Origin, MemberRow>, Error>>()?;
        for (origin, _) in self.vector().iter() {
            rows.entry(origin).or_insert_with(MemberRow::unannounced);
        }
        Ok(rows.into_iter().collect())
    }

    /// The change by which this replica became a member; zero while that has not arrived.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn joined(&self) -> Result<Version, Error> {
        let rows = self.members()?;
        let own = rows.into_iter().find(|(origin, _)| *origin == self.origin);
        Ok(own.map_or(Version::ZERO, |(_, row)| row.version))
    }

    /// The change by which this filer joined, the one by which its author joined, and so on, as
    /// far as they are members; at most [`JOINS_MAX`].
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn joins(&self) -> Result<Vec<Version>, Error> {
        let rows = self.members()?;
        let members = rows
            .into_iter()
            .filter(|(_, row)| row.state == MemberRow::MEMBER);
        let mut joined: BTreeMap<Origin, Version> =
            members.map(|(origin, row)| (origin, row.version)).collect();
        let (mut joins, mut whose) = (Vec::new(), self.origin);
        // Whoever was looked at is not again: a founder journaled its own join.
        while let Some(version) = joined.remove(&whose)
            && joins.len() < JOINS_MAX
        {
            joins.push(version);
            whose = version.origin;
        }
        Ok(joins)
    }

    /// Whether the last change that made this filer a member is one of this replica's own, so
    /// that a state may be handed out to it.
    ///
    /// ⚠ A join that another one journaled does not do: others would count what this replica
    /// acknowledges from now on without having heard of the joiner, though that has of it only
    /// what the state had. Behind a join in this log, whoever counts a later acknowledgement
    /// counts the joiner, too.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn has_admitted(&self, joiner: Origin) -> Result<bool, Error> {
        let members = self.members()?;
        let row = members.iter().find(|(origin, _)| *origin == joiner);
        Ok(row.is_some_and(|(_, row)| {
            row.state == MemberRow::MEMBER && row.version.origin == self.origin
        }))
    }

    /// Whether conflicts that others' changes cause stay pending for now. ⚠ They do until this
    /// replica knows that nobody has more of its origin than it has itself: a verdict is a
    /// change of its own, and a store that was set back must not stamp any.
    pub fn hold_verdicts(&self, are_held: bool) {
        self.are_verdicts_held.store(are_held, Ordering::Relaxed);
    }

    /// Whether it is not known yet if others have more of this origin: what this replica
    /// acknowledges counts for nothing until then.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        self.are_verdicts_held.load(Ordering::Relaxed)
    }

    /// Durable changes of one origin behind `after`, in order, up to about `max_bytes`.
    /// The caller sees from the first one's `prev` whether some are no longer kept.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn changes_after(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        let read = || self.journal.read_origin_after(origin, after, max_bytes);
        // A part that was dropped while it was read is not there the second time.
        let records = match read() {
            Err(JournalError::Gap { .. }) => read(),
            records => records,
        };
        let mut records = records.map_err(|e| error::journal(Operation::Transfer, e))?;
        records.retain(|record| matches!(record.kind, RecordKind::Change | RecordKind::Kept));
        Ok(records)
    }

    /// What follows `after` in one origin's log: durable changes in order, up to about
    /// `max_bytes`, or that it is no longer kept. ⚠ I9: for whoever must not skip anything.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn following(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Following, Error> {
        // Order: what is durable now is in the log when it is read, or no longer.
        let durable = self.vectors.read().durable.get(origin);
        let records = self.changes_after(origin, after, max_bytes)?;
        let begin = records.first().map_or(durable, |first| first.prev);
        if begin > after {
            return Ok(Following::Cut(begin));
        }
        Ok(Following::Changes(records))
    }

    /// Where this log parted from one that says to have everything of an origin up to `stamp`:
    /// the last stamp of both. `None` when `stamp` is in this one, or before or behind what
    /// this log holds.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn forked_at(&self, origin: Origin, stamp: Stamp) -> Result<Option<Stamp>, Error> {
        let first = self.changes_after(origin, stamp, 1)?.into_iter().next();
        Ok(first.map(|first| first.prev).filter(|prev| *prev < stamp))
    }

    /// Whether this log no longer has the change of an origin that follows `stamp`, though there
    /// was one.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn is_cut_behind(&self, origin: Origin, stamp: Stamp) -> Result<bool, Error> {
        Ok(matches!(
            self.following(origin, stamp, 1)?,
            Following::Cut(_)
        ))
    }

    /// Up to where rows were forgotten here, by this process or an earlier one. Every member had
    /// all of it on its disk.
    #[must_use]
    pub fn forgotten(&self) -> Vector {
        self.forgotten.lock().clone()
    }

    /// How many changes of one origin behind `after` this log holds.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn n_changes_after(&self, origin: Origin, after: Stamp) -> Result<u64, Error> {
        let counted = self.journal.count_after(origin, after);
        counted.map_err(|e| error::journal(Operation::Transfer, e))
    }

    /// Makes everything durable that was appended to the journal so far. Runs beside the
    /// sequencer: what it appends meanwhile is not counted.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`; the journal takes no more writes then.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        // Order: both are read before the sync, so what they say was appended before it.
        let (applied, ceiling) = (self.vector(), self.clock.ceiling());
        let synced = self.journal.sync();
        synced.map_err(|e| error::journal(Operation::Checkpoint, e))?;
        self.clock.synced(ceiling);
        self.vectors.write().durable.merge_max(&applied);
        Ok(())
    }

    /// The journal, for those who read it in its own order.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn count(&self, deltas: &Deltas) {
        let mut sums = self.sums.lock();
        for (dir, delta) in deltas {
            sums.merge(dir, *delta);
        }
    }

    /// Finds the entry shown at a path.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn find(&self, path: &FullPath) -> Result<Option<dulse_store::Found>, Error> {
        if path.is_root() {
            return Ok(None);
        }
        let read = &*self.engine;
        let key = keys::entry(path.as_str().as_bytes());
        let value = read
            .get(&key)
            .map_err(|e| error::engine(Operation::Find, e))?;
        let Some(value) = value else { return Ok(None) };
        let row = shown_row(&value, || Bytes::copy_from_slice(path.as_str().as_bytes()))
            .map_err(|e| error::read(Operation::Find, e))?;
        let token = token(read, &row, &value)?;
        let (entry, n_links) = show(read, &row)?;
        Ok(Some(dulse_store::Found {
            entry,
            token,
            n_links,
        }))
    }

    /// Lists one directory.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn list(&self, dir: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        let dir = dir.as_str().as_bytes();
        let (first, behind) = keys::children(Space::Entries, dir);
        let mut from = first.clone();
        from.extend_from_slice(range.start.as_bytes());
        if !range.start.is_empty() && !range.inclusive {
            from.push(0);
        }
        let mut lowest = first;
        lowest.extend_from_slice(range.prefix.as_bytes());
        let to = match prefix_end(&lowest) {
            Some(end) if !range.prefix.is_empty() => end,
            _ => behind,
        };
        let from = from.max(lowest);
        let rows = self
            .engine
            .scan(&from, &to, range.limit.clamp(1, dulse_store::LIST_MAX));
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let name_at = dir.len() + 2;
        let listed = rows.into_iter().map(|(key, value)| {
            let name = String::from_utf8_lossy(key.get(name_at..).unwrap_or_default());
            let row = shown_row(&value, || keys::join_path(dir, name.as_bytes()).into())
                .map_err(|e| error::read(Operation::List, e))?;
            let (entry, _) = show(&*self.engine, &row)?;
            Ok(Listed {
                name: name.into_owned(),
                entry,
            })
        });
        listed.collect()
    }

    /// Reads a key of the key-value space; keys local by nature come from their own.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        if key == STORE_ID_KEY {
            let signature = self.origin.signature().to_be_bytes();
            return Ok(Some(Bytes::copy_from_slice(&signature)));
        }
        let value = self.engine.get(&Space::Kv.key(key));
        let Some(value) = value.map_err(|e| error::engine(Operation::KvGet, e))? else {
            return Ok(None);
        };
        let row = KvRow::decode(&value).map_err(|e| error::corrupt(Operation::KvGet, e))?;
        Ok(row.value)
    }
}

/// Upstream's key of the store id; writing it is refused.
pub(crate) const STORE_ID_KEY: &[u8] = b"filer.store.id";

/// First key behind all keys with a prefix.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// A row that is shown. Its path is only made for a derived directory, which shows the
/// attributes of what is above it: most rows are read to be sent.
fn shown_row(value: &Bytes, path: impl FnOnce() -> Bytes) -> Result<NameRow, ReadError> {
    let mut row = decode_name(Space::Entries, value, b"")?;
    if row.is_implied {
        row.path = path();
    }
    Ok(row)
}

/// Names the present state of what a row shows.
pub(crate) fn token(
    read: &(impl Read + ?Sized),
    row: &NameRow,
    value: &Bytes,
) -> Result<Token, Error> {
    if !row.is_linked {
        return Ok(Token(xxh3_128(value)));
    }
    let inode = read.get(&keys::by_identity(Space::Inodes, row.inode));
    let inode = inode
        .map_err(|e| error::engine(Operation::Find, e))?
        .unwrap_or_default();
    Ok(Token(xxh3_128(value) ^ xxh3_128(&inode).rotate_left(1)))
}

/// The entry a row shows and how many names its inode has.
fn show(read: &(impl Read + ?Sized), row: &NameRow) -> Result<(Entry, u32), Error> {
    if !row.is_implied && !row.is_linked {
        return Ok((row.content.entry(), 1));
    }
    let rows = EngineRows(read);
    let txn = Txn::new(&rows);
    let unreadable = |e| error::read(Operation::Find, e);
    let entry = dulse_merge::view::entry_of(&txn, row).map_err(unreadable)?;
    if row.is_implied {
        return Ok((entry, 1));
    }
    let n_links = dulse_merge::apply::n_links(&txn, row).map_err(unreadable)?;
    let n_links = u32::try_from(n_links).unwrap_or(u32::MAX);
    Ok((counted(entry, n_links), n_links))
}

/// The entry with the number of names that there really are.
fn counted(entry: Entry, n_links: u32) -> Entry {
    let Ok(mut fields) = entry.fields() else {
        return entry;
    };
    if fields.hard_link_id.is_empty() {
        return entry;
    }
    fields.hard_link_counter = i32::try_from(n_links).unwrap_or(i32::MAX);
    fields.to_entry(&entry.unknown())
}
