// SPDX-License-Identifier: Apache-2.0
//! Chunks that move between inodes, and hard link ids: in every order of delivery one
//! digest, one tree and the same decisions about what may be freed.

use std::collections::BTreeSet;

use bytes::Bytes;
use dulse_merge::apply::{decode_owner, find_by_hard_link_id};
use dulse_merge::{Change, Step, Txn, keys};
use dulse_types::entry::UnknownFields;
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Identity};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::naive::Naive;
use crate::world::{Op, Replica};

const ID: &[u8] = b"one-hard-link-id";

fn chunk(key: u64) -> FileId {
    FileId {
        volume_id: 1,
        key,
        cookie: 1,
    }
}

fn file(keys: &[u64], id: &'static [u8], uid: u32) -> Entry {
    let mut fields = EntryFields {
        hard_link_id: Bytes::from_static(id),
        ..EntryFields::default()
    };
    fields.attrs_mut().file_mode = 0o644;
    fields.attrs_mut().uid = uid;
    for key in keys {
        let mut chunk_of = FileChunk {
            size: 1,
            ..FileChunk::default()
        };
        chunk_of.set_id(chunk(*key));
        fields.chunks.push(chunk_of);
    }
    fields.to_entry(&UnknownFields::default())
}

/// An operation after everything in `seen`, as `id` does it; `moved` chunks move to it.
fn act(id: u32, seen: &[&Change], op: Op, moved: &[u64]) -> Change {
    let mut replica = Replica::new(id);
    for change in seen {
        replica.receive(change);
    }
    let rng = &mut StdRng::seed_from_u64(u64::from(id));
    replica.local(&op, rng).unwrap();
    let mut change = replica.log.pop().unwrap();
    for step in &mut change.steps {
        if let Step::Name(step) = step
            && step.data.is_some()
        {
            step.moved_chunks = moved.iter().copied().map(chunk).collect();
        }
    }
    change
}

fn path(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// What may be freed: chunks that an inode dropped and that no move gave to another.
fn freeable(replica: &Replica) -> BTreeSet<(Identity, FileId)> {
    let owner = |chunk| {
        let row = replica.rows.0.get(&keys::chunk_owner(chunk))?;
        Some(decode_owner(row).unwrap().1)
    };
    let dropped = replica.seen().garbage.into_iter();
    dropped
        .filter(|(inode, chunk)| owner(*chunk).is_none_or(|owner| owner == *inode))
        .collect()
}

fn inodes_of_id(replica: &Replica) -> Vec<Identity> {
    find_by_hard_link_id(&Txn::new(&replica.rows), ID).unwrap()
}

/// The replica after every order that keeps each origin's own.
fn every_order(changes: &[Change], replica: &Replica, ends: &mut Vec<Replica>) {
    let mut is_end = true;
    for change in changes {
        let vector = replica.vector.get(change.origin);
        if change.prev != vector || change.stamp <= vector {
            continue;
        }
        is_end = false;
        let mut next = replica.clone();
        next.receive(change);
        every_order(changes, &next, ends);
    }
    if is_end {
        ends.push(replica.clone());
    }
}

/// All ends agree with one another and with the naive model; returns one.
fn one_end(changes: &[Change]) -> Replica {
    let mut ends = Vec::new();
    every_order(changes, &Replica::new(99), &mut ends);
    assert!(ends.len() > 1, "there is only one order");
    let expect = Naive::of(changes);
    let first = ends.swap_remove(0);
    assert_eq!(first.vector.len(), {
        let origins: BTreeSet<_> = changes.iter().map(|c| c.origin).collect();
        origins.len()
    });
    assert!(first.seen() == expect, "not as the naive model says");
    for end in &ends {
        assert!(end.seen() == expect, "orders differ");
        assert_eq!(freeable(end), freeable(&first));
        assert_eq!(inodes_of_id(end), inodes_of_id(&first));
    }
    first
}

#[test]
fn a_moved_chunk_is_freed_by_its_new_inode_alone_in_whatever_order_it_arrives() {
    let made = act(1, &[], Op::Create(path("/part"), file(&[1], b"", 0)), &[]);
    let whole = Op::Create(path("/whole"), file(&[1, 2], b"", 0));
    let moved = act(2, &[&made], whole, &[1]);
    let deleted = act(3, &[&made, &moved], Op::Delete(path("/part"), true), &[]);
    let all = [made.clone(), moved.clone(), deleted.clone()];
    assert_eq!(freeable(&one_end(&all)), BTreeSet::new());

    let over = Op::Update(path("/whole"), file(&[3], b"", 0));
    let over = act(4, &[&made, &moved, &deleted], over, &[]);
    let end = one_end(&[made, moved, deleted, over]);
    let freed: Vec<_> = freeable(&end).into_iter().map(|f| f.1).collect();
    assert_eq!(freed, [chunk(1), chunk(2)]);
}

#[test]
fn a_chunk_that_moves_on_or_loses_at_its_new_inode_has_one_owner_in_every_order() {
    let made = act(1, &[], Op::Create(path("/a"), file(&[1], b"", 0)), &[]);
    let to_b = Op::Create(path("/b"), file(&[1], b"", 0));
    let to_b = act(2, &[&made], to_b, &[1]);
    let to_c = Op::Create(path("/c"), file(&[1], b"", 0));
    let to_c = act(3, &[&made, &to_b], to_c, &[1]);
    let seen = [&made, &to_b, &to_c];
    let gone = act(4, &seen, Op::Delete(path("/b"), true), &[]);
    let over = act(5, &seen, Op::Update(path("/a"), file(&[9], b"", 0)), &[]);
    let all = [made.clone(), to_b.clone(), to_c.clone(), gone, over];
    assert_eq!(freeable(&one_end(&all)), BTreeSet::new());

    let over = act(6, &seen, Op::Update(path("/c"), file(&[8], b"", 0)), &[]);
    let freed = freeable(&one_end(&[made, to_b, to_c, over]));
    assert_eq!(
        freed.into_iter().map(|f| f.1).collect::<Vec<_>>(),
        [chunk(1)]
    );
}

#[test]
fn a_hard_link_id_names_the_same_inodes_in_every_order() {
    // Two filers make an inode for one id; attributes without it win at one of them.
    let one = act(1, &[], Op::Create(path("/a"), file(&[1], ID, 1)), &[]);
    let two = act(2, &[], Op::Create(path("/b"), file(&[2], ID, 2)), &[]);
    let linked = act(3, &[&one, &two], Op::Link(path("/b"), path("/c")), &[]);
    let bare = Op::Update(path("/b"), file(&[2], b"", 3));
    let bare = act(4, &[&one, &two], bare, &[]);
    let end = one_end(&[one, two, linked, bare]);
    assert_eq!(inodes_of_id(&end).len(), 2);
}
