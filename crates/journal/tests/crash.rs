// SPDX-License-Identifier: Apache-2.0
//! What was synced is read back after a crash at any byte; damage is refused.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Journal, JournalError, JournalOptions, MemDisk, RealDisk, Record, RecordKind};
use dulse_types::{Origin, Stamp};

const OPTIONS: JournalOptions = JournalOptions {
    store: 7,
    segment_size_bytes: 400,
};

fn record(n: i64, len: usize) -> Record {
    let origin = Origin::new(1, 1 + (n % 2) as u32).unwrap();
    let payload = Bytes::from(vec![n as u8; len]);
    Record {
        kind: RecordKind::Change,
        origin,
        stamp: Stamp(n),
        prev: Stamp(n - 2),
        payload,
    }
}

fn all(journal: &Journal) -> Vec<Record> {
    let rows = journal
        .read(journal.begin(), journal.end(), usize::MAX)
        .unwrap();
    rows.into_iter().map(|(record, _)| record).collect()
}

#[test]
fn records_are_read_back_over_segments_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let written: Vec<Record> = (1..100).map(|n| record(n, n as usize)).collect();
    for part in written.chunks(7) {
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let (journal, recovery) = Journal::open(disk, OPTIONS).unwrap();
        assert_eq!(recovery.torn_bytes, 0);
        journal.append(part).unwrap();
        assert_eq!(journal.sync().unwrap(), journal.end());
    }
    let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
    let (journal, _) = Journal::open(disk, OPTIONS).unwrap();
    assert_eq!(all(&journal), written);
    let origin = Origin::new(1, 1).unwrap();
    for after in [0, 1, 50, 97, 98, 200] {
        let got = journal
            .read_origin_after(origin, Stamp(after), usize::MAX)
            .unwrap();
        let expect: Vec<_> = written
            .iter()
            .filter(|r| r.origin == origin && r.stamp.0 > after)
            .cloned()
            .collect();
        assert_eq!(got, expect, "after {after}");
        let counted = journal.count_after(origin, Stamp(after)).unwrap();
        assert_eq!(counted, expect.len() as u64, "after {after}");
    }
    journal.drop_before(journal.end() / 2).unwrap();
    assert!(journal.begin() > 0 && journal.begin() <= journal.end() / 2);
    assert!(matches!(
        journal.read(0, 10, 10),
        Err(JournalError::Gap { .. })
    ));
}

#[test]
fn a_crash_at_any_byte_keeps_what_was_synced() {
    for keep in 0..300 {
        let disk = MemDisk::new();
        let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
        let written: Vec<Record> = (1..8).map(|n| record(n, 20)).collect();
        journal.append(&written[..3]).unwrap();
        journal.sync().unwrap();
        journal.append(&written[3..]).unwrap();
        disk.crash(|_| keep);
        let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
        let found = all(&journal);
        assert!(
            found.len() >= 3 && written.starts_with(&found),
            "keep {keep}"
        );
        journal.append(&[record(50, 5)]).unwrap();
        journal.sync().unwrap();
        let (journal, recovery) = Journal::open(Arc::new(disk), OPTIONS).unwrap();
        assert_eq!(recovery.torn_bytes, 0);
        assert_eq!(all(&journal).len(), found.len() + 1);
    }
}

#[test]
fn a_fault_at_any_operation_loses_nothing_synced() {
    for n in 1..40 {
        let disk = MemDisk::new();
        let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
        disk.fail_at(n);
        let mut synced = 0;
        for i in 1..30 {
            if journal.append(&[record(i, 60)]).is_err() || journal.sync().is_err() {
                break;
            }
            synced = i as usize;
        }
        disk.crash(|unsynced| unsynced / 2);
        let (journal, _) = Journal::open(Arc::new(disk), OPTIONS).unwrap();
        assert!(all(&journal).len() >= synced, "fault at {n}");
    }
}

#[test]
fn a_full_disk_is_told_and_appends_go_on_when_there_is_room() {
    let disk = MemDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
    disk.set_full(true);
    assert!(journal.append(&[record(1, 5)]).unwrap_err().is_full());
    disk.set_full(false);
    journal.append(&[record(1, 5)]).unwrap();
    assert_eq!(all(&journal).len(), 1);
}

#[test]
fn damage_before_the_tail_is_refused() {
    let disk = MemDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
    journal
        .append(&(1..6).map(|n| record(n, 20)).collect::<Vec<_>>())
        .unwrap();
    journal.sync().unwrap();
    disk.corrupt("00000000000000000000.seg", 32 + 40);
    let opened = Journal::open(Arc::new(disk), OPTIONS);
    assert!(matches!(opened.err(), Some(JournalError::Corrupt { .. })));
}

#[test]
fn another_stores_log_is_refused() {
    let disk = MemDisk::new();
    Journal::open(Arc::new(disk.clone()), OPTIONS).unwrap();
    let opened = Journal::open(
        Arc::new(disk),
        JournalOptions {
            store: 8,
            ..OPTIONS
        },
    );
    assert!(matches!(
        opened.err(),
        Some(JournalError::OtherStore { .. })
    ));
}
