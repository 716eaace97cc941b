// SPDX-License-Identifier: Apache-2.0
//! The order of SQLite's writes and syncs, in the system calls of a running store.
//!
//! The crash suite derives what a power loss may leave from this order. It is watched with
//! `strace`; where that is not installed or not permitted the test says that it did not run.

use std::path::Path;

use bytes::Bytes;
use dulse_engine_sqlite::SqliteEngine;
use dulse_kv::{Batch, Engine};
use dulse_kv_testkit::watch::{watch, watched_dir};

#[test]
fn the_log_is_synced_before_the_file_and_its_header_before_its_frames() {
    if let Some(dir) = watched_dir() {
        work(&dir);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = watch(dir.path(), "pwrite64,write,fsync,fdatasync,ftruncate") else {
        eprintln!("NOT RUN: `strace` is not installed or not permitted here");
        return;
    };
    let mut order = Order::default();
    for call in calls.lines().filter_map(parse) {
        order.check(&call);
    }
    assert!(
        order.n_headers >= 4,
        "the log started over {} times",
        order.n_headers
    );
    assert!(
        order.n_file_writes > 10,
        "{} pages were copied",
        order.n_file_writes
    );
}

/// Several logs, each with batches in it.
fn work(dir: &Path) {
    let engine = SqliteEngine::open(dir).unwrap();
    for n in 0..40u8 {
        let row = |at: u8| (vec![at, n % 3], Some(Bytes::from(vec![n; 900])));
        let writes = (0..20).map(row).collect();
        engine.write(Batch { writes }).unwrap();
        if n % 8 == 7 {
            engine.checkpoint().unwrap();
        }
    }
}

/// What is called on which file, and at which offset for writes.
struct Call<'a> {
    name: &'a str,
    is_log: bool,
    offset: u64,
}

/// Reads `PID pwrite64(3</path/store.sqlite-wal>, ""..., 32, 0) = 32`.
fn parse(line: &str) -> Option<Call<'_>> {
    let (head, rest) = line.split_once('(')?;
    let name = head.split_whitespace().last()?;
    let (path, rest) = rest.split_once('<')?.1.split_once('>')?;
    let is_log = path.ends_with("store.sqlite-wal");
    if !is_log && !path.ends_with("store.sqlite") {
        return None;
    }
    let arguments = rest.rsplit_once(')')?.0;
    let offset = arguments.rsplit(", ").next()?.parse().unwrap_or(0);
    Some(Call {
        name,
        is_log,
        offset,
    })
}

#[derive(Default)]
struct Order {
    is_log_dirty: bool,
    is_header_unsynced: bool,
    is_file_dirty: bool,
    n_headers: u32,
    n_file_writes: u32,
}

impl Order {
    fn check(&mut self, call: &Call<'_>) {
        match (call.name, call.is_log) {
            ("pwrite64" | "write", true) if call.offset == 0 => {
                assert!(
                    !self.is_file_dirty,
                    "a log started over before the file was synced"
                );
                self.n_headers += 1;
                self.is_header_unsynced = true;
            }
            ("pwrite64" | "write", true) => {
                assert!(
                    !self.is_header_unsynced,
                    "a frame was written before the header was synced"
                );
                self.is_log_dirty = true;
            }
            // Before the first log there is none to be synced.
            ("pwrite64" | "write", false) if self.n_headers > 0 => {
                assert!(
                    !self.is_log_dirty,
                    "a page was copied before the log was synced"
                );
                self.n_file_writes += 1;
                self.is_file_dirty = true;
            }
            ("fsync" | "fdatasync", true) => {
                self.is_header_unsynced = false;
                self.is_log_dirty = false;
            }
            ("fsync" | "fdatasync", false) => self.is_file_dirty = false,
            _ => {}
        }
    }
}
