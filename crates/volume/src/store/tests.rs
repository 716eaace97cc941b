// SPDX-License-Identifier: Apache-2.0
//! Tests of volumes.

use super::*;

fn needle(key: u64, text: &'static str) -> Needle {
    Needle {
        cookie: 7,
        key,
        data: Bytes::from_static(text.as_bytes()),
        ..Needle::default()
    }
}

#[test]
fn needles_survive_a_reopen_and_a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store
        .allocate(Kind {
            id: 3,
            ..Kind::default()
        })
        .unwrap();
    let volume = store.volume(3).unwrap();
    assert!(!volume.write(needle(1, "one"), true).unwrap());
    assert!(volume.write(needle(1, "one"), true).unwrap(), "unchanged");
    volume.write(needle(2, "two"), true).unwrap();
    volume.delete(1, Some(7)).unwrap();
    assert!(matches!(volume.read(2, 8), Err(VolumeError::NotFound)));
    drop((volume, store));
    let data = dir.path().join("3.dat");
    let mut file = OpenOptions::new().append(true).open(&data).unwrap();
    file.write_all(&needle(9, "torn").encode()[..20]).unwrap();
    // A row that the crash tore off is taken in again from the data.
    let index = OpenOptions::new()
        .write(true)
        .open(dir.path().join("3.idx"))
        .unwrap();
    index.set_len(index.metadata().unwrap().len() - 5).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let volume = store.volume(3).unwrap();
    assert_eq!(&volume.read(2, 7).unwrap().data[..], b"two");
    assert!(matches!(volume.read(1, 7), Err(VolumeError::NotFound)));
    volume.write(needle(4, "four"), true).unwrap();
    assert_eq!(&volume.read(4, 7).unwrap().data[..], b"four");
    assert_eq!(volume.figures().n_files, 2);
}

#[test]
fn a_flipped_byte_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store
        .allocate(Kind {
            id: 1,
            ..Kind::default()
        })
        .unwrap();
    let volume = store.volume(1).unwrap();
    volume.write(needle(1, "one"), true).unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(dir.path().join("1.dat"))
        .unwrap();
    file.write_all_at(b"X", 8 + 16 + 4).unwrap();
    assert!(matches!(volume.read(1, 7), Err(VolumeError::Corrupt(_))));
}

fn store_with(id: u32, ttl: [u8; 2]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let kind = Kind {
        id,
        ttl,
        ..Kind::default()
    };
    store.allocate(kind).unwrap();
    (dir, store)
}

#[test]
fn rows_of_data_that_never_reached_the_disk_are_dropped() {
    let (dir, store) = store_with(1, [0, 0]);
    let volume = store.volume(1).unwrap();
    volume.write(needle(1, "one"), true).unwrap();
    let end = volume.figures().size;
    volume.write(needle(2, "two"), false).unwrap();
    drop((volume, store));
    let data = OpenOptions::new()
        .write(true)
        .open(dir.path().join("1.dat"))
        .unwrap();
    data.set_len(end).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let volume = store.volume(1).unwrap();
    assert!(!volume.figures().is_read_only);
    assert!(matches!(volume.read(2, 7), Err(VolumeError::NotFound)));
    volume.write(needle(3, "three"), true).unwrap();
    drop((volume, store));
    let store = Store::open(dir.path()).unwrap();
    let volume = store.volume(1).unwrap();
    assert_eq!(&volume.read(1, 7).unwrap().data[..], b"one");
    assert_eq!(&volume.read(3, 7).unwrap().data[..], b"three");
}

#[test]
fn a_tail_of_zeros_after_power_loss_is_cut() {
    let (dir, store) = store_with(1, [0, 0]);
    let volume = store.volume(1).unwrap();
    volume.write(needle(1, "one"), true).unwrap();
    let end = volume.figures().size;
    volume.write(needle(2, "two"), false).unwrap();
    let length = volume.figures().size;
    drop((volume, store));
    let data = OpenOptions::new()
        .write(true)
        .open(dir.path().join("1.dat"))
        .unwrap();
    data.write_all_at(&vec![0; (length - end) as usize], end)
        .unwrap();
    let store = Store::open(dir.path()).unwrap();
    let volume = store.volume(1).unwrap();
    assert!(matches!(volume.read(2, 7), Err(VolumeError::NotFound)));
    assert_eq!(volume.figures().size, end);
    assert_eq!(&volume.read(1, 7).unwrap().data[..], b"one");
}

/// A find of the fuzzer: the size in a row of the index was damaged. A read made room for that
/// many bytes, up to 4 GiB, before it read any, and the next needle was written as far behind.
#[test]
fn a_row_that_tells_of_more_than_the_data_has_is_damage() {
    let (dir, store) = store_with(1, [0, 0]);
    let volume = store.volume(1).unwrap();
    volume.write(needle(1, "one"), true).unwrap();
    volume.write(needle(2, "two"), true).unwrap();
    let end = volume.figures().size;
    drop((volume, store));
    let index = OpenOptions::new()
        .write(true)
        .open(dir.path().join("1.idx"))
        .unwrap();
    index.write_all_at(&[0x7f; 4], 13).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let volume = store.volume(1).unwrap();
    assert!(matches!(volume.read(1, 7), Err(VolumeError::Corrupt(_))));
    assert!(matches!(
        volume.delete(1, Some(7)),
        Err(VolumeError::Corrupt(_))
    ));
    assert_eq!(&volume.read(2, 7).unwrap().data[..], b"two");
    assert_eq!(volume.figures().size, end);
    volume.write(needle(3, "three"), true).unwrap();
    assert_eq!(&volume.read(3, 7).unwrap().data[..], b"three");
}

#[test]
fn an_expired_needle_is_not_found_and_an_expired_volume_goes() {
    let (dir, store) = store_with(1, [1, 1]);
    let volume = store.volume(1).unwrap();
    let mut short = needle(1, "one");
    short.ttl = [1, 1];
    volume.write(short, true).unwrap();
    assert!(volume.read(1, 7).is_ok());
    assert_eq!(store.living().len(), 1);
    // As if it had been written two minutes ago.
    volume.contents.write().modified_s -= 120;
    assert!(store.living().is_empty());
    assert_eq!(store.tidy(u64::MAX), 1);
    assert!(!dir.path().join("1.dat").exists());
}

#[test]
fn a_volume_that_ran_out_of_room_takes_writes_again() {
    let (_dir, store) = store_with(1, [0, 0]);
    let volume = store.volume(1).unwrap();
    volume.set_read_only(Some(DISK_FULL.to_owned()));
    store.tidy(0);
    assert!(volume.figures().is_read_only);
    store.tidy(ROOM_BYTES);
    assert!(!volume.figures().is_read_only);
    volume.set_read_only(Some("marked by an operator".to_owned()));
    store.tidy(ROOM_BYTES);
    assert!(volume.figures().is_read_only);
}

#[test]
fn a_directory_is_served_by_one_process_and_a_damaged_volume_is_left_out() {
    let (dir, store) = store_with(1, [0, 0]);
    assert!(matches!(
        Store::open(dir.path()),
        Err(VolumeError::Locked(_))
    ));
    drop(store);
    std::fs::write(dir.path().join("2.dat"), [9; 8]).unwrap();
    std::fs::write(dir.path().join("3.dat"), [3, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    std::fs::write(dir.path().join("3.vif"), "{\"bytesOffset\":4}").unwrap();
    let store = Store::open(dir.path()).unwrap();
    let ids: Vec<u32> = store.all().iter().map(|v| v.kind.id).collect();
    assert_eq!(ids, [1]);
}

/// Found by fuzzing: the time of a record that recovery takes in was added to unchecked,
/// and the time is under no checksum.
#[test]
fn behind_the_last_time_there_is_needles_are_still_written() {
    let dir = tempfile::tempdir().unwrap();
    let kind = Kind {
        id: 3,
        ..Kind::default()
    };
    Store::open(dir.path()).unwrap().allocate(kind).unwrap();
    let last = Needle {
        append_at_ns: u64::MAX,
        ..needle(1, "one")
    };
    let data = dir.path().join("3.dat");
    let mut file = OpenOptions::new().append(true).open(data).unwrap();
    file.write_all(&last.encode()).unwrap();
    let volume = Store::open(dir.path()).unwrap().volume(3).unwrap();
    assert_eq!(volume.read(1, 7).unwrap().data, "one");
    volume.write(needle(2, "two"), true).unwrap();
    assert_eq!(volume.read(2, 7).unwrap().data, "two");
}

/// The disk took half a row and then no more. A file in memory that must not grow does so here.
#[test]
fn a_row_that_was_written_in_part_is_taken_back() {
    use std::io::{Seek, SeekFrom};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store
        .allocate(Kind {
            id: 3,
            ..Kind::default()
        })
        .unwrap();
    let volume = store.volume(3).unwrap();
    volume.write(needle(1, "one"), true).unwrap();
    let whole = volume.contents.read().index_len;
    let mut torn = File::from(memfd_create("index", MemfdFlags::ALLOW_SEALING).unwrap());
    torn.set_len(whole + 5).unwrap();
    torn.seek(SeekFrom::End(0)).unwrap();
    fcntl_add_seals(&torn, SealFlags::GROW).unwrap();
    let seen = torn.try_clone().unwrap();
    *volume.index.lock() = torn;
    assert!(volume.write(needle(2, "two"), true).is_err());
    assert_eq!(seen.metadata().unwrap().len(), whole);
}
