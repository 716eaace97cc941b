// SPDX-License-Identifier: Apache-2.0
//! Which rows a change may have written, told from the rows as they are after it.
//!
//! A transfer of the whole state that was interrupted goes on with a newer snapshot: all
//! rows sent before it are still right, but for those that changes in between touched.
//! Too many ranges cost traffic, one too few costs agreement, so each is as wide as
//! merging may reach: every path a name had, its ancestors, and all names of its inode.

use std::collections::BTreeSet;

use bytes::Bytes;
use dulse_types::Identity;
use dulse_types::entry::hard_link_id_of;

use crate::apply::{lies_at, moved_paths, names_of};
use crate::change::{Change, ConflictStep, KvStep, NameStep, Step};
use crate::keys::{self, Space, split_path};
use crate::txn::{ReadError, Txn};

/// Ranges of keys, `from..to`, ascending; they may overlap.
pub type Ranges = BTreeSet<(Vec<u8>, Vec<u8>)>;

/// Adds the ranges of keys that merging this change may have written.
///
/// Digest rows and members are left out: they are few and are sent anew as a whole. So is
/// the garbage, which filers empty without a change.
///
/// False when that cannot be told. ⚠ A name that moved is found by *moved* while its places
/// are not stable; once they are, that is forgotten, and a change of somebody who had not
/// heard of the move says only where the name was before.
///
/// # Errors
///
/// When rows cannot be read.
pub fn touched(txn: &Txn<'_>, change: &Change, out: &mut Ranges) -> Result<bool, ReadError> {
    for step in &change.steps {
        match step {
            Step::Name(step) => {
                if !name_step(txn, step, out)? {
                    return Ok(false);
                }
            }
            Step::Kv(KvStep { key, .. }) => {
                one(Space::Kv.key(key), out);
                one(Space::KvGraves.key(key), out);
            }
            Step::Conflict(
                ConflictStep::Record { id, .. }
                | ConflictStep::Withdraw { id }
                | ConflictStep::Expire { id },
            ) => one(keys::by_identity(Space::Conflicts, *id), out),
            Step::Member(_) | Step::TreePart { .. } => {}
        }
    }
    Ok(true)
}

fn name_step(txn: &Txn<'_>, step: &NameStep, out: &mut Ranges) -> Result<bool, ReadError> {
    let placed = step.place.as_ref().map(|place| &place.path);
    let paths: Vec<Bytes> = step.hints.iter().chain(placed).cloned().collect();
    for path in &paths {
        at_path(path, out);
    }
    match lies_at(txn, step.name, &paths)? {
        Some(path) => at_path(&path, out),
        None => return Ok(false),
    }
    name(txn, step.name, out)?;
    inode(txn, step.inode, out)?;
    let attributes = step.attributes.as_ref();
    if let Some(id) = attributes.and_then(|written| hard_link_id_of(&written.value)) {
        one(keys::hard_link_id(id), out);
    }
    Ok(true)
}

fn name(txn: &Txn<'_>, name: Identity, out: &mut Ranges) -> Result<(), ReadError> {
    for space in [Space::Moved, Space::Graves, Space::Partial] {
        one(keys::by_identity(space, name), out);
    }
    for path in moved_paths(txn, name)? {
        at_path(&path, out);
    }
    Ok(())
}

fn inode(txn: &Txn<'_>, inode: Identity, out: &mut Ranges) -> Result<(), ReadError> {
    one(keys::by_identity(Space::Inodes, inode), out);
    one(keys::first_path(inode), out);
    let links = keys::by_identity(Space::Links, inode);
    let mut behind = links.clone();
    behind.extend_from_slice(&[0xff; Identity::LEN + 1]);
    out.insert((links, behind));
    name(txn, inode, out)?;
    for (other, _, path) in names_of(txn, inode)? {
        name(txn, other, out)?;
        at_path(&path, out);
    }
    Ok(())
}

/// What a path shows and shadows, and the directories above it.
fn at_path(path: &Bytes, out: &mut Ranges) {
    let mut path: &[u8] = path;
    while !path.is_empty() {
        let entry = keys::entry(path);
        let mut behind = entry.clone();
        behind.push(0);
        if !out.insert((entry, behind)) {
            return;
        }
        let shadows = keys::shadows_at(path);
        let mut behind = shadows.clone();
        behind.extend_from_slice(&[0xff; Identity::LEN + 1]);
        out.insert((shadows, behind));
        if path == b"/" {
            return;
        }
        path = split_path(path).0;
    }
}

fn one(key: Vec<u8>, out: &mut Ranges) {
    let mut behind = key.clone();
    behind.push(0);
    out.insert((key, behind));
}
