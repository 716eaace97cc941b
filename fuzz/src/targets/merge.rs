// SPDX-License-Identifier: Apache-2.0
//! Changes, rows, keys, and merging what decodes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use dulse_merge::apply::{DroppedRow, decode_owner};
use dulse_merge::digest::Sum;
use dulse_merge::holders::Held;
use dulse_merge::row::{ConflictRow, MovedRow};
use dulse_merge::txn::RowsError;
use dulse_merge::{
    Change, InodeRow, KvRow, MemberRow, NameRow, Rows, TreeIntent, Txn, apply, events, keys,
};
use dulse_types::{FileChunk, Vector};

/// Bytes as a change.
pub(crate) fn change(input: &[u8]) {
    let Ok(change) = Change::decode(input) else {
        return;
    };
    let written = change.encode();
    assert_eq!(
        Change::decode(&written).as_ref(),
        Ok(&change),
        "a change changes when written"
    );
    let _ = (
        events(&change),
        change.mentions().count(),
        change.version(u32::MAX),
    );
}

/// Bytes as the intent of a tree change.
pub(crate) fn intent(input: &[u8]) {
    if let Ok(intent) = TreeIntent::decode(input) {
        let written = intent.encode();
        assert_eq!(TreeIntent::decode(&written).as_ref(), Ok(&intent));
    }
}

/// Bytes as a row of each space.
pub(crate) fn row(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let has_path = NameRow::decode(&bytes, b"?").is_ok_and(|row| row.path != "?");
    for path in [&b""[..], b"/a/b"] {
        if let Ok(row) = NameRow::decode(&bytes, path) {
            let written = Bytes::from(row.encode(has_path));
            let mut expect = row.clone();
            if !has_path {
                // Where the key holds the path, nothing is kept of what was merged.
                expect.merged = Vector::new();
            }
            let again = NameRow::decode(&written, path);
            assert_eq!(again, Ok(expect), "a name changes when written");
            let _ = (row.canonical(), row.is_live(), row.place_order());
            let _ = (row.content.entry(), row.content.is_dir());
        }
    }
    if let Ok(row) = InodeRow::decode(&bytes) {
        let written = Bytes::from(row.encode());
        assert_eq!(InodeRow::decode(&written).as_ref(), Ok(&row));
        let _ = row.content.entry();
    }
    if let Ok(row) = KvRow::decode(&bytes) {
        assert_eq!(KvRow::decode(&Bytes::from(row.encode())).as_ref(), Ok(&row));
    }
    if let Ok(row) = MemberRow::decode(input) {
        assert_eq!(MemberRow::decode(&row.encode()).as_ref(), Ok(&row));
    }
    if let Ok(sum) = Sum::decode(input) {
        assert_eq!(Sum::decode(&sum.encode()), Ok(sum));
    }
    if let Ok(row) = MovedRow::decode(&bytes) {
        let written = Bytes::from(row.encode());
        assert_eq!(MovedRow::decode(&written).as_ref(), Ok(&row));
    }
    if let Ok(row) = ConflictRow::decode(&bytes) {
        let written = Bytes::from(row.encode());
        let again = ConflictRow::decode(&written);
        assert_eq!(again.as_ref(), Ok(&row), "a conflict changes when written");
        let _ = (row.canonical(), row.is_open(), row.is_pending(), row.step());
    }
    if let Ok(row) = DroppedRow::decode(&bytes) {
        assert_eq!(DroppedRow::decode(&row.encode().into()).as_ref(), Ok(&row));
    }
    if let Ok(chunk) = FileChunk::from_bytes(input) {
        let _ = chunk.id();
    }
    if let Ok(held) = Held::decode(input) {
        assert_eq!(Held::decode(&held.encode()).as_ref(), Ok(&held));
    }
    let _ = decode_owner(input);
}

/// Bytes as a key.
pub(crate) fn key(input: &[u8]) {
    if let Some(path) = keys::path_of(input) {
        let (dir, name) = keys::split_path(&path);
        let _ = keys::join_path(dir, name);
        let _ = (
            keys::entry(&path),
            keys::shadows_at(&path),
            keys::digest(dir),
        );
    }
    if let Some((inode, chunk)) = keys::parse_garbage(input) {
        assert_eq!(
            keys::parse_garbage(&keys::garbage(inode, chunk)),
            Some((inode, chunk))
        );
    }
}

/// Rows in memory.
#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Bytes>);

impl Rows for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self
            .0
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let rows = range.map(|(key, value)| (Bytes::copy_from_slice(key), value.clone()));
        Ok(rows.take(limit).collect())
    }
}

/// Changes that decode, merged one after the other; what they leave is read again.
pub(crate) fn apply_changes(input: &[u8]) {
    let mut rows = Memory::default();
    for bytes in parts(input) {
        let Ok(change) = Change::decode(bytes) else {
            continue;
        };
        let mut txn = Txn::new(&rows);
        if apply(&mut txn, &change).is_err() {
            continue;
        }
        let Ok((writes, _)) = txn.finish() else {
            continue;
        };
        for (key, value) in writes {
            match value {
                Some(value) => rows.0.insert(key, value),
                None => rows.0.remove(&key),
            };
        }
    }
    for (at, value) in &rows.0 {
        key(at);
        row(value);
    }
}

/// Parts with two bytes of length in front of each.
pub(crate) fn parts(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, behind) = rest.split_at(length);
        input = behind;
        Some(part)
    })
}
