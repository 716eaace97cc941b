// SPDX-License-Identifier: Apache-2.0
//! A checkpoint while a snapshot holds the log: SQLite copies nothing then, and would sync
//! nothing.
//!
//! Watched with `strace`; where that is not installed or not permitted the test says that it did
//! not run.

use std::path::Path;

use bytes::Bytes;
use dulse_engine_sqlite::SqliteEngine;
use dulse_kv::{Batch, Engine};
use dulse_kv_testkit::watch::{watch, watched_dir};

#[test]
fn a_checkpoint_syncs_the_log_though_a_snapshot_holds_it() {
    if let Some(dir) = watched_dir() {
        work(&dir);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = watch(dir.path(), "pwrite64,write,fsync,fdatasync") else {
        eprintln!("NOT RUN: `strace` is not installed or not permitted here");
        return;
    };
    let of_log: Vec<&str> = calls
        .lines()
        .filter(|call| call.contains("store.sqlite-wal>"))
        .collect();
    let written = of_log.iter().rposition(|call| call.contains("write"));
    let behind = &of_log[written.expect("the log is written to")..];
    let is_synced = behind.iter().any(|call| call.contains("sync("));
    assert!(is_synced, "behind the last write: {behind:?}");
}

/// A snapshot sees the first batch, and the log goes on. The first checkpoint copies what the
/// snapshot sees, and syncs the log for that; nothing is left to copy for the second.
fn work(dir: &Path) {
    let engine = SqliteEngine::open(dir).unwrap();
    let row = |n: u8| vec![(vec![n], Some(Bytes::from(vec![n; 900])))];
    engine.write(Batch { writes: row(1) }).unwrap();
    let snapshot = engine.snapshot().unwrap();
    for n in 2..4 {
        engine.write(Batch { writes: row(n) }).unwrap();
        engine.checkpoint().unwrap();
    }
    // Closing it would sync the log, too.
    std::mem::forget(snapshot);
    std::mem::forget(engine);
}
