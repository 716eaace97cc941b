// SPDX-License-Identifier: Apache-2.0
//! What still holds a chunk that an inode dropped, where manifests are about.
//!
//! A manifest is a chunk that lists chunks, so rows and entries do not say what it holds: that
//! lies on a volume server, and nothing here reads it. What is kept instead is where to look.
//! While the present data of an inode names a manifest, or a dropped manifest of it waits,
//! the inode has a row in the garbage space ([`Held`]) that repeats what its present data
//! names. ⚠ A dropped chunk of such an inode is freed only once every manifest that the inode
//! still has was read and does not list it: manifests of the present data, dropped ones that
//! wait, and those of conflicts. Why that is enough: `docs/decisions/0007`.
//!
//! [`Resolving`] asks for those manifests one by one and says in the end what may go.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_types::entry::{DataPart, file_id_of};
use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{FileChunk, FileId, Identity, Version};

use crate::apply::chunks::{Row, owner};
use crate::apply::is_pinned;
use crate::conflict;
use crate::keys::{self, Space};
use crate::txn::{ReadError, Txn};

/// How deep manifests may nest: what lies deeper is kept.
pub const DEPTH_MAX: usize = 6;

/// Most chunks that one look finds in manifests, some 40 bytes each. Manifests that list more
/// are kept, and so is what they list.
pub const LISTED_MAX: usize = 2_000_000;

/// Dropped manifests of one look; what they list is held in memory.
const MANIFESTS_MAX: usize = 16;

/// Conflicts looked at by one scan.
const CONFLICTS_PAGE: usize = 1_024;

/// The row of an inode that has manifests, or had one that waits. Layout: `docs/formats/rows.md`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Held {
    /// Whether the inode is forgotten: then this is what its deleter wanted kept.
    pub is_forgotten: bool,
    /// The encoded manifests that its present data names.
    pub manifests: Vec<Bytes>,
    /// All chunks that its present data names, manifests included.
    pub chunks: Vec<FileId>,
}

const FORGOTTEN: u8 = 1;

impl Held {
    /// What some data names.
    #[must_use]
    pub fn of(data: &DataPart) -> Self {
        Self {
            is_forgotten: false,
            manifests: data.manifests(),
            chunks: data.file_ids(),
        }
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(16 + 16 * self.chunks.len());
        out.u8(if self.is_forgotten { FORGOTTEN } else { 0 });
        out.varint(self.manifests.len() as u64);
        for manifest in &self.manifests {
            out.bytes(manifest);
        }
        for chunk in &self.chunks {
            out.u32_be(chunk.volume_id);
            out.u64_be(chunk.key);
            out.u32_be(chunk.cookie);
        }
        out.into_vec()
    }

    /// Reads what [`Held::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let flags = input.u8()?;
        if flags & !FORGOTTEN != 0 {
            return Err(WireError::BadValue {
                what: "flags of held chunks",
                value: u64::from(flags),
            });
        }
        let mut held = Self {
            is_forgotten: flags & FORGOTTEN != 0,
            ..Self::default()
        };
        for _ in 0..input.varint()? {
            held.manifests.push(Bytes::copy_from_slice(input.bytes()?));
        }
        while !input.is_empty() {
            held.chunks.push(FileId {
                volume_id: input.u32_be()?,
                key: input.u64_be()?,
                cookie: input.u32_be()?,
            });
        }
        Ok(held)
    }
}

fn corrupt(source: WireError) -> ReadError {
    ReadError::Corrupt {
        space: Space::Garbage as u8,
        source,
    }
}

/// The row of an inode, while it has one.
///
/// # Errors
///
/// When rows cannot be read.
pub fn held(txn: &Txn<'_>, inode: Identity) -> Result<Option<Held>, ReadError> {
    let value = txn.get(&keys::held(inode))?;
    value
        .map(|value| Held::decode(&value))
        .transpose()
        .map_err(corrupt)
}

/// The dropped chunks of an inode.
fn dropped(txn: &Txn<'_>, inode: Identity) -> Result<Vec<(FileId, Row)>, ReadError> {
    let (from, to) = keys::garbage_of(inode);
    let mut dropped = Vec::new();
    for (key, value) in txn.scan(&from, &to, usize::MAX)? {
        if let Some((_, chunk)) = keys::parse_garbage(&key) {
            dropped.push((chunk, Row::decode(&value).map_err(corrupt)?));
        }
    }
    Ok(dropped)
}

/// Keeps the row of an inode right after its data or its dropped chunks changed.
pub(crate) fn keep(
    txn: &mut Txn<'_>,
    inode: Identity,
    data: &DataPart,
    has_dropped_manifest: bool,
) -> Result<(), ReadError> {
    let now = Held::of(data);
    let key = keys::held(inode);
    let before = txn.get(&key)?;
    let is_kept = has_dropped_manifest
        || !now.manifests.is_empty()
        || (before.is_some() && has_manifest(&dropped(txn, inode)?));
    let after = is_kept.then(|| Bytes::from(now.encode()));
    match after {
        _ if before == after => {}
        Some(row) => txn.put(key, row),
        None => txn.delete(key),
    }
    Ok(())
}

fn has_manifest(dropped: &[(FileId, Row)]) -> bool {
    dropped.iter().any(|(_, row)| row.manifest.is_some())
}

/// An inode is forgotten, and these chunks of its data are nobody's: they may be named
/// elsewhere, so while dropped chunks of it wait, what these list holds them.
pub(crate) fn forgotten(
    txn: &mut Txn<'_>,
    inode: Identity,
    data: &DataPart,
    kept: &BTreeSet<FileId>,
) -> Result<(), ReadError> {
    let key = keys::held(inode);
    if txn.get(&key)?.is_none() {
        return Ok(());
    }
    let is_kept = |manifest: &Bytes| file_id_of(manifest).is_some_and(|id| kept.contains(&id));
    let held = Held {
        is_forgotten: true,
        manifests: data.manifests().into_iter().filter(is_kept).collect(),
        chunks: kept.iter().copied().collect(),
    };
    txn.put(key, held.encode());
    tidy(txn, inode)
}

/// Lets go of an inode's row when no dropped chunk needs it any more; to be called for each
/// inode of which chunks were freed. Cost: a scan of its dropped chunks, if it has that row.
///
/// # Errors
///
/// When rows cannot be read.
pub fn tidy(txn: &mut Txn<'_>, inode: Identity) -> Result<(), ReadError> {
    let Some(held) = held(txn, inode)? else {
        return Ok(());
    };
    let dropped = dropped(txn, inode)?;
    let is_needed = if held.manifests.is_empty() {
        has_manifest(&dropped)
    } else {
        !held.is_forgotten || !dropped.is_empty()
    };
    if !is_needed {
        txn.delete(keys::held(inode));
    }
    Ok(())
}

/// What a manifest lists, as whoever read it found.
#[derive(Clone, PartialEq, Debug)]
pub enum Listing {
    /// These.
    Chunks(Vec<FileChunk>),
    /// It is not there any more: no copy has it, or what they have is no manifest.
    Gone,
}

/// What may be done with some dropped chunks of an inode.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verdict {
    /// Chunks without rows that manifests list and nothing holds: each part is to be deleted
    /// before the next, and all of them before those of `free`. ⚠ A crash on the way is
    /// resumed by reading the manifests again, so none may go before what it lists.
    pub listed: Vec<Vec<FileId>>,
    /// Chunks with rows to delete, and then to forget.
    pub free: Vec<FileId>,
    /// Manifests of which that holds once all of `listed` is gone.
    pub manifests: Vec<FileId>,
    /// Their rows are to be forgotten, since a manifest holds them.
    pub held: Vec<FileId>,
    /// Manifests that are gone: what they listed is not known, and stays.
    pub n_gone: usize,
}

/// Decides which dropped chunks of an inode may go, by what manifests list. One snapshot of
/// the rows at which those chunks are due is enough: what holds a chunk of an inode later does
/// so now, or is named by what does (`docs/decisions/0007`).
#[derive(Default, Debug)]
pub struct Resolving {
    inode: Identity,
    /// Chunks to decide on, and whether they are manifests.
    due: BTreeMap<FileId, bool>,
    /// Manifests of them to be read, and how deep they lie.
    dropped: Vec<(FileChunk, usize)>,
    /// What may go, and how deep in manifests it lies, if it is one.
    candidates: BTreeMap<FileId, Option<usize>>,
    /// Chunks that something names.
    named: BTreeSet<FileId>,
    /// Manifests that hold; the newest last.
    holders: Vec<(FileChunk, usize)>,
    asked: Option<(FileChunk, usize, bool)>,
    n_gone: usize,
}

impl Resolving {
    /// Begins with what the rows say.
    ///
    /// - `due`: chunks whose grace is over, with what their rows said; those whose rows
    ///   changed since are left out, and manifests beyond some: they are in no part of the
    ///   verdict.
    /// - `is_over`: whether a dropped chunk of the inode may be freed as far as its own row
    ///   tells; those that may not hold what they list.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn begin(
        txn: &Txn<'_>,
        inode: Identity,
        due: &[(FileId, Version, Version)],
        is_over: &dyn Fn(Version, Version) -> bool,
    ) -> Result<Self, ReadError> {
        let mut out = Self {
            inode,
            ..Self::default()
        };
        // The oldest first: a chunk is mostly listed by the newest manifest, read first.
        let mut manifests = conflict::manifests(txn, CONFLICTS_PAGE)?;
        let due: BTreeMap<_, _> = due.iter().map(|(id, c, w)| (*id, (*c, *w))).collect();
        for (chunk, row) in dropped(txn, inode)? {
            if !is_over(row.cause, row.winner)
                || is_pinned(txn, chunk)?
                || !out.is_own(txn, chunk)?
            {
                out.named.insert(chunk);
                manifests.extend(row.manifest);
            } else if due.get(&chunk) == Some(&(row.cause, row.winner))
                && (row.manifest.is_none() || out.dropped.len() < MANIFESTS_MAX)
            {
                let is_manifest = row.manifest.is_some();
                out.due.insert(chunk, is_manifest);
                out.candidates.insert(chunk, is_manifest.then_some(0));
                if let Some(manifest) = &row.manifest {
                    out.dropped.push((decode(manifest)?, 0));
                }
            }
        }
        if let Some(held) = held(txn, inode)? {
            out.named.extend(held.chunks);
            manifests.extend(held.manifests);
        }
        out.candidates.retain(|id, _| !out.named.contains(id));
        for manifest in &manifests {
            out.holders.push((decode(manifest)?, 0));
        }
        Ok(out)
    }

    /// Whether a chunk did not move to another inode.
    fn is_own(&self, txn: &Txn<'_>, chunk: FileId) -> Result<bool, ReadError> {
        Ok(owner(txn, chunk)?.is_none_or(|(_, owner)| owner == self.inode))
    }

    /// The manifest to be read next, if any: its content is given to [`Resolving::read`].
    pub fn wanted(&mut self) -> Option<&FileChunk> {
        if self.asked.is_none() {
            self.asked = match self.dropped.pop() {
                Some((chunk, depth)) => Some((chunk, depth, true)),
                // Nothing is left that it could hold.
                None if self.candidates.is_empty() => None,
                None => self
                    .holders
                    .pop()
                    .map(|(chunk, depth)| (chunk, depth, false)),
            };
        }
        self.asked.as_ref().map(|(chunk, _, _)| chunk)
    }

    /// Takes what the manifest lists that was asked for. False when nothing can be decided:
    /// then all of it is kept.
    ///
    /// # Errors
    ///
    /// When rows cannot be read.
    pub fn read(&mut self, txn: &Txn<'_>, listing: Listing) -> Result<bool, ReadError> {
        let Some((_, depth, is_dropped)) = self.asked.take() else {
            return Ok(true);
        };
        let chunks = match listing {
            Listing::Chunks(chunks) => chunks,
            Listing::Gone => {
                self.n_gone += usize::from(is_dropped);
                // ⚠ What a manifest lists that still holds is not known then.
                return Ok(is_dropped);
            }
        };
        for chunk in chunks {
            let Some(id) = chunk.id() else { continue };
            let manifest_depth = chunk.is_chunk_manifest.then_some(depth + 1);
            if manifest_depth.is_some_and(|depth| depth > DEPTH_MAX) {
                return Ok(false);
            }
            if !is_dropped {
                self.candidates.remove(&id);
            } else if !self.candidates.contains_key(&id) {
                if self.candidates.len() >= LISTED_MAX {
                    return Ok(false);
                }
                if !self.named.contains(&id) && !is_pinned(txn, id)? && self.is_own(txn, id)? {
                    self.candidates.insert(id, manifest_depth);
                }
            }
            if let Some(depth) = manifest_depth {
                let queue = match is_dropped {
                    true => &mut self.dropped,
                    false => &mut self.holders,
                };
                queue.push((chunk, depth));
            }
        }
        Ok(true)
    }

    /// What may go, once everything was read.
    #[must_use]
    pub fn finish(self) -> Verdict {
        let mut out = Verdict {
            n_gone: self.n_gone,
            ..Verdict::default()
        };
        let mut parts: BTreeMap<std::cmp::Reverse<usize>, Vec<FileId>> = BTreeMap::new();
        for (id, depth) in &self.candidates {
            if !self.due.contains_key(id) {
                // Data lies deeper than every manifest.
                let depth = std::cmp::Reverse(depth.unwrap_or(usize::MAX));
                parts.entry(depth).or_default().push(*id);
            }
        }
        out.listed = parts.into_values().collect();
        for (id, is_manifest) in &self.due {
            match (self.candidates.contains_key(id), is_manifest) {
                (false, _) => out.held.push(*id),
                (true, true) => out.manifests.push(*id),
                (true, false) => out.free.push(*id),
            }
        }
        out
    }
}

fn decode(manifest: &Bytes) -> Result<FileChunk, ReadError> {
    FileChunk::from_bytes(manifest).map_err(|_| {
        corrupt(WireError::BadValue {
            what: "manifest",
            value: 0,
        })
    })
}
