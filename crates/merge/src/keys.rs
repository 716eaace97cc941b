// SPDX-License-Identifier: Apache-2.0
//! Where rows lie: one ordered key space, the first byte names the space.
//! Layout: `docs/formats/keys.md`.

use dulse_types::{FileId, Identity, Origin};

use crate::digest::bucket_of;

/// The spaces of a replica. Numbers are stored and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Space {
    /// `dir 0x00 name` → the name shown there.
    Entries = 1,
    /// `dir 0x00 name 0x00` identity → names kept but not shown.
    Shadows = 2,
    /// identity → the paths of a name that moved, the present one first.
    Moved = 3,
    /// identity → a name of which something arrived before its birth.
    Partial = 4,
    /// identity → a dead name.
    Graves = 5,
    /// identity → content of an inode that was ever hard-linked.
    Inodes = 6,
    /// inode ‖ name → path of a name of such an inode; `0xff` ‖ hard link id → inode;
    /// `0xfe` ‖ inode → path of its one name.
    Links = 7,
    /// key → value of upstream's key-value space.
    Kv = 8,
    /// key → version of a delete.
    KvGraves = 9,
    /// identity → a recorded conflict.
    Conflicts = 10,
    /// inode ‖ file id → a chunk that the present data lacks; `0xff` ‖ file id → the
    /// inode that it moved to last; `0xfe` ‖ file id ‖ conflict → a record that pins it;
    /// `0xfd` ‖ inode → what its present data names, where manifests are about.
    Garbage = 11,
    /// Records that may not be on disk in the journal yet.
    Tail = 12,
    /// bucket ‖ directory → sum and count.
    Digest = 13,
    /// The vector, one row.
    Vector = 14,
    /// origin → a member's last acknowledgement.
    Acknowledgements = 15,
    /// origin → a member.
    Members = 16,
    /// Format, origin, counters.
    Meta = 17,
    /// key → value that is local by nature: store ids, peers' offsets.
    LocalKv = 18,
    /// last second ‖ what → a hint that something expires then.
    Expiry = 19,
    /// phase ‖ order ‖ number → what only this store had, until it is made anew.
    Reissue = 24,
}

impl Space {
    /// The spaces that a state transfer carries.
    pub const REPLICATED: [Self; 12] = [
        Self::Entries,
        Self::Shadows,
        Self::Moved,
        Self::Partial,
        Self::Graves,
        Self::Inodes,
        Self::Links,
        Self::Kv,
        Self::KvGraves,
        Self::Conflicts,
        Self::Garbage,
        Self::Members,
    ];

    /// A key of this space.
    #[must_use]
    pub fn key(self, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(rest.len() + 1);
        key.push(self as u8);
        key.extend_from_slice(rest);
        key
    }

    /// First key of the space and the first behind it.
    #[must_use]
    pub fn range(self) -> (Vec<u8>, Vec<u8>) {
        (vec![self as u8], vec![self as u8 + 1])
    }
}

/// Splits an absolute path into directory and name; the root is (`""`, `""`).
#[must_use]
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        None => (b"", path),
        Some(0) if path.len() == 1 => (b"", b""),
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
    }
}

/// Joins directory and name.
#[must_use]
pub fn join_path(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + name.len() + 1);
    path.extend_from_slice(dir);
    if dir != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Key of the name shown at a path.
#[must_use]
pub fn entry(path: &[u8]) -> Vec<u8> {
    at_path(Space::Entries, path)
}

fn at_path(space: Space, path: &[u8]) -> Vec<u8> {
    let (dir, name) = split_path(path);
    let mut key = Vec::with_capacity(path.len() + 2);
    key.push(space as u8);
    key.extend_from_slice(dir);
    key.push(0);
    key.extend_from_slice(name);
    key
}

/// Key of a name kept but not shown at a path.
#[must_use]
pub fn shadow(path: &[u8], name: Identity) -> Vec<u8> {
    let mut key = shadows_at(path);
    key.extend_from_slice(&name.to_bytes());
    key
}

/// Prefix of the keys of all names not shown at a path.
#[must_use]
pub fn shadows_at(path: &[u8]) -> Vec<u8> {
    let mut key = at_path(Space::Shadows, path);
    key.push(0);
    key
}

/// Key of a row named by identity.
#[must_use]
pub fn by_identity(space: Space, identity: Identity) -> Vec<u8> {
    space.key(&identity.to_bytes())
}

/// Key of the link row of one name.
#[must_use]
pub fn link(inode: Identity, name: Identity) -> Vec<u8> {
    let mut key = by_identity(Space::Links, inode);
    key.extend_from_slice(&name.to_bytes());
    key
}

/// Key of the row that maps upstream's hard link id to the inode.
#[must_use]
pub fn hard_link_id(id: &[u8]) -> Vec<u8> {
    let mut key = vec![Space::Links as u8, 0xff];
    key.extend_from_slice(id);
    key
}

/// The first key that [`first_path`] makes, behind all links of names.
#[must_use]
pub fn first_paths() -> Vec<u8> {
    vec![Space::Links as u8, 0xfe]
}

/// Key of the path at which an inode with a hard link id was last written by its one name.
#[must_use]
pub fn first_path(inode: Identity) -> Vec<u8> {
    let mut key = first_paths();
    key.extend_from_slice(&inode.to_bytes());
    key
}

/// Key of a dropped chunk.
#[must_use]
pub fn garbage(inode: Identity, chunk: FileId) -> Vec<u8> {
    let mut key = by_identity(Space::Garbage, inode);
    key.extend_from_slice(&chunk.volume_id.to_be_bytes());
    key.extend_from_slice(&chunk.key.to_be_bytes());
    key.extend_from_slice(&chunk.cookie.to_be_bytes());
    key
}

/// Key of the inode that a chunk moved to last; behind all keys that [`garbage`] makes.
#[must_use]
pub fn chunk_owner(chunk: FileId) -> Vec<u8> {
    let mut key = vec![Space::Garbage as u8, 0xff];
    key.extend_from_slice(&chunk.volume_id.to_be_bytes());
    key.extend_from_slice(&chunk.key.to_be_bytes());
    key.extend_from_slice(&chunk.cookie.to_be_bytes());
    key
}

/// The first key behind all that [`garbage`] makes: no identity begins with `0xfd`.
#[must_use]
pub fn garbage_end() -> Vec<u8> {
    vec![Space::Garbage as u8, 0xfd]
}

/// Key of what the present data of an inode names; see [`crate::holders`].
#[must_use]
pub fn held(inode: Identity) -> Vec<u8> {
    let mut key = garbage_end();
    key.extend_from_slice(&inode.to_bytes());
    key
}

/// First key of the dropped chunks of an inode and the first behind them.
#[must_use]
pub fn garbage_of(inode: Identity) -> (Vec<u8>, Vec<u8>) {
    /// Volume, key, cookie.
    const CHUNK_LEN: usize = 16;
    let from = by_identity(Space::Garbage, inode);
    let mut to = from.clone();
    to.extend_from_slice(&[0xff; CHUNK_LEN + 1]);
    (from, to)
}

fn pins_start() -> Vec<u8> {
    vec![Space::Garbage as u8, 0xfe]
}

/// Prefix of the keys of all conflict records that pin a chunk.
#[must_use]
pub fn pins(chunk: FileId) -> Vec<u8> {
    let mut key = pins_start();
    key.extend_from_slice(&chunk.volume_id.to_be_bytes());
    key.extend_from_slice(&chunk.key.to_be_bytes());
    key.extend_from_slice(&chunk.cookie.to_be_bytes());
    key
}

/// Key that says that a conflict record pins a chunk.
#[must_use]
pub fn pin(chunk: FileId, conflict: Identity) -> Vec<u8> {
    let mut key = pins(chunk);
    key.extend_from_slice(&conflict.to_bytes());
    key
}

/// Whether [`pin`] made a key, as far as its length tells.
#[must_use]
pub fn is_pin(key: &[u8]) -> bool {
    /// Space, mark, and a chunk.
    const HEAD_LEN: usize = 2 + 16;
    key.starts_with(&pins_start()) && key.len() == HEAD_LEN + Identity::LEN
}

/// Inode and chunk of a key that [`garbage`] made.
#[must_use]
pub fn parse_garbage(key: &[u8]) -> Option<(Identity, FileId)> {
    let input = &mut dulse_types::wire::Reader::new(key.get(1..)?);
    let inode = Identity::read(input).ok()?;
    let volume_id = input.u32_be().ok()?;
    let (key, cookie) = (input.u64_be().ok()?, input.u32_be().ok()?);
    input.finish().ok()?;
    Some((
        inode,
        FileId {
            volume_id,
            key,
            cookie,
        },
    ))
}

/// Key of a directory's digest row.
#[must_use]
pub fn digest(dir: &[u8]) -> Vec<u8> {
    let mut key = Space::Digest.key(&bucket_of(dir).to_be_bytes());
    key.extend_from_slice(dir);
    key
}

/// Key of a member's row.
#[must_use]
pub fn member(origin: Origin) -> Vec<u8> {
    Space::Members.key(&origin.0.to_be_bytes())
}

/// First key of the direct children of a directory and the first behind them.
#[must_use]
pub fn children(space: Space, dir: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = space.key(dir);
    let mut to = from.clone();
    from.push(0);
    to.push(1);
    (from, to)
}

/// The range of everything below a directory that is no direct child.
#[must_use]
pub fn deeper(space: Space, dir: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = space.key(if dir == b"/" { b"" } else { dir });
    let mut to = from.clone();
    from.push(b'/');
    if dir == b"/" {
        // The root's own children have `/` as directory, then NUL: behind them.
        from.push(1);
    }
    to.push(b'/' + 1);
    (from, to)
}

/// The path of an entries or shadows key.
#[must_use]
pub fn path_of(key: &[u8]) -> Option<Vec<u8>> {
    let space = *key.first()?;
    let rest = key.get(1..)?;
    let at = rest.iter().position(|&b| b == 0)?;
    let mut name = &rest[at + 1..];
    if space == Space::Shadows as u8 {
        name = name.get(..name.len().checked_sub(Identity::LEN + 1)?)?;
    }
    Some(join_path(&rest[..at], name))
}
