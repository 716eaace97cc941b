// SPDX-License-Identifier: Apache-2.0
//! Making anew what only this store had, after it has taken in the state under a new origin.
//!
//! What the cluster changed meanwhile stays. A name that others know and that this store
//! changed gets what it had here unless they changed it, too; one that they do not know is
//! born anew; what cannot be put back in its place is recorded as a conflict with its content.
//! Doing it again changes nothing, so a crash costs a repetition.

pub(crate) mod chunks;
pub mod item;
mod known;

pub use known::Known;

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::Record;
use dulse_kv::ReadExt;
use dulse_merge::apply::{Located, Where, live_names};
use dulse_merge::change::{Change, ConflictStep, MemberStep, NameStep, Step as MergeStep};
use dulse_merge::conflict::{DATA, SHADOW, data_id};
use dulse_merge::keys::{self, Space};
use dulse_merge::local::{Builder, LocalError};
use dulse_merge::view::is_dir;
use dulse_merge::{Content, MemberRow, NameRow, Txn};
use dulse_store::{Error, Operation};
use dulse_types::entry::file_id_of;
use dulse_types::{FileId, Identity, Origin, Stamp, Vector, Version};

use crate::error;
use crate::renewal::{AGAIN, former_key, origins, origins_row, whole_key};
use crate::sequencer::{Applied, Replica, Sync, member, record};
use crate::shared::{EngineRows, Shared};
use item::{Item, NameItem};

/// Items made anew by one call, so that others hardly wait for it.
const PART_ITEMS: usize = 200;

/// What came of some items.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reissued {
    /// Made by a change of the new origin.
    pub n_made: u64,
    /// There already, or overtaken by what others did knowingly.
    pub n_there: u64,
    /// Recorded as conflicts, since others changed the same meanwhile.
    pub n_conflicts: u64,
    /// Whether more is left.
    pub has_more: bool,
}

/// What is to be done about one item.
enum Done {
    Made,
    There,
    Conflict,
    /// Its place is taken by what another item may move away.
    Later,
}

impl Shared {
    /// Whether something is set aside that is to be made anew, or an old origin to be shut out.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn has_reissue(&self) -> Result<bool, Error> {
        let (from, to) = Space::Reissue.range();
        let rows = self.engine.scan(&from, &to, 1);
        let rows = rows.map_err(|e| error::engine(Operation::Find, e))?;
        Ok(!rows.is_empty() || !self.former()?.is_empty())
    }

    /// The origins that this store had and that are to be shut out.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn former(&self) -> Result<Vec<Origin>, Error> {
        origins(&*self.engine, &former_key())
    }

    /// Whether this store had another origin and has yet to fetch the state under its new one:
    /// it must not begin a cluster of its own.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn must_join(&self) -> Result<bool, Error> {
        Ok(self.is_fresh() && self.has_reissue()?)
    }
}

impl Replica {
    /// Makes anew some of what was set aside by [`Replica::renew`], and at the end shuts out the
    /// origins that this store had.
    ///
    /// - `in_use`: those of [`Shared::former`] under which another process goes on; they stay.
    ///
    /// # Errors
    ///
    /// As a commit; the same items are looked at again then.
    pub fn reissue(&mut self, in_use: &[Origin]) -> Result<Reissued, Error> {
        let operation = Operation::Commit;
        self.ready()?;
        let (from, to) = Space::Reissue.range();
        let rows = self.shared.engine.scan(&from, &to, PART_ITEMS);
        let rows = rows.map_err(|e| error::engine(operation, e))?;
        let mut done = Reissued {
            has_more: rows.len() == PART_ITEMS,
            ..Reissued::default()
        };
        if rows.is_empty() {
            self.shut_out_former(in_use)?;
            return Ok(done);
        }
        let items = rows.iter().map(|(_, value)| Item::decode(value));
        let items: Result<Vec<Item>, _> = items.collect();
        let mut items = items.map_err(|e| error::corrupt(operation, e))?;
        // ⚠ Others may have fetched more since they said what they have. What the state has of that
        // is theirs, and they may have gone on with it, and freed what it named.
        let (whole, theirs) = (
            origins(&*self.shared.engine, &whole_key())?,
            self.shared.vector(),
        );
        for item in &mut items {
            if let Item::Name(item) = item {
                whole
                    .iter()
                    .for_each(|of| item.others_have(*of, theirs.get(*of)));
            }
        }
        // What is taken in as it is is taken in by itself.
        let change = |item: &Item| match item {
            Item::Change(change) => Some(change.clone()),
            _ => None,
        };
        let changes: Vec<Bytes> = items.iter().map_while(change).collect();
        if !changes.is_empty() {
            return self.take_again(&rows[..changes.len()], &changes);
        }
        let items = items.iter().take_while(|item| change(item).is_none());
        let shared = Arc::clone(&self.shared);
        let under = EngineRows(&*shared.engine);
        let mut txn = Txn::new(&under);
        let mut vector = shared.vector();
        txn.applied = Some(vector.clone());
        let mut records: Vec<Record> = Vec::new();
        let origin = shared.origin();
        for ((key, value), item) in rows.iter().zip(items) {
            let first = self.next_stamp(&vector)?;
            txn.begin();
            let mut builder = begun(&mut txn, origin, first, &vector);
            let attempt = match key.get(1) {
                Some(&AGAIN) => Attempt::Again,
                _ => Attempt::First,
            };
            let mut result = remake(&mut builder, item, attempt);
            if result.as_ref().is_err_and(is_of_place) {
                // ⚠ Tried again it fails again, and nothing behind it would ever be made anew.
                drop(builder);
                txn.rollback();
                txn.begin();
                builder = begun(&mut txn, origin, first, &vector);
                result = remake(&mut builder, item, Attempt::InPlace);
            }
            let change = builder.finish();
            let result = match result {
                Ok(result) => result,
                Err(failure) => {
                    txn.rollback();
                    self.landed();
                    return Err(error::local(failure));
                }
            };
            if change.steps.is_empty() {
                txn.rollback();
            } else {
                txn.keep();
                shared.clock.see(change.stamp);
                vector.set(origin, change.stamp);
                records.push(record(&change));
            }
            // In the batch of the change: with it, or neither.
            txn.delete(key.to_vec());
            match result {
                Done::Made => done.n_made += 1,
                Done::There => done.n_there += 1,
                Done::Conflict => done.n_conflicts += 1,
                Done::Later => {
                    done.has_more = true;
                    let mut again = key.to_vec();
                    again[1] = AGAIN;
                    txn.put(again, value.clone());
                }
            }
        }
        self.write(txn, &records, vector, Sync::Now)?;
        self.landed();
        done.has_more = true;
        Ok(done)
    }

    /// Takes in what third filers wrote and others lacked, as if a member brought it: their
    /// origins and stamps stay, so it is there once, whoever else comes with it.
    fn take_again(
        &mut self,
        rows: &[(Bytes, Bytes)],
        changes: &[Bytes],
    ) -> Result<Reissued, Error> {
        let shared = Arc::clone(&self.shared);
        let mut taken = Vec::new();
        for change in changes {
            let Ok(decoded) = Change::decode(change) else {
                continue;
            };
            let under = EngineRows(&*shared.engine);
            let row = member(&Txn::new(&under), decoded.origin)?;
            // ⚠ Of one that is gone others may have drawn the cut without it.
            let is_gone = row.is_some_and(|row| row.state != MemberRow::MEMBER);
            if !is_gone {
                taken.push(change.clone());
            }
        }
        let results = self.apply_from(shared.origin(), &taken)?;
        // ⚠ On disk before the copy goes.
        shared.sync()?;
        let n_made = results.iter().filter(|r| **r == Applied::Now).count() as u64;
        let writes = rows.iter().map(|(key, _)| (key.to_vec(), None)).collect();
        let written = shared.engine.write(dulse_kv::Batch { writes });
        written.map_err(|e| error::engine(Operation::Commit, e))?;
        Ok(Reissued {
            n_made,
            n_there: changes.len() as u64 - n_made,
            has_more: true,
            ..Reissued::default()
        })
    }

    /// ⚠ An origin that this store had is used by nobody any more: as long as it is a member,
    /// all wait for it. One that is used after all is another's from now on: when that one falls
    /// silent it is shut out as any other member.
    fn shut_out_former(&mut self, in_use: &[Origin]) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        for former in shared.former()? {
            if in_use.contains(&former) {
                tracing::warn!(%former, "another filer runs under the origin that this store had: \
                    it is not shut out");
                continue;
            }
            let rows = EngineRows(&*shared.engine);
            let row = member(&Txn::new(&rows), former)?;
            // ⚠ One whose join was journaled by a member that was shut out nobody here knows: it
            // may be waited for all the same by whoever met it.
            if row.is_none_or(|row| row.state == MemberRow::MEMBER) {
                let cut = shared.vector().get(former);
                self.member(MemberStep::Remove {
                    member: former,
                    cut,
                })?;
            }
        }
        let none = || origins_row(&[]);
        let writes = vec![(former_key(), none()), (whole_key(), none())];
        let written = shared.engine.write(dulse_kv::Batch { writes });
        written.map_err(|e| error::engine(Operation::Commit, e))
    }
}

/// The change that makes one item anew.
fn begun<'t, 'r>(
    txn: &'t mut Txn<'r>,
    origin: Origin,
    first: Stamp,
    vector: &Vector,
) -> Builder<'t, 'r> {
    let mut builder = Builder::new(txn, origin, first, vector.get(origin));
    builder.passed(vec![origin.signature()], false);
    builder
}

/// How an item is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// What is in its way may be moved by another item.
    First,
    /// After all others.
    Again,
    /// Where others have it: it cannot go where it was here.
    InPlace,
}

/// Whether a name cannot be moved, whatever is made anew besides: below itself, with too many
/// names, or too often.
fn is_of_place(error: &LocalError) -> bool {
    matches!(
        error,
        LocalError::IntoItself(_) | LocalError::TooBig { .. } | LocalError::MovedTooOften(_)
    )
}

fn remake(
    builder: &mut Builder<'_, '_>,
    item: &Item,
    attempt: Attempt,
) -> Result<Done, LocalError> {
    match item {
        // It is taken in as it is.
        Item::Change(_) => Ok(Done::There),
        Item::Key { key, row } => {
            let known = builder.txn().kv(key)?;
            if known.is_some_and(|known| known.version >= row.version || known.value == row.value) {
                return Ok(Done::There);
            }
            builder.kv(key, row.value.clone())?;
            Ok(Done::Made)
        }
        Item::Name(item) if !item.row.is_live() => delete(builder, item),
        Item::Name(item) => revive(builder, item, attempt),
    }
}

fn delete(builder: &mut Builder<'_, '_>, item: &NameItem) -> Result<Done, LocalError> {
    let Some(found) = live(builder, item)? else {
        return Ok(Done::There);
    };
    // What others wrote since, the deleter had not seen.
    if found.touch > item.row.kills {
        return Ok(Done::There);
    }
    if is_dir(&found) {
        let (from, to) = keys::children(Space::Entries, &found.path);
        if builder.txn().has_any(&from, &to)? {
            return Ok(Done::There);
        }
    }
    builder.delete(&found.path, !item.row.keeps_chunks)?;
    Ok(Done::Made)
}

fn revive(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
    attempt: Attempt,
) -> Result<Done, LocalError> {
    match live(builder, item)? {
        Some(found) => change(builder, item, found, attempt),
        None => bear(builder, item, attempt),
    }
}

/// Gives a name that others show, too, what it had here.
fn change(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
    found: NameRow,
    attempt: Attempt,
) -> Result<Done, LocalError> {
    let (row, ours) = (&item.row, item.content());
    let mut is_made = false;
    let mut path = found.path.clone();
    let is_to_move = item.is_ours_alone(row.place) && attempt != Attempt::InPlace;
    if is_to_move && row.place > found.place && row.path != found.path {
        if builder.txn().shown(&row.path)?.is_none() {
            builder.rename(&found.path, &row.path)?;
            path = row.path.clone();
            is_made = true;
        } else if attempt == Attempt::First {
            return Ok(Done::Later);
        }
        // A place that is taken for good is lost: that is no conflict.
    }
    let theirs = content(builder, &found)?;
    let (mut is_lost, mut wanted) = (false, theirs.clone());
    if item.is_ours_alone(ours.data_version) && ours.data != theirs.data {
        // ⚠ Only over what it was written on top of: of other data the chunks may be freed.
        let is_on_top = is_on_top(ours, theirs.data_version);
        if is_on_top && !has_unknown_manifest(ours, &theirs) {
            wanted.data = ours.data.clone();
        } else {
            is_lost = true;
        }
    }
    if item.is_ours_alone(ours.attributes_version)
        && ours.attributes_version > theirs.attributes_version
    {
        wanted.attributes = ours.attributes.clone();
    }
    if wanted.data != theirs.data || wanted.attributes != theirs.attributes {
        match builder.update(&path, &wanted.entry(), true) {
            Ok(_) => is_made = true,
            Err(LocalError::DroppedChunk(_)) => is_lost = true,
            Err(error) => return Err(error),
        }
    }
    if is_lost {
        let present = theirs.data.file_ids();
        lose(builder, item, DATA, theirs.data_version, &present)?;
        return Ok(Done::Conflict);
    }
    Ok(if is_made { Done::Made } else { Done::There })
}

/// Makes a name that others do not show.
fn bear(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
    attempt: Attempt,
) -> Result<Done, LocalError> {
    let (row, ours) = (&item.row, item.content());
    let mut path = row.path.clone();
    // A rename revives nothing.
    if !item.is_ours_alone(row.touch) {
        return Ok(Done::There);
    }
    let is_known = !item.is_ours_alone(row.name.birth());
    if row.is_linked && !item.is_ours_alone(row.inode.birth()) {
        return link(builder, item, attempt);
    }
    // ⚠ Others deleted it: chunks that they knew may be freed by now.
    let is_lost_data = is_known && ours.data.has_chunks();
    if let Some(shown) = builder.txn().shown(&row.path)? {
        let is_same = !shown.is_implied && content(builder, &shown)?.data == ours.data;
        if is_same || (is_dir(&shown) && ours.is_dir() && !shown.is_implied) {
            return Ok(Done::There);
        }
        let is_free = shown.is_implied && ours.is_dir();
        if !(is_free || is_lost_data) {
            // One of its other names may find room.
            let mut links = item.links.iter();
            let free = links.find_map(|at| match builder.txn().shown(at) {
                Ok(shown) => shown.is_none().then(|| Ok(at.clone())),
                Err(error) => Some(Err(error)),
            });
            let Some(at) = free.transpose()? else {
                lose(builder, item, SHADOW, shown.touch, &[])?;
                return Ok(Done::Conflict);
            };
            path = at;
        }
    }
    if is_lost_data {
        if !item.is_ours_alone(ours.data_version) {
            return Ok(Done::There);
        }
        lose(builder, item, DATA, Version::ZERO, &[])?;
        return Ok(Done::Conflict);
    }
    builder.create(&path, &ours.entry())?;
    // ⚠ Of what somebody wrote a directory over no further name can be made, nor ever will be.
    for link in item
        .links
        .iter()
        .filter(|_| row.is_linked && !ours.is_dir())
    {
        // A place that is taken is lost: that is no conflict.
        if builder.txn().shown(link)?.is_none() {
            builder.link(&path, link)?;
        }
    }
    Ok(Done::Made)
}

/// Makes a further name of a file that others know.
fn link(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
    attempt: Attempt,
) -> Result<Done, LocalError> {
    let (row, ours) = (&item.row, item.content());
    if let Some(at) = name_of_inode(builder, item)? {
        if builder.txn().shown(&row.path)?.is_none() {
            builder.link(&at, &row.path)?;
            return Ok(Done::Made);
        }
        return Ok(match attempt {
            Attempt::First => Done::Later,
            Attempt::Again | Attempt::InPlace => Done::There,
        });
    }
    // ⚠ Others deleted all its names: chunks that they knew may be freed by now.
    let is_data = item.is_ours_alone(ours.data_version);
    if !is_data && !item.is_ours_alone(row.name.birth()) {
        return Ok(Done::There);
    }
    let kind = if is_data { DATA } else { SHADOW };
    lose(builder, item, kind, Version::ZERO, &[])?;
    Ok(Done::Conflict)
}

/// Where others show the inode of a name that they do not show.
fn name_of_inode(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
) -> Result<Option<Bytes>, LocalError> {
    let inode = item.row.inode;
    let shown = live_names(builder.txn(), inode)?;
    if let Some(row) = shown.into_iter().next() {
        return Ok(Some(row.path));
    }
    let paths = item.links.iter().chain(&item.paths);
    let found = located(builder, inode, inode, paths.cloned().collect())?;
    Ok(found.filter(|row| row.inode == inode).map(|row| row.path))
}

/// Records what cannot be put back, with its content.
///
/// ⚠ With those of its chunks that are there for certain: that others name in the same file now
/// (`present`), or never knew. What they knew and dropped may be freed, and a record would not
/// bring it back. What a manifest lists that they never knew is not looked at: such a record may
/// have holes, and without the manifest it would lack what is there.
fn lose(
    builder: &mut Builder<'_, '_>,
    item: &NameItem,
    kind: u8,
    winner: Version,
    present: &[FileId],
) -> Result<(), LocalError> {
    let mut ours = item.content().clone();
    let is_there = |chunk| present.contains(&chunk) || item.chunks.contains(&chunk);
    let (left, n_gone) = ours.data.with_chunks(is_there);
    ours.data = left;
    if n_gone > 0 {
        let path = String::from_utf8_lossy(&item.row.path);
        tracing::warn!(%path, n_chunks = n_gone, "of what was lost others dropped a part");
    }
    let id = match kind {
        DATA => data_id(ours.data_version),
        _ => item.row.name,
    };
    builder.other(MergeStep::Conflict(ConflictStep::Record {
        id,
        kind,
        name: item.row.name,
        path: item.row.path.clone(),
        loser: ours.entry().raw().clone(),
        winner,
    }))
}

/// The name where others show it.
fn live(builder: &mut Builder<'_, '_>, item: &NameItem) -> Result<Option<NameRow>, LocalError> {
    let mut hints: Vec<Bytes> = vec![item.row.path.clone()];
    hints.extend(item.paths.iter().cloned());
    located(builder, item.row.name, item.row.inode, hints)
}

fn located(
    builder: &mut Builder<'_, '_>,
    name: Identity,
    inode: Identity,
    hints: Vec<Bytes>,
) -> Result<Option<NameRow>, LocalError> {
    let step = NameStep {
        name,
        inode,
        hints,
        ..NameStep::default()
    };
    let found = builder.locate(&step)?;
    let Some(Located {
        row,
        place: Where::AtPath,
    }) = found
    else {
        return Ok(None);
    };
    let shown = builder.txn().shown(&row.path)?;
    Ok(shown.filter(|shown| shown.name == row.name))
}

fn content(builder: &Builder<'_, '_>, row: &NameRow) -> Result<Content, LocalError> {
    if !row.is_linked {
        return Ok(row.content.clone());
    }
    let inode = builder.txn().inode(row.inode)?;
    Ok(inode.map(|inode| inode.content).unwrap_or_default())
}

/// Whether data was written on top of what others have now, so that they lose nothing.
fn is_on_top(ours: &Content, theirs: Version) -> bool {
    theirs.is_zero()
        || ours.seen.covers(theirs)
        || (theirs.origin == ours.data_version.origin && theirs.stamp <= ours.data_version.stamp)
}

/// Whether data names a manifest that the others' data does not.
///
/// ⚠ Nothing here reads what it lists: chunks of older data among it the others may have freed,
/// and they have data that is whole.
fn has_unknown_manifest(ours: &Content, theirs: &Content) -> bool {
    if theirs.data_version.is_zero() {
        return false;
    }
    let theirs = theirs.data.file_ids();
    let mut manifests = ours.data.manifests().into_iter();
    manifests.any(|manifest| file_id_of(&manifest).is_none_or(|id| !theirs.contains(&id)))
}

impl NameItem {
    fn content(&self) -> &Content {
        match &self.inode {
            Some(inode) => &inode.content,
            None => &self.row.content,
        }
    }

    fn is_ours_alone(&self, version: Version) -> bool {
        self.known.lacks(version)
    }

    /// Others have this of an origin. With more than they had said, nothing is known of chunks.
    fn others_have(&mut self, origin: Origin, stamp: Stamp) {
        if self.known.get(origin).is_some_and(|known| known < stamp) {
            self.known.set(origin, stamp);
            self.chunks.clear();
        }
    }
}
