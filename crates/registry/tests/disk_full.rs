// SPDX-License-Identifier: Apache-2.0
//! A disk that is really full: a small tmpfs with journal and engine on it, in a mount
//! namespace of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use dulse_registry::open_embedded;
use dulse_replica::{Durability, ReplicaStore};
use dulse_store::{EntryStore, Error, ErrorKind, Step, Transaction};
use dulse_types::entry::UnknownFields;
use dulse_types::{EntryFields, FullPath};

/// Size of the file system.
const SIZE: &str = "size=56m";

/// What is taken from the start and given back at the end, in bytes.
const BALLAST: usize = 12 << 20;

/// Callers at once.
const GROUP: usize = 64;

/// Set for the process that runs inside; holds where the file system is mounted.
const INSIDE: &str = "DULSE_TEST_TMPFS";

/// Gives the small file system; `None` in the process that starts another one inside.
fn inside(test: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(INSIDE) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let is_root = Command::new("unshare").args(["-m", "true"]).status();
    let is_root = is_root.expect("`unshare` is needed").success();
    let script = format!("mount -t tmpfs -o {SIZE} none \"$0\" && exec \"$@\"");
    let status = Command::new("unshare")
        .arg(if is_root { "-m" } else { "-Urm" })
        .args(["sh", "-c", &script])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, dir.path())
        .status();
    assert!(status.unwrap().success(), "see the output above");
    None
}

fn path(n: usize) -> FullPath {
    FullPath::parse(&format!("/d{}/f{n}", n % 100)).unwrap()
}

fn create(n: usize) -> Transaction {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    fields.content = vec![n as u8; 600].into();
    Transaction {
        steps: vec![Step::Create {
            path: path(n),
            entry: fields.to_entry(&UnknownFields::default()),
        }],
        ..Transaction::default()
    }
}

/// Creates files from `from` on, many at once; gives the results.
fn create_group(store: &ReplicaStore, from: usize) -> Vec<Result<(), Error>> {
    let (done, answers) = channel();
    for n in from..from + GROUP {
        let done = done.clone();
        store.commit(
            create(n),
            Box::new(move |result| done.send((n, result.map(drop))).unwrap()),
        );
    }
    let mut results: Vec<_> = (0..GROUP).map(|_| answers.recv().unwrap()).collect();
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

fn has_all(store: &ReplicaStore, n_files: usize) -> bool {
    (0..n_files).all(|n| store.find(&path(n)).unwrap().is_some())
}

fn open(engine: &str, dir: &Path, durability: Durability) -> ReplicaStore {
    open_embedded(engine, &dir.join("store"), &durability.into(), 1 << 32 | 1).unwrap()
}

/// Writes until the disk is full; gives how many files there are then.
fn fill(store: &ReplicaStore, mut n_files: usize) -> usize {
    loop {
        assert!(n_files < 400_000, "the disk never gets full");
        let results = create_group(store, n_files);
        let n_made = results.iter().take_while(|result| result.is_ok()).count();
        n_files += n_made;
        if let Some(Err(error)) = results.get(n_made) {
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
            assert!(results[n_made..].iter().all(Result::is_err));
            return n_files;
        }
    }
}

/// Others take what is left, to the last byte.
fn take_the_rest(dir: &Path) {
    let mut junk = std::fs::File::create(dir.join("junk")).unwrap();
    let block = vec![7; 1 << 16];
    while std::io::Write::write(&mut junk, &block).is_ok_and(|n| n > 0) {}
}

fn run(engine: &str, dir: &Path, durability: Durability) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST]).unwrap();
    let store = open(engine, dir, durability);
    let n_files = fill(&store, 0);
    assert!(n_files > 2_000, "{n_files}");
    assert!(has_all(&store, n_files), "reads go on");
    // A restart finds room for its recovery.
    drop(store);
    let store = open(engine, dir, durability);
    assert!(has_all(&store, n_files), "nothing is lost");
    // An engine may give back what it does not need when it is opened.
    let n_files = fill(&store, n_files);
    take_the_rest(dir);
    let error = create_group(&store, n_files).remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
    assert!(has_all(&store, n_files), "reads go on");
    // Room comes back, and nobody restarts anything.
    std::fs::remove_file(dir.join("junk")).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let results = create_group(&store, n_files);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let n_files = n_files + GROUP;
    let digest = store.shared().digest();
    drop(store);
    let store = open(engine, dir, durability);
    assert!(has_all(&store, n_files));
    assert_eq!(store.shared().digest(), digest);
    println!("{engine}: {n_files} files on {SIZE}");
}

#[test]
fn redb_refuses_reads_on_and_resumes() {
    if let Some(dir) = inside("redb_refuses_reads_on_and_resumes") {
        run("redb", &dir, Durability::Fsync);
    }
}

#[test]
fn redb_does_so_under_os_durability() {
    if let Some(dir) = inside("redb_does_so_under_os_durability") {
        run("redb", &dir, Durability::Os);
    }
}

#[test]
fn sqlite_refuses_reads_on_and_resumes() {
    if let Some(dir) = inside("sqlite_refuses_reads_on_and_resumes") {
        run("sqlite", &dir, Durability::Fsync);
    }
}
