// SPDX-License-Identifier: Apache-2.0
//! What is lost in a conflict and what is not: the chain of replaced versions, and the
//! judgments that go by it.

use std::collections::BTreeMap;

use dulse_merge::conflict::{
    ShadowVerdict, data_id, is_data_lost, judge, judge_shadow, withdrawn_by,
};
use dulse_merge::keys::{self, Space};
use dulse_merge::txn::Losses;
use dulse_merge::{
    Change, ConflictRow, Kills, MemberRow, NameRow, NameStep, Step, Txn, apply, forget,
};
use dulse_types::{Identity, Origin, Stamp, Vector, Version};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::guards::{create, delete, link, pair, path, receive_all, rename, update};
use crate::world::{Memory, Mix, Replica, history, seen};

fn name_steps(change: &Change) -> impl Iterator<Item = (Version, &NameStep)> {
    change.steps.iter().filter_map(|step| match step {
        Step::Name(step) => Some((change.version(step.offset), &**step)),
        _ => None,
    })
}

fn data_of(change: &Change) -> (Version, Vector) {
    let mut writes = name_steps(change).filter_map(|(version, step)| {
        let data = step.data.as_ref()?;
        Some((version, data.seen.clone()))
    });
    writes.next().expect("a change that writes data")
}

fn kills_of(change: &Change) -> Kills {
    let mut kills = name_steps(change).filter_map(|(_, step)| step.kills.clone());
    kills.next().expect("a change that deletes")
}

#[test]
fn seen_is_the_greatest_version_of_each_other_origin_in_the_chain_of_replaced_ones() {
    let mut n_chains = 0;
    for seed in 0..600 {
        let mut rng = StdRng::seed_from_u64(seed);
        let logs: Vec<Vec<Change>> = history(&mut rng, 2 + (seed % 4) as u32, 24, Mix::LINKS)
            .into_iter()
            .map(|replica| replica.log)
            .collect();
        let steps = || logs.iter().flatten().flat_map(name_steps);
        let replaces: BTreeMap<(Identity, Version), Version> = steps()
            .filter_map(|(version, step)| {
                let data = step.data.as_ref()?;
                Some(((step.inode, version), data.replaces))
            })
            .collect();
        for (version, step) in steps() {
            let Some(data) = &step.data else { continue };
            let mut expect = Vector::new();
            let mut at = data.replaces;
            while !at.is_zero() {
                if at.origin != version.origin {
                    expect.raise(at.origin, at.stamp);
                    n_chains += 1;
                }
                at = replaces[&(step.inode, at)];
            }
            assert_eq!(data.seen, expect, "seed {seed}: {step:?}");
        }
    }
    println!("{n_chains} versions of others in chains");
    assert!(n_chains > 100, "the test lost its cases");
}

#[test]
fn a_write_is_lost_to_one_that_had_not_seen_it_and_not_to_its_successor() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let mine = update(&mut one, "/a", 2);
    let blind = update(&mut two, "/a", 3);
    let (lost, _) = data_of(&mine);
    let (winner, seen) = data_of(&blind);
    assert!(winner > lost && is_data_lost(lost, winner.origin, &seen));
    // Having seen both, a third writes on: nothing more is lost.
    let mut three = Replica::new(3);
    receive_all(&mut three, &[&made, &mine, &blind]);
    let after = update(&mut three, "/a", 4);
    let (_, seen) = data_of(&after);
    assert!(!is_data_lost(winner, three.origin, &seen));
    assert_eq!(withdrawn_by(winner.origin, &seen), Some(data_id(winner)));
    // A successor of its own writer's is no conflict either.
    let again = update(&mut one, "/a", 5);
    let (_, seen) = data_of(&again);
    assert!(!is_data_lost(lost, one.origin, &seen));
}

#[test]
fn a_record_is_withdrawn_when_a_version_made_on_top_of_the_loser_wins() {
    let (mut one, mut two) = pair();
    let mut three = Replica::new(3);
    let made = create(&mut one, "/a", 1);
    receive_all(&mut two, &[&made]);
    let mine = update(&mut one, "/a", 2);
    let (lost, _) = data_of(&mine);
    let blind = update(&mut two, "/a", 3);
    receive_all(&mut three, &[&made, &mine]);
    let other = create(&mut three, "/later", 9);
    let on_top = update(&mut three, "/a", 4);
    assert!(other.stamp < on_top.stamp);
    let (winner, seen) = data_of(&on_top);
    assert!(winner > data_of(&blind).0);
    assert_eq!(withdrawn_by(lost.origin, &seen), Some(data_id(lost)));
    assert_ne!(
        withdrawn_by(two.origin, &seen),
        Some(data_id(data_of(&blind).0))
    );
}

#[test]
fn a_delete_loses_the_data_that_its_maker_had_not_seen() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let mine = update(&mut one, "/a", 2);
    let (lost, _) = data_of(&mine);
    // Two writes later than that without having seen it, then deletes.
    update(&mut two, "/a", 3);
    let gone = delete(&mut two, "/a");
    let kills = kills_of(&gone);
    assert!(kills.touch > lost, "the delete kills it");
    assert!(is_data_lost(lost, two.origin, &kills.seen));
    // One that has seen everything loses nothing.
    let mut three = Replica::new(3);
    receive_all(&mut three, &[&made, &mine]);
    let kills = kills_of(&delete(&mut three, "/a"));
    assert!(!is_data_lost(lost, three.origin, &kills.seen));
}

#[test]
fn the_losers_origin_judges_or_else_the_smallest_member() {
    let [a, b, c] = [1, 2, 3].map(Origin);
    assert_eq!(judge(b, &[c, b, a]), Some(b));
    assert_eq!(judge(b, &[c, a]), Some(a));
    assert_eq!(judge(b, &[]), None);
}

fn at_one_path(replica: &Replica) -> (NameRow, NameRow) {
    let tree = replica.seen().tree;
    let shown = &tree["/b".as_bytes()];
    (shown.winner.clone().unwrap(), shown.shadows[0].clone())
}

#[test]
fn a_shadow_is_judged_once_places_and_touches_of_both_are_stable() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    let moved = rename(&mut one, "/a", "/b");
    let other = create(&mut two, "/b", 2);
    receive_all(&mut two, &[&made, &moved]);
    let (shown, shadow) = at_one_path(&two);
    let verdict = |stable: &[(Origin, Stamp)]| {
        judge_shadow(&shown, &shadow, &stable.iter().copied().collect())
    };
    let all = [(one.origin, moved.stamp), (two.origin, other.stamp)];
    assert_eq!(verdict(&all), ShadowVerdict::RecordAndKill);
    for less in [
        [(one.origin, made.stamp), all[1]],
        [all[0], (two.origin, Stamp::ZERO)],
    ] {
        assert_eq!(verdict(&less), ShadowVerdict::Pending);
    }
}

#[test]
fn of_two_names_of_one_inode_at_one_path_the_lesser_is_killed_without_a_record() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let first = link(&mut one, "/a", "/b");
    let second = link(&mut two, "/a", "/b");
    one.receive(&second);
    let (shown, shadow) = at_one_path(&one);
    assert!(shown.place_order() > shadow.place_order() && shown.inode == shadow.inode);
    let all = [(one.origin, first.stamp), (two.origin, second.stamp)];
    let stable = all.into_iter().collect();
    let verdict = judge_shadow(&shown, &shadow, &stable);
    assert_eq!(verdict, ShadowVerdict::Kill);
}

/// Its judge has what made it lose and said nothing, if it is a member; else nobody has
/// judged yet, and forgotten here it would be lost without a trace.
#[test]
fn a_pending_loss_of_one_that_is_no_member_waits_for_another_judge() {
    let (loser, stable) = (Origin(1), Stamp(9));
    let id = data_id(Version {
        stamp: Stamp(3),
        origin: loser,
    });
    let mut cause = Vector::new();
    cause.set(Origin(2), Stamp(5));
    let pending = ConflictRow {
        cause,
        ..ConflictRow::default()
    };
    let is_kept = |own: u64, state: u8, end: i64| {
        let member = |state, version| MemberRow {
            state,
            version,
            cut: Stamp(i64::MAX),
            address: String::new(),
        };
        let end = Version {
            stamp: Stamp(end),
            origin: Origin(2),
        };
        let (gone, other) = (member(state, end), member(MemberRow::MEMBER, end));
        let mut rows = Memory::default();
        let key = keys::by_identity(Space::Conflicts, id);
        rows.write(vec![
            (key.clone(), Some(pending.encode().into())),
            (keys::member(loser), Some(gone.encode().into())),
            (keys::member(Origin(2)), Some(other.encode().into())),
            (keys::member(Origin(3)), Some(other.encode().into())),
        ]);
        let all = (1..3).map(|n| (Origin(n), stable)).collect();
        let mut txn = Txn::new(&rows);
        forget(&mut txn, Origin(own), &all, b"", 100).unwrap();
        txn.get(&key).unwrap().is_some()
    };
    assert!(!is_kept(3, MemberRow::MEMBER, 9));
    assert!(is_kept(2, MemberRow::LEFT, 9), "it records it itself");
    assert!(
        is_kept(3, MemberRow::LEFT, 10),
        "some do not know of the end"
    );
    assert!(!is_kept(3, MemberRow::LEFT, 9));
}

/// Rows of a replica that notes what is lost.
fn noting(changes: &[&Change]) -> Memory {
    let mut rows = Memory::default();
    for change in changes {
        let before = rows.clone();
        let mut txn = Txn::new(&before);
        txn.losses = Some(Losses::default());
        apply(&mut txn, change).unwrap();
        rows.write(txn.finish().unwrap().0);
    }
    rows
}

/// Two filers delete one name each of a file with two, and each means the other name to stay:
/// the content is gone that nobody deleted. It is listed, whichever delete arrives first, and
/// whether or not they had seen what was written last. Before, it was not when either had.
#[test]
fn content_that_nobody_meant_to_delete_is_listed_in_every_order() {
    let mut one = Replica::new(1);
    let made = create(&mut one, "/a", 1);
    let linked = link(&mut one, "/a", "/b");
    let written = update(&mut one, "/a", 2);
    let (lost, _) = data_of(&written);
    let (mut two, mut three) = (Replica::new(2), Replica::new(3));
    for replica in [&mut two, &mut three] {
        receive_all(replica, &[&made, &linked, &written]);
    }
    let a = delete(&mut two, "/a");
    let b = delete(&mut three, "/b");
    assert_eq!((kills_of(&a).seen, kills_of(&b).seen), Default::default());
    let listed = |changes: &[&Change]| {
        let seen = seen(&noting(changes));
        seen.conflicts.contains_key(&data_id(lost))
    };
    let base = [&made, &linked, &written];
    for order in [[&a, &b], [&b, &a]] {
        assert!(listed(&[&base[..], &order[..]].concat()));
    }
    // Whoever knew that it was the last one meant it, whatever arrives first.
    two.receive(&b);
    let mut knew = Replica::new(4);
    receive_all(&mut knew, &[&made, &linked, &written, &b]);
    let last = delete(&mut knew, "/a");
    assert_eq!(kills_of(&last).seen.get(lost.origin), lost.stamp);
    for order in [[&b, &last], [&last, &b]] {
        assert!(!listed(&[&base[..], &order[..]].concat()));
    }
}

/// What is done to one of several names loses nothing while another one shows: a write goes
/// on where it was made or under the other name, a rename and a delete of one name leave the
/// content alone.
#[test]
fn while_a_name_of_an_inode_shows_no_content_is_lost() {
    let mut one = Replica::new(1);
    let made = create(&mut one, "/a", 1);
    let linked = link(&mut one, "/a", "/b");
    let mut two = Replica::new(2);
    receive_all(&mut two, &[&made, &linked]);
    let through_a = update(&mut one, "/a", 2);
    let moved = rename(&mut one, "/b", "/c");
    let gone = delete(&mut two, "/b");
    for order in [
        [&through_a, &moved, &gone],
        [&gone, &through_a, &moved],
        [&through_a, &gone, &moved],
    ] {
        let seen = seen(&noting(&[&[&made, &linked][..], &order[..]].concat()));
        assert!(seen.conflicts.is_empty());
        let live: Vec<_> = seen.all().map(|row| row.path.clone()).collect();
        assert_eq!(live, [path("/a")], "the content shows under its other name");
    }
    // A write through the name that is deleted elsewhere keeps that name.
    let (mut three, mut four) = (Replica::new(3), Replica::new(4));
    for replica in [&mut three, &mut four] {
        receive_all(replica, &[&made, &linked]);
    }
    let through_b = update(&mut three, "/b", 3);
    let gone = delete(&mut four, "/b");
    for order in [[&through_b, &gone], [&gone, &through_b]] {
        let seen = seen(&noting(&[&[&made, &linked][..], &order[..]].concat()));
        assert!(seen.conflicts.is_empty());
        assert_eq!(seen.all().count(), 2);
    }
}
