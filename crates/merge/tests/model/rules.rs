// SPDX-License-Identifier: Apache-2.0
//! Rules of the model that histories alone would not show: they converge without them too.

use std::cell::Cell;

use bytes::Bytes;
use dulse_merge::apply::DroppedRow;
use dulse_merge::forget::{Ends, forget, is_dropped};
use dulse_merge::keys::{self, Space};
use dulse_merge::local::{
    Builder, CHANGE_BYTES_MAX, ENTRY_BYTES_MAX, LocalError, PLACES_MAX, TREE_NAMES_MAX,
    TREE_NAMES_MAX as NAMES,
};
use dulse_merge::txn::RowsError;
use dulse_merge::{Change, MemberStep, NameStep, Rows, Step, Txn, apply, view};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, Identity, Stamp, Vector};

use crate::guards::{act, create, delete, file, fresh, link, pair, path, receive_all, rename};
use crate::world::{Memory, Op, Replica};

fn name_steps(change: &Change) -> Vec<&NameStep> {
    let steps = change.steps.iter().filter_map(|step| match step {
        Step::Name(step) => Some(&**step),
        _ => None,
    });
    steps.collect()
}

fn with(entry: &Entry, set: impl FnOnce(&mut EntryFields)) -> Entry {
    let mut fields = entry.fields().unwrap();
    set(&mut fields);
    fields.to_entry(&UnknownFields::default())
}

fn dir(uid: u32) -> Entry {
    with(&Entry::default(), |fields| {
        fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o750;
        fields.attrs_mut().uid = uid;
    })
}

fn shown(replica: &Replica, at: &'static str) -> Option<Entry> {
    let txn = Txn::new(&replica.rows);
    let row = txn.shown(at.as_bytes()).unwrap()?;
    Some(view::entry_of(&txn, &row).unwrap())
}

#[test]
fn an_extension_of_the_time_to_live_touches_every_live_name_of_the_inode() {
    let lives = |ttl: i32| {
        with(&file(1), |fields| {
            fields.attrs_mut().crtime = 100;
            fields.attrs_mut().ttl_sec = ttl;
        })
    };
    let (mut one, mut two) = pair();
    let made = act(&mut one, &Op::Create(path("/a"), lives(10)));
    let linked = link(&mut one, "/a", "/b");
    let third = link(&mut one, "/a", "/c");
    let gone = delete(&mut one, "/c");
    receive_all(&mut two, &[&made, &linked, &third, &gone]);
    // One filer saw it expired and kills all names; another one extends it meanwhile.
    let killed = [delete(&mut two, "/a"), delete(&mut two, "/b")];
    let extended = act(&mut one, &Op::Update(path("/a"), lives(20)));
    let touched = name_steps(&extended).len();
    assert_eq!(touched, 2, "both live names, not the dead one");
    let late = fresh(&[
        &made, &linked, &third, &gone, &killed[0], &killed[1], &extended,
    ]);
    assert!(shown(&late, "/a").is_some() && shown(&late, "/b").is_some());
    // What does not live longer touches the name that was written alone.
    let shorter = act(&mut one, &Op::Update(path("/a"), lives(5)));
    assert_eq!(name_steps(&shorter).len(), 1);
    let for_ever = act(&mut one, &Op::Update(path("/b"), lives(0)));
    assert_eq!(name_steps(&for_ever).len(), 2);
}

#[test]
fn a_write_touches_only_the_registers_it_changes() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let written = act(&mut one, &Op::Update(path("/a"), file(2)));
    let chmod = with(&file(1), |fields| fields.attrs_mut().file_mode = 0o600);
    let chmod = act(&mut two, &Op::Update(path("/a"), chmod));
    assert!(name_steps(&chmod)[0].data.is_none());
    assert!(name_steps(&written)[0].attributes.is_none());
    for order in [[&made, &written, &chmod], [&made, &chmod, &written]] {
        let fields = shown(&fresh(&order), "/a").unwrap().fields().unwrap();
        assert_eq!(fields.attrs().file_mode, 0o600);
        assert_eq!(fields.chunks, file(2).fields().unwrap().chunks);
    }
}

#[test]
fn the_access_time_is_the_greatest_whoever_wrote_it_last() {
    let accessed = |at: i64, uid: u32| {
        with(&file(1), |fields| {
            fields.attrs_mut().atime = at;
            fields.attrs_mut().uid = uid;
        })
    };
    let (mut one, mut two) = pair();
    let made = act(&mut one, &Op::Create(path("/a"), accessed(10, 0)));
    two.receive(&made);
    let late = act(&mut one, &Op::Update(path("/a"), accessed(99, 0)));
    let step = &name_steps(&late)[0];
    assert!(step.attributes.is_none() && step.data.is_none() && step.atime_ns.is_some());
    let early = act(&mut two, &Op::Update(path("/a"), accessed(20, 7)));
    assert!(early.stamp >= late.stamp);
    for order in [[&made, &late, &early], [&made, &early, &late]] {
        let attributes = shown(&fresh(&order), "/a")
            .unwrap()
            .fields()
            .unwrap()
            .attrs();
        assert_eq!((attributes.atime, attributes.uid), (99, 7));
    }
    // An older one is no write at all.
    let older = act(&mut one, &Op::Update(path("/a"), accessed(5, 0)));
    assert_eq!(name_steps(&older)[0].atime_ns, None);
}

#[test]
fn an_implied_directory_shows_the_attributes_of_its_nearest_live_ancestor_until_written() {
    let (mut one, mut two) = pair();
    let top = act(&mut one, &Op::Create(path("/a"), dir(7)));
    let sub = act(&mut one, &Op::Create(path("/a/b"), dir(8)));
    receive_all(&mut two, &[&top, &sub]);
    let gone = delete(&mut one, "/a/b");
    let inside = create(&mut two, "/a/b/c/x", 1);
    let mut late = fresh(&[&top, &sub, &gone, &inside]);
    for implied in ["/a/b", "/a/b/c"] {
        let entry = shown(&late, implied).unwrap();
        assert!(entry.is_dir() && entry.fields().unwrap().attrs().uid == 7);
    }
    let written = act(&mut late, &Op::Update(path("/a/b"), dir(9)));
    assert!(name_steps(&written)[0].is_birth, "now somebody made it");
    let uid = |at| shown(&late, at).unwrap().fields().unwrap().attrs().uid;
    assert_eq!((uid("/a/b"), uid("/a/b/c")), (9, 9));
    delete(&mut late, "/a/b/c/x");
    assert_eq!(
        shown(&late, "/a/b/c"),
        None,
        "gone with its last descendant"
    );
    assert!(shown(&late, "/a/b").is_some());
    // Without any ancestor that somebody made, it is a plain directory.
    let bare = fresh(&[&create(&mut Replica::new(5), "/q/x", 1)]);
    assert!(shown(&bare, "/q").unwrap().is_dir());
}

#[test]
fn renaming_what_shadows_a_file_kills_that_file_and_moves_a_shadowed_directory() {
    let (mut one, mut two) = pair();
    let mut three = Replica::new(3);
    let below = act(&mut one, &Op::Create(path("/a"), dir(1)));
    let file_there = create(&mut two, "/a", 2);
    let above = act(&mut three, &Op::Create(path("/a"), dir(3)));
    let inside = create(&mut three, "/a/x", 4);
    receive_all(&mut three, &[&below, &file_there]);
    assert_eq!(three.seen().tree[&path("/a")].shadows.len(), 2);
    let moved = rename(&mut three, "/a", "/b");
    let late = fresh(&[&above, &inside, &moved, &below, &file_there]);
    for replica in [&three, &late] {
        let tree = replica.seen().tree;
        assert!(!tree.contains_key(&path("/a")), "an old file popped up");
        assert_eq!(tree[&path("/b")].shadows.len(), 1, "both directories moved");
        assert!(tree.contains_key(&path("/b/x")));
    }
}

#[test]
fn of_two_directories_that_move_together_the_shown_one_stays_the_shown_one() {
    // The older one shows because it was moved there later; after the move both have one
    // version, and only the rank tells them apart: their identities say the opposite.
    let (mut one, mut two) = pair();
    let older = act(&mut one, &Op::Create(path("/z"), dir(1)));
    let newer = act(&mut two, &Op::Create(path("/q"), dir(2)));
    let also = act(&mut two, &Op::Create(path("/a"), dir(3)));
    one.receive(&newer);
    one.clock = 50;
    let there = rename(&mut one, "/z", "/a");
    assert!(there.stamp > also.stamp);
    one.receive(&also);
    let uid = |replica: &Replica, at| shown(replica, at).unwrap().fields().unwrap().attrs().uid;
    assert_eq!(uid(&one, "/a"), 1);
    let moved = rename(&mut one, "/a", "/b");
    let late = fresh(&[&newer, &also, &older, &there, &moved]);
    assert_eq!((uid(&one, "/b"), uid(&late, "/b")), (1, 1));
}

#[test]
fn a_grave_stays_until_its_birth_and_every_version_merged_into_it_are_stable() {
    let mut replicas: Vec<Replica> = (1..=5).map(Replica::new).collect();
    let ops = [
        Op::Create(path("/a"), file(1)),
        Op::Rename(path("/a"), path("/b")),
        Op::Update(path("/b"), file(2)),
        Op::Update(
            path("/b"),
            with(&file(2), |fields| fields.attrs_mut().uid = 9),
        ),
        Op::Delete(path("/b"), true),
    ];
    let mut changes: Vec<Change> = Vec::new();
    for (replica, op) in replicas.iter_mut().zip(&ops) {
        receive_all(replica, &changes.iter().collect::<Vec<_>>());
        changes.push(act(replica, op));
    }
    let all = fresh(&changes.iter().collect::<Vec<_>>());
    let n_graves = |stable: &Vector| {
        let mut txn = Txn::new(&all.rows);
        forget(&mut txn, dulse_types::Origin(9), stable, b"", 100).unwrap();
        let (from, to) = dulse_merge::keys::Space::Graves.range();
        txn.scan(&from, &to, 9).unwrap().len()
    };
    for missing in &replicas {
        let mut stable = all.vector.clone();
        stable.set(missing.origin, Stamp::ZERO);
        assert_eq!(n_graves(&stable), 1, "{} is not stable", missing.origin);
    }
    assert_eq!(n_graves(&all.vector), 0);
}

/// All may have a write of which one lacks the birth: forgotten, it would be lost to that one.
#[test]
fn a_name_that_waits_for_its_birth_is_not_forgotten() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let written = act(&mut two, &Op::Update(path("/a"), file(2)));
    let late = fresh(&[&written]);
    let is_kept = |stable: &Vector| {
        let mut txn = Txn::new(&late.rows);
        forget(&mut txn, dulse_types::Origin(9), stable, b"", 100).unwrap();
        let name = name_steps(&made)[0].name;
        let kept = txn.kept(dulse_merge::keys::Space::Partial, name);
        kept.unwrap().is_some()
    };
    let mut stable = Vector::new();
    stable.set(written.origin, written.stamp);
    assert!(is_kept(&stable));
    stable.set(made.origin, made.stamp);
    assert!(!is_kept(&stable), "the test would see it go");
}

#[test]
fn a_write_to_a_name_that_is_lost_is_counted_and_kept() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let written = act(&mut two, &Op::Update(path("/a"), file(2)));
    let empty = Replica::new(9);
    // Not yet here is no loss; here, says the vector, and not found is one.
    for (applied, n_orphans) in [(Vector::new(), 0), (one.vector.clone(), 1)] {
        let mut txn = Txn::new(&empty.rows);
        txn.applied = Some(applied);
        apply(&mut txn, &written).unwrap();
        assert_eq!(txn.n_orphans, n_orphans);
        let kept = txn.kept(dulse_merge::keys::Space::Partial, name_steps(&made)[0].name);
        assert!(kept.unwrap().is_some());
    }
}

/// A change in the making, of a replica without history.
fn build<T>(replica: &Replica, act: impl FnOnce(&mut Builder<'_, '_>) -> T) -> (T, Change) {
    let mut txn = Txn::new(&replica.rows);
    let first = Stamp(replica.clock + 1);
    let prev = replica.vector.get(replica.origin);
    let mut builder = Builder::new(&mut txn, replica.origin, first, prev);
    let done = act(&mut builder);
    (done, builder.finish())
}

#[test]
fn a_change_stays_below_its_size_and_one_step() {
    let big = with(&file(1), |fields| fields.content = vec![7; 1 << 20].into());
    let replica = Replica::new(1);
    let (n_done, change) = build(&replica, |builder| {
        let paths = (0..10).map(|n| Bytes::from(format!("/{n}")));
        let done = paths
            .map(|path| builder.create(&path, &big))
            .collect::<Vec<_>>();
        let refused = done.iter().filter_map(|result| result.as_ref().err());
        for error in refused {
            assert!(matches!(error, LocalError::ChangeTooLarge));
            assert!(error.to_string().contains(&CHANGE_BYTES_MAX.to_string()));
        }
        done.iter().filter(|result| result.is_ok()).count()
    });
    assert_eq!(n_done, 4);
    let size = change.encode().len();
    assert!(size <= CHANGE_BYTES_MAX + (1 << 20) + 1_000, "{size} bytes");
    let told: usize = change.steps.iter().map(Step::size_bytes_max).sum();
    assert!(told + 64 >= size, "{told} told, {size} taken");
}

#[test]
fn an_entry_is_as_large_as_it_may_be_twice_and_no_larger() {
    let of = |byte, size| with(&file(1), |fields| fields.content = vec![byte; size].into());
    let sized = |size| of(7, size);
    let other = of(8, ENTRY_BYTES_MAX - 1_000);
    let mut replica = Replica::new(1);
    let large = sized(ENTRY_BYTES_MAX - 1_000);
    act(&mut replica, &Op::Create(path("/a"), large));
    let (done, change) = build(&replica, |builder| {
        // What was done is too large to be shown.
        let done = builder.create(&path("/b"), &sized(ENTRY_BYTES_MAX));
        let error = done.map(drop).expect_err("it is too large");
        assert!(matches!(error, LocalError::EntryTooLarge(_)), "{error}");
        assert!(error.to_string().contains(&ENTRY_BYTES_MAX.to_string()));
        let key = Bytes::from_static(b"key");
        let done = builder.kv(&key, Some(vec![7; ENTRY_BYTES_MAX].into()));
        let error = done.map(drop).expect_err("it is too large");
        assert!(matches!(error, LocalError::EntryTooLarge(_)));
        builder.update(&path("/a"), &other, false)
    });
    done.unwrap();
    assert_eq!(change.steps.len(), 1, "what was refused left no step");
    assert!(change.encode().len() > 2 * ENTRY_BYTES_MAX - 10_000, "both");
}

#[test]
fn a_move_of_more_names_than_one_change_may_have_is_refused_and_says_so() {
    let mut replica = Replica::new(1);
    act(&mut replica, &Op::Create(path("/a"), dir(1)));
    let (_, change) = build(&replica, |builder| {
        for n in 0..TREE_NAMES_MAX {
            let path = Bytes::from(format!("/a/{n}"));
            builder.create(&path, &Entry::default()).unwrap();
        }
    });
    // Straight into the rows: checking ten thousand of them after each step takes long.
    let rows = replica.rows.clone();
    let mut txn = Txn::new(&rows);
    apply(&mut txn, &change).unwrap();
    replica.rows.write(txn.finish().unwrap().0);
    let (moved, _) = build(&replica, |b| b.rename(&path("/a"), &path("/b")));
    let error = moved.unwrap_err();
    assert!(matches!(error, LocalError::TooBig { .. }));
    assert!(error.to_string().contains(&NAMES.to_string()), "{error}");
}

#[test]
fn a_name_that_nobody_acknowledges_is_not_moved_for_ever_and_trimmed_when_they_do() {
    let mut replica = Replica::new(1);
    create(&mut replica, "/a", 1);
    let places: Vec<Bytes> = (0..=PLACES_MAX).map(|n| format!("/{n}").into()).collect();
    let mut at = path("/a");
    let mut n_moves = 0;
    let rng = &mut rand::SeedableRng::seed_from_u64(0);
    let error = loop {
        let to = places[n_moves].clone();
        match replica.local(&Op::Rename(at.clone(), to.clone()), rng) {
            Ok(()) => (at, n_moves) = (to, n_moves + 1),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LocalError::MovedTooOften(_)), "{error}");
    assert_eq!(n_moves, PLACES_MAX - 1, "the first place counts too");
    // Half of it is acknowledged, then all.
    let half = replica.log[n_moves / 2].stamp;
    let places_after = |stable: Stamp| {
        let stable = Vector::from_iter([(replica.origin, stable)]);
        let mut txn = Txn::new(&replica.rows);
        forget(&mut txn, dulse_types::Origin(9), &stable, b"", 10).unwrap();
        let name: Identity = name_steps(&replica.log[0])[0].name;
        dulse_merge::apply::moved_paths(&txn, name).unwrap().len()
    };
    assert_eq!(places_after(half), n_moves - n_moves / 2 + 1);
    assert_eq!(places_after(Stamp(i64::MAX)), 0);
}

/// A file was born at a filer that was shut out before it could hand that to anybody; another one,
/// too, saw it, wrote or deleted it, and handed that on. Of the file nothing but that is known.
#[test]
fn a_name_that_waits_for_a_birth_that_never_comes_is_forgotten_once_all_know_the_end() {
    for is_delete in [false, true] {
        let (mut one, mut two) = pair();
        let made = create(&mut one, "/a", 1);
        two.receive(&made);
        let seen = match is_delete {
            true => delete(&mut two, "/a"),
            false => act(&mut two, &Op::Update(path("/a"), file(2))),
        };
        let mut three = Replica::new(3);
        three.receive(&seen);
        let member = one.origin;
        let cut = Stamp::ZERO;
        let remove = Op::Other(Step::Member(MemberStep::Remove { member, cut }));
        let end = act(&mut three, &remove);
        let name = name_steps(&made)[0].name;
        let kept = |stable: &Vector| {
            let mut txn = Txn::new(&three.rows);
            forget(&mut txn, dulse_types::Origin(9), stable, b"", 100).unwrap();
            let spaces = [Space::Partial, Space::Graves];
            let n = spaces.map(|space| usize::from(txn.kept(space, name).unwrap().is_some()));
            let (from, to) = Space::Garbage.range();
            (n[0] + n[1], txn.scan(&from, &to, 9).unwrap().len())
        };
        let mut stable = Vector::new();
        stable.set(seen.origin, seen.stamp);
        assert_eq!(kept(&stable).0, 1, "some member may have the birth");
        stable.set(end.origin, end.stamp);
        let (n_rows, n_garbage) = kept(&stable);
        assert_eq!(n_rows, 0);
        assert_eq!(
            n_garbage, 0,
            "whoever has the file makes it anew with its chunks"
        );
    }
}

/// A filer that had the birth from the one that was shut out, before the others had it: it makes
/// the file anew, and nobody is to free what that names.
#[test]
fn who_has_a_birth_that_never_comes_to_the_others_frees_none_of_its_chunks() {
    let (mut one, mut two) = pair();
    let made = create(&mut one, "/a", 1);
    two.receive(&made);
    let moved = rename(&mut two, "/a", "/b");
    let entry = with(&file(2), |fields| fields.attrs_mut().uid = 7);
    let written = act(&mut two, &Op::Update(path("/b"), entry));
    let deleted = delete(&mut two, "/b");
    let mut three = Replica::new(3);
    receive_all(&mut three, &[&made, &moved, &written, &deleted]);
    let (member, cut) = (one.origin, Stamp::ZERO);
    let remove = Op::Other(Step::Member(MemberStep::Remove { member, cut }));
    let end = act(&mut three, &remove);
    let mut stable = Vector::new();
    stable.set(deleted.origin, deleted.stamp);
    stable.set(end.origin, end.stamp);
    let mut txn = Txn::new(&three.rows);
    forget(&mut txn, three.origin, &stable, b"", 100).unwrap();
    let name = name_steps(&made)[0].name;
    assert_eq!(txn.kept(Space::Graves, name).unwrap(), None, "it is over");
    let (from, to) = (Space::Garbage.range().0, keys::garbage_end());
    let mut due = Vec::new();
    for (key, value) in txn.scan(&from, &to, 9).unwrap() {
        let row = DroppedRow::decode(&value).unwrap();
        let end = Ends::read(&txn).unwrap().of(row.cause);
        if is_dropped(&stable, (row.cause, row.winner), end) {
            due.push(keys::parse_garbage(&key).unwrap().1.key);
        }
    }
    assert_eq!(due, [1], "only what was written over");
}

/// Rows that count how often they are read.
struct Counting<'a>(&'a Memory, Cell<usize>);

impl Rows for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.scan(from, to, limit)
    }
}

#[test]
fn what_moved_often_at_two_filers_is_found_by_a_few_reads() {
    const MOVES: usize = 200;
    let rng = &mut rand::SeedableRng::seed_from_u64(0);
    let (mut one, mut other) = (Replica::new(1), Replica::new(2));
    create(&mut one, "/a", 1);
    other.receive(&one.log[0]);
    other.clock = 1_000_000;
    for (replica, letter) in [(&mut one, 'b'), (&mut other, 'c')] {
        let mut at = path("/a");
        for n in 0..MOVES {
            let to: Bytes = format!("/{letter}{n}").into();
            replica.local(&Op::Rename(at, to.clone()), rng).unwrap();
            at = to;
        }
    }
    for change in &one.log[1..] {
        let rows = Counting(&other.rows, Cell::new(0));
        let mut txn = Txn::new(&rows);
        apply(&mut txn, change).unwrap();
        assert_eq!(txn.n_orphans, 0);
        assert!(rows.1.get() < 16, "{} reads", rows.1.get());
        let writes = txn.finish().unwrap().0;
        other.rows.write(writes);
    }
}
