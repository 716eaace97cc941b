// SPDX-License-Identifier: Apache-2.0
//! Turning operations into steps, as the sequencer does for local writes.
//!
//! Each operation looks at the rows, records the steps and merges them at once, so
//! that the next operation of the same change sees them.

mod conflict;
mod error;
mod part;
mod tree;
mod walk;

use bytes::Bytes;
use dulse_types::entry::{ATIME_NEVER, Parts, hard_link_id_of, split};
use dulse_types::{Entry, Identity, Origin, Stamp, Vector, Version};

use crate::apply::chunks::Row;
use crate::apply::{
    Located, apply_step, find, find_by_hard_link_id, locate, moved_paths, names_of,
};
use crate::change::{AttributesWrite, Change, DataWrite, KvStep, NameStep, Place, Step};
use crate::codec::STEPS_MAX;
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::txn::{ReadError, Txn};
use crate::view::is_dir;

pub use error::LocalError;
pub use part::{Part, PartLimits};
pub use walk::TreeWalk;

/// Most names that one change moves.
pub const TREE_NAMES_MAX: usize = 10_000;

/// Bytes of a change behind which no further step is begun: a record is never larger than
/// this and one step. It bounds what a peer holds in memory for one record.
pub const CHANGE_BYTES_MAX: usize = 4 << 20;

/// Most bytes of an entry or key with its value. A step holds an entry and the one that it
/// replaces: with [`CHANGE_BYTES_MAX`] before it that is still one record of the journal. What
/// is larger is refused before it is journaled, alone: the journal would refuse the whole
/// group that it came with.
pub const ENTRY_BYTES_MAX: usize = 24 << 20;

/// Most places of one name that some member has not acknowledged; each of its writes
/// carries them all as hints.
pub const PLACES_MAX: usize = 1_000;

/// What an operation found and left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Stamp of its event.
    pub stamp: Stamp,
    /// The entry before.
    pub old_entry: Option<Entry>,
    /// The entry after.
    pub new_entry: Option<Entry>,
}

/// Bytes of what a step writes, without what it replaces.
fn written_bytes(step: &Step) -> usize {
    match step {
        Step::Name(step) => {
            let data = step.data.as_ref().map_or(0, |data| data.value.0.len());
            data + step.attributes.as_ref().map_or(0, |a| a.value.len())
        }
        Step::Kv(step) => step.key.len() + step.value.as_ref().map_or(0, Bytes::len),
        Step::Member(_) | Step::Conflict(_) | Step::TreePart { .. } => 0,
    }
}

/// A change in the making.
pub struct Builder<'t, 'r> {
    txn: &'t mut Txn<'r>,
    change: Change,
    n_events: u32,
    n_born: u32,
    n_bytes: usize,
    tree_names_max: usize,
}

impl<'t, 'r> Builder<'t, 'r> {
    /// Starts a change of `origin` whose first stamp is `first`.
    pub fn new(txn: &'t mut Txn<'r>, origin: Origin, first: Stamp, prev: Stamp) -> Self {
        let mut change = Change::of_steps(Vec::new());
        change.origin = origin;
        change.first = first;
        change.stamp = first;
        change.prev = prev;
        Self {
            txn,
            change,
            n_events: 0,
            n_born: 0,
            n_bytes: 0,
            tree_names_max: TREE_NAMES_MAX,
        }
    }

    /// Sets how many names this change moves or removes at most as one tree.
    pub fn limit_tree(&mut self, names_max: usize) {
        self.tree_names_max = names_max;
    }

    /// Sets the signatures it has passed and whether another cluster made it.
    pub fn passed(&mut self, signatures: Vec<i32>, is_from_other_cluster: bool) {
        self.change.signatures = signatures;
        self.change.is_from_other_cluster = is_from_other_cluster;
    }

    /// The change with all its steps, merged already.
    #[must_use]
    pub fn finish(self) -> Change {
        self.change
    }

    /// The rows, with this change's writes in them.
    #[must_use]
    pub fn txn(&self) -> &Txn<'r> {
        self.txn
    }

    /// Finds the name that a step speaks of; see [`crate::apply::locate`].
    ///
    /// # Errors
    ///
    /// `Read`.
    pub fn locate(&mut self, step: &NameStep) -> Result<Option<Located>, LocalError> {
        Ok(locate(self.txn, step)?)
    }

    fn push(&mut self, step: Step) -> Result<(), LocalError> {
        if self.n_bytes > CHANGE_BYTES_MAX || self.change.steps.len() as u64 >= STEPS_MAX {
            return Err(LocalError::ChangeTooLarge);
        }
        let size = written_bytes(&step);
        if size > ENTRY_BYTES_MAX {
            return Err(LocalError::EntryTooLarge(size));
        }
        self.n_bytes += step.size_bytes_max();
        apply_step(self.txn, &self.change, &step)?;
        self.change.steps.push(step);
        Ok(())
    }

    /// Reserves the stamp of the next event.
    fn event(&mut self) -> (u32, Stamp) {
        let offset = self.n_events;
        self.n_events += 1;
        self.change.stamp = self.change.first.plus(offset);
        (offset, self.change.stamp)
    }

    /// The offset of what goes along with the last event, without one of its own.
    fn last_offset(&self) -> u32 {
        self.n_events.saturating_sub(1)
    }

    fn identity(&mut self) -> Identity {
        let index = self.n_born;
        self.n_born += 1;
        let identity = Identity {
            stamp: self.change.first,
            origin: self.change.origin,
            index,
        };
        self.txn.born(identity);
        identity
    }

    /// Creates an entry where nothing is shown. An entry with the hard link id of an
    /// inode that is there becomes a further name of it.
    ///
    /// # Errors
    ///
    /// `Exists`, `Read`.
    pub fn create(&mut self, path: &Bytes, entry: &Entry) -> Result<Effect, LocalError> {
        if self
            .txn
            .shown(path)?
            .is_some_and(|shown| !(shown.is_implied && entry.is_dir()))
        {
            return Err(LocalError::Exists(path.clone()));
        }
        let parts = split(entry);
        if let Some(first) = self.same_inode(&parts.attributes)? {
            return self.link_to(&first, path, Some(parts));
        }
        let (offset, stamp) = self.event();
        let name = self.identity();
        let content = content_of(parts);
        let new_entry = Some(content.entry());
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: true,
            name,
            inode: name,
            is_birth: true,
            place: Some(Place {
                rank: 0,
                path: path.clone(),
            }),
            is_touch: true,
            data: (!content.is_dir() || !content.data.0.is_empty()).then(|| DataWrite {
                value: content.data,
                ..DataWrite::default()
            }),
            attributes: Some(AttributesWrite {
                value: content.attributes,
                ..AttributesWrite::default()
            }),
            atime_ns: (content.atime_ns != ATIME_NEVER).then_some(content.atime_ns),
            delete_chunks: true,
            ..NameStep::default()
        })))?;
        Ok(Effect {
            stamp,
            old_entry: None,
            new_entry,
        })
    }

    /// Writes what differs of the entry shown.
    ///
    /// # Errors
    ///
    /// `NotFound`, `DroppedChunk`, `Read`.
    pub fn update(
        &mut self,
        path: &Bytes,
        entry: &Entry,
        delete_chunks: bool,
    ) -> Result<Effect, LocalError> {
        let row = self.require(path)?;
        if row.is_implied {
            return self.create(path, entry);
        }
        let content = self.content(&row)?;
        let written = self.differing(&content, split(entry));
        self.refuse_dropped(&row, &written)?;
        self.write_over(&row, content, written, delete_chunks)
    }

    /// Writes these registers of the entry shown.
    fn write_over(
        &mut self,
        row: &NameRow,
        content: Content,
        written: Written,
        delete_chunks: bool,
    ) -> Result<Effect, LocalError> {
        let (offset, stamp) = self.event();
        let old_entry = content.entry();
        let new_entry = written.after(content).entry();
        let hints = self.hints(row)?;
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: true,
            name: row.name,
            inode: row.inode,
            is_touch: true,
            data: written.data,
            attributes: written.attributes,
            atime_ns: written.atime_ns,
            hints,
            old_entry: Some(old_entry.raw().clone()),
            delete_chunks,
            ..NameStep::default()
        })))?;
        if row.is_linked && lives_longer(&old_entry, &new_entry) {
            self.touch_others(row)?;
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry),
            new_entry: Some(new_entry),
        })
    }

    /// Touches the other live names of an inode: its time to live was extended, and a
    /// filer that saw it expired may be killing each of them.
    fn touch_others(&mut self, row: &NameRow) -> Result<(), LocalError> {
        for (name, is_visible, path) in names_of(self.txn, row.inode)? {
            if !is_visible || name == row.name {
                continue;
            }
            let Some(other) = find(self.txn, name, &[path])? else {
                continue;
            };
            let hints = self.hints(&other.row)?;
            self.push(Step::Name(Box::new(NameStep {
                offset: self.last_offset(),
                name,
                inode: row.inode,
                is_touch: true,
                hints,
                ..NameStep::default()
            })))?;
        }
        Ok(())
    }

    /// Gives the inode shown at `from` a further name.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Exists`, `IsDirectory`, `Read`.
    pub fn link(&mut self, from: &Bytes, to: &Bytes) -> Result<Effect, LocalError> {
        let row = self.require(from)?;
        if is_dir(&row) {
            return Err(LocalError::IsDirectory(from.clone()));
        }
        if self.txn.shown(to)?.is_some() {
            return Err(LocalError::Exists(to.clone()));
        }
        self.link_to(&row, to, None)
    }

    fn link_to(
        &mut self,
        row: &NameRow,
        to: &Bytes,
        parts: Option<Parts>,
    ) -> Result<Effect, LocalError> {
        let content = self.content(row)?;
        let hints = self.hints(row)?;
        let (offset, stamp) = self.event();
        let name = self.identity();
        let written = parts.map(|parts| self.differing(&content, parts));
        let written = written.unwrap_or_default();
        let old_entry = content.entry();
        let new_entry = Some(written.after(content).entry());
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: true,
            name,
            inode: row.inode,
            is_birth: true,
            place: Some(Place {
                rank: 0,
                path: to.clone(),
            }),
            is_touch: true,
            data: written.data,
            attributes: written.attributes,
            atime_ns: written.atime_ns,
            hints,
            old_entry: Some(old_entry.raw().clone()),
            delete_chunks: true,
            ..NameStep::default()
        })))?;
        Ok(Effect {
            stamp,
            old_entry: None,
            new_entry,
        })
    }

    /// Sets or removes a key.
    ///
    /// # Errors
    ///
    /// `Read`.
    pub fn kv(&mut self, key: &Bytes, value: Option<Bytes>) -> Result<Effect, LocalError> {
        let (offset, stamp) = self.event();
        self.push(Step::Kv(KvStep {
            offset,
            key: key.clone(),
            value,
        }))?;
        Ok(Effect {
            stamp,
            ..Effect::default()
        })
    }

    /// Bytes of the steps so far, at most.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Adds a step that is no operation on entries: membership, conflicts.
    ///
    /// # Errors
    ///
    /// `Read`.
    pub fn other(&mut self, step: Step) -> Result<(), LocalError> {
        self.event();
        self.push(step)
    }

    fn require(&self, path: &Bytes) -> Result<NameRow, LocalError> {
        self.txn
            .shown(path)?
            .ok_or_else(|| LocalError::NotFound(path.clone()))
    }

    /// A live name of the inode that the attributes' hard link id names.
    fn same_inode(&self, attributes: &[u8]) -> Result<Option<NameRow>, LocalError> {
        let Some(id) = hard_link_id_of(attributes) else {
            return Ok(None);
        };
        for inode in find_by_hard_link_id(self.txn, id)? {
            if let Some(first) = self.first_name(inode)? {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// A live name of an inode, its own first.
    fn first_name(&self, inode: Identity) -> Result<Option<NameRow>, LocalError> {
        let from = keys::by_identity(Space::Links, inode);
        let mut to = from.clone();
        to.extend_from_slice(&[0xff; Identity::LEN + 1]);
        for (_, value) in self.txn.scan(&from, &to, usize::MAX)? {
            if value.first() != Some(&1) {
                continue;
            }
            if let Some(row) = self
                .txn
                .shown(&value[1..])?
                .filter(|row| row.inode == inode)
            {
                return Ok(Some(row));
            }
        }
        // Never linked so far: its one name is where the id was written last.
        let key = keys::first_path(inode);
        let Some(path) = self.txn.get(&key)? else {
            return Ok(None);
        };
        Ok(self.txn.shown(&path)?.filter(|row| row.inode == inode))
    }

    fn content(&self, row: &NameRow) -> Result<Content, LocalError> {
        if !row.is_linked {
            return Ok(row.content.clone());
        }
        Ok(self
            .txn
            .inode(row.inode)?
            .map(|inode| inode.content)
            .unwrap_or_default())
    }

    /// Where others may find the name: its path, and every one it had before.
    fn hints(&self, row: &NameRow) -> Result<Vec<Bytes>, LocalError> {
        let mut hints = vec![row.path.clone()];
        // A name that never moved has no such row; its place is its birth's.
        if row.place != row.name.birth() {
            let moved = moved_paths(self.txn, row.name)?;
            hints.extend(moved.into_iter().filter(|path| *path != row.path));
        }
        if row.name != row.inode {
            // And where the inode's own name is, so that its content is found.
            if let Some(value) = self.txn.get(&keys::link(row.inode, row.inode))? {
                hints.push(value.slice(1.min(value.len())..));
            }
            hints.extend(moved_paths(self.txn, row.inode)?);
        }
        Ok(hints)
    }

    /// What of an entry differs from the present content: only that is written.
    fn differing(&self, content: &Content, parts: Parts) -> Written {
        let data = (parts.data != content.data).then(|| DataWrite {
            replaces: content.data_version,
            seen: self.chain_of(content),
            value: parts.data,
        });
        let attributes = (parts.attributes != content.attributes).then(|| AttributesWrite {
            replaces: content.attributes_version,
            value: parts.attributes,
        });
        let atime_ns = (parts.atime_ns > content.atime_ns).then_some(parts.atime_ns);
        Written {
            data,
            attributes,
            atime_ns,
        }
    }

    /// For each other origin the greatest data version in the chain that ends here.
    fn chain_of(&self, content: &Content) -> Vector {
        let own = self.change.origin;
        let mut seen: Vector = content
            .seen
            .iter()
            .filter(|(origin, _)| *origin != own)
            .collect();
        let last = content.data_version;
        if last != Version::ZERO && last.origin != own {
            seen.raise(last.origin, last.stamp);
        }
        seen
    }

    /// A chunk that this file dropped must not come back by a stale client. What a manifest
    /// of the file may list is another matter: whoever takes that apart names its chunks.
    fn refuse_dropped(&self, row: &NameRow, written: &Written) -> Result<(), LocalError> {
        let Some(data) = written.data.as_ref().filter(|d| d.value.has_chunks()) else {
            return Ok(());
        };
        let has_manifests = self.txn.get(&keys::held(row.inode))?.is_some();
        for chunk in data.value.file_ids() {
            let dropped = self.txn.get(&keys::garbage(row.inode, chunk))?;
            let dropped = dropped.map(|row| Row::decode(&row)).transpose();
            let dropped = dropped.map_err(|source| ReadError::Corrupt {
                space: Space::Garbage as u8,
                source,
            })?;
            if dropped.is_some_and(|row| row.manifest.is_some() || !has_manifests) {
                return Err(LocalError::DroppedChunk(chunk.to_string()));
            }
        }
        Ok(())
    }
}

/// Registers of an inode that an operation writes.
#[derive(Default)]
struct Written {
    data: Option<DataWrite>,
    attributes: Option<AttributesWrite>,
    atime_ns: Option<i64>,
}

impl Written {
    /// The content after it.
    fn after(&self, mut content: Content) -> Content {
        if let Some(data) = &self.data {
            content.data = data.value.clone();
        }
        if let Some(attributes) = &self.attributes {
            content.attributes = attributes.value.clone();
        }
        content.atime_ns = self.atime_ns.unwrap_or(content.atime_ns);
        content
    }
}

/// The registers of an entry, without versions.
fn content_of(parts: Parts) -> Content {
    Content {
        data: parts.data,
        attributes: parts.attributes,
        atime_ns: parts.atime_ns,
        ..Content::default()
    }
}

/// Whether an entry that would have expired does so later or never.
fn lives_longer(old: &Entry, new: &Entry) -> bool {
    let Some(end) = old.expires_after_s() else {
        return false;
    };
    new.expires_after_s().is_none_or(|later| later > end)
}
