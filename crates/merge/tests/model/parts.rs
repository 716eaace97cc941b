// SPDX-License-Identifier: Apache-2.0
//! Trees moved and removed in parts while others go on: replicas end alike in every order
//! (I1), nothing that a part killed shows again (I4), every name has its directories (I5)
//! and one path (I6), and what the doer had not seen when it began is spared.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::intent::TreeWork;
use dulse_merge::local::{Builder, Part, PartLimits, TreeWalk};
use dulse_merge::{Change, Step, Txn};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, Identity, Stamp, Vector};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::guards::file;
use crate::histories::assert_same;
use crate::naive::Naive;
use crate::world::{Mix, Op, Replica, deliver, op};

/// A tree change that is being done.
struct Job {
    id: Identity,
    work: TreeWork,
    walk: TreeWalk,
    seen: Vector,
    n_parts: u32,
    n_names: usize,
}

impl Job {
    fn begin(replica: &mut Replica, top: &'static str, work: TreeWork) -> Self {
        replica.clock += 1;
        let top = Bytes::from_static(top.as_bytes());
        Self {
            id: Identity {
                stamp: Stamp(replica.clock),
                origin: replica.origin,
                index: 0,
            },
            walk: match work {
                TreeWork::Move { .. } => TreeWalk::top_down(top),
                TreeWork::Delete { .. } => TreeWalk::bottom_up(top),
            },
            work,
            seen: replica.vector.clone(),
            n_parts: 0,
            n_names: 0,
        }
    }

    /// One part, as the sequencer does it.
    fn step(&mut self, replica: &mut Replica, names: usize) -> Part {
        let rows = replica.rows.clone();
        let mut txn = Txn::new(&rows);
        txn.applied = Some(replica.vector.clone());
        let prev = replica.vector.get(replica.origin);
        let first = Stamp(replica.clock + 1);
        let mut builder = Builder::new(&mut txn, replica.origin, first, prev);
        builder.begin_part(self.id, self.n_parts).unwrap();
        let bytes = usize::MAX;
        let limits = PartLimits { names, bytes };
        let (walk, seen) = (&mut self.walk, Some(&self.seen));
        let part = builder.tree_part(&self.work, walk, seen, limits).unwrap();
        if part.is_end {
            builder.end_parts();
        }
        let change = builder.finish();
        assert_eq!(Change::decode(&change.encode()).unwrap(), change);
        self.n_parts += 1;
        self.n_names += part.n_names;
        replica.clock = change.stamp.0;
        replica.vector.set(replica.origin, change.stamp);
        replica.rows.write(txn.finish().unwrap().0);
        replica.log.push(change);
        replica.check();
        part
    }

    fn finish(&mut self, replica: &mut Replica, names: usize) {
        while !self.step(replica, names).is_end {}
    }
}

fn dir() -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    fields.to_entry(&UnknownFields::default())
}

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn act(replica: &mut Replica, op: &Op) {
    let rng = &mut StdRng::seed_from_u64(0);
    replica.local(op, rng).unwrap();
}

/// Every name's path, of those that are shown or shadowed. ⚠ I6: it has one.
fn paths(replica: &Replica) -> BTreeMap<Identity, Bytes> {
    let mut paths = BTreeMap::new();
    for (path, shown) in replica.seen().tree {
        for row in shown.winner.iter().chain(&shown.shadows) {
            let before = paths.insert(row.name, path.clone());
            assert_eq!(before, None, "{:?} has two paths", row.name);
        }
    }
    paths
}

/// Identities that the parts of one change killed.
fn killed(log: &[Change], intent: Identity) -> BTreeSet<Identity> {
    let is_part = |change: &&Change| {
        let mut steps = change.steps.iter();
        steps.any(|step| matches!(step, Step::TreePart { intent: of, .. } if *of == intent))
    };
    let steps = log.iter().filter(is_part).flat_map(|change| &change.steps);
    let names = steps.filter_map(|step| match step {
        Step::Name(step) if step.kills.is_some() => Some(step.name),
        _ => None,
    });
    names.collect()
}

fn random_work(rng: &mut StdRng) -> (&'static str, TreeWork) {
    let (top, to) =
        [("/a", "/c"), ("/b", "/d"), ("/a", "/b/m"), ("/a/x", "/e")][rng.random_range(0..4)];
    let work = match rng.random_bool(0.6) {
        true => TreeWork::Move { to: path(to) },
        false => TreeWork::Delete {
            delete_chunks: rng.random_bool(0.7),
        },
    };
    (top, work)
}

/// Three replicas, two of which do tree changes in parts among other operations; changes
/// travel now and then.
fn converge(seed: u64) -> usize {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut replicas: Vec<Replica> = (1..=3).map(Replica::new).collect();
    let mut jobs: [Option<Job>; 2] = [None, None];
    let mut n_parts = 0;
    for _ in 0..60 {
        let at = rng.random_range(0..3);
        match rng.random_range(0..6) {
            0..=1 => {
                let op = op(rng, Mix::ALL);
                if let Op::Update(path, entry) = &op {
                    let shown = Txn::new(&replicas[at].rows).shown(path).unwrap();
                    if shown.is_some_and(|s| dulse_merge::view::is_dir(&s) != entry.is_dir()) {
                        continue;
                    }
                }
                // What cannot be done is not.
                drop(replicas[at].local(&op, rng));
            }
            2..=3 => {
                let from = replicas[rng.random_range(0..3)].log.clone();
                let seen = replicas[at].vector.clone();
                if let Some(next) = from.iter().find(|c| c.stamp > seen.get(c.origin)) {
                    replicas[at].receive(next);
                }
            }
            _ => {
                let Some(slot) = jobs.get_mut(at) else {
                    continue;
                };
                let replica = &mut replicas[at];
                let job = slot.get_or_insert_with(|| {
                    let (top, work) = random_work(rng);
                    Job::begin(replica, top, work)
                });
                let part = job.step(replica, rng.random_range(1..3));
                n_parts += 1;
                if part.is_end {
                    let (id, log) = (job.id, replica.log.clone());
                    let alive = paths(replica);
                    let dead = killed(&log, id);
                    // Unless somebody wrote them meanwhile, unseen, they are dead here.
                    let revived = dead.iter().filter(|name| alive.contains_key(name));
                    for name in revived {
                        assert!(is_written_again(&replicas, *name), "{name:?} is back");
                    }
                    *slot = None;
                }
            }
        }
        paths(&replicas[at]);
    }
    for (at, slot) in jobs.iter_mut().enumerate() {
        if let Some(job) = slot {
            job.finish(&mut replicas[at], 2);
        }
    }
    let logs: Vec<Vec<Change>> = replicas.iter().map(|r| r.log.clone()).collect();
    let expect = Naive::of(logs.iter().flatten());
    replicas.push(Replica::new(99));
    for replica in &mut replicas {
        deliver(replica, &logs, rng);
        paths(replica);
        assert_same(&format!("seed {seed}"), &replica.seen(), &expect, &logs);
    }
    n_parts
}

/// Whether somebody wrote through a name after its birth.
fn is_written_again(replicas: &[Replica], name: Identity) -> bool {
    let mut steps = replicas.iter().flat_map(|r| &r.log).flat_map(|c| &c.steps);
    steps.any(|step| match step {
        Step::Name(step) => step.name == name && step.is_touch && !step.is_birth,
        _ => false,
    })
}

#[test]
fn trees_in_parts_among_other_operations_end_alike_in_every_order() {
    let n_parts: usize = (0..600).map(converge).sum();
    assert!(n_parts > 5_000, "the test lost its cases: {n_parts}");
}

/// `/t` with `a`, `b/x`, `b/y`, `c`: six names.
fn planted(id: u32) -> Replica {
    let mut replica = Replica::new(id);
    for made in ["/t", "/t/b"] {
        act(&mut replica, &Op::Create(path(made), dir()));
    }
    for made in ["/t/a", "/t/b/x", "/t/b/y", "/t/c"] {
        act(&mut replica, &Op::Create(path(made), Entry::default()));
    }
    replica
}

fn works() -> [TreeWork; 2] {
    [
        TreeWork::Move { to: path("/u") },
        TreeWork::Delete {
            delete_chunks: true,
        },
    ]
}

fn files(replica: &Replica) -> Vec<String> {
    let tree = replica.seen().tree.into_iter();
    let made = tree.filter(|(_, shown)| shown.winner.is_some());
    made.map(|(path, _)| String::from_utf8_lossy(&path).into_owned())
        .collect()
}

const RENAME: &str = "rename within";

/// What a peer does, unseen by the doer when it begins.
fn by_peer(of: &Replica) -> Vec<(&'static str, Replica)> {
    let ops = [
        ("create", Op::Create(path("/t/n"), Entry::default())),
        (
            "create deeper",
            Op::Create(path("/t/b/n"), Entry::default()),
        ),
        ("write", Op::Update(path("/t/b/x"), with_uid(7))),
        (RENAME, Op::Rename(path("/t/b/x"), path("/t/z"))),
        ("move in", Op::Create(path("/t/b/x/over"), dir())),
    ];
    let peers = ops.into_iter().map(|(name, op)| {
        let mut peer = Replica::new(2);
        for change in &of.log {
            peer.receive(change);
        }
        act(&mut peer, &op);
        (name, peer)
    });
    peers.collect()
}

fn with_uid(uid: u32) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().uid = uid;
    fields.to_entry(&UnknownFields::default())
}

/// In whatever moment a peer's change arrives, all replicas end alike, and as if the doer
/// had done it in one change when it began.
#[test]
fn a_peers_change_at_any_moment_gives_what_one_change_at_the_beginning_gives() {
    for work in works() {
        for n_before in 0..8 {
            let base = planted(1);
            for (name, peer) in by_peer(&base) {
                let what = format!("{work:?}, {name} before part {n_before}");
                // As one change.
                let mut whole = base.clone();
                let top = path("/t");
                let rng = &mut StdRng::seed_from_u64(1);
                match &work {
                    TreeWork::Move { to } => act(&mut whole, &Op::Rename(top, to.clone())),
                    TreeWork::Delete { .. } => delete_tree(&mut whole, &top),
                }
                deliver(&mut whole, &[base.log.clone(), peer.log.clone()], rng);
                // In parts.
                let mut doer = base.clone();
                // ⚠ Its clock is ahead of the peer's: stamps do not tell who saw what.
                doer.clock += 100;
                let mut job = Job::begin(&mut doer, "/t", work.clone());
                let mut is_end = false;
                for _ in 0..n_before {
                    is_end = is_end || job.step(&mut doer, 1).is_end;
                }
                deliver(&mut doer, std::slice::from_ref(&peer.log), rng);
                if !is_end {
                    job.finish(&mut doer, 1);
                }
                let logs = [doer.log.clone(), peer.log.clone()];
                let expect = Naive::of(logs.iter().flatten());
                let mut other = peer.clone();
                deliver(&mut other, &logs, rng);
                for replica in [&doer, &other] {
                    assert_same(&what, &replica.seen(), &expect, &logs);
                }
                // A directory in which something survives is killed by one change that has
                // not seen it, and spared by a part that has: it is shown either way.
                for replica in [&doer, &whole] {
                    let tree = replica.seen().tree;
                    let shadows = tree.values().map(|shown| shown.shadows.len());
                    assert_eq!(shadows.sum::<usize>(), 0, "{what}: it would pop up");
                }
                let (parts, one) = (files(&doer), files(&whole));
                let is_spared = |p: &&String| !["/t", "/t/b", "/t/b/x"].contains(&p.as_str());
                let names = |all: &[String]| -> Vec<String> {
                    all.iter().filter(is_spared).cloned().collect()
                };
                if name == RENAME {
                    // One change names it before the peer's rename arrives; a part that
                    // comes by it later finds it placed by somebody else, and spares it.
                    assert!(n_before > 1 || parts.contains(&"/t/z".to_owned()), "{what}");
                    continue;
                }
                assert_eq!(names(&parts), names(&one), "{what}");
            }
        }
    }
}

fn delete_tree(replica: &mut Replica, top: &Bytes) {
    let rows = replica.rows.clone();
    let mut txn = Txn::new(&rows);
    txn.applied = Some(replica.vector.clone());
    let first = Stamp(replica.clock + 1);
    let prev = replica.vector.get(replica.origin);
    let mut builder = Builder::new(&mut txn, replica.origin, first, prev);
    builder.delete_tree(top, true).unwrap();
    let change = builder.finish();
    replica.clock = change.stamp.0;
    replica.vector.set(replica.origin, change.stamp);
    replica.rows.write(txn.finish().unwrap().0);
    replica.log.push(change);
    replica.check();
}

/// Alone, parts give what one change gives, and each name is at one of the two paths after
/// each part.
#[test]
fn parts_of_any_size_end_as_one_change_does_and_lose_nothing_on_the_way() {
    for work in works() {
        for names in 1..8 {
            let mut doer = planted(1);
            let before = paths(&doer);
            let mut job = Job::begin(&mut doer, "/t", work.clone());
            loop {
                let part = job.step(&mut doer, names);
                assert_eq!(part.n_left, 0);
                let now = paths(&doer);
                if let TreeWork::Move { .. } = work {
                    for (name, old) in &before {
                        let moved = [&b"/u"[..], &old[2..]].concat();
                        let at = &now[name];
                        assert!(at == old || at[..] == moved[..], "{at:?}");
                    }
                }
                if part.is_end {
                    break;
                }
                assert!(part.n_names <= names, "{} of {names}", part.n_names);
            }
            assert_eq!(job.n_names, 6);
            let expect: &[&str] = match work {
                TreeWork::Move { .. } => &["/u", "/u/a", "/u/b", "/u/b/x", "/u/b/y", "/u/c"],
                TreeWork::Delete { .. } => &[],
            };
            assert_eq!(files(&doer), expect);
        }
    }
}

/// Upstream's order: each directory, then what is in it; a delete the other way round.
#[test]
fn events_of_the_parts_come_directory_by_directory() {
    for (work, expect) in works().into_iter().zip([
        ["/t", "/t/a", "/t/b", "/t/b/x", "/t/b/y", "/t/c"],
        ["/t/a", "/t/b/x", "/t/b/y", "/t/b", "/t/c", "/t"],
    ]) {
        for names in [1, 2, 4, 10] {
            let mut doer = planted(1);
            let n_before = doer.log.len();
            Job::begin(&mut doer, "/t", work.clone()).finish(&mut doer, names);
            let events = doer.log[n_before..].iter().flat_map(dulse_merge::events);
            let paths: Vec<_> = events.map(|event| event.old_path.unwrap()).collect();
            assert_eq!(paths, expect, "{names} names a part");
        }
    }
}

/// S13: one directory moved to two places, and two into one another, part by part.
#[test]
fn s13_concurrent_moves_in_parts_leave_each_name_at_one_place_everywhere() {
    for seed in 0..100 {
        let rng = &mut StdRng::seed_from_u64(seed);
        for (left, right) in [
            (("/t", "/u"), ("/t", "/v")),
            (("/t", "/s/t"), ("/s", "/t/s")),
        ] {
            let mut one = planted(1);
            act(&mut one, &Op::Create(path("/s"), dir()));
            act(&mut one, &Op::Create(path("/s/1"), Entry::default()));
            let mut two = Replica::new(2);
            deliver(&mut two, std::slice::from_ref(&one.log), rng);
            let names: BTreeSet<_> = paths(&one).into_keys().collect();
            let job = |replica: &mut Replica, (top, to): (&'static str, &str)| {
                Job::begin(replica, top, TreeWork::Move { to: path(to) })
            };
            let mut jobs = [Some(job(&mut one, left)), Some(job(&mut two, right))];
            let mut replicas = [one, two];
            while jobs.iter().any(Option::is_some) {
                let at = rng.random_range(0..2);
                if let Some(job) = &mut jobs[at]
                    && job.step(&mut replicas[at], 1).is_end
                {
                    jobs[at] = None;
                }
                if rng.random_bool(0.4) {
                    let log = replicas[1 - at].log.clone();
                    let seen = replicas[at].vector.get(replicas[1 - at].origin);
                    if let Some(next) = log.iter().find(|c| c.stamp > seen) {
                        replicas[at].receive(next);
                    }
                }
            }
            let logs: Vec<_> = replicas.iter().map(|r| r.log.clone()).collect();
            let expect = Naive::of(logs.iter().flatten());
            for replica in &mut replicas {
                deliver(replica, &logs, rng);
                assert_same("s13", &replica.seen(), &expect, &logs);
                let now: BTreeSet<_> = paths(replica).into_keys().collect();
                assert_eq!(now, names, "nothing is lost");
            }
        }
    }
}

/// Emptying a directory must not look at what is gone again and again.
#[test]
fn whether_something_is_left_is_told_as_a_scan_tells_it() {
    use dulse_merge::keys::{Space, children};
    for seed in 0..200 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let replica = planted(1);
        let mut txn = Txn::new(&replica.rows);
        let (from, to) = children(Space::Entries, b"/t");
        let key = |rng: &mut StdRng| {
            let mut key = from.clone();
            key.push(b'a' + rng.random_range(0..4));
            key
        };
        for _ in 0..40 {
            match rng.random_range(0..6) {
                0 => txn.begin(),
                1 => txn.rollback(),
                2 => txn.put(key(rng), Bytes::from_static(b"x")),
                _ => txn.delete(key(rng)),
            }
            let expect = !txn.scan(&from, &to, 1).unwrap().is_empty();
            assert_eq!(txn.has_any(&from, &to).unwrap(), expect, "seed {seed}");
        }
    }
}

/// What came after it began is not what it was asked to remove.
#[test]
fn a_delete_in_parts_spares_a_write_that_it_had_not_seen() {
    let base = planted(1);
    let (_, peer) = by_peer(&base)
        .into_iter()
        .find(|(name, _)| *name == "write")
        .unwrap();
    let work = TreeWork::Delete {
        delete_chunks: true,
    };
    let mut doer = base.clone();
    let mut job = Job::begin(&mut doer, "/t", work);
    let rng = &mut StdRng::seed_from_u64(1);
    deliver(&mut doer, std::slice::from_ref(&peer.log), rng);
    job.finish(&mut doer, 1);
    assert!(files(&doer).contains(&"/t/b/x".to_owned()));
}

/// What a replica's changes behind a point killed, with whether its chunks go.
fn kills(log: &[Change]) -> BTreeMap<Identity, bool> {
    let steps = log.iter().flat_map(|change| &change.steps);
    let kills = steps.filter_map(|step| match step {
        Step::Name(step) if step.kills.is_some() => Some((step.name, step.delete_chunks)),
        _ => None,
    });
    kills.collect()
}

/// `/t` with a path at which two replicas made something at once, as the first one has it.
fn collided(mine: Entry, theirs: Entry) -> (Replica, Replica) {
    let mut doer = Replica::new(1);
    act(&mut doer, &Op::Create(path("/t"), dir()));
    let mut peer = Replica::new(2);
    for change in doer.log.clone() {
        peer.receive(&change);
    }
    act(&mut doer, &Op::Create(path("/t/f"), mine));
    act(&mut peer, &Op::Create(path("/t/f"), theirs));
    for change in &peer.log {
        doer.receive(change);
    }
    (doer, peer)
}

/// ⚠ Who keeps chunks took over those of the entry that it saw: what that shadowed goes with
/// its chunks, or they would never be freed.
#[test]
fn a_part_that_keeps_chunks_keeps_none_of_what_was_shadowed() {
    let (mut doer, _) = collided(file(1), file(2));
    let shown = doer.seen().tree[&path("/t/f")].clone();
    let (winner, shadow) = (shown.winner.unwrap().name, shown.shadows[0].name);
    let n_before = doer.log.len();
    let delete_chunks = false;
    Job::begin(&mut doer, "/t", TreeWork::Delete { delete_chunks }).finish(&mut doer, 1);
    let kills = kills(&doer.log[n_before..]);
    assert_eq!((kills[&winner], kills[&shadow]), (false, true), "{kills:?}");
}

/// The same where the directory stays, since somebody made something in it meanwhile, and
/// the file that it shadows goes.
#[test]
fn a_file_behind_a_directory_that_a_part_spares_goes_with_its_chunks() {
    let (mut doer, mut peer) = collided(file(1), dir());
    let shown = doer.seen().tree[&path("/t/f")].clone();
    let (winner, shadow) = (shown.winner.unwrap().name, shown.shadows[0].name);
    let delete_chunks = false;
    let mut job = Job::begin(&mut doer, "/t", TreeWork::Delete { delete_chunks });
    act(&mut peer, &Op::Create(path("/t/f/new"), file(3)));
    doer.receive(peer.log.last().unwrap());
    let n_before = doer.log.len();
    job.finish(&mut doer, 1);
    let kills = kills(&doer.log[n_before..]);
    assert_eq!(
        (kills.get(&winner), kills.get(&shadow)),
        (None, Some(&true))
    );
}

/// And where a directory moves in one change, and the file that something shadows below is
/// killed.
#[test]
fn a_file_that_does_not_move_with_what_shadows_it_goes_with_its_chunks() {
    let (mut doer, _) = collided(file(1), file(2));
    let shadow = doer.seen().tree[&path("/t/f")].shadows[0].name;
    let n_before = doer.log.len();
    act(&mut doer, &Op::Rename(path("/t"), path("/u")));
    assert_eq!(
        kills(&doer.log[n_before..]),
        BTreeMap::from([(shadow, true)])
    );
}
