// SPDX-License-Identifier: Apache-2.0
//! What was synced is read back after a crash at any byte; damage is refused.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{
    Checkpoint, Disk, Journal, JournalError, JournalOptions, MemDisk, RealDisk, Record, RecordKind,
};
use dulse_types::{Origin, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

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

const FIRST: &str = "00000000000000000000.seg";

fn open(disk: &MemDisk) -> Result<Journal, JournalError> {
    Journal::open(Arc::new(disk.clone()), OPTIONS).map(|(journal, _)| journal)
}

/// Small enough for one segment.
fn five() -> Vec<Record> {
    (1..6).map(|n| record(n, 20)).collect()
}

#[test]
fn damage_that_a_later_mark_proves_is_refused() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.append(&five()).unwrap();
    journal.sync().unwrap();
    journal.append(&[record(6, 20)]).unwrap();
    disk.corrupt(FIRST, 32 + 40);
    assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })));
}

#[test]
fn damage_before_the_checkpoint_is_refused() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.append(&five()).unwrap();
    let position = journal.sync().unwrap();
    let content = Vec::new();
    journal
        .write_checkpoint(&Checkpoint { position, content })
        .unwrap();
    disk.corrupt(FIRST, 32 + 40);
    assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })));
}

#[test]
fn damage_of_a_sealed_segment_is_refused_where_it_is_read() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    for n in 1..30 {
        journal.append(&[record(n, 60)]).unwrap();
    }
    disk.corrupt(FIRST, 32 + 40);
    let read = open(&disk).unwrap().read(0, 300, usize::MAX);
    assert!(matches!(read, Err(JournalError::Corrupt { .. })));
    // Without its index it is read at once.
    disk.remove("00000000000000000000.idx").unwrap();
    assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })));
}

/// A disk writes blocks in any order: a group may lose one in its middle and keep the rest,
/// and whole groups that were not synced may lie behind it. All that is a torn tail.
#[test]
fn a_tail_torn_with_a_hole_is_cut_and_nothing_synced_is_lost() {
    let rng = &mut StdRng::seed_from_u64(5);
    let (mut n_torn, mut n_whole) = (0, 0);
    for round in 0..2_000 {
        let disk = MemDisk::new();
        let options = JournalOptions {
            segment_size_bytes: 2_000,
            ..OPTIONS
        };
        let open = || Journal::open(Arc::new(disk.clone()), options);
        let (journal, _) = open().unwrap();
        let mut written = Vec::new();
        let mut n_synced = 0;
        for _ in 0..rng.random_range(1..12) {
            let group: Vec<Record> = (0..rng.random_range(1..5))
                .map(|n| record(1 + written.len() as i64 + n, rng.random_range(0..90)))
                .collect();
            journal.append(&group).unwrap();
            written.extend(group);
            if rng.random_bool(0.3) {
                journal.sync().unwrap();
            }
            let synced = journal.synced();
            n_synced = journal.read(0, synced, usize::MAX).unwrap().len();
        }
        disk.crash_blocks(64, || rng.random_bool(0.7));
        let (journal, recovery) = open().unwrap_or_else(|e| panic!("round {round}: {e}"));
        let found = all(&journal);
        assert!(written.starts_with(&found), "round {round}: no prefix");
        assert!(found.len() >= n_synced, "round {round}: synced and lost");
        n_torn += u32::from(recovery.torn_bytes > 0);
        n_whole += u32::from(found.len() == written.len());
    }
    assert!(
        n_torn > 200 && n_whole > 200,
        "{n_torn} torn, {n_whole} whole"
    );
}

#[test]
fn what_was_only_in_memory_is_on_disk_once_the_log_is_open() {
    let disk = MemDisk::new();
    open(&disk).unwrap().append(&five()).unwrap();
    // kill -9: the system still has it, and the new process tells others of it.
    let journal = open(&disk).unwrap();
    assert_eq!(journal.synced(), journal.end());
    disk.crash(|_| 0);
    assert_eq!(all(&open(&disk).unwrap()), five());
}

#[test]
fn a_failed_sync_closes_the_log_for_writing() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.append(&five()).unwrap();
    disk.fail_next("sync");
    assert!(journal.sync().is_err());
    // The disk works again, but what it forgot does not come back.
    assert!(matches!(journal.sync(), Err(JournalError::Poisoned)));
    let appended = journal.append(&[record(6, 1)]);
    assert!(matches!(appended, Err(JournalError::Poisoned)));
    assert_eq!(journal.synced(), 0);
    assert_eq!(all(&journal), five(), "reads go on");
}

#[test]
fn a_failed_sync_of_a_full_segment_closes_the_log_for_writing() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.append(&[record(1, 500)]).unwrap();
    disk.fail_next("sync");
    assert!(journal.append(&[record(2, 1)]).is_err());
    let appended = journal.append(&[record(2, 1)]);
    assert!(matches!(appended, Err(JournalError::Poisoned)));
    assert_eq!(disk.list().unwrap(), [FIRST]);
}

#[test]
fn a_segment_that_could_not_be_begun_leaves_no_file_and_the_next_try_works() {
    for n in 0..3 {
        let disk = MemDisk::new();
        let journal = open(&disk).unwrap();
        journal.append(&[record(1, 500)]).unwrap();
        journal.sync().unwrap();
        match n {
            0 => disk.set_full(true),
            1 => disk.fail_next("append to"),
            _ => disk.fail_next("sync"),
        }
        assert!(journal.append(&[record(2, 1)]).is_err());
        assert_eq!(disk.list().unwrap(), [FIRST], "case {n}");
        disk.set_full(false);
        journal.append(&[record(2, 1)]).unwrap();
        journal.sync().unwrap();
        assert_eq!(all(&open(&disk).unwrap()).len(), 2, "case {n}");
    }
}

/// What could not be taken back may be half there: writing behind it would be lost.
#[test]
fn a_failed_write_that_cannot_be_taken_back_closes_the_log() {
    // The append itself; and the sync of a new segment's header, behind its append.
    for (len, fault) in [(1, 1), (500, 2)] {
        let disk = MemDisk::new();
        let journal = open(&disk).unwrap();
        journal.append(&[record(1, len)]).unwrap();
        journal.sync().unwrap();
        disk.fail_at(fault);
        assert!(journal.append(&[record(2, 1)]).is_err());
        disk.fail_at(1_000_000);
        let appended = journal.append(&[record(2, 1)]);
        assert!(matches!(appended, Err(JournalError::Poisoned)), "{len}");
    }
}

#[test]
fn a_segment_that_cannot_be_dropped_stays_and_goes_with_the_next_call() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    for n in 1..30 {
        journal.append(&[record(n, 200)]).unwrap();
    }
    disk.fail_next("remove");
    assert!(journal.drop_before(journal.end()).is_err());
    assert_eq!(all(&open(&disk).unwrap()).len(), 29);
    assert!(journal.drop_before(journal.end()).unwrap() > 0);
    assert_eq!(all(&open(&disk).unwrap()), all(&journal));
}

#[test]
fn a_checkpoint_ahead_of_the_log_is_refused() {
    let disk = MemDisk::new();
    let checkpoint = Checkpoint {
        position: 500,
        content: Vec::new(),
    };
    open(&disk).unwrap().write_checkpoint(&checkpoint).unwrap();
    let error = open(&disk).map(drop).unwrap_err();
    assert!(matches!(error, JournalError::Ahead { .. }));
    assert!(
        error
            .to_string()
            .contains("the log lost what the engine has")
    );
}

#[test]
fn opening_reads_the_last_segment_and_of_the_others_only_their_index() {
    let disk = MemDisk::new();
    let options = JournalOptions {
        segment_size_bytes: 20_000,
        ..OPTIONS
    };
    let open = || Journal::open(Arc::new(disk.clone()), options).unwrap();
    let (journal, _) = open();
    for n in 1..2_000 {
        journal.append(&[record(n, 200)]).unwrap();
    }
    journal.sync().unwrap();
    let written = all(&journal);
    let before = disk.n_bytes_read();
    let (journal, recovery) = open();
    let read = disk.n_bytes_read() - before;
    assert!(recovery.scanned_bytes < 21_000, "{recovery:?}");
    assert!(read < 70_000, "{read} of {} bytes", journal.end());
    let origin = Origin::new(1, 2).unwrap();
    for after in [0, 77, 1_000, 1_998, 3_000] {
        let got = journal.read_origin_after(origin, Stamp(after), 5_000);
        let of_origin = written
            .iter()
            .filter(|r| r.origin == origin && r.stamp.0 > after);
        let got = got.unwrap();
        let expect: Vec<Record> = of_origin.take(got.len().max(1)).cloned().collect();
        assert_eq!(got, expect, "after {after}");
    }
    // A lost index is made anew, as it was.
    let index = "00000000000000000000.idx";
    let bytes = disk.read_at(index, 0, 1 << 20).unwrap();
    disk.corrupt(index, 40);
    assert!(open().1.scanned_bytes > 20_000);
    assert_eq!(disk.read_at(index, 0, 1 << 20).unwrap(), bytes);
    assert!(open().1.scanned_bytes < 21_000);
}

#[test]
fn a_real_directory_is_for_one_process_and_reads_make_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path()).unwrap();
    let second = RealDisk::open(dir.path()).map(drop).unwrap_err();
    assert!(second.is_locked(), "{second}");
    assert!(disk.read_at(FIRST, 0, 10).is_err());
    assert!(disk.sync(FIRST).is_err());
    assert_eq!(disk.list().unwrap(), ["lock"]);
    drop(disk);
    assert!(RealDisk::open(dir.path()).is_ok());
}

#[test]
fn a_real_disk_reserves_room_and_writes_over() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path()).unwrap();
    let before = disk.space().unwrap().unwrap();
    assert!(before.free_bytes > 0 && before.free_bytes <= before.total_bytes);
    disk.reserve("reserve", 3 << 20).unwrap();
    assert_eq!(disk.len("reserve").unwrap(), 3 << 20);
    assert!(disk.reserve("too big", 1 << 60).is_err());
    assert_eq!(disk.len("too big").unwrap(), 0);
    disk.append("a", b"some bytes").unwrap();
    disk.rewrite("a", 5, b"bytes").unwrap();
    assert_eq!(disk.read_at("a", 0, 100).unwrap(), b"some bytes");
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
