// SPDX-License-Identifier: Apache-2.0
//! Stores in files: one owner, copies as a kill would leave them, damage.

use std::path::Path;

use dulse_kv::ErrorKind;

use crate::case::{Body, Case, Open, Suite};
use crate::model::{all, put};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "files",
    cases: &[
        Case {
            name: "a_second_open_is_refused",
            body: Body::Open(a_second_open_is_refused),
        },
        Case {
            name: "a_kill_at_any_batch_leaves_a_prefix",
            body: Body::Open(a_kill_at_any_batch_leaves_a_prefix),
        },
        Case {
            name: "a_missing_directory_is_an_error",
            body: Body::Open(a_missing_directory_is_an_error),
        },
        Case {
            name: "a_file_of_something_else_is_refused",
            body: Body::Open(a_file_of_something_else_is_refused),
        },
        Case {
            name: "files_are_what_usage_says",
            body: Body::Open(files_are_what_usage_says),
        },
    ],
};

fn a_second_open_is_refused(open: &Open, dir: &Path) {
    let first = open(dir).unwrap();
    first.write(put(b"a", b"1")).unwrap();
    let second = open(dir).err().expect("a second open must fail");
    assert_eq!(second.kind(), ErrorKind::Locked, "{second}");
    first.write(put(b"b", b"2")).unwrap();
    drop(first);
    drop(open(dir).unwrap());
}

/// After a kill the system still writes what it was given, so the files at that moment are
/// what the next process finds.
fn a_kill_at_any_batch_leaves_a_prefix(open: &Open, dir: &Path) {
    let (live, copies) = (dir.join("live"), dir.join("copies"));
    std::fs::create_dir(&live).unwrap();
    let engine = open(&live).unwrap();
    let mut checkpointed = 0;
    for n in 0..30u8 {
        engine.write(put(&[n], &[n; 3000])).unwrap();
        if n % 8 == 7 {
            engine.checkpoint().unwrap();
            checkpointed = usize::from(n) + 1;
        }
        let copy = copies.join(n.to_string());
        std::fs::create_dir_all(&copy).unwrap();
        for file in std::fs::read_dir(&live).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let rows = all(&*open(&copy).unwrap());
        assert!((checkpointed..=usize::from(n) + 1).contains(&rows.len()));
        assert!(rows.keys().map(|key| usize::from(key[0])).eq(0..rows.len()));
    }
}

/// Files that nothing reads: diaries, and options as they were set.
fn is_unread(name: &str) -> bool {
    name.starts_with("LOG") || name.starts_with("OPTIONS-")
}

fn a_missing_directory_is_an_error(open: &Open, dir: &Path) {
    let error = open(&dir.join("missing")).err().expect("opening must fail");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

fn a_file_of_something_else_is_refused(open: &Open, dir: &Path) {
    drop(open(dir).unwrap());
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let largest = files
        .filter(|file| !is_unread(&file.file_name().to_string_lossy()))
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    let text = b"This is no store. ".repeat(4000);
    std::fs::write(largest.path(), &text).unwrap();
    let error = open(dir).err().expect("opening must fail");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        std::fs::read(largest.path()).unwrap() == text,
        "what is not ours is left alone"
    );
}

fn files_are_what_usage_says(open: &Open, dir: &Path) {
    let engine = open(dir).unwrap();
    for n in 0..100u8 {
        engine.write(put(&[n], &[n; 10_000])).unwrap();
    }
    engine.checkpoint().unwrap();
    let usage = engine.usage().unwrap();
    assert!(usage.disk_bytes >= 1_000_000, "{usage:?}");
}
