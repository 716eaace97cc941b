// SPDX-License-Identifier: Apache-2.0
//! The order of RocksDB's writes and syncs, in the system calls of a running store.
//!
//! The crash suite derives what a power loss may leave from this order. It is watched with
//! `strace`; where that is not installed or not permitted the test says that it did not run.

use std::collections::BTreeMap;
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

/// What is called on which file, and by which thread.
struct Call<'a> {
    thread: &'a str,
    name: &'a str,
    file: &'a str,
}

/// Reads `PID fdatasync(3</path/000004.log>) = 0`.
fn parse(line: &str) -> Option<Call<'_>> {
    let (head, rest) = line.split_once('(')?;
    let (thread, name) = head.trim().split_once(char::is_whitespace)?;
    let path = rest.split_once('<')?.1.split_once('>')?.0;
    let file = path.rsplit('/').next()?;
    let name = name.trim();
    Some(Call { thread, name, file })
}

#[derive(Default)]
struct Order {
    /// Tables that were written to since they were synced, and by which thread: the one that
    /// names them in the manifest. Another may be half way through a table just then.
    dirty: BTreeMap<String, String>,
    /// Tables that were synced.
    n_tables: u32,
    n_directory_syncs: u32,
    n_checkpoints: u32,
    since_mark: Done,
}

/// How far a checkpoint has come. That the manifest is clean at its end cannot be asked: compaction
/// may be writing its own record just then.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Done {
    #[default]
    Nothing,
    /// A table is synced.
    Table,
    /// The manifest got a record behind that.
    Named,
    /// The manifest was synced behind that.
    Durable,
}

impl Done {
    fn then(self, file: &str, is_sync: bool, is_write: bool) -> Self {
        let is_manifest = file.starts_with("MANIFEST-");
        match self {
            Self::Nothing if is_sync && file.ends_with(".sst") => Self::Table,
            Self::Table if is_write && is_manifest => Self::Named,
            Self::Named if is_sync && is_manifest => Self::Durable,
            other => other,
        }
    }
}

impl Order {
    fn check(&mut self, call: &Call<'_>) {
        let (file, is_sync) = (call.file, call.name.ends_with("sync"));
        let is_write = call.name.contains("write");
        let is_table = file.ends_with(".sst");
        self.since_mark = self.since_mark.then(file, is_sync, is_write);
        if is_sync {
            self.n_directory_syncs += u32::from(file == "store");
            self.n_tables += u32::from(self.dirty.remove(file).is_some());
        } else if is_write && is_table {
            self.dirty.insert(file.to_owned(), call.thread.to_owned());
        } else if is_write && file.starts_with("MANIFEST-") {
            let own = self.dirty.iter().find(|(_, by)| *by == call.thread);
            assert_eq!(own, None, "not synced when the manifest was written");
        } else if is_write && file == MARK {
            let done = std::mem::replace(&mut self.since_mark, Done::Nothing);
            assert_eq!(done, Done::Durable, "what a checkpoint made durable");
            self.n_checkpoints += 1;
        }
        assert!(
            !is_write || !file.ends_with(".log"),
            "there is a log: `{file}`"
        );
    }
}
