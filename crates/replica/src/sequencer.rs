// SPDX-License-Identifier: Apache-2.0
//! The sequencer: makes stamp, revalidate and append of local operations atomic
//! against applying peers' changes, because it is one state with one owner.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Record, RecordKind};
use dulse_kv::{Batch, Read};
use dulse_merge::change::{ConflictStep, MemberStep, Step as MergeStep};
use dulse_merge::codec::DecodeError;
use dulse_merge::digest::Deltas;
use dulse_merge::keys::{self, Space};
use dulse_merge::local::{Builder, CHANGE_BYTES_MAX, Effect, LocalError};
use dulse_merge::txn::Losses;
use dulse_merge::{Change, MemberRow, Txn, apply, conflict};
use dulse_store::{
    Commit, Error, ErrorKind, Expect, Operation, Step, StepResult, Token, Transaction,
};
use dulse_types::wire::Writer;
use dulse_types::{FullPath, Origin, Stamp, Vector};
use xxhash_rust::xxh3::xxh3_128;

use crate::error;
use crate::forgetting::Forgetting;
use crate::garbage::Garbage;
use crate::judging::Judging;
use crate::levels::Durability;
use crate::options::{Limits, ReplicaOptions};
use crate::room::{Look, Room};
use crate::shared::{EngineRows, STORE_ID_KEY, Shared};
use crate::tail::{TAIL_BYTES_MAX, Tail};
use crate::trees::{Tree, Trees};
use crate::unsaid;

/// One replica. Not shared: whoever owns it is the sequencer.
pub struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) durability: Durability,
    pub(crate) limits: Limits,
    /// What every member is known to have on disk.
    pub(crate) stable: Vector,
    pub(crate) forgetting: Forgetting,
    pub(crate) judging: Judging,
    /// What is to be said once verdicts are no longer held: losses of which there is a pending
    /// row each, and records that are void. At most as many as there are rows of conflicts.
    pub(crate) held: Losses,
    /// Position of the last checkpoint, and when it was.
    pub(crate) checkpointed: u64,
    pub(crate) checkpointed_at_ns: i64,
    pub(crate) has_checkpoint_failed: bool,
    /// Set when an engine batch failed after its records were journaled: the engine lacks
    /// what the log has until it is replayed.
    pub(crate) is_behind_log: bool,
    /// ⚠ Nothing of its own is written any more that subscribers are told of: others hear next
    /// that this filer stops, and wait for no more of it.
    pub(crate) is_sealed: bool,
    /// The transfer that is being taken in.
    pub(crate) importing: Option<crate::transfer::Importing>,
    pub(crate) tail: Tail,
    pub(crate) room: Room,
    pub(crate) trees: Trees,
}

/// When records are made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    /// Before the engine batch and the answer.
    Now,
    /// In the background; the engine batch carries them.
    Later,
}

/// What came of a peer's change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is merged.
    Now,
    /// It was merged before.
    Already,
    /// Something of its origin before it is missing here.
    Hole {
        /// What is applied of the origin.
        have: Stamp,
        /// What it follows.
        prev: Stamp,
    },
    /// It is damaged or of a kind this version does not know: its origin stops here.
    Undecodable(DecodeError),
    /// Its origin is a member no more: it left before this change, or was shut out and no
    /// member brought it.
    Refused {
        /// Of one that left the last that counts; else what whoever shut it out had.
        cut: Stamp,
    },
}

impl Replica {
    /// Opens or creates the store and replays what the engine may lack.
    ///
    /// # Errors
    ///
    /// `Corrupt` with what is damaged, `DiskFull`, `Io`.
    pub fn open(options: ReplicaOptions) -> Result<Self, Error> {
        crate::recover::open(options)
    }

    /// What readers share.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Journals a higher clock ceiling when little is left below it, so that an idle replica
    /// can go on promising; its peers' subscribers wait for that.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn raise_ceiling(&mut self) -> Result<(), Error> {
        self.catch_up()?;
        let now = self.shared.now_ns();
        let Some(ceiling) = self.shared.clock.idle_ceiling(now) else {
            return Ok(());
        };
        self.journal_ceiling(ceiling)?;
        self.shared.clock.raise_ceiling(ceiling);
        self.shared.sync()
    }

    /// Whether a write may be tried: the engine has what the log has, and there is room.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        match self.room.look() {
            Look::Enough => return self.catch_up(),
            Look::Short => {}
            Look::ShortNow => {
                tracing::error!("the disk is full: writes are refused until there is room");
                // While the released reserve is there: what is in memory goes to the disk.
                if let Err(error) = self.checkpoint() {
                    tracing::error!(%error, "checkpoint failed; tried again soon");
                }
            }
        }
        Err(self.room.error())
    }

    fn journal_ceiling(&self, ceiling: Stamp) -> Result<(), Error> {
        let record = Record {
            kind: RecordKind::ClockCeiling,
            origin: self.shared.origin,
            stamp: Stamp::ZERO,
            prev: ceiling,
            payload: Bytes::new(),
        };
        let appended = self.shared.journal.append(&[record]);
        appended
            .map(drop)
            .map_err(|e| error::journal(Operation::Commit, e))
    }

    /// Applies a group of local transactions: one append, one sync, one engine batch.
    /// The results are in the order of the transactions; a failed one changes nothing.
    pub fn commit(&mut self, group: Vec<Transaction>) -> Vec<Result<Commit, Error>> {
        self.commit_as(group, self.durability)
    }

    /// The same, as durable here as asked; waiting for other filers is the caller's.
    pub fn commit_as(
        &mut self,
        group: Vec<Transaction>,
        level: Durability,
    ) -> Vec<Result<Commit, Error>> {
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        // ⚠ Local writes alone: what a member must record (its own state, conflicts) is stamped
        // by the clock as far as it is believed, and peers' changes are never refused.
        let ready = self.ready().and_then(|()| shared.check_clock());
        let ready = ready.and_then(|()| may_stamp(&txn, shared.origin));
        if let Err(error) = ready {
            return group.iter().map(|_| Err(error.repeated())).collect();
        }
        let mut records = Vec::with_capacity(group.len());
        let mut vector = shared.vector();
        txn.applied = Some(vector.clone());
        let mut results = Vec::with_capacity(group.len());
        for transaction in group {
            let result = self.build(&mut txn, transaction, None, &vector);
            results.push(result.map(|(change, commit)| {
                vector.set(change.origin, change.stamp);
                records.push(record(&change));
                commit
            }));
        }
        if records.is_empty() {
            self.shared.clock.published();
            return results;
        }
        let sync = match level {
            // What is sent to peers is on disk here first.
            Durability::Fsync | Durability::Peers(_) => Sync::Now,
            Durability::Os => Sync::Later,
        };
        if let Err(failure) = self.write(txn, &records, vector, sync) {
            for result in results.iter_mut().filter(|r| r.is_ok()) {
                *result = Err(failure.repeated());
            }
        }
        self.landed();
        results
    }

    /// What was stamped is visible now, or never will be. ⚠ Unless it is in the log and
    /// not applied yet: then promises stay below it.
    pub(crate) fn landed(&self) {
        if !self.is_behind_log {
            self.shared.clock.published();
        }
    }

    /// Journals a change of membership.
    ///
    /// # Errors
    ///
    /// As a commit.
    pub fn member(&mut self, step: MemberStep) -> Result<Stamp, Error> {
        self.own_change(Sync::Now, |builder| builder.other(MergeStep::Member(step)))
    }

    /// Journals a change with nothing in it: whoever runs on a copy of this store has less of
    /// this origin from now on.
    ///
    /// # Errors
    ///
    /// As a commit.
    pub fn appear(&mut self) -> Result<Stamp, Error> {
        self.own_change(Sync::Now, |_| Ok(()))
    }

    /// Journals a change that no client asked for.
    pub(crate) fn own_change(
        &mut self,
        sync: Sync,
        build: impl FnOnce(&mut Builder<'_, '_>) -> Result<(), LocalError>,
    ) -> Result<Stamp, Error> {
        self.ready()?;
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        may_stamp(&txn, shared.origin)?;
        let mut vector = shared.vector();
        let made = self.make(&mut txn, &mut vector, build);
        let written = made.and_then(|change| {
            self.write(txn, &[record(&change)], vector, sync)?;
            Ok(change.stamp)
        });
        self.landed();
        written
    }

    /// Makes a change of this replica's own and merges it. The caller journals it, and says
    /// that it has landed whatever comes of that.
    fn make(
        &mut self,
        txn: &mut Txn<'_>,
        vector: &mut Vector,
        build: impl FnOnce(&mut Builder<'_, '_>) -> Result<(), LocalError>,
    ) -> Result<Change, Error> {
        let origin = self.shared.origin;
        let first = self.next_stamp(vector)?;
        let mut builder = Builder::new(txn, origin, first, vector.get(origin));
        build(&mut builder).map_err(error::local)?;
        let change = builder.finish();
        self.shared.clock.see(change.stamp);
        vector.set(change.origin, change.stamp);
        Ok(change)
    }

    /// What this replica has to say of the conflicts that a batch of others' changes caused.
    fn verdicts(&mut self, txn: &mut Txn<'_>, vector: &mut Vector) -> Result<Vec<Record>, Error> {
        let mut losses = txn.losses.take().unwrap_or_default();
        if self.are_verdicts_held() {
            unsaid::note(
                txn,
                self.shared.origin,
                &losses,
                &mut self.shared.unsaid.lock(),
            )?;
            for id in &losses.lost {
                self.held.back.remove(id);
            }
            self.held.lost.append(&mut losses.lost);
            self.held.back.append(&mut losses.back);
            return Ok(Vec::new());
        }
        // Who is no member any more says nothing: the smallest that is left judges.
        if may_stamp(txn, self.shared.origin).is_err() {
            return Ok(Vec::new());
        }
        let steps = conflict::verdicts(txn, self.shared.origin, &losses)
            .map_err(|e| error::read(Operation::Apply, e))?;
        let mut records = Vec::new();
        for part in parts(steps) {
            crate::judging::count(&part);
            let change = self.make(txn, vector, |builder| {
                part.into_iter().try_for_each(|step| builder.conflict(step))
            })?;
            records.push(record(&change));
        }
        Ok(records)
    }

    /// Merges a batch of peers' changes, each origin's in order: one append, one engine
    /// batch. They are durable after a later [`Replica::sync`]: what is lost can be pulled
    /// again. Those that cannot be merged are told, never skipped silently; so are those of an
    /// origin that was shut out, which count only where a member brings them.
    ///
    /// # Errors
    ///
    /// When journal or engine fail; then nothing of the batch counts as applied.
    pub fn apply_remote(&mut self, changes: &[Bytes]) -> Result<Vec<Applied>, Error> {
        self.apply_through(None, changes)
    }

    /// As [`Replica::apply_remote`], for changes that `through` brought: ⚠ those of an origin
    /// that was shut out count only when a member brings them.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn apply_from(
        &mut self,
        through: Origin,
        changes: &[Bytes],
    ) -> Result<Vec<Applied>, Error> {
        self.apply_through(Some(through), changes)
    }

    fn apply_through(
        &mut self,
        through: Option<Origin>,
        changes: &[Bytes],
    ) -> Result<Vec<Applied>, Error> {
        self.ready()?;
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        let mut vector = shared.vector();
        txn.applied = Some(vector.clone());
        txn.losses = Some(Losses::default());
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(changes.len());
        for payload in changes {
            let change = match Change::decode(payload) {
                Ok(change) => change,
                Err(error) => {
                    results.push(Applied::Undecodable(error));
                    continue;
                }
            };
            let result = admit(&txn, &change, &vector, through)?;
            if result == Applied::Now {
                apply(&mut txn, &change).map_err(|e| error::apply(Operation::Apply, e))?;
                vector.set(change.origin, change.stamp);
                self.shared.clock.see(change.stamp);
                records.push(Record {
                    payload: payload.clone(),
                    ..record_of(&change)
                });
            }
            results.push(result);
        }
        if txn.n_orphans > 0 {
            self.warn_of_orphans(&txn)?;
        }
        if !records.is_empty() {
            let verdicts = self.verdicts(&mut txn, &mut vector);
            let written = verdicts.and_then(|mut all| {
                // ⚠ Before what caused them: whatever a crash leaves of this append, an
                // acknowledgement of those changes covers the verdicts on them.
                all.append(&mut records);
                self.write(txn, &all, vector, Sync::Later)
            });
            self.landed();
            written?;
        }
        Ok(results)
    }

    /// An alarm; but one that has left is waited for no more, so others may have forgotten what
    /// it would need.
    fn warn_of_orphans(&self, txn: &Txn<'_>) -> Result<(), Error> {
        let n_writes = txn.n_orphans;
        let row = member(txn, self.shared.origin)?;
        if row.is_some_and(|row| row.state != MemberRow::MEMBER) {
            tracing::info!(n_writes, "writes to names that others have forgotten");
        } else {
            tracing::error!(
                n_writes,
                "writes to names that are lost here; kept, not shown"
            );
        }
        Ok(())
    }

    /// Every member has everything up to `vector` on disk. What that makes superfluous goes:
    /// the one place where the log is cut and the model forgets.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`; what could not go now goes with a later call.
    pub fn stable(&mut self, vector: Vector) -> Result<(), Error> {
        if self.stable != vector {
            self.judging.look_again();
        }
        self.stable = vector;
        self.cut_log()?;
        // Nothing came since the last checkpoint: it covers what became stable after it too.
        if self.shared.journal.end() == self.checkpointed {
            self.forgetting.checkpointed(&self.stable);
        }
        self.judge()?;
        self.forget().map(drop)
    }

    /// Forgets dropped chunks that were freed. ⚠ A row that changed since it was read stays:
    /// whoever said that the chunk is freed may not have known of the later drop.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn garbage_freed(&mut self, freed: &[Garbage]) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let rows = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&rows);
        for row in freed {
            dulse_merge::forget::freed(&mut txn, row.inode, row.chunk, (row.cause, row.winner))
                .map_err(|e| error::read(Operation::Apply, e))?;
        }
        let inodes: BTreeSet<_> = freed.iter().map(|row| row.inode).collect();
        for inode in inodes {
            dulse_merge::holders::tidy(&mut txn, inode)
                .map_err(|e| error::read(Operation::Apply, e))?;
        }
        let (writes, _) = txn.finish().map_err(|e| error::read(Operation::Apply, e))?;
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Apply, e))
    }

    /// Journal, sync, engine, then what readers see. Order is everything here.
    pub(crate) fn write(
        &mut self,
        txn: Txn<'_>,
        records: &[Record],
        vector: Vector,
        sync: Sync,
    ) -> Result<(), Error> {
        let operation = Operation::Commit;
        let (mut writes, deltas) = txn.finish().map_err(|e| error::read(operation, e))?;
        let mut encoded = Writer::new();
        vector.write(&mut encoded);
        writes.push((Space::Vector.key(b""), Some(encoded.into_bytes())));
        crate::expiry::note(&mut writes);
        let begin = self.shared.journal.end();
        let was_poisoned = self.shared.journal.is_poisoned();
        let end = self.shared.journal.append(records).map_err(|e| {
            let failure = error::journal(operation, e);
            // What was written could not be taken back: a restart may find it whole.
            if !was_poisoned && self.shared.journal.is_poisoned() {
                failure.unknown_outcome()
            } else {
                failure
            }
        })?;
        let is_large = self.tail.bytes() + (end - begin) > TAIL_BYTES_MAX;
        let is_synced = sync == Sync::Now || is_large;
        if is_synced {
            // The records may be on disk: a restart would replay them.
            self.shared.sync().map_err(|error| {
                self.is_behind_log = true;
                error.unknown_outcome()
            })?;
        } else {
            self.tail.carry(records, end, &mut writes);
        }
        let synced = self.shared.journal.synced();
        self.tail.drop_synced(synced, &mut writes);
        if let Err(failure) = self.shared.engine.write(Batch { writes }) {
            self.is_behind_log = true;
            return Err(error::engine(operation, failure).unknown_outcome());
        }
        self.publish(vector, &deltas, is_synced);
        self.checkpoint_when_due();
        Ok(())
    }

    fn publish(&self, vector: Vector, deltas: &Deltas, is_synced: bool) {
        let mut vectors = self.shared.vectors.write();
        self.shared.count(deltas);
        if is_synced {
            vectors.durable.merge_max(&vector);
        }
        vectors.applied = vector;
    }

    /// The first stamp of the next local change, with the clock's ceiling journaled above.
    pub(crate) fn next_stamp(&mut self, vector: &Vector) -> Result<Stamp, Error> {
        let clock = &self.shared.clock;
        clock.see(vector.get(self.shared.origin));
        let stamp = clock.begin(self.shared.now_ns());
        if let Some(ceiling) = clock.ceiling_for(stamp) {
            // What is stamped above it lies behind it in the log: one sync makes both durable.
            self.journal_ceiling(ceiling)?;
            self.shared.clock.raise_ceiling(ceiling);
        }
        Ok(stamp)
    }

    /// Builds the change of a transaction, a tree that is changed as its last step.
    pub(crate) fn build(
        &mut self,
        txn: &mut Txn<'_>,
        transaction: Transaction,
        tree: Option<&Tree>,
        vector: &Vector,
    ) -> Result<(Change, Commit), Error> {
        // ⚠ What a tree change in parts has yet to come by stays as it is.
        self.trees.check(&transaction.steps, tree)?;
        check(txn, &transaction.expects)?;
        let origin = self.shared.origin;
        let first = self.next_stamp(vector)?;
        txn.begin();
        let mut builder = Builder::new(txn, origin, first, vector.get(origin));
        builder.limit_tree(self.limits.tree_names_max);
        let signatures = passed_here(origin, transaction.signatures);
        builder.passed(signatures, transaction.is_from_other_cluster);
        let mut results = Vec::with_capacity(transaction.steps.len());
        let steps = transaction.steps.iter().map(Some).chain([None]);
        for step in steps {
            let effect = match (step, tree) {
                (Some(step), _) => operate(&mut builder, step),
                (None, Some(tree)) => tree.whole(&mut builder).map_err(error::local),
                (None, None) => break,
            };
            match effect {
                Ok(effect) => results.push(StepResult {
                    stamp: effect.stamp,
                    old_entry: effect.old_entry,
                    new_entry: effect.new_entry,
                }),
                Err(failure) => {
                    drop(builder);
                    txn.rollback();
                    return Err(failure);
                }
            }
        }
        let change = builder.finish();
        txn.keep();
        self.shared.clock.see(change.stamp);
        let (origin, stamp) = (change.origin, change.stamp);
        let commit = Commit {
            origin,
            stamp,
            results,
        };
        Ok((change, commit))
    }
}

/// The signatures a change has passed, this origin's among them.
pub(crate) fn passed_here(origin: Origin, mut signatures: Vec<i32>) -> Vec<i32> {
    let own = origin.signature();
    if !signatures.contains(&own) {
        signatures.push(own);
    }
    signatures
}

/// Whether a peer's change may be merged now.
fn admit(
    txn: &Txn<'_>,
    change: &Change,
    vector: &Vector,
    through: Option<Origin>,
) -> Result<Applied, Error> {
    let have = vector.get(change.origin);
    if change.stamp <= have {
        return Ok(Applied::Already);
    }
    // ⚠ The hole check: a change is applied iff the vector equals its `prev`.
    if change.prev != have {
        return Ok(Applied::Hole {
            have,
            prev: change.prev,
        });
    }
    let Some(row) = member(txn, change.origin)? else {
        return Ok(Applied::Now);
    };
    let is_refused = match row.state {
        MemberRow::MEMBER => false,
        MemberRow::LEFT => change.stamp > row.cut,
        // ⚠ Who was shut out, or who does not know it yet, may bring what others will never
        // have: a member's changes of it are bounded, see `Acknowledgements::is_cut`.
        _ => match through {
            Some(through) => !is_member(txn, through, vector)?,
            // ⚠ Others may have drawn the cut without what only a log that was set aside has.
            None => true,
        },
    };
    Ok(if is_refused {
        Applied::Refused { cut: row.cut }
    } else {
        Applied::Now
    })
}

/// ⚠ An origin that left or was shut out stamps nothing more: nobody would take it.
pub(crate) fn may_stamp(txn: &Txn<'_>, own: Origin) -> Result<(), Error> {
    match member(txn, own)? {
        Some(row) if row.state != MemberRow::MEMBER => {
            let because = "this filer is a member of its cluster no more";
            Err(Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", because))
        }
        _ => Ok(()),
    }
}

/// ⚠ One whose join has not arrived is a member: it may be that the one that is gone journaled
/// the join, and that nobody else has it.
fn is_member(txn: &Txn<'_>, origin: Origin, applied: &Vector) -> Result<bool, Error> {
    Ok(match member(txn, origin)? {
        Some(row) => row.state == MemberRow::MEMBER,
        None => applied.get(origin) > Stamp::ZERO,
    })
}

pub(crate) fn member(txn: &Txn<'_>, origin: Origin) -> Result<Option<MemberRow>, Error> {
    let row = txn.get(&keys::member(origin));
    let row = row.map_err(|e| error::read(Operation::Apply, e))?;
    let row = row.map(|row| MemberRow::decode(&row)).transpose();
    row.map_err(|e| error::corrupt(Operation::Apply, e))
}

fn check(txn: &Txn<'_>, expects: &[Expect]) -> Result<(), Error> {
    for expect in expects {
        let holds = match expect {
            Expect::Absent(path) => value_at(txn, path)?.is_none(),
            Expect::Same(path, token) => token_at(txn, path)? == Some(*token),
            Expect::Directory(path) => {
                let shown = txn.shown(path.as_str().as_bytes());
                let shown = shown.map_err(|e| error::read(Operation::Commit, e))?;
                path.is_root() || shown.is_some_and(|row| dulse_merge::view::is_dir(&row))
            }
            Expect::Empty(path) => {
                let (from, to) = keys::children(Space::Entries, path.as_str().as_bytes());
                let any = txn.has_any(&from, &to);
                !any.map_err(|e| error::read(Operation::Commit, e))?
            }
        };
        if !holds {
            return Err(Error::new(Operation::Commit, ErrorKind::Conflict));
        }
    }
    Ok(())
}

fn value_at(txn: &Txn<'_>, path: &FullPath) -> Result<Option<Bytes>, Error> {
    let value = txn.get(&keys::entry(path.as_str().as_bytes()));
    value.map_err(|e| error::read(Operation::Commit, e))
}

fn token_at(txn: &Txn<'_>, path: &FullPath) -> Result<Option<Token>, Error> {
    let Some(value) = value_at(txn, path)? else {
        return Ok(None);
    };
    let row = dulse_merge::txn::decode_name(Space::Entries, &value, path.as_str().as_bytes());
    let row = row.map_err(|e| error::read(Operation::Commit, e))?;
    if !row.is_linked {
        return Ok(Some(Token(xxh3_128(&value))));
    }
    let inode = txn.get(&keys::by_identity(Space::Inodes, row.inode));
    let inode = inode
        .map_err(|e| error::read(Operation::Commit, e))?
        .unwrap_or_default();
    Ok(Some(Token(
        xxh3_128(&value) ^ xxh3_128(&inode).rotate_left(1),
    )))
}

pub(crate) fn bytes(path: &FullPath) -> Bytes {
    Bytes::copy_from_slice(path.as_str().as_bytes())
}

fn operate(builder: &mut Builder<'_, '_>, step: &Step) -> Result<Effect, Error> {
    let result = match step {
        Step::Create { path, entry } => builder.create(&bytes(path), entry),
        Step::Update {
            path,
            entry,
            delete_chunks,
        } => builder.update(&bytes(path), entry, *delete_chunks),
        Step::Rename { from, to } => builder.rename(&bytes(from), &bytes(to)),
        Step::Delete {
            path,
            delete_chunks,
        } => builder.delete(&bytes(path), *delete_chunks),
        Step::Link { from, to } => builder.link(&bytes(from), &bytes(to)),
        Step::RestoreInPlace { conflict, path } => {
            builder.restore_in_place(*conflict, &bytes(path))
        }
        Step::RestoreCopy {
            conflict,
            path,
            entry,
        } => builder.restore_copy(*conflict, &bytes(path), entry),
        Step::Dismiss { conflict } => builder.dismiss(*conflict).map(|()| Effect::default()),
        Step::KvPut { key, .. } | Step::KvDelete { key } if key[..] == *STORE_ID_KEY => {
            return Err(Error::new(Operation::Commit, ErrorKind::Invalid)
                .with("key", "filer.store.id, which belongs to the store"));
        }
        Step::KvPut { key, value } => builder.kv(key, Some(value.clone())),
        Step::KvDelete { key } => builder.kv(key, None),
    };
    result.map_err(error::local)
}

fn record_of(change: &Change) -> Record {
    Record {
        kind: RecordKind::Change,
        origin: change.origin,
        stamp: change.stamp,
        prev: change.prev,
        payload: Bytes::new(),
    }
}

pub(crate) fn record(change: &Change) -> Record {
    Record {
        payload: change.encode(),
        ..record_of(change)
    }
}

/// Steps in as many changes as their sizes ask for.
pub(crate) fn parts(steps: Vec<ConflictStep>) -> Vec<Vec<ConflictStep>> {
    let mut parts: Vec<Vec<ConflictStep>> = Vec::new();
    let mut n_bytes = usize::MAX;
    for step in steps {
        let size = MergeStep::Conflict(step.clone()).size_bytes_max();
        match parts.last_mut() {
            Some(part) if n_bytes.saturating_add(size) <= CHANGE_BYTES_MAX => {
                n_bytes += size;
                part.push(step);
            }
            _ => {
                n_bytes = size;
                parts.push(vec![step]);
            }
        }
    }
    parts
}

/// The origin kept in an engine, `None` in a new one.
pub(crate) fn stored_origin(read: &(impl Read + ?Sized)) -> Result<Option<Origin>, Error> {
    let value = read.get(&Space::Meta.key(b"origin"));
    let value = value.map_err(|e| error::engine(Operation::Open, e))?;
    let parse = |v: Bytes| dulse_types::wire::Reader::new(&v).u64_be().map(Origin);
    value
        .map(parse)
        .transpose()
        .map_err(|e| error::corrupt(Operation::Open, e))
}
