// SPDX-License-Identifier: Apache-2.0
//! Turning operations into steps, as the sequencer does for local writes.
//!
//! Each operation looks at the rows, records the steps and merges them at once, so
//! that the next operation of the same change sees them.

use bytes::Bytes;
use dulse_types::entry::{DataPart, hard_link_id_of, join, split};
use dulse_types::{Entry, Identity, Origin, Stamp, Vector, Version};

use crate::apply::{ApplyError, apply_step, find_by_hard_link_id, moved_paths};
use crate::change::{AttributesWrite, Change, DataWrite, KvStep, NameStep, Place, Step};
use crate::codec::STEPS_MAX;
use crate::keys::{self, Space};
use crate::row::{Content, NameRow};
use crate::txn::{ReadError, Txn, decode_name};
use crate::view::is_dir;

/// Most names that one change moves or removes.
pub const TREE_NAMES_MAX: usize = STEPS_MAX as usize / 2;

/// Why an operation cannot be done on the rows as they are.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing is shown at the path.
    #[error("nothing at `{}`", String::from_utf8_lossy(.0))]
    NotFound(Bytes),
    /// Something is shown at the path.
    #[error("something is at `{}`", String::from_utf8_lossy(.0))]
    Exists(Bytes),
    /// The directory shows entries.
    #[error("directory `{}` is not empty", String::from_utf8_lossy(.0))]
    NotEmpty(Bytes),
    /// A directory cannot have a further name.
    #[error("`{}` is a directory", String::from_utf8_lossy(.0))]
    IsDirectory(Bytes),
    /// A directory was to be moved into itself.
    #[error("cannot move `{}` into itself", String::from_utf8_lossy(.0))]
    IntoItself(Bytes),
    /// More names than one change may touch.
    #[error("more than {TREE_NAMES_MAX} names below `{}`", String::from_utf8_lossy(.0))]
    TooBig(Bytes),
    /// The data names a chunk that was dropped from this inode.
    #[error("chunk `{0}` was dropped from this file")]
    DroppedChunk(String),
    /// Rows could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ApplyError> for LocalError {
    fn from(ApplyError::Read(error): ApplyError) -> Self {
        Self::Read(error)
    }
}

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

/// A change in the making.
pub struct Builder<'t, 'r> {
    txn: &'t mut Txn<'r>,
    change: Change,
    n_events: u32,
    n_born: u32,
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
        }
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

    fn push(&mut self, step: Step) -> Result<(), LocalError> {
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
        Identity {
            stamp: self.change.first,
            origin: self.change.origin,
            index,
        }
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
        let (attributes, data) = split(entry);
        if let Some(first) = self.same_inode(&attributes)? {
            return self.link_to(&first, path, Some((attributes, data)));
        }
        let (offset, stamp) = self.event();
        let name = self.identity();
        let is_dir = entry.is_dir();
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
            data: (!is_dir || !data.0.is_empty()).then(|| DataWrite {
                value: data.clone(),
                ..DataWrite::default()
            }),
            attributes: Some(AttributesWrite {
                value: attributes.clone(),
                ..AttributesWrite::default()
            }),
            delete_chunks: true,
            ..NameStep::default()
        })))?;
        Ok(Effect {
            stamp,
            old_entry: None,
            new_entry: Some(join(&attributes, &data)),
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
        let (attributes, data) = split(entry);
        self.refuse_dropped(&row, &content, &data)?;
        let data = (data != content.data).then(|| self.data_write(&content, data));
        let attributes = (attributes != content.attributes).then(|| AttributesWrite {
            replaces: content.attributes_version,
            value: attributes,
        });
        let (offset, stamp) = self.event();
        let old_entry = content.entry();
        let mut new_content = content;
        if let Some(data) = &data {
            new_content.data = data.value.clone();
        }
        if let Some(attributes) = &attributes {
            new_content.attributes = attributes.value.clone();
        }
        let hints = self.hints(&row)?;
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: true,
            name: row.name,
            inode: row.inode,
            is_touch: true,
            data,
            attributes,
            hints,
            old_entry: Some(old_entry.raw().clone()),
            delete_chunks,
            ..NameStep::default()
        })))?;
        let new_entry = Some(new_content.entry());
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry),
            new_entry,
        })
    }

    /// Removes the entry shown and the shadows below it.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `Read`.
    pub fn delete(&mut self, path: &Bytes, delete_chunks: bool) -> Result<Effect, LocalError> {
        let shown = self.require(path)?;
        let (from, to) = keys::children(Space::Entries, path);
        if self.txn.has_any(&from, &to)? {
            return Err(LocalError::NotEmpty(path.clone()));
        }
        self.kill_all(path, shown, delete_chunks)
    }

    fn kill_all(
        &mut self,
        path: &Bytes,
        shown: NameRow,
        delete_chunks: bool,
    ) -> Result<Effect, LocalError> {
        let shadows = if shown.has_shadows {
            self.txn.shadows(path)?
        } else {
            Vec::new()
        };
        let old_entry = self.content(&shown)?.entry();
        let (offset, stamp) = self.event();
        if !shown.is_implied {
            self.kill(&shown, offset, Some(&old_entry), delete_chunks)?;
        }
        for shadow in shadows {
            self.kill(&shadow, self.last_offset(), None, delete_chunks)?;
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry),
            new_entry: None,
        })
    }

    fn kill(
        &mut self,
        row: &NameRow,
        offset: u32,
        event_of: Option<&Entry>,
        delete_chunks: bool,
    ) -> Result<(), LocalError> {
        let hints = self.hints(row)?;
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: event_of.is_some(),
            name: row.name,
            inode: row.inode,
            kills: Some(row.touch),
            hints,
            old_entry: event_of.map(|entry| entry.raw().clone()),
            delete_chunks,
            ..NameStep::default()
        })))
    }

    /// Moves the entry shown with everything below it; what is shown at the target goes.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IntoItself`, `TooBig`, `Read`.
    pub fn rename(&mut self, from: &Bytes, to: &Bytes) -> Result<Effect, LocalError> {
        let shown = self.require(from)?;
        // Onto itself too: it would kill the very name that it is to move.
        if to.starts_with(from) && matches!(to.get(from.len()), None | Some(&b'/')) {
            return Err(LocalError::IntoItself(from.clone()));
        }
        if let Some(target) = self.txn.shown(to)? {
            let (first, last) = keys::children(Space::Entries, to);
            if self.txn.has_any(&first, &last)? {
                return Err(LocalError::NotEmpty(to.clone()));
            }
            self.kill_all(to, target, true)?;
        }
        let old_entry = self.content(&shown)?.entry();
        let names = self.below(from, &shown)?;
        let mut stamp = self.change.stamp;
        for (at, (row, is_shown)) in names.into_iter().enumerate() {
            let mut path = to.to_vec();
            path.extend_from_slice(&row.path[from.len()..]);
            let moved = self.place(&row, Bytes::from(path), is_shown)?;
            if at == 0 {
                stamp = moved;
            }
        }
        Ok(Effect {
            stamp,
            old_entry: Some(old_entry.clone()),
            new_entry: Some(old_entry),
        })
    }

    fn place(&mut self, row: &NameRow, path: Bytes, is_shown: bool) -> Result<Stamp, LocalError> {
        let hints = self.hints(row)?;
        let (offset, stamp) = if is_shown {
            self.event()
        } else {
            (self.last_offset(), self.change.stamp)
        };
        let old_entry = if is_shown {
            Some(self.content(row)?.entry().raw().clone())
        } else {
            None
        };
        self.push(Step::Name(Box::new(NameStep {
            offset,
            has_event: is_shown,
            name: row.name,
            inode: row.inode,
            // The shown one stays the greatest of those that move together.
            place: Some(Place {
                rank: if is_shown {
                    u32::MAX
                } else {
                    row.rank.min(u32::MAX - 1)
                },
                path,
            }),
            hints,
            old_entry,
            ..NameStep::default()
        })))?;
        Ok(stamp)
    }

    /// Every name at a path and below, parents first, each with whether it is shown.
    fn below(&self, path: &Bytes, shown: &NameRow) -> Result<Vec<(NameRow, bool)>, LocalError> {
        let mut names = Vec::new();
        self.with_shadows(shown.clone(), &mut names)?;
        if !is_dir(shown) {
            return Ok(names);
        }
        for (from, to) in [
            keys::children(Space::Entries, path),
            keys::deeper(Space::Entries, path),
        ] {
            let rows = self.txn.scan(&from, &to, TREE_NAMES_MAX + 1)?;
            for (key, value) in rows {
                let Some(path) = keys::path_of(&key) else {
                    continue;
                };
                self.with_shadows(decode_name(Space::Entries, &value, &path)?, &mut names)?;
            }
            if names.len() > TREE_NAMES_MAX {
                return Err(LocalError::TooBig(path.clone()));
            }
        }
        Ok(names)
    }

    fn with_shadows(
        &self,
        shown: NameRow,
        out: &mut Vec<(NameRow, bool)>,
    ) -> Result<(), LocalError> {
        let shadows = if shown.has_shadows {
            self.txn.shadows(&shown.path)?
        } else {
            Vec::new()
        };
        if !shown.is_implied {
            out.push((shown, true));
        }
        out.extend(shadows.into_iter().map(|row| (row, false)));
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
        parts: Option<(Bytes, DataPart)>,
    ) -> Result<Effect, LocalError> {
        let content = self.content(row)?;
        let hints = self.hints(row)?;
        let (offset, stamp) = self.event();
        let name = self.identity();
        let attributes = parts.as_ref().map(|(attributes, _)| attributes.clone());
        let attributes = attributes.filter(|a| *a != content.attributes);
        let data = parts.map(|(_, data)| data).filter(|d| *d != content.data);
        let data = data.map(|data| self.data_write(&content, data));
        let mut new_content = content.clone();
        if let Some(attributes) = &attributes {
            new_content.attributes = attributes.clone();
        }
        if let Some(data) = &data {
            new_content.data = data.value.clone();
        }
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
            data,
            attributes: attributes.map(|value| AttributesWrite {
                replaces: content.attributes_version,
                value,
            }),
            hints,
            old_entry: Some(content.entry().raw().clone()),
            delete_chunks: true,
            ..NameStep::default()
        })))?;
        Ok(Effect {
            stamp,
            old_entry: None,
            new_entry: Some(new_content.entry()),
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

    fn data_write(&self, content: &Content, value: DataPart) -> DataWrite {
        let mut seen: Vector = content
            .seen
            .iter()
            .filter(|(origin, _)| *origin != self.change.origin)
            .collect();
        let replaces = content.data_version;
        if replaces != Version::ZERO && replaces.origin != self.change.origin {
            seen.raise(replaces.origin, replaces.stamp);
        }
        DataWrite {
            replaces,
            seen,
            value,
        }
    }

    /// A chunk that this file dropped must not come back by a stale client.
    fn refuse_dropped(
        &self,
        row: &NameRow,
        content: &Content,
        data: &DataPart,
    ) -> Result<(), LocalError> {
        if *data == content.data || !data.has_chunks() {
            return Ok(());
        }
        for chunk in data.file_ids() {
            if self.txn.get(&keys::garbage(row.inode, chunk))?.is_some() {
                return Err(LocalError::DroppedChunk(chunk.to_string()));
            }
        }
        Ok(())
    }
}
