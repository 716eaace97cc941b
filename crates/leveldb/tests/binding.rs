// SPDX-License-Identifier: Apache-2.0
//! The binding against the real library.

use std::path::Path;

use dulse_leveldb::{Batch, Cursor, Db, ErrorKind, Options, ReadOptions};

const READ: ReadOptions = ReadOptions {
    verifies_checksums: true,
    fills_cache: true,
};

fn made(dir: &Path) -> Db {
    let options = Options {
        create_if_missing: true,
        ..Options::existing()
    };
    Db::open(dir, &options).unwrap()
}

fn put(db: &Db, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new().unwrap();
    for (key, value) in rows {
        batch.put(key, value);
    }
    db.write(&mut batch, true).unwrap();
}

fn forward(mut cursor: Cursor, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    cursor.seek(from);
    while let Some((key, value)) = cursor.row() {
        rows.push((key.to_vec(), value.to_vec()));
        cursor.next();
    }
    cursor.status().unwrap();
    rows
}

#[test]
fn rows_are_read_back_in_order_and_any_bytes_are_keys_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let db = made(dir.path());
    put(
        &db,
        &[
            (b"b", b"2"),
            (b"", b"none"),
            (b"a\0\xff", b""),
            (b"c", &[7; 100_000]),
        ],
    );
    let mut batch = Batch::new().unwrap();
    batch.put(b"b", b"3");
    batch.delete(b"c");
    db.write(&mut batch, false).unwrap();
    assert_eq!(db.get(b"a\0\xff", READ, None).unwrap(), Some(Vec::new()));
    assert_eq!(db.get(b"c", READ, None).unwrap(), None);
    let rows = forward(db.cursor(READ, None).unwrap(), b"");
    let expect: [(&[u8], &[u8]); 3] = [(b"", b"none"), (b"a\0\xff", b""), (b"b", b"3")];
    assert!(rows.iter().map(|(k, v)| (&k[..], &v[..])).eq(expect));
    let mut cursor = db.cursor(READ, None).unwrap();
    assert_eq!(cursor.row(), None);
    cursor.seek_to_last();
    cursor.prev();
    assert_eq!(cursor.row(), Some((&b"a\0\xff"[..], &b""[..])));
    cursor.prev();
    cursor.prev();
    cursor.prev();
    assert_eq!(cursor.row(), None);
}

#[test]
fn snapshots_and_cursors_keep_their_state_and_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let db = made(dir.path());
    put(&db, &[(b"a", b"1")]);
    let (snapshot, mut cursor) = (db.snapshot(), db.cursor(READ, None).unwrap());
    put(&db, &[(b"a", b"2"), (b"b", b"2")]);
    db.compact();
    assert_eq!(
        db.get(b"a", READ, Some(&snapshot)).unwrap(),
        Some(b"1".to_vec())
    );
    assert_eq!(
        forward(db.cursor(READ, Some(&snapshot)).unwrap(), b"").len(),
        1
    );
    assert!(db.property("leveldb.stats").is_some() && db.property("other").is_none());
    drop(db);
    cursor.seek_to_first();
    assert_eq!(cursor.row(), Some((&b"a"[..], &b"1"[..])));
    let refused = Db::open(dir.path(), &Options::existing()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
    drop(snapshot);
    drop(cursor);
    let db = Db::open(dir.path(), &Options::existing()).unwrap();
    assert_eq!(db.get(b"a", READ, None).unwrap(), Some(b"2".to_vec()));
}

#[test]
fn another_databases_snapshot_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (made(one.path()), made(two.path()));
    let error = one.get(b"a", READ, Some(&two.snapshot())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_missing_store_is_not_made_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let error = Db::open(dir.path(), &Options::existing()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[test]
fn damage_in_a_table_is_an_error_and_told_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let db = made(dir.path());
    let value: Vec<u8> = (0..4000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
    for n in 0..200u8 {
        put(&db, &[(&[n], &value)]);
    }
    db.compact();
    drop(db);
    let files = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().path());
    let table = files.filter(|p| p.extension().is_some_and(|e| e == "ldb"));
    let table = table.max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let db = Db::open(dir.path(), &Options::existing()).unwrap();
    let mut cursor = db.cursor(READ, None).unwrap();
    cursor.seek_to_first();
    let mut n = 0;
    while cursor.row().is_some() {
        n += 1;
        cursor.next();
    }
    assert!(n < 200);
    assert_eq!(cursor.status().unwrap_err().kind(), ErrorKind::Corrupt);
}
