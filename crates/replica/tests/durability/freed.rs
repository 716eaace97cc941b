// SPDX-License-Identifier: Apache-2.0
//! Which dropped chunks are freed, as the one that frees them says it to those that wait.

use bytes::Bytes;
use dulse_merge::apply::NEVER;
use dulse_merge::keys::Space;
use dulse_replica::{Durability, Export, Garbage, Replica, share};
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

fn create(at: &str, keys: &[u64]) -> Step {
    Step::Create {
        path: path(at),
        entry: file(keys),
    }
}

fn delete(at: &str) -> Step {
    Step::Delete {
        path: path(at),
        delete_chunks: true,
    }
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
    commit(&mut birth, create("/f", &[1]));
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

/// Takes in what an export sends, until a part ends in a space; true when it did.
fn take_in(fresh: &mut Replica, export: &mut Export, until: Option<Space>) -> bool {
    loop {
        let part = export.next_part(1).unwrap();
        if part.is_empty() {
            return false;
        }
        let is_there = until.is_some_and(|space| part.after.first() == Some(&(space as u8)));
        fresh.import(part).unwrap();
        if is_there {
            return true;
        }
    }
}

/// A transfer that began at `first` and went on, behind a row of `until`, at `second`.
fn taken_from(first: &Replica, until: Space, second: &Replica, mut fresh: Replica) -> Replica {
    let mut export = first.shared().export().unwrap();
    fresh.begin_import(export.vector().clone()).unwrap();
    assert!(take_in(&mut fresh, &mut export, Some(until)));
    let cursor = fresh.shared().import_cursor().unwrap().unwrap();
    let mut export = second.shared().export().unwrap();
    assert!(export.resume(&second.shared(), &cursor).unwrap());
    fresh.resume_import(export.vector().clone()).unwrap();
    take_in(&mut fresh, &mut export, None);
    fresh.finish_import().unwrap();
    fresh
}

fn forget_all(replica: &mut Replica) {
    replica.stable(replica.shared().vector()).unwrap();
    replica.checkpoint().unwrap();
    while replica.forget().unwrap() {}
}

/// The same for a hard link: the link of a name whose grave the first one had forgotten held the
/// inode for ever (simulated, seed 94000793 of that day).
#[test]
fn an_inode_of_two_providers_is_held_by_no_link_without_a_name() {
    let open = |id: u64| Machine::new(id << 32 | id, Durability::Fsync).open();
    let [mut first, mut second, fresh] = [1, 2, 3].map(open);
    // One grave stays, so that a transfer can be behind the graves.
    commit(&mut second, create("/f", &[1]));
    let (from, to) = (path("/f"), path("/g"));
    commit(&mut second, Step::Link { from, to });
    commit(&mut second, delete("/f"));
    commit(&mut second, delete("/g"));
    pull(&mut second, &mut first);
    forget_all(&mut first);
    commit(&mut second, create("/h", &[2]));
    commit(&mut second, delete("/h"));
    pull(&mut second, &mut first);
    let mut fresh = taken_from(&first, Space::Graves, &second, fresh);
    forget_all(&mut fresh);
    let rows = garbage(&fresh);
    let vector = fresh.shared().vector();
    assert_eq!(rows.len(), 2);
    assert!(
        rows.iter().all(|row| vector.covers(row.winner)),
        "freed by nobody: {rows:?}"
    );
}

/// One of the names of a hard-linked file has its inode's identity, and may be kept where that is
/// not: the first provider had forgotten the inode, and of the second only the grave was sent
/// again (simulated, seed 380017361 of that day).
#[test]
fn a_grave_without_its_inode_holds_no_chunk_of_that() {
    let open = |id: u64| Machine::new(id << 32 | id, Durability::Fsync).open();
    let [mut second, mut fresh] = [2, 3].map(open);
    commit(&mut second, create("/f", &[1]));
    let (from, to) = (path("/f"), path("/g"));
    commit(&mut second, Step::Link { from, to });
    commit(&mut second, delete("/f"));
    commit(&mut second, delete("/g"));
    let mut export = second.shared().export().unwrap();
    fresh.begin_import(export.vector().clone()).unwrap();
    fresh.import(export.next_part(1).unwrap()).unwrap();
    fresh.resume_import(export.vector().clone()).unwrap();
    loop {
        let mut part = export.next_part(9).unwrap();
        if part.is_empty() {
            break;
        }
        let is_inode = |key: &Bytes| key[0] == Space::Inodes as u8;
        part.rows.retain(|(key, _)| !is_inode(key));
        fresh.import(part).unwrap();
    }
    fresh.finish_import().unwrap();
    let (rows, vector) = (garbage(&fresh), fresh.shared().vector());
    assert_eq!(rows.len(), 1);
    assert!(vector.covers(rows[0].winner), "freed by nobody: {rows:?}");
    forget_all(&mut fresh);
    assert_eq!(garbage(&fresh), rows);
}

/// What is forgotten is each replica's own affair. A transfer began at a filer that had forgotten
/// a dead file and went on at one that had not, so the chunk waited for a grave to be forgotten
/// that was not there, and nobody ever freed it (simulated, seed 77001469 of that day).
#[test]
fn chunks_of_the_dead_of_two_providers_wait_for_no_grave_that_is_not_there() {
    let open = |id: u64| Machine::new(id << 32 | id, Durability::Fsync).open();
    let [mut first, mut second, fresh, mut whole] = [1, 2, 3, 4].map(open);
    commit(&mut second, create("/f", &[1]));
    commit(&mut second, create("/g", &[2]));
    commit(&mut second, delete("/f"));
    pull(&mut second, &mut first);
    forget_all(&mut first);
    let (forgotten, kept) = (garbage(&first), garbage(&second));
    assert!(forgotten[0].winner != NEVER && kept[0].winner == NEVER);
    // One that has the grave waits for it.
    let mut export = second.shared().export().unwrap();
    whole.begin_import(export.vector().clone()).unwrap();
    take_in(&mut whole, &mut export, None);
    whole.finish_import().unwrap();
    assert_eq!(garbage(&whole), kept);
    let fresh = taken_from(&first, Space::Garbage, &second, fresh);
    let rows = garbage(&fresh);
    assert_eq!((rows.len(), rows[0].cause), (1, kept[0].cause));
    assert!(
        fresh.shared().vector().covers(rows[0].winner),
        "freed by nobody: {rows:?}"
    );
}
