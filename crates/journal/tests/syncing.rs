// SPDX-License-Identifier: Apache-2.0
//! Syncs from several threads: the system tells of a failed one once, to one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_journal::{Disk, DiskError, Journal, JournalOptions, MemDisk, Record, RecordKind, Space};
use dulse_types::{Origin, Stamp};

/// How long a sync waits for a second one beside it, which must not come.
const BESIDE: Duration = Duration::from_millis(200);

/// The first of the syncs that are counted fails, and waits for others before it says so.
struct Reporting {
    disk: MemDisk,
    is_counting: AtomicUsize,
    n_syncs: AtomicUsize,
}

impl Disk for Reporting {
    fn sync(&self, file: &str) -> Result<(), DiskError> {
        if self.is_counting.load(Ordering::SeqCst) == 0 {
            return self.disk.sync(file);
        }
        if self.n_syncs.fetch_add(1, Ordering::SeqCst) > 0 {
            // The system holds the pages for clean since the first one failed.
            return Ok(());
        }
        let began = Instant::now();
        while self.n_syncs.load(Ordering::SeqCst) == 1 && began.elapsed() < BESIDE {
            std::thread::yield_now();
        }
        self.disk.fail_at(1);
        self.disk.sync(file)
    }

    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.append(file, bytes)
    }

    fn rewrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.rewrite(file, offset, bytes)
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.disk.read_at(file, offset, len)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        self.disk.len(file)
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError> {
        self.disk.truncate(file, len)
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.replace(file, bytes)
    }

    fn remove(&self, file: &str) -> Result<(), DiskError> {
        self.disk.remove(file)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }

    fn space(&self) -> Result<Option<Space>, DiskError> {
        self.disk.space()
    }

    fn reserve(&self, file: &str, len: u64) -> Result<(), DiskError> {
        self.disk.reserve(file, len)
    }
}

#[test]
fn whoever_syncs_beside_one_that_fails_is_not_told_that_all_is_on_disk() {
    let disk = Arc::new(Reporting {
        disk: MemDisk::new(),
        is_counting: AtomicUsize::new(0),
        n_syncs: AtomicUsize::new(0),
    });
    let options = JournalOptions {
        store: 7,
        segment_size_bytes: 4_000,
    };
    let (journal, _) = Journal::open(Arc::clone(&disk) as Arc<dyn Disk>, options).unwrap();
    let record = Record {
        kind: RecordKind::Change,
        origin: Origin::new(1, 1).unwrap(),
        stamp: Stamp(1),
        prev: Stamp(0),
        payload: Bytes::from_static(b"payload"),
    };
    journal.append(&[record]).unwrap();
    disk.is_counting.store(1, Ordering::SeqCst);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads = [(), ()].map(|()| scope.spawn(|| journal.sync()));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert!(results.iter().all(Result::is_err), "{results:?}");
    assert_eq!(disk.n_syncs.load(Ordering::SeqCst), 1);
    assert!(journal.synced() < journal.end());
}
