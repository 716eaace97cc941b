// SPDX-License-Identifier: Apache-2.0
//! What is made of files that a crash or somebody else left, case by case; the crash suite makes
//! them at random.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dulse_engine_rocksdb::{MARKER, RocksdbEngine};
use dulse_kv::{Batch, Engine, ErrorKind, Read, ReadExt};
use dulse_leveldb::records::Records;

/// Batches in a store of these tests.
const BATCHES: u8 = 10;

fn filled(dir: &Path, len: usize) {
    let engine = RocksdbEngine::open(dir).unwrap();
    let mut state = 1u32;
    for n in 0..BATCHES {
        let noise = (0..len).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let writes = vec![(vec![n], Some(noise.collect::<Bytes>()))];
        engine.write(Batch { writes }).unwrap();
    }
    engine.checkpoint().unwrap();
}

/// The keys of a store, each one byte.
fn keys(dir: &Path) -> Vec<u8> {
    let engine = RocksdbEngine::open(dir).unwrap();
    let rows = engine.scan(b"", &[0xff; 4], usize::MAX).unwrap();
    rows.iter().map(|(key, _)| key[0]).collect()
}

fn refusal(dir: &Path) -> (ErrorKind, String) {
    let error = RocksdbEngine::open(dir).err().expect("opening must fail");
    (error.kind(), error.to_string())
}

/// Every file with what it holds.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap());
    let content = |f: std::fs::DirEntry| {
        let name = f.file_name().into_string().unwrap();
        (name, std::fs::read(f.path()).unwrap())
    };
    files.map(content).collect()
}

fn named(dir: &Path, is_one: impl Fn(&str) -> bool) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap());
    let mut found = files.filter(|f| is_one(&f.file_name().to_string_lossy()));
    found.next().expect("there is such a file").path()
}

fn manifest(dir: &Path) -> PathBuf {
    let current = std::fs::read_to_string(dir.join("CURRENT")).unwrap();
    dir.join(current.trim_end())
}

/// A record whose header is there and whose bytes are not reads as corruption in RocksDB.
#[test]
fn a_torn_end_of_a_manifest_is_cut_and_a_damaged_middle_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 100);
    let path = manifest(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<_> = Records::of(&whole).map(|record| record.end).collect();
    assert!(ends.len() > 2, "{} records", ends.len());
    let last = &whole[ends[ends.len() - 2]..];
    let mut torn = [&whole[..], last].concat();
    let len = torn.len();
    torn[len - 4..].fill(0);
    std::fs::write(&path, torn).unwrap();
    assert!(keys(dir.path()).into_iter().eq(0..BATCHES));

    let path = manifest(dir.path());
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[10] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (kind, said) = refusal(dir.path());
    assert_eq!(kind, ErrorKind::Corrupt, "{said}");
    assert!(said.contains("it is damaged at"), "{said}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        damaged,
        "it is left as it is"
    );
}

#[test]
fn a_missing_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 100);
    std::fs::remove_file(named(dir.path(), |name| name.ends_with(".sst"))).unwrap();
    let (kind, said) = refusal(dir.path());
    assert_eq!(kind, ErrorKind::Corrupt, "{said}");
}

#[test]
fn a_damaged_block_is_told_by_every_read_of_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 10_000);
    let path = named(dir.path(), |name| name.ends_with(".sst"));
    let mut table = std::fs::read(&path).unwrap();
    let middle = table.len() / 2;
    table[middle] ^= 1;
    std::fs::write(&path, table).unwrap();
    let engine = RocksdbEngine::open(dir.path()).unwrap();
    let scanned = engine.scan(b"", &[0xff; 4], usize::MAX).unwrap_err();
    assert_eq!(scanned.kind(), ErrorKind::Corrupt, "{scanned}");
    let is_damaged = |n: u8| {
        engine
            .get(&[n])
            .is_err_and(|e| e.kind() == ErrorKind::Corrupt)
    };
    assert_eq!((0..BATCHES).filter(|n| is_damaged(*n)).count(), 1);
    drop(engine);
    let error = RocksdbEngine::open_checked(dir.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A store without our marker is upstream's, or one whose files were taken away one by one.
///
/// Once, what might be half of a new store was removed up to the first file that cannot be: a
/// `CURRENT` that the file system listed before it was gone. There are so many such files here
/// that some come first in any order.
#[test]
fn a_store_that_is_not_ours_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 100);
    std::fs::remove_file(dir.path().join(MARKER)).unwrap();
    for n in 0..100 {
        std::fs::write(dir.path().join(format!("9{n:05}.log")), b"").unwrap();
        std::fs::write(dir.path().join(format!("MANIFEST-9{n:05}")), b"").unwrap();
    }
    let before = contents(dir.path());
    assert!(before.len() > 200 && before.contains_key("CURRENT"));
    let (kind, said) = refusal(dir.path());
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(said.contains("there is no `STORE` beside it"), "{said}");
    assert!(contents(dir.path()) == before, "something was changed");
}

/// A power loss while a store was made leaves some of its files, and no batch.
#[test]
fn half_of_a_new_store_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(RocksdbEngine::open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join(MARKER)).unwrap();
    std::fs::remove_file(manifest(dir.path())).unwrap();
    assert!(keys(dir.path()).is_empty());
}

/// Names the store for the process that is started beside.
const BESIDE: &str = "DULSE_TEST_BESIDE";

/// RocksDB's own lock is one of `fcntl`: it ends when the process closes any descriptor of that
/// file, as who copies or lists the store's files does.
#[test]
fn a_store_whose_own_lock_is_lost_is_refused_to_another_process() {
    if let Some(dir) = std::env::var_os(BESIDE) {
        let (kind, said) = refusal(Path::new(&dir));
        assert_eq!(kind, ErrorKind::Locked, "{said}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = RocksdbEngine::open(dir.path()).unwrap();
    drop(std::fs::File::open(dir.path().join("LOCK")).unwrap());
    let test = "a_store_whose_own_lock_is_lost_is_refused_to_another_process";
    let beside = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact"])
        .env(BESIDE, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&beside.stdout);
    assert!(beside.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    drop(engine);
}
