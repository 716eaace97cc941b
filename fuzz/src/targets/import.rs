// SPDX-License-Identifier: Apache-2.0
//! What upstream's filers stored.

use bytes::Bytes;
use dulse_import::meta::MetaSource;
use dulse_import::{
    Columns, Item, Layout, Row, decode_value, is_local_key, leveldb_row, rocksdb_row, sqlite_row,
};

/// A value, compressed or not.
pub(crate) fn value(input: &[u8]) {
    let value = Bytes::copy_from_slice(input);
    if let Ok(entry) = decode_value(&value) {
        assert!(entry.fields().is_ok(), "whoever reads it relies on it");
        assert_eq!(entry.with_file_ids().as_ref(), Ok(&entry));
    }
    let _ = is_local_key(&input[..input.len().min(17)], &value);
}

/// A row of each store.
pub(crate) fn row(input: &[u8]) {
    let (head, rest) = input.split_at(input.len().min(8));
    let (key, value) = rest.split_at(rest.len() / 2);
    for layout in [Layout::One, Layout::Parts, Layout::Buckets] {
        for database in ["", "00", "07", "_main"] {
            let row = leveldb_row(layout, database, key, value);
            assert!(layout != Layout::One || !matches!(row, Row::Hashed | Row::Odd(_)));
        }
    }
    if let Row::Kv { key: kept, .. } = rocksdb_row(key, value) {
        assert!(kept == key);
    }
    let text = String::from_utf8_lossy(key).into_owned();
    let (directory, name) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let number = head.iter().fold(0_i64, |n, byte| n << 8 | i64::from(*byte));
    for table in ["filemeta", "bucket"] {
        let columns = Columns {
            hash: number,
            name: Bytes::copy_from_slice(name.as_bytes()),
            directory: directory.to_owned(),
            value: Bytes::copy_from_slice(value),
        };
        if let Row::Kv { key, .. } = sqlite_row(table, columns) {
            assert!(table == "filemeta" && key.len() <= text.len());
        }
    }
}

/// A file of `fs.meta.save`.
pub(crate) fn meta(input: &[u8]) {
    for item in MetaSource::new(input, "file") {
        match item {
            Ok(Item::Entry { path, .. }) => assert!(!path.is_root()),
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
