// SPDX-License-Identifier: Apache-2.0
//! The model without rows: from the set of all changes, everything is computed afresh.
//!
//! It knows nothing of where rows lie, of orders of arrival or of what may be
//! skipped, so it is slow, short, and easy to believe.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::digest::{CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum, hash};
use dulse_merge::keys::split_path;
use dulse_merge::{
    Change, ConflictRow, ConflictStep, Content, InodeRow, KvRow, MemberRow, MemberStep, NameRow,
    NameStep, Step,
};
use dulse_types::{FileId, Identity, Origin, Stamp, Vector, Version};

/// What a path shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    /// The name, with its registers; `None` where the directory is implied.
    pub(crate) winner: Option<NameRow>,
    /// The others, least place first.
    pub(crate) shadows: Vec<NameRow>,
}

/// All there is to know after a set of changes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Naive {
    /// Path to what it shows.
    pub(crate) tree: BTreeMap<Bytes, Shown>,
    /// Inodes with rows of their own that have a live name.
    pub(crate) inodes: BTreeMap<Identity, InodeRow>,
    /// Dead names.
    pub(crate) graves: BTreeMap<Identity, NameRow>,
    /// Names waiting for a birth, with live registers.
    pub(crate) partial: BTreeSet<Identity>,
    /// Key-value pairs and deletes.
    pub(crate) kv: BTreeMap<Bytes, KvRow>,
    /// Members.
    pub(crate) members: BTreeMap<Origin, MemberRow>,
    /// Conflicts, settled ones too.
    pub(crate) conflicts: BTreeMap<Identity, ConflictRow>,
    /// Dropped chunks.
    pub(crate) garbage: BTreeSet<(Identity, FileId)>,
    /// Digests by directory.
    pub(crate) digest: BTreeMap<Vec<u8>, Sum>,
}

#[derive(Default)]
struct Inode {
    is_born: bool,
    is_linked: bool,
    content: Content,
    chunks: BTreeSet<FileId>,
}

impl Naive {
    /// Computes everything from the changes, in whatever order they are given.
    pub(crate) fn of<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Self {
        let mut names: BTreeMap<Identity, NameRow> = BTreeMap::new();
        let mut inodes: BTreeMap<Identity, Inode> = BTreeMap::new();
        let mut this = Self::default();
        for change in changes {
            for step in &change.steps {
                match step {
                    Step::Name(step) => {
                        let version = change.version(step.offset);
                        collect(&mut names, &mut inodes, version, step);
                    }
                    Step::Kv(step) => {
                        let version = change.version(step.offset);
                        let value = step.value.clone();
                        let row = KvRow { version, value };
                        let known = this.kv.entry(step.key.clone()).or_insert(row.clone());
                        if row.version > known.version {
                            *known = row;
                        }
                    }
                    Step::Member(step) => this.member(change.position(), step),
                    Step::Conflict(step) => this.conflict(change.version(0), step),
                    Step::TreePart { .. } => {}
                }
            }
        }
        this.place(names, &inodes);
        this.drop_chunks(&inodes);
        this.sum();
        this
    }

    /// The gravest statement about a member counts, of equal ones the latest; of those that
    /// say it is gone the greatest cut. Where one that is gone was is a hint and no register.
    fn member(&mut self, version: Version, step: &MemberStep) {
        let (member, state, cut, address) = match step {
            MemberStep::Join { member, address } => (member, 1, Stamp::ZERO, address.as_str()),
            MemberStep::Leave { member } => (member, 2, version.stamp, ""),
            MemberStep::Fence { member, cut } => (member, 3, *cut, ""),
            MemberStep::Remove { member, cut } => (member, 4, *cut, ""),
        };
        let row = MemberRow {
            state,
            version,
            cut,
            address: address.to_owned(),
        };
        let known = self.members.entry(*member).or_insert(row.clone());
        let gone = |row: &MemberRow| if row.state == 1 { Stamp::ZERO } else { row.cut };
        let cut = gone(known).max(gone(&row));
        if (row.state, row.version) > (known.state, known.version) {
            *known = row;
        }
        known.cut = if known.state == 1 {
            Stamp(i64::MAX)
        } else {
            cut
        };
    }

    /// The greatest record, settled by the greatest settlement.
    fn conflict(&mut self, version: Version, step: &ConflictStep) {
        let (ConflictStep::Record { id, .. }
        | ConflictStep::Withdraw { id }
        | ConflictStep::Expire { id }) = step;
        let known = self.conflicts.entry(*id).or_default();
        if let ConflictStep::Record { .. } = step {
            let record = Change {
                origin: Origin::default(),
                first: Stamp::ZERO,
                stamp: Stamp::ZERO,
                prev: Stamp::ZERO,
                signatures: vec![],
                is_from_other_cluster: false,
                steps: vec![Step::Conflict(step.clone())],
            };
            if version > known.recorded {
                (known.recorded, known.record) = (version, record.encode());
            }
        } else {
            known.settled = known.settled.max(version);
        }
    }

    fn place(&mut self, names: BTreeMap<Identity, NameRow>, inodes: &BTreeMap<Identity, Inode>) {
        let mut live: BTreeMap<Bytes, Vec<NameRow>> = BTreeMap::new();
        for (id, mut row) in names {
            let inode = &inodes[&row.inode];
            row.is_linked = inode.is_linked;
            if !inode.is_linked {
                row.content = inode.content.clone();
            }
            if row.is_born && !row.is_live() {
                self.graves.insert(id, row);
            } else if !row.is_born || !inode.is_born {
                self.partial.insert(id);
            } else {
                if inode.is_linked {
                    let (is_born, content) = (true, inode.content.clone());
                    let inode = row.inode;
                    let row = InodeRow {
                        inode,
                        is_born,
                        content,
                    };
                    self.inodes.insert(inode, row);
                }
                live.entry(row.path.clone()).or_default().push(row);
            }
        }
        let mut dirs = BTreeSet::new();
        for path in live.keys() {
            let mut dir = split_path(path).0;
            while !dir.is_empty() && dir != b"/" {
                dirs.insert(Bytes::copy_from_slice(dir));
                dir = split_path(dir).0;
            }
        }
        let paths: BTreeSet<Bytes> = live.keys().chain(&dirs).cloned().collect();
        for path in paths {
            let mut shadows = live.remove(&path).unwrap_or_default();
            shadows.sort_by_key(|row| (row.place, row.rank, row.name));
            let at = if dirs.contains(&path) {
                shadows
                    .iter()
                    .rposition(|row| !row.is_linked && row.content.is_dir())
            } else {
                shadows.len().checked_sub(1)
            };
            let winner = at.map(|at| shadows.remove(at));
            self.tree.insert(path, Shown { winner, shadows });
        }
    }

    fn drop_chunks(&mut self, inodes: &BTreeMap<Identity, Inode>) {
        for (id, inode) in inodes {
            let present: BTreeSet<FileId> = inode.content.data.file_ids().into_iter().collect();
            let is_live = self.all().any(|row| row.inode == *id);
            let graves = || self.graves.values().filter(|row| row.inode == *id);
            // Of data that none of those who want the chunks kept had seen they keep nothing.
            let data = inode.content.data_version;
            let has_seen = |seen: &Vector| seen.is_empty() || seen.get(data.origin) >= data.stamp;
            let mut keepers = graves().filter(|row| row.keeps_chunks);
            let is_unseen = graves().any(|row| row.keeps_chunks)
                && !keepers.any(|row| has_seen(&row.kills_seen));
            let wants_none = graves().any(|row| !row.keeps_chunks);
            let is_dropped = inode.is_born && !is_live && (wants_none || is_unseen);
            for chunk in &inode.chunks {
                if is_dropped || !present.contains(chunk) {
                    self.garbage.insert((*id, *chunk));
                }
            }
        }
    }

    fn sum(&mut self) {
        let mut digest: BTreeMap<Vec<u8>, Sum> = BTreeMap::new();
        let mut add = |dir: &[u8], bytes: &[u8]| {
            digest.entry(dir.to_vec()).or_default().add(hash(bytes));
        };
        for row in self.all() {
            add(split_path(&row.path).0, &row.canonical());
        }
        for inode in self.inodes.values() {
            add(INODES_DIR, &inode.encode());
        }
        for (key, row) in self.kv.iter().filter(|(_, row)| row.value.is_some()) {
            let sum = dulse_merge::apply::kv_hash(key, row);
            digest.entry(KV_DIR.to_vec()).or_default().add(sum);
        }
        for row in self.conflicts.values().filter(|row| row.is_open()) {
            let sum = hash(&row.canonical());
            digest.entry(CONFLICTS_DIR.to_vec()).or_default().add(sum);
        }
        self.digest = digest;
    }

    /// Every live name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &NameRow> {
        let shown = self.tree.values();
        shown.flat_map(|shown| shown.winner.iter().chain(&shown.shadows))
    }
}

fn collect(
    names: &mut BTreeMap<Identity, NameRow>,
    inodes: &mut BTreeMap<Identity, Inode>,
    version: Version,
    step: &NameStep,
) {
    let blank = || NameRow::new(step.name, step.inode);
    let name = names.entry(step.name).or_insert_with(blank);
    name.is_born |= step.is_birth;
    if let Some(place) = &step.place
        && (version, place.rank) > (name.place, name.rank)
    {
        (name.place, name.rank, name.path) = (version, place.rank, place.path.clone());
    }
    if step.is_touch {
        name.touch = name.touch.max(version);
    }
    if let Some(kills) = &step.kills {
        // The greatest touch; of equal ones, what either deleter had seen and wanted.
        let keeps = !step.delete_chunks;
        if kills.touch > name.kills {
            (name.kills, name.keeps_chunks) = (kills.touch, keeps);
            name.kills_seen = kills.seen.clone();
        } else if kills.touch == name.kills {
            name.keeps_chunks |= keeps;
            name.kills_seen.merge_max(&kills.seen);
        }
    }
    let inode = inodes.entry(step.inode).or_insert_with(|| Inode {
        content: blank().content,
        ..Inode::default()
    });
    inode.is_born |= step.is_birth && step.name == step.inode;
    inode.is_linked |= step.name != step.inode;
    if let Some(data) = &step.data {
        inode.chunks.extend(data.value.file_ids());
        if version > inode.content.data_version {
            inode.content.data_version = version;
            inode.content.seen = data.seen.clone();
            inode.content.data = data.value.clone();
        }
    }
    if let Some(attributes) = &step.attributes
        && version > inode.content.attributes_version
    {
        inode.content.attributes_version = version;
        inode.content.attributes = attributes.value.clone();
    }
    if let Some(atime) = step.atime_ns {
        inode.content.atime_ns = inode.content.atime_ns.max(atime);
    }
}
