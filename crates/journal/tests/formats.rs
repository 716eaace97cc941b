// SPDX-License-Identifier: Apache-2.0
//! The bytes of segment headers and of the checkpoint file are the documented ones, and no
//! bytes found on disk make the journal panic.

use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{
    Checkpoint, Disk, Journal, JournalError, JournalOptions, MemDisk, Record, RecordKind,
};
use dulse_types::{Origin, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const OPTIONS: JournalOptions = JournalOptions {
    store: 0x0102_0304_0506_0708,
    segment_size_bytes: 400,
};

const FIRST: &str = "00000000000000000000.seg";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(disk: &MemDisk) -> Result<Journal, JournalError> {
    Journal::open(Arc::new(disk.clone()), OPTIONS).map(|(journal, _)| journal)
}

/// A log of several segments, each record synced, and a checkpoint.
fn filled() -> MemDisk {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    for n in 1..25_i64 {
        let record = Record {
            kind: RecordKind::Change,
            origin: Origin::new(1, 1).unwrap(),
            stamp: Stamp(n),
            prev: Stamp(n - 1),
            payload: Bytes::from(vec![n as u8; 3 * n as usize]),
        };
        journal.append(&[record]).unwrap();
        journal.sync().unwrap();
    }
    journal.write_checkpoint(&checkpoint()).unwrap();
    disk
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        position: 100,
        content: b"content".to_vec(),
    }
}

fn change() -> Record {
    Record {
        kind: RecordKind::Change,
        origin: Origin::new(1, 2).unwrap(),
        stamp: Stamp(0x1112_1314_1516_1718),
        prev: Stamp(0x0102_0304_0506_0708),
        payload: Bytes::from_static(b"payload"),
    }
}

#[test]
fn the_bytes_of_a_segment_header_are_the_documented_ones() {
    let disk = MemDisk::new();
    open(&disk).unwrap();
    let header = disk.read_at(FIRST, 0, 100).unwrap();
    let expect = concat!(
        "44554c53454a4e4c", // magic
        "0001",             // format
        "0000",             // reserved
        "0102030405060708", // store
        "0000000000000000", // first position
        "47d5fa49",         // checksum
    );
    assert_eq!(hex(&header), expect);
}

#[test]
fn the_bytes_of_records_are_the_documented_ones() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.append(&[change()]).unwrap();
    journal.sync().unwrap();
    let ceiling = Record {
        kind: RecordKind::ClockCeiling,
        stamp: Stamp(0),
        payload: Bytes::new(),
        ..change()
    };
    journal.append(&[ceiling]).unwrap();
    let bytes = disk.read_at(FIRST, 32, 200).unwrap();
    let expect = concat!(
        "00000007",         // length of the payload
        "9691d994",         // checksum
        "01",               // kind: change
        "00",               // flags
        "0000000100000002", // origin
        "1112131415161718", // stamp
        "0102030405060708", // prev
        "7061796c6f6164",   // payload
        "00000000",         // a mark: no payload
        "a6b081e8",         // checksum
        "05",               // kind: synced
        "00",               // flags
        "0102030405060708", // store
        "0000000000000029", // all before this position is on disk
        "0000000000000029", // its own position
        "00000000",         // a ceiling: no payload
        "cb33dcbb",         // checksum
        "02",               // kind: clock ceiling
        "00",               // flags
        "0000000100000002", // origin
        "0000000000000000", // stamp
        "0102030405060708", // the ceiling
    );
    assert_eq!(hex(&bytes), expect);
}

#[test]
fn the_bytes_of_an_index_are_the_documented_ones() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    for n in 1..10 {
        let record = Record {
            stamp: Stamp(n),
            prev: Stamp(n - 1),
            ..change()
        };
        journal.append(&[record]).unwrap();
    }
    journal.append(&[change()]).unwrap();
    journal.append(&[change()]).unwrap();
    let bytes = disk.read_at("00000000000000000000.idx", 0, 200).unwrap();
    let expect = concat!(
        "44554c5345494458", // magic
        "0001",             // format
        "0000",             // reserved
        "0102030405060708", // store
        "0000000000000000", // first position
        "000000000000019a", // position behind the last record
        "1112131415161718", // greatest stamp
        "01",               // origins
        "0000000100000002", // origin
        "1112131415161718", // its last stamp
        "0a",               // records
        "01",               // marks
        "01",               // stamp, from the one before
        "00",               // position, from the one before
        "00",               // records before it
        "03b08e10",         // checksum
    );
    assert_eq!(hex(&bytes), expect);
}

#[test]
fn the_bytes_of_a_checkpoint_are_the_documented_ones() {
    let disk = MemDisk::new();
    let journal = open(&disk).unwrap();
    journal.write_checkpoint(&checkpoint()).unwrap();
    let bytes = disk.read_at("checkpoint", 0, 100).unwrap();
    let expect = concat!(
        "5cf0a48c",         // checksum
        "01",               // format
        "0000000000000064", // position
        "636f6e74656e74",   // content
    );
    assert_eq!(hex(&bytes), expect);
}

/// A later version's files are refused by name and number, not as damage.
#[test]
fn a_later_format_is_refused_with_a_clear_error() {
    let whole = filled();
    for (file, at) in [
        ("00000000000000000000.seg", 9),
        ("00000000000000000000.idx", 9),
        ("checkpoint", 4),
    ] {
        let disk = MemDisk::new();
        for name in whole.list().unwrap() {
            let mut bytes = whole.read_at(&name, 0, usize::MAX >> 1).unwrap();
            if name == file {
                bytes[at] = 7;
                if name == "checkpoint" {
                    let sum = crc32c::crc32c(&bytes[4..]);
                    bytes[..4].copy_from_slice(&sum.to_be_bytes());
                }
            }
            disk.replace(&name, &bytes).unwrap();
        }
        let error = open(&disk).map(drop).unwrap_err();
        let expect = format!("`{file}` has format version 7, this program reads 1; upgrade it");
        assert_eq!(error.to_string(), expect);
    }
}

#[test]
fn a_spoiled_bit_of_a_checkpoint_is_found() {
    let disk = filled();
    let len = usize::try_from(disk.len("checkpoint").unwrap()).unwrap();
    for at in 0..len {
        disk.corrupt("checkpoint", at);
        let opened = open(&disk);
        assert!(
            matches!(opened, Err(JournalError::Corrupt { .. })),
            "byte {at}"
        );
        disk.corrupt("checkpoint", at);
    }
    let (_, recovery) = Journal::open(Arc::new(disk), OPTIONS).unwrap();
    assert_eq!(recovery.checkpoint, Some(checkpoint()));
}

#[test]
fn fuzz_no_bytes_on_disk_make_the_journal_panic_or_give_other_records() {
    let whole = filled();
    let journal = open(&whole).unwrap();
    let written = journal.read(0, journal.end(), usize::MAX).unwrap();
    let names = whole.list().unwrap();
    let rng = &mut StdRng::seed_from_u64(11);
    for round in 0..3_000 {
        let disk = MemDisk::new();
        for name in &names {
            let bytes = whole.read_at(name, 0, usize::MAX >> 1).unwrap();
            disk.append(name, &bytes).unwrap();
        }
        for _ in 0..rng.random_range(1..4) {
            spoil(&disk, &names[rng.random_range(0..names.len())], rng);
        }
        let Ok(journal) = open(&disk) else { continue };
        let Ok(found) = journal.read(journal.begin(), journal.end(), usize::MAX) else {
            continue;
        };
        // A log may lose its end or its beginning, never a record in between.
        let is_part = found.is_empty() || written.windows(found.len()).any(|part| part == found);
        assert!(is_part, "round {round}: records that were never written");
    }
}

/// Flips a bit, cuts the file, puts random bytes behind or in place of it.
fn spoil(disk: &MemDisk, name: &str, rng: &mut StdRng) {
    let len = disk.len(name).unwrap();
    let noise: Vec<u8> = (0..rng.random_range(0..200))
        .map(|_| rng.random())
        .collect();
    match rng.random_range(0..4) {
        0 => disk.corrupt(name, usize::try_from(rng.random_range(0..=len)).unwrap()),
        1 => disk.truncate(name, rng.random_range(0..=len)).unwrap(),
        2 => disk.append(name, &noise).unwrap(),
        _ => disk.replace(name, &noise).unwrap(),
    }
}

#[test]
fn a_crash_while_forgetting_leaves_a_log_that_opens() {
    for n in 1..20 {
        for keep in [0, 1, 40] {
            let disk = MemDisk::new();
            let journal = open(&disk).unwrap();
            let record = Record {
                kind: RecordKind::Change,
                origin: Origin::new(1, 1).unwrap(),
                stamp: Stamp(1),
                prev: Stamp(0),
                payload: Bytes::from_static(&[7; 60]),
            };
            // Not synced: what the crash leaves of it is torn.
            journal.append(&[record]).unwrap();
            disk.fail_at(n);
            let _ = journal.forget_all();
            disk.crash(|_| keep);
            let opened = open(&disk).map(drop);
            assert!(opened.is_ok(), "fault at {n}, {keep} kept: {opened:?}");
        }
    }
}
