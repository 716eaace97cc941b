// SPDX-License-Identifier: Apache-2.0
//! Which dropped chunks are freed, as the one that frees them says it to those that wait.

use dulse_replica::{Durability, Garbage, Replica, share};
use dulse_store::{Step, Transaction};
use dulse_types::entry::UnknownFields;
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Vector};

use crate::machine::{Machine, path};

fn chunk_id(key: u64) -> FileId {
    FileId {
        volume_id: 1,
        key,
        cookie: 1,
    }
}

/// A file with chunks of these keys.
fn file(keys: &[u64]) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    for key in keys {
        let mut chunk = FileChunk {
            size: 1_000,
            ..FileChunk::default()
        };
        chunk.set_id(chunk_id(*key));
        fields.chunks.push(chunk);
    }
    fields.to_entry(&UnknownFields::default())
}

fn commit(replica: &mut Replica, step: Step) {
    let transaction = Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    replica.commit(vec![transaction]).remove(0).unwrap();
}

fn update(replica: &mut Replica, keys: &[u64]) {
    let step = Step::Update {
        path: path("/f"),
        entry: file(keys),
        delete_chunks: true,
    };
    commit(replica, step);
}

fn pull(from: &mut Replica, to: &mut Replica) {
    from.sync().unwrap();
    let (shared, have) = (from.shared(), to.shared().vector());
    let origin = shared.origin();
    let records = shared.changes_after(origin, have.get(origin), usize::MAX);
    let changes: Vec<_> = records.unwrap().into_iter().map(|r| r.payload).collect();
    to.apply_remote(&changes).unwrap();
}

fn garbage(replica: &Replica) -> Vec<Garbage> {
    replica.shared().garbage(None, 100).unwrap()
}

/// A file born at the first of two, whose first chunk was dropped at the second.
fn dropped() -> [Replica; 2] {
    let open = |id: u64| Machine::new(id << 32 | id, Durability::Fsync).open();
    let (mut birth, mut other) = (open(1), open(2));
    let step = Step::Create {
        path: path("/f"),
        entry: file(&[1]),
    };
    commit(&mut birth, step);
    pull(&mut birth, &mut other);
    update(&mut other, &[2]);
    [birth, other]
}

fn says(replica: &Replica, covers: &Vector, rows: &[Garbage]) -> Vec<usize> {
    let chunks: Vec<_> = rows.iter().map(|row| (row.inode, row.chunk)).collect();
    replica.shared().freed(covers, &chunks).unwrap()
}

/// ⚠ A filer that has not heard of the drop has no row of the chunk either.
#[test]
fn who_has_not_heard_of_a_drop_says_nothing_of_it() {
    let [mut birth, mut other] = dropped();
    let (rows, covers) = (garbage(&other), other.shared().vector());
    assert_eq!(rows.len(), 1);
    assert_eq!(says(&birth, &covers, &rows), [] as [usize; 0]);
    pull(&mut other, &mut birth);
    assert_eq!(says(&birth, &covers, &rows), [] as [usize; 0], "it waits");
    let freed = garbage(&birth);
    birth.garbage_freed(&freed).unwrap();
    assert_eq!(says(&birth, &covers, &rows), [0]);
    assert_eq!(says(&birth, &covers, &rows), [0], "as often as it is asked");
}

/// The one that frees is lost for good before it did: another one still has the row, and
/// frees the chunk once the lost one is no member any more.
#[test]
fn what_a_lost_filer_was_to_free_is_freed_by_another() {
    let [mut birth, mut other] = dropped();
    pull(&mut other, &mut birth);
    let (lost, own) = (birth.shared().origin(), other.shared().origin());
    let aged = other.shared().vector();
    let both = share(garbage(&other), &aged, own, &[lost, own]);
    assert_eq!(both.free, []);
    assert_eq!(both.forget, [], "it is kept");
    assert_eq!(both.asked[&lost].len(), 1);
    drop(birth);
    let alone = share(garbage(&other), &aged, own, &[own]);
    assert_eq!(alone.free, garbage(&other));
}

/// ⚠ Between the question and the answer the chunk came back and was dropped once more: the
/// answer is not about that.
#[test]
fn a_row_that_changed_since_it_was_asked_about_stays() {
    let [mut birth, mut other] = dropped();
    let asked = garbage(&other);
    // Written at the birth origin by one who has not heard of the drop, and then dropped.
    update(&mut birth, &[1, 4]);
    update(&mut birth, &[3]);
    pull(&mut birth, &mut other);
    let now = garbage(&other);
    let row = now.iter().find(|row| row.chunk == chunk_id(1)).unwrap();
    assert_ne!(asked[0], *row, "it was dropped by another change");
    other.garbage_freed(&asked).unwrap();
    assert_eq!(garbage(&other), now);
}
