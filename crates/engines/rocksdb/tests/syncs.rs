// SPDX-License-Identifier: Apache-2.0
//! The order of RocksDB's writes and syncs, in the system calls of a running store.
//!
//! The crash suite derives what a power loss may leave from this order. It is watched with
//! `strace`; where that is not installed or not permitted the test says that it did not run.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use dulse_engine_rocksdb::{Options, RocksdbEngine};
use dulse_kv::{Batch, Engine};
use dulse_kv_testkit::watch::{watch, watched_dir};

/// A file that marks a checkpoint's return.
const MARK: &str = "checkpointed";

#[test]
fn tables_are_synced_before_the_manifest_and_by_checkpoints() {
    if let Some(dir) = watched_dir() {
        work(&dir);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = watch(dir.path(), "write,pwrite64,fsync,fdatasync,unlink,unlinkat") else {
        eprintln!("NOT RUN: `strace` is not installed or not permitted here");
        return;
    };
    let mut order = Order::default();
    for call in calls.lines().filter_map(parse) {
        order.check(&call);
    }
    assert!(order.n_tables > 2, "{} tables", order.n_tables);
    assert_eq!(order.n_checkpoints, 6);
    let n = order.n_directory_syncs;
    assert!(n >= 6, "names of tables were synced {n} times");
}

/// Several tables between checkpoints.
fn work(dir: &Path) {
    let options = Options {
        write_buffer_size_bytes: 64 << 10,
        block_cache_size_bytes: 1 << 20,
        margin_bytes: 0,
    };
    let engine = RocksdbEngine::open_with(dir, options).unwrap();
    for n in 0..60u8 {
        let row = |at: u8| (vec![at, n % 7], Some(Bytes::from(vec![n; 900])));
        let writes = (0..20).map(row).collect();
        engine.write(Batch { writes }).unwrap();
        if n % 10 == 9 {
            engine.checkpoint().unwrap();
            std::fs::write(dir.with_file_name(MARK), [n]).unwrap();
        }
    }
}

/// What is called on which file.
struct Call<'a> {
    name: &'a str,
    file: &'a str,
}

/// Reads `PID fdatasync(3</path/000004.log>) = 0`.
fn parse(line: &str) -> Option<Call<'_>> {
    let (head, rest) = line.split_once('(')?;
    let name = head.split_whitespace().last()?;
    let path = rest.split_once('<')?.1.split_once('>')?.0;
    let file = path.rsplit('/').next()?;
    Some(Call { name, file })
}

#[derive(Default)]
struct Order {
    /// Written since they were synced.
    dirty: BTreeSet<String>,
    /// Tables that were dirty when the manifest was written, and not written to since.
    half_written: BTreeSet<String>,
    /// Tables that were synced.
    n_tables: u32,
    n_directory_syncs: u32,
    n_checkpoints: u32,
}

impl Order {
    fn check(&mut self, call: &Call<'_>) {
        let (file, is_sync) = (call.file, call.name.ends_with("sync"));
        let is_write = call.name.contains("write");
        if is_sync {
            self.n_directory_syncs += u32::from(file == "store");
            let was_dirty = self.dirty.remove(file);
            assert!(
                !self.half_written.contains(file),
                "`{file}` was whole and not synced when the manifest was written"
            );
            self.n_tables += u32::from(was_dirty && file.ends_with(".sst"));
            return;
        }
        if !is_write {
            return;
        }
        // A table's end is written right before it is synced.
        self.half_written.remove(file);
        assert!(!file.ends_with(".log"), "there is a log: `{file}`");
        if file.starts_with("MANIFEST-") {
            // One that compaction is at in another place may be half written.
            let tables = self.dirty.iter().filter(|name| name.ends_with(".sst"));
            self.half_written.extend(tables.cloned());
        }
        if file == MARK {
            let manifest = self.dirty.iter().find(|f| f.starts_with("MANIFEST-"));
            assert_eq!(manifest, None, "it was not synced");
            self.n_checkpoints += 1;
        }
        if file.ends_with(".sst") || file.starts_with("MANIFEST-") {
            self.dirty.insert(file.to_owned());
        }
    }
}
