// SPDX-License-Identifier: Apache-2.0
//! What passes, and what does not.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use dulse_journal::{MemDisk, Space};
use dulse_kv::MemoryEngine;
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};
use dulse_store::{Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{EntryFields, FullPath};

use super::*;

const PAUSE: Duration = Duration::from_millis(10);

const N_CHANGES: u64 = 5;

fn mkdir(path: &str) -> Transaction {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    Transaction {
        steps: vec![Step::Create {
            path: FullPath::parse(path).unwrap(),
            entry: fields.to_entry(&UnknownFields::default()),
        }],
        ..Transaction::default()
    }
}

/// A store with some changes that was set aside: where, and whose it is.
async fn set_aside(dir: &Path) -> (PathBuf, Origin) {
    let level = Durability::Fsync.into();
    let store = dulse_registry::open_embedded("redb", dir, &level, 7 << 32 | 7).unwrap();
    let origin = store.shared().origin();
    for i in 0..N_CHANGES {
        store.commit_async(mkdir(&format!("/{i}"))).await.unwrap();
    }
    drop(store);
    (dulse_registry::quarantine(dir, "a test").unwrap(), origin)
}

fn fresh(disk: &MemDisk) -> ReplicaStore {
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(disk.clone()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(SystemClock),
        random: 8 << 32 | 8,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    });
    ReplicaStore::start(replica.unwrap()).unwrap()
}

fn room(free_bytes: u64) -> Option<Space> {
    Some(Space {
        free_bytes,
        total_bytes: 1 << 40,
    })
}

/// Bug: the first change that could not be merged ended the rescue until a restart, and all of
/// the log was told as lost.
#[tokio::test]
async fn what_cannot_be_merged_now_is_merged_later() {
    let dir = tempfile::tempdir().unwrap();
    let (aside, origin) = set_aside(dir.path()).await;
    let disk = MemDisk::new();
    disk.set_space(room(100));
    let store = fresh(&disk);
    assert!(store.apply_remote(Vec::new()).await.is_err());
    let (found, ()) = tokio::join!(gather(&store, &aside, PAUSE), async {
        tokio::time::sleep(5 * PAUSE).await;
        disk.set_space(None);
    });
    let found = found.unwrap();
    assert_eq!(found.n_rescued, N_CHANGES);
    assert_eq!((found.n_lost, found.n_refused), (0, 0));
    assert_eq!(found.origin, Some(origin));
    assert!(found.unreadable.is_none());
}

/// Bug: a log that could not be opened ended the rescue, and its origin stayed a member for which
/// all waited.
#[tokio::test]
async fn whose_a_log_is_that_cannot_be_read_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (aside, origin) = set_aside(dir.path()).await;
    let mut files = std::fs::read_dir(aside.join("journal")).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let segment = files.find_map(|file| Some(file.unwrap().path()).filter(is_segment));
    let segment = std::fs::OpenOptions::new()
        .write(true)
        .open(segment.unwrap());
    // Of the first record, which the checkpoint at the end says was on disk.
    segment.unwrap().write_all_at(&[0xa5; 8], 40).unwrap();
    let store = fresh(&MemDisk::new());
    let found = gather(&store, &aside, PAUSE).await.unwrap();
    assert!(matches!(
        found.unreadable,
        Some(JournalError::Corrupt { .. })
    ));
    assert_eq!((found.n_rescued, found.origin), (0, Some(origin)));
}

/// Bug: an origin that could not be removed when its log had been gone through was never removed.
#[tokio::test]
async fn a_removal_that_fails_is_tried_again_and_one_that_somebody_made_is_none() {
    let (old, n) = (Origin(7), AtomicUsize::new(0));
    let remove = |last: fn() -> Result<Stamp, RemoveError>| {
        n.store(0, Ordering::Relaxed);
        let n = &n;
        move || async move {
            match n.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(RemoveError::NotReady("a test".to_owned())),
                _ => last(),
            }
        }
    };
    let done: [fn() -> _; 3] = [
        || Ok(Stamp(1)),
        || Err(RemoveError::Unknown(Origin(7))),
        || Err(RemoveError::Own(Origin(7))),
    ];
    for last in done {
        until_removed(old, PAUSE, remove(last)).await;
        assert_eq!(n.load(Ordering::Relaxed), 3);
    }
}
