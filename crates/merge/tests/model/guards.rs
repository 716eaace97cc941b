// SPDX-License-Identifier: Apache-2.0
//! The laws of merging, and each guard without which a counterexample is known.

use bytes::Bytes;
use dulse_merge::apply::DroppedRow;
use dulse_merge::keys::{self, Space};
use dulse_merge::{Change, Step, Txn, apply, apply::moved_paths};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Identity, Origin, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::histories::assert_same;
use crate::naive::Naive;
use crate::world::{Memory, Mix, Op, Replica, history, seen};

pub(crate) fn path(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) fn file(key: u64) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    let mut chunk = FileChunk {
        size: 1,
        ..FileChunk::default()
    };
    chunk.set_id(chunk_id(key));
    fields.chunks.push(chunk);
    fields.to_entry(&UnknownFields::default())
}

fn chunk_id(key: u64) -> FileId {
    FileId {
        volume_id: 1,
        key,
        cookie: 1,
    }
}

fn dir() -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    fields.to_entry(&UnknownFields::default())
}

/// An operation that must succeed; returns its change.
pub(crate) fn act(replica: &mut Replica, op: &Op) -> Change {
    let rng = &mut StdRng::seed_from_u64(0);
    replica.local(op, rng).unwrap();
    replica.log.last().unwrap().clone()
}

pub(crate) fn create(replica: &mut Replica, at: &'static str, key: u64) -> Change {
    act(replica, &Op::Create(path(at), file(key)))
}

pub(crate) fn update(replica: &mut Replica, at: &'static str, key: u64) -> Change {
    act(replica, &Op::Update(path(at), file(key)))
}

pub(crate) fn delete(replica: &mut Replica, at: &'static str) -> Change {
    act(replica, &Op::Delete(path(at), true))
}

pub(crate) fn rename(replica: &mut Replica, from: &'static str, to: &'static str) -> Change {
    act(replica, &Op::Rename(path(from), path(to)))
}

pub(crate) fn link(replica: &mut Replica, from: &'static str, to: &'static str) -> Change {
    act(replica, &Op::Link(path(from), path(to)))
}

pub(crate) fn pair() -> (Replica, Replica) {
    (Replica::new(1), Replica::new(2))
}

pub(crate) fn receive_all(replica: &mut Replica, changes: &[&Change]) {
    for change in changes {
        replica.receive(change);
    }
}

/// Delivers in this order to a fresh replica and compares with the naive model.
pub(crate) fn fresh(changes: &[&Change]) -> Replica {
    let mut replica = Replica::new(9);
    receive_all(&mut replica, changes);
    let logs = [changes.iter().map(|c| (*c).clone()).collect()];
    assert_same("fresh", &replica.seen(), &Naive::of(&logs[0]), &logs);
    replica
}

fn shows(replica: &Replica, at: &str) -> Option<Vec<FileId>> {
    let txn = Txn::new(&replica.rows);
    let row = txn.shown(at.as_bytes()).unwrap()?;
    let content = match txn.inode(row.inode).unwrap() {
        Some(inode) if row.is_linked => inode.content,
        _ => row.content,
    };
    Some(content.data.file_ids())
}

fn merged(rows: &Memory, changes: &[&Change]) -> Memory {
    let mut rows = rows.clone();
    for change in changes {
        let mut txn = Txn::new(&rows);
        apply(&mut txn, change).unwrap();
        let (writes, _) = txn.finish().unwrap();
        rows.write(writes);
    }
    rows
}

#[test]
fn merging_is_commutative_and_associative_between_origins() {
    let base = create(&mut Replica::new(3), "/a", 1);
    let (mut one, mut two) = pair();
    let mut three = Replica::new(4);
    for replica in [&mut one, &mut two, &mut three] {
        replica.receive(&base);
    }
    let x = update(&mut one, "/a", 2);
    let y = rename(&mut two, "/a", "/b");
    let z = delete(&mut three, "/a");
    let orders = [
        [&x, &y, &z],
        [&x, &z, &y],
        [&y, &x, &z],
        [&y, &z, &x],
        [&z, &x, &y],
        [&z, &y, &x],
    ];
    let start = merged(&Memory::default(), &[&base]);
    let first = seen(&merged(&start, &orders[0]));
    for order in orders {
        assert_eq!(seen(&merged(&start, &order)), first);
    }
}

#[test]
fn merging_is_idempotent_at_any_later_time() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        for replica in history(&mut rng, 3, 10, Mix::ALL) {
            let expect = replica.seen();
            for change in &replica.log {
                let rows = merged(&replica.rows, &[change]);
                assert_same("again", &seen(&rows), &expect, &[]);
            }
        }
    }
}

#[test]
fn replaying_what_an_engine_lacks_in_one_batch_restores_the_state() {
    // After a crash the engine has a prefix of the batches, and the vector says which.
    for seed in 0..800 {
        let mut rng = StdRng::seed_from_u64(seed);
        let histories = history(
            &mut rng,
            2,
            10,
            if seed % 2 == 0 { Mix::ALL } else { Mix::PLAIN },
        );
        let logs: Vec<Vec<Change>> = histories.into_iter().map(|r| r.log).collect();
        let order = some_order(&logs, &mut rng);
        let whole = merged(&Memory::default(), &order);
        let kept = rng.random_range(0..=order.len());
        let mut engine = merged(&Memory::default(), &order[..kept]);
        let mut txn = Txn::new(&engine);
        for change in &order[kept..] {
            apply(&mut txn, change).unwrap();
        }
        let (writes, _) = txn.finish().unwrap();
        engine.write(writes);
        let name = format!("seed {seed}");
        assert_same(&name, &seen(&engine), &seen(&whole), &logs);
    }
}

/// The changes in some order that keeps each origin's.
fn some_order<'a>(logs: &'a [Vec<Change>], rng: &mut StdRng) -> Vec<&'a Change> {
    let mut rest: Vec<&[Change]> = logs.iter().map(|log| &**log).collect();
    let mut order = Vec::new();
    while rest.iter().any(|log| !log.is_empty()) {
        let at = rng.random_range(0..rest.len());
        if let Some((next, behind)) = rest[at].split_first() {
            order.push(next);
            rest[at] = behind;
        }
    }
    order
}

#[test]
fn of_two_places_with_one_version_rank_and_then_identity_decide() {
    let mut one = Replica::new(1);
    let base = act(&mut one, &Op::Create(path("/d"), dir()));
    let a = create(&mut one, "/d/x", 1);
    let mut two = Replica::new(2);
    receive_all(&mut two, &[&base]);
    let b = create(&mut two, "/d/x", 2);
    one.receive(&b);
    let shown = shows(&one, "/d/x");
    // A rename moves both; which of them shows does not change.
    let moved = rename(&mut one, "/d", "/e");
    assert_eq!(shows(&one, "/e/x"), shown);
    let late = fresh(&[&b, &base, &a, &moved]);
    assert_eq!(shows(&late, "/e/x"), shown);
}

#[test]
fn a_dead_inode_keeps_its_chunks_because_someone_may_be_linking_it() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let gone = delete(&mut one, "/a");
    let linked = link(&mut two, "/a", "/b");
    for order in [[&made, &gone, &linked], [&made, &linked, &gone]] {
        let late = fresh(&order);
        assert_eq!(shows(&late, "/a"), None);
        assert_eq!(shows(&late, "/b"), Some(vec![chunk_id(1)]));
        assert!(late.seen().garbage.is_empty());
    }
}

/// A write that the deleter had not seen was hidden by its delete, and nobody ever freed what it
/// had named (simulated, seed 320023658 of that version).
#[test]
fn who_wants_chunks_kept_keeps_those_that_it_saw() {
    let (mut one, mut two) = pair();
    let mut three = Replica::new(3);
    let made = create(&mut one, "/a", 1);
    receive_all(&mut two, &[&made]);
    receive_all(&mut three, &[&made]);
    let hidden = update(&mut two, "/a", 2);
    // It touches the name, later than the write that nobody else has, and leaves the data.
    let touched = update(&mut three, "/a", 1);
    assert!(touched.stamp >= hidden.stamp);
    let keep = |replica: &mut Replica| act(replica, &Op::Delete(path("/a"), false));
    let freed = |changes: &[&Change]| {
        let garbage = fresh(changes).seen().garbage;
        let chunks: Vec<u64> = garbage.iter().map(|(_, chunk)| chunk.key).collect();
        chunks
    };
    one.receive(&touched);
    let mut unseen = one.clone();
    let gone = keep(&mut unseen);
    for order in [[&hidden, &gone], [&gone, &hidden]] {
        let all = [&[&made, &touched][..], &order[..]].concat();
        assert_eq!(freed(&all), [1, 2], "nobody has 2 any more");
    }
    one.receive(&hidden);
    let gone = keep(&mut one.clone());
    assert_eq!(freed(&[&made, &touched, &hidden, &gone]), [1], "it saw 2");
    let own = update(&mut one, "/a", 4);
    let gone = keep(&mut one);
    let all = [&made, &touched, &hidden, &own, &gone];
    assert_eq!(freed(&all), [1, 2], "4 is its own");
}

#[test]
fn a_write_finds_a_name_that_moved_away_by_every_path_it_had() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let first = rename(&mut one, "/a", "/b");
    let second = rename(&mut one, "/b", "/c");
    let written = update(&mut two, "/a", 2);
    let late = fresh(&[&made, &first, &second, &written]);
    assert_eq!(shows(&late, "/c"), Some(vec![chunk_id(2)]));
    // And the other way round: it is told where the name was for others.
    let mut three = Replica::new(3);
    receive_all(&mut three, &[&made, &first, &second]);
    let after = update(&mut three, "/c", 3);
    let hints: Vec<&Bytes> = after.mentions().map(|(_, path)| path).collect();
    assert_eq!(hints, [&path("/c"), &path("/b"), &path("/a")]);
    fresh(&[&made, &after, &first, &written, &second]);
}

#[test]
fn moved_keeps_losing_places_too_since_their_givers_hint_at_them() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let lost = rename(&mut one, "/a", "/b");
    let won = rename(&mut two, "/a", "/c");
    let written = update(&mut one, "/b", 2);
    let late = fresh(&[&made, &won, &lost, &written]);
    let moved = moved_paths(&Txn::new(&late.rows), first_name(&made)).unwrap();
    assert!(moved.contains(&path("/b")), "{moved:?}");
    assert_eq!(shows(&late, "/c"), Some(vec![chunk_id(2)]));
}

fn first_name(change: &Change) -> Identity {
    match &change.steps[0] {
        Step::Name(step) => step.name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_on_a_linked_inode_tells_where_the_inodes_own_name_is_its_grave_included() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    let linked = link(&mut one, "/a", "/b");
    let moved = rename(&mut one, "/a", "/c");
    let gone = delete(&mut one, "/c");
    receive_all(&mut two, &[&made, &linked, &moved, &gone]);
    let written = update(&mut two, "/b", 2);
    // Before the link is there, only these hints lead to the content.
    for order in [
        [&made, &written, &linked, &moved, &gone],
        [&made, &linked, &moved, &written, &gone],
        [&written, &made, &linked, &moved, &gone],
    ] {
        let late = fresh(&order);
        assert_eq!(shows(&late, "/b"), Some(vec![chunk_id(2)]));
    }
}

#[test]
fn a_link_of_a_link_finds_the_content_before_the_first_link_arrives() {
    let (mut one, mut two) = pair();
    let mut three = Replica::new(3);
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let first = link(&mut two, "/a", "/b");
    receive_all(&mut three, &[&made, &first]);
    let second = link(&mut three, "/b", "/c");
    let late = fresh(&[&made, &second]);
    assert_eq!(shows(&late, "/c"), Some(vec![chunk_id(1)]));
    // Also where the inode's own name has moved meanwhile, unknown to the receiver.
    let moved = rename(&mut one, "/a", "/d");
    let mut four = Replica::new(4);
    receive_all(&mut four, &[&made, &first, &moved]);
    let third = link(&mut four, "/b", "/e");
    let late = fresh(&[&made, &third]);
    assert_eq!(shows(&late, "/e"), Some(vec![chunk_id(1)]));
}

#[test]
fn deletes_and_renames_kill_the_shadows_they_see_and_updates_do_not() {
    let (mut one, mut two) = pair();
    let a = create(&mut one, "/a", 1);
    let b = create(&mut two, "/a", 2);
    one.receive(&b);
    assert_eq!(one.seen().tree[&path("/a")].shadows.len(), 1);
    let mut updating = one.clone();
    update(&mut updating, "/a", 3);
    assert_eq!(updating.seen().tree[&path("/a")].shadows.len(), 1);
    // Else an old file would pop up.
    let mut over = one.clone();
    create(&mut over, "/b", 4);
    rename(&mut over, "/b", "/a");
    assert_eq!(over.seen().all().count(), 1);
    let gone = delete(&mut one, "/a");
    assert!(one.seen().tree.is_empty());
    assert!(fresh(&[&b, &a, &gone]).seen().tree.is_empty());
}

#[test]
fn a_partial_name_is_not_shown_and_implies_no_directory() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let moved = rename(&mut two, "/a", "/d/b");
    let mut late = fresh(&[&moved]);
    assert!(late.seen().tree.is_empty());
    assert!(late.seen().digest.is_empty());
    late.receive(&made);
    assert_eq!(shows(&late, "/d/b"), Some(vec![chunk_id(1)]));
    assert!(late.seen().tree[&path("/d")].winner.is_none());
}

#[test]
fn a_delete_spares_the_write_it_had_not_seen_and_a_rename_revives_nothing() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let gone = delete(&mut one, "/a");
    let written = update(&mut two, "/a", 2);
    for order in [[&made, &gone, &written], [&made, &written, &gone]] {
        assert_eq!(shows(&fresh(&order), "/a"), Some(vec![chunk_id(2)]));
    }
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let gone = delete(&mut one, "/a");
    let moved = rename(&mut two, "/a", "/b");
    for order in [[&made, &gone, &moved], [&made, &moved, &gone]] {
        assert!(fresh(&order).seen().tree.is_empty());
    }
}

#[test]
fn joining_and_fencing_are_changes_and_leaving_is_for_ever_in_any_order() {
    use dulse_merge::{MemberRow, MemberStep};
    let member = Origin::new(7, 7).unwrap();
    let step = |origin: u32, stamp: i64, step: MemberStep| Change {
        origin: Origin::new(origin, origin).unwrap(),
        first: Stamp(stamp),
        stamp: Stamp(stamp),
        prev: Stamp::ZERO,
        signatures: vec![],
        is_from_other_cluster: false,
        steps: vec![Step::Member(step)],
    };
    let address = String::from("filer:8888");
    let join = step(1, 1, MemberStep::Join { member, address });
    let cut = Stamp(40);
    let fence = step(2, 5, MemberStep::Fence { member, cut });
    let address = String::from("other:8888");
    let again = step(3, 9, MemberStep::Join { member, address });
    for order in [[&join, &fence, &again], [&again, &fence, &join]] {
        let rows = merged(&Memory::default(), &order);
        let row = MemberRow::decode(&rows.0[&keys::member(member)]).unwrap();
        assert_eq!((row.state, row.cut), (MemberRow::FENCED, cut));
    }
}

#[test]
fn several_fences_of_one_origin_are_one_in_any_order() {
    use dulse_merge::{MemberRow, MemberStep};
    let member = Origin::new(7, 7).unwrap();
    let step = |origin: u32, stamp: i64, step: MemberStep| Change {
        origin: Origin::new(origin, origin).unwrap(),
        first: Stamp(stamp),
        stamp: Stamp(stamp),
        prev: Stamp::ZERO,
        signatures: vec![],
        is_from_other_cluster: false,
        steps: vec![Step::Member(step)],
    };
    let fence = |cut| MemberStep::Fence {
        member,
        cut: Stamp(cut),
    };
    let address = String::from("filer:8888");
    let all = [
        step(1, 1, MemberStep::Join { member, address }),
        step(2, 5, fence(40)),
        step(3, 6, fence(35)),
        step(
            4,
            4,
            MemberStep::Remove {
                member,
                cut: Stamp(30),
            },
        ),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                let d = 6 - a - b - c;
                let rows = merged(&Memory::default(), &[&all[a], &all[b], &all[c], &all[d]]);
                let row = MemberRow::decode(&rows.0[&keys::member(member)]).unwrap();
                seen.insert((row.state, row.version, row.cut, row.address));
            }
        }
    }
    let version = all[3].position();
    let one = (
        MemberRow::REMOVED,
        version,
        Stamp(40),
        "filer:8888".to_owned(),
    );
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [one]);
}

#[test]
fn chunks_of_a_dead_linked_inode_do_not_depend_on_which_delete_came_last() {
    // The deletes of two names arrived in either order, and the later one decided
    // whether the chunks were garbage. Now all of them together decide.
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    let linked = link(&mut one, "/a", "/b");
    receive_all(&mut two, &[&made, &linked]);
    let kept = act(&mut one, &Op::Delete(path("/b"), false));
    let dropped = act(&mut two, &Op::Delete(path("/a"), true));
    for order in [
        [&made, &linked, &kept, &dropped],
        [&made, &linked, &dropped, &kept],
    ] {
        let garbage = fresh(&order).seen().garbage;
        assert_eq!(
            garbage.into_iter().map(|g| g.1).collect::<Vec<_>>(),
            [chunk_id(1)]
        );
    }
}

#[test]
fn data_that_arrives_late_and_loses_leaves_its_chunks_in_the_garbage() {
    // At a linked inode a losing write returned early, and its chunks leaked for ever.
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    let linked = link(&mut one, "/a", "/b");
    receive_all(&mut two, &[&made, &linked]);
    let loses = update(&mut one, "/a", 2);
    let wins = update(&mut two, "/b", 3);
    for order in [
        [&made, &linked, &loses, &wins],
        [&made, &linked, &wins, &loses],
    ] {
        assert_eq!(fresh(&order).seen().garbage.len(), 2);
    }
}

/// A filer deleted a file of which it had the last write; another one had not heard of either
/// and wrote it anew. Where that came before the write, the write is one that lost, and is kept
/// for a conflict: whoever has all three must not free its chunk before that one has it
/// (simulated, seed 380003596 of that day).
#[test]
fn a_dropped_chunk_waits_for_the_data_that_named_it_wherever_what_won_came_first() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let lost = update(&mut one, "/a", 2);
    let deleted = delete(&mut one, "/a");
    two.clock = lost.stamp.0 + 1_000;
    let wins = update(&mut two, "/a", 3);
    for order in [
        [&made, &lost, &deleted, &wins],
        [&made, &lost, &wins, &deleted],
        [&made, &wins, &lost, &deleted],
    ] {
        let replica = fresh(&order);
        let txn = Txn::new(&replica.rows);
        let (from, to) = (Space::Garbage.range().0, keys::garbage_end());
        let rows = txn.scan(&from, &to, 9).unwrap().into_iter();
        let mut rows = rows.filter(|(key, _)| keys::parse_garbage(key).unwrap().1.key == 2);
        let row = DroppedRow::decode(&rows.next().unwrap().1).unwrap();
        let stamps = (row.cause.stamp, row.winner.stamp);
        assert_eq!(stamps, (lost.stamp, wins.stamp));
    }
}

#[test]
fn a_chunk_that_was_dropped_cannot_be_written_again_by_a_stale_client() {
    use dulse_merge::local::LocalError;
    let mut one = Replica::new(1);
    create(&mut one, "/a", 1);
    update(&mut one, "/a", 2);
    let rng = &mut StdRng::seed_from_u64(0);
    let stale = one.local(&Op::Update(path("/a"), file(1)), rng);
    assert!(matches!(stale, Err(LocalError::DroppedChunk(_))));
}
