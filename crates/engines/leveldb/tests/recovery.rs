// SPDX-License-Identifier: Apache-2.0
//! What is made of files that a crash left, case by case; the crash suite makes them at random.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dulse_engine_leveldb::{LeveldbEngine, MARKER, Options, log_number};
use dulse_kv::{Batch, Engine, ErrorKind, ReadExt};
use dulse_leveldb::records::{BLOCK_BYTES, Records};

/// Batches in a store of these tests.
const BATCHES: u8 = 10;

fn filled(dir: &Path) {
    filled_with(&LeveldbEngine::open(dir).unwrap(), 100);
}

/// Values of so many bytes, which do not get smaller.
fn filled_with(engine: &LeveldbEngine, len: usize) {
    let mut state = 1u32;
    for n in 0..BATCHES {
        let noise = (0..len).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let writes = vec![(vec![n], Some(noise.collect::<Bytes>()))];
        engine.write(Batch { writes }).unwrap();
    }
}

/// The keys of a store, each one byte.
fn keys(dir: &Path) -> Vec<u8> {
    let engine = LeveldbEngine::open(dir).unwrap();
    let rows = engine.scan(b"", &[0xff; 4], usize::MAX).unwrap();
    rows.iter().map(|(key, _)| key[0]).collect()
}

fn refusal(dir: &Path) -> (ErrorKind, String) {
    let error = LeveldbEngine::open(dir).err().expect("opening must fail");
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

fn log(dir: &Path) -> PathBuf {
    named(dir, |name| name.ends_with(".log"))
}

fn manifest(dir: &Path) -> PathBuf {
    named(dir, |name| name.starts_with("MANIFEST-"))
}

/// Splits the log behind so many batches: LevelDB had begun another one there.
fn split(dir: &Path, n: usize) -> (PathBuf, PathBuf) {
    let first = log(dir);
    let bytes = std::fs::read(&first).unwrap();
    let end = Records::of(&bytes).nth(n - 1).unwrap().end;
    let number: u64 = first
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let second = dir.join(format!("{:06}.log", number + 5));
    std::fs::write(&first, &bytes[..end]).unwrap();
    std::fs::write(&second, &bytes[end..]).unwrap();
    (first, second)
}

#[test]
fn logs_that_follow_one_another_are_read_all() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    split(dir.path(), 4);
    assert!(keys(dir.path()).into_iter().eq(0..BATCHES));
}

/// LevelDB syncs no log when it begins the next one, so a power loss may take the end of the
/// first and leave the second. LevelDB alone would read the second.
#[test]
fn a_log_behind_a_lost_end_is_removed() {
    for more in [0, 1, 50, 110] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let (first, second) = split(dir.path(), 4);
        let bytes = std::fs::read(&first).unwrap();
        let third = Records::of(&bytes).nth(2).unwrap().end;
        std::fs::write(&first, &bytes[..third + more]).unwrap();
        assert!(
            keys(dir.path()).into_iter().eq(0..3),
            "{more} bytes of the fourth"
        );
        assert!(!second.exists());
    }
}

#[test]
fn a_log_is_removed_when_the_one_before_has_no_name_or_nothing_in_it() {
    for is_empty in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let (first, _) = split(dir.path(), 4);
        if is_empty {
            std::fs::write(first, b"").unwrap();
        } else {
            std::fs::remove_file(first).unwrap();
        }
        assert!(keys(dir.path()).is_empty());
    }
}

/// A sector that never reached the disk reads as zeros. LevelDB's reader takes them for room
/// that nobody used and goes on behind them.
#[test]
fn what_follows_zeros_in_a_log_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    // Some batches in each block, and some across two.
    filled_with(&LeveldbEngine::open(dir.path()).unwrap(), 10_000);
    let path = log(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let ends: Vec<_> = Records::of(&bytes).map(|record| record.end).collect();
    let end = ends.iter().position(|end| *end > BLOCK_BYTES).unwrap();
    bytes[ends[end]..2 * BLOCK_BYTES].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let n = u8::try_from(end).unwrap() + 1;
    assert!(keys(dir.path()).into_iter().eq(0..n));
    assert!(n < BATCHES - 2, "there is something behind the zeros");
}

/// The deletions of an opening reached the disk, its rename of `CURRENT` did not.
fn opening_lost(dir: &Path) {
    filled(dir);
    for path in [log(dir), manifest(dir)] {
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::rename(&path, dir.join(format!("before.{name}"))).unwrap();
    }
}

#[test]
fn what_opening_deletes_has_a_second_name_until_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    opening_lost(dir.path());
    std::fs::write(dir.path().join("before.complete"), b"").unwrap();
    assert!(keys(dir.path()).into_iter().eq(0..BATCHES));
    let left = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap());
    let left: Vec<_> = left.map(|f| f.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|n| n.starts_with("before.")), "{left:?}");
}

/// LevelDB has deleted nothing before all second names are on disk, so a set that is not
/// complete belongs to an opening that did not come so far.
#[test]
fn an_incomplete_set_of_second_names_is_not_given_back() {
    let dir = tempfile::tempdir().unwrap();
    opening_lost(dir.path());
    let (kind, said) = refusal(dir.path());
    assert_eq!(kind, ErrorKind::Corrupt, "{said}");
}

#[test]
fn a_torn_end_of_a_manifest_is_cut_and_a_damaged_middle_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = manifest(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let torn = [&whole[..], &[0x17; 40]].concat();
    std::fs::write(&path, torn).unwrap();
    assert!(keys(dir.path()).into_iter().eq(0..BATCHES));

    let options = Options {
        write_buffer_size_bytes: 64 << 10,
        ..Options::STANDARD
    };
    // Tables are made while it is written to, so the manifest gets more records.
    filled_with(
        &LeveldbEngine::open_with(dir.path(), options).unwrap(),
        40_000,
    );
    let path = manifest(dir.path());
    let mut damaged = std::fs::read(&path).unwrap();
    let ends: Vec<_> = Records::of(&damaged).map(|record| record.end).collect();
    assert!(ends.len() > 3, "{} records", ends.len());
    damaged[ends[1] + 10] ^= 1;
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

/// An opening that fails half way leaves the second names.
#[test]
fn second_names_are_made_before_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    assert!(keys(dir.path()).into_iter().eq(0..BATCHES));
    std::fs::remove_file(named(dir.path(), |name| name.ends_with(".ldb"))).unwrap();
    let (kind, said) = refusal(dir.path());
    assert_eq!(kind, ErrorKind::Corrupt, "{said}");
    assert!(dir.path().join("before.complete").exists());
    named(dir.path(), |name| name.starts_with("before.MANIFEST-"));
    named(dir.path(), |name| name.starts_with("before.0"));
}

/// LevelDB's cursors step over a block that does not check out.
#[test]
fn a_damaged_block_is_told_by_a_scan_that_steps_over_it() {
    let dir = tempfile::tempdir().unwrap();
    filled_with(&LeveldbEngine::open(dir.path()).unwrap(), 10_000);
    drop(LeveldbEngine::open(dir.path()).unwrap());
    let path = named(dir.path(), |name| name.ends_with(".ldb"));
    let mut table = std::fs::read(&path).unwrap();
    let middle = table.len() / 2;
    table[middle] ^= 1;
    std::fs::write(&path, table).unwrap();
    let engine = LeveldbEngine::open(dir.path()).unwrap();
    let scanned = engine.scan(b"", &[0xff; 4], usize::MAX).unwrap_err();
    assert_eq!(scanned.kind(), ErrorKind::Corrupt, "{scanned}");
    drop(engine);
    let error = LeveldbEngine::open_checked(dir.path()).err().unwrap();
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
    filled(dir.path());
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
    drop(LeveldbEngine::open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join(MARKER)).unwrap();
    std::fs::remove_file(manifest(dir.path())).unwrap();
    assert!(keys(dir.path()).is_empty());
}

/// The library's own files, kept as they were written: a log of three batches and the manifest
/// that names it. LevelDB 1.23.
#[test]
fn files_of_the_library_are_read() {
    let golden = Path::new("tests/golden");
    let log = std::fs::read(golden.join("000003.log")).unwrap();
    let records: Vec<_> = Records::of(&log).collect();
    let first = |n: usize| u64::from_le_bytes(records[n].bytes[..8].try_into().unwrap());
    assert_eq!((records.len(), first(0), first(1), first(2)), (3, 1, 2, 4));
    assert_eq!(records[2].end, log.len());
    let manifest = std::fs::read(golden.join("MANIFEST-000002")).unwrap();
    let numbers: Vec<_> = Records::of(&manifest)
        .map(|r| log_number(&r.bytes))
        .collect();
    assert_eq!(numbers.into_iter().flatten().flatten().last(), Some(3));
}
