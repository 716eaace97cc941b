// SPDX-License-Identifier: Apache-2.0
//! Nothing is overwritten concurrently without a trace: replicas that write, deliver and
//! judge in any order end with every write current, in the chain of what is, deleted by
//! somebody who had seen it, or listed; and everywhere alike.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::conflict::{self, ShadowVerdict, data_id};
use dulse_merge::local::{Builder, LocalError};
use dulse_merge::txn::Losses;
use dulse_merge::{Change, ConflictStep, Step, Txn, apply};
use dulse_types::{Identity, Origin, Stamp, Vector, Version};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::naive::Naive;
use crate::world::{Mix, Op, Replica, entry, op};

const PATHS: [&str; 2] = ["/f", "/g"];

/// A file with a chunk of its own.
fn file(rng: &mut StdRng) -> dulse_types::Entry {
    loop {
        let entry = entry(rng);
        if !entry.is_dir() {
            return entry;
        }
    }
}

/// Replicas that judge what they receive, as the sequencer does.
struct World {
    replicas: Vec<Replica>,
    n_recorded: usize,
    n_withdrawn: usize,
    /// Deletes after which their makers knew no live name of the inode.
    of_last: BTreeSet<(Identity, Version)>,
}

impl World {
    fn new(n: u32) -> Self {
        let mut this = Self {
            replicas: (1..=n).map(Replica::new).collect(),
            n_recorded: 0,
            n_withdrawn: 0,
            of_last: BTreeSet::new(),
        };
        for at in 0..this.replicas.len() {
            let member = this.replicas[at].origin;
            let step = Step::Member(dulse_merge::MemberStep::Join {
                member,
                address: String::new(),
            });
            let mut rng = StdRng::seed_from_u64(0);
            this.replicas[at].local(&Op::Other(step), &mut rng).unwrap();
        }
        // All know all members: who judges is not what is tried here.
        for to in 0..this.replicas.len() {
            for from in 0..this.replicas.len() {
                let join = this.replicas[from].log[0].clone();
                this.replicas[to].receive(&join);
            }
        }
        this
    }

    /// Two files that all know, for many to write to.
    fn with_files(n: u32, rng: &mut StdRng) -> Self {
        let mut this = Self::new(n);
        for path in PATHS {
            let op = Op::Create(path.into(), file(rng));
            this.replicas[0].local(&op, rng).unwrap();
        }
        this.settle(rng);
        this
    }

    fn write(&mut self, at: usize, rng: &mut StdRng) {
        let op = op(rng, Mix::LINKS);
        self.local(at, &op, rng);
    }

    /// Mostly writes of few files.
    fn write_files(&mut self, at: usize, rng: &mut StdRng) {
        let path = |rng: &mut StdRng| Bytes::from(*[PATHS[0], PATHS[1], "/h"].choose(rng).unwrap());
        let op = match rng.random_range(0..20) {
            0..=11 => Op::Update(path(rng), file(rng)),
            12..=13 => Op::Create(path(rng), file(rng)),
            14..=16 => Op::Delete(path(rng), true),
            17 => Op::Rename(path(rng), path(rng)),
            18 => Op::Link(path(rng), path(rng)),
            _ => {
                // Another owner only: it touches the name and leaves the data.
                let path = path(rng);
                let txn = Txn::new(&self.replicas[at].rows);
                let Some(shown) = txn.shown(&path).unwrap() else {
                    return;
                };
                let entry = dulse_merge::view::entry_of(&txn, &shown).unwrap();
                let mut fields = entry.fields().unwrap();
                fields.attrs_mut().gid = rng.random();
                Op::Update(path, fields.to_entry(&entry.unknown()))
            }
        };
        self.local(at, &op, rng);
    }

    fn local(&mut self, at: usize, op: &Op, rng: &mut StdRng) {
        let replica = &mut self.replicas[at];
        if let Op::Update(path, entry) = op {
            let shown = Txn::new(&replica.rows).shown(path).unwrap();
            if shown.is_some_and(|s| dulse_merge::view::is_dir(&s) != entry.is_dir()) {
                return;
            }
        }
        match replica.local(op, rng) {
            Ok(()) => self.note_deletes(at),
            Err(LocalError::Read(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }

    /// Of the last change of a replica, the deletes that left nothing of an inode.
    fn note_deletes(&mut self, at: usize) {
        let live = self.replicas[at].seen();
        let live: BTreeSet<Identity> = live.all().map(|row| row.inode).collect();
        let Some(change) = self.replicas[at].log.last() else {
            return;
        };
        for step in &change.steps {
            if let Step::Name(step) = step
                && step.kills.is_some()
                && !live.contains(&step.inode)
            {
                let made = change.version(step.offset);
                self.of_last.insert((step.inode, made));
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let vector = self.replicas[to].vector.clone();
        let log = &self.replicas[from].log;
        let next = log.iter().find(|c| c.stamp > vector.get(c.origin));
        let Some(next) = next.filter(|_| from != to).cloned() else {
            return false;
        };
        let replica = &mut self.replicas[to];
        let rows = replica.rows.clone();
        let mut txn = Txn::new(&rows);
        txn.applied = Some(vector);
        txn.losses = Some(Losses::default());
        apply(&mut txn, &next).unwrap();
        replica.vector.set(next.origin, next.stamp);
        replica.clock = replica.clock.max(next.stamp.0);
        let losses = txn.losses.take().unwrap();
        let steps = conflict::verdicts(&txn, replica.origin, &losses).unwrap();
        for step in &steps {
            match step {
                ConflictStep::Record { .. } => self.n_recorded += 1,
                _ => self.n_withdrawn += 1,
            }
        }
        if !steps.is_empty() {
            let (first, prev) = (Stamp(replica.clock + 1), replica.vector.get(replica.origin));
            let mut builder = Builder::new(&mut txn, replica.origin, first, prev);
            for step in steps {
                builder.conflict(step).unwrap();
            }
            let change = builder.finish();
            replica.clock = change.stamp.0;
            replica.vector.set(change.origin, change.stamp);
            replica.log.push(change);
        }
        replica.rows.write(txn.finish().unwrap().0);
        true
    }

    /// Delivers until nobody lacks anything.
    fn settle(&mut self, rng: &mut StdRng) {
        let n = self.replicas.len();
        loop {
            let mut pairs: Vec<(usize, usize)> =
                (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).collect();
            let mut is_over = true;
            while !pairs.is_empty() {
                let (from, to) = pairs.swap_remove(rng.random_range(0..pairs.len()));
                is_over &= !self.deliver(from, to);
            }
            if is_over {
                return;
            }
        }
    }

    /// Everybody judges shadows once all is stable.
    fn judge_shadows(&mut self) {
        let mut due = Vec::new();
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            let rows = replica.rows.clone();
            let stable = replica.vector.clone();
            let members = Txn::new(&rows).members().unwrap();
            let look = conflict::shadows(&Txn::new(&rows), &stable, b"", usize::MAX).unwrap();
            let own = replica.origin;
            let mut txn = Txn::new(&rows);
            let first = Stamp(replica.clock + 1);
            let mut builder = Builder::new(&mut txn, own, first, replica.vector.get(own));
            let mut n_done = 0;
            for found in look.found {
                let is_due = match found.verdict {
                    ShadowVerdict::Kill | ShadowVerdict::RecordAndKill => true,
                    ShadowVerdict::Pending => panic!("all is stable"),
                    ShadowVerdict::OneDirectory => false,
                };
                if is_due && conflict::is_judge(own, found.shadow.name, &members) {
                    builder.settle_shadow(&found.shown, &found.shadow).unwrap();
                    n_done += 1;
                }
            }
            if n_done == 0 {
                continue;
            }
            let change = builder.finish();
            replica.clock = change.stamp.0;
            replica.vector.set(own, change.stamp);
            replica.rows.write(txn.finish().unwrap().0);
            replica.log.push(change);
            due.push(at);
        }
        for at in due {
            self.note_deletes(at);
        }
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.replicas.iter().flat_map(|replica| &replica.log)
    }
}

/// What became of every write of data, computed from the changes alone.
struct Fates {
    /// Who wrote on top of each version, per inode.
    on_top: BTreeMap<(Identity, Version), Vec<Version>>,
    written: BTreeSet<(Identity, Version)>,
    /// Names of each inode, and what each delete of one had seen, and who made it when.
    names: BTreeMap<Identity, BTreeMap<Identity, Vec<(Version, Vector)>>>,
    of_last: BTreeSet<(Identity, Version)>,
}

impl Fates {
    fn of(world: &World) -> Self {
        let changes = world.changes();
        let mut this = Self {
            of_last: world.of_last.clone(),
            on_top: BTreeMap::new(),
            written: BTreeSet::new(),
            names: BTreeMap::new(),
        };
        for change in changes {
            for step in &change.steps {
                let Step::Name(step) = step else { continue };
                let version = change.version(step.offset);
                if let Some(data) = &step.data {
                    this.written.insert((step.inode, version));
                    let below = this.on_top.entry((step.inode, data.replaces));
                    below.or_default().push(version);
                }
                let names = this.names.entry(step.inode).or_default();
                let deletes = names.entry(step.name).or_default();
                deletes.extend(step.kills.as_ref().map(|k| (version, k.seen.clone())));
            }
        }
        this
    }

    fn is_accounted(&self, inode: Identity, version: Version, end: &End) -> bool {
        end.current.get(&inode) == Some(&version)
            || end.listed.contains(&data_id(version))
            || self.was_deleted(inode, version)
            || self
                .on_top
                .get(&(inode, version))
                .into_iter()
                .flatten()
                .any(|later| self.is_accounted(inode, *later, end))
    }

    /// By somebody who had seen it, and knew of no further name.
    fn was_deleted(&self, inode: Identity, version: Version) -> bool {
        let has_seen = |(made, seen): &(Version, Vector)| {
            let is_own = made.origin == version.origin && made.stamp > version.stamp;
            let has_seen = is_own || seen.get(version.origin) >= version.stamp;
            has_seen && self.of_last.contains(&(inode, *made))
        };
        let names = &self.names[&inode];
        names.values().flatten().any(has_seen)
    }
}

/// What shows and is listed when all is over.
struct End {
    /// The data version of every live inode.
    current: BTreeMap<Identity, Version>,
    listed: BTreeSet<Identity>,
}

impl End {
    fn of(seen: &Naive) -> Self {
        let version = |row: &dulse_merge::NameRow| match seen.inodes.get(&row.inode) {
            Some(inode) => inode.content.data_version,
            None => row.content.data_version,
        };
        Self {
            current: seen.all().map(|row| (row.inode, version(row))).collect(),
            listed: seen
                .conflicts
                .iter()
                .filter(|(_, row)| row.is_open())
                .map(|(id, _)| *id)
                .collect(),
        }
    }
}

fn listed(naive: &Naive) -> BTreeMap<Identity, Vec<u8>> {
    let open = naive.conflicts.iter().filter(|(_, row)| row.is_open());
    open.map(|(id, row)| (*id, row.canonical())).collect()
}

/// What happened to an inode, for whoever looks for the reason.
fn tell(world: &World, inode: Identity) {
    let mut changes: Vec<&Change> = world.changes().collect();
    changes.sort_by_key(|change| change.stamp);
    for change in changes {
        for step in &change.steps {
            match step {
                Step::Name(step) if step.inode == inode => {
                    let version = change.version(step.offset);
                    let data = step.data.as_ref().map(|d| (d.replaces, d.seen.to_string()));
                    let kills = step.kills.as_ref().map(|k| (k.touch, k.seen.to_string()));
                    let place = step.place.as_ref().map(|place| &place.path);
                    println!("{version} {}: {place:?} {data:?} {kills:?}", step.name);
                }
                Step::Conflict(step) => println!("{} {step:?}", change.position()),
                _ => {}
            }
        }
    }
}

#[test]
fn every_write_that_lost_concurrently_is_current_seen_by_a_later_one_or_listed() {
    let (mut n_recorded, mut n_withdrawn, mut n_writes) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = 2 + (seed % 3) as usize;
        let mut world = World::with_files(n as u32, &mut rng);
        for _ in 0..8 + seed % 40 {
            if rng.random_bool(0.5) {
                world.write_files(rng.random_range(0..n), &mut rng);
            } else {
                let (from, to) = (rng.random_range(0..n), rng.random_range(0..n));
                world.deliver(from, to);
            }
        }
        world.settle(&mut rng);
        let fates = Fates::of(&world);
        let ends: Vec<Naive> = world.replicas.iter().map(Replica::seen).collect();
        for end in &ends {
            assert_eq!(listed(end), listed(&ends[0]), "seed {seed}");
            assert_eq!(end.digest, ends[0].digest, "seed {seed}");
        }
        let end = End::of(&ends[0]);
        for (inode, version) in &fates.written {
            n_writes += 1;
            if !fates.is_accounted(*inode, *version, &end) {
                tell(&world, *inode);
            }
            assert!(
                fates.is_accounted(*inode, *version, &end),
                "seed {seed}: {version} of {inode} is lost without a trace"
            );
        }
        n_recorded += world.n_recorded;
        n_withdrawn += world.n_withdrawn;
    }
    println!("{n_writes} writes, {n_recorded} recorded, {n_withdrawn} withdrawn");
    assert!(
        n_recorded > 300 && n_withdrawn > 10,
        "the test lost its cases"
    );
}

#[test]
fn once_all_is_stable_shadows_are_listed_and_gone_and_every_name_shows() {
    let mut n_shadows = 0;
    for seed in 0..600 {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = 2 + (seed % 3) as usize;
        let mut world = World::new(n as u32);
        for _ in 0..30 {
            if rng.random_bool(0.6) {
                world.write(rng.random_range(0..n), &mut rng);
            } else {
                let (from, to) = (rng.random_range(0..n), rng.random_range(0..n));
                world.deliver(from, to);
            }
        }
        world.settle(&mut rng);
        let before = world.replicas[0].seen();
        world.judge_shadows();
        world.settle(&mut rng);
        let after = world.replicas[0].seen();
        for (path, shown) in &before.tree {
            let winner = |naive: &Naive| naive.tree[path].winner.as_ref().map(|row| row.name);
            assert_eq!(winner(&before), winner(&after), "seed {seed}: what shows");
            for shadow in &shown.shadows {
                let is_dir = |row: &dulse_merge::NameRow| !row.is_linked && row.content.is_dir();
                let is_over = !after.all().any(|row| row.name == shadow.name);
                let both = shown.winner.as_ref().is_none_or(is_dir) && is_dir(shadow);
                assert_eq!(is_over, !both, "seed {seed}: {path:?}");
                let is_same = shown.winner.as_ref().map(|row| row.inode) == Some(shadow.inode);
                let is_listed = after
                    .conflicts
                    .get(&shadow.name)
                    .is_some_and(|r| r.is_open());
                assert_eq!(is_listed, is_over && !is_same, "seed {seed}: {path:?}");
                n_shadows += usize::from(is_listed);
            }
        }
        for replica in &world.replicas {
            assert_eq!(listed(&replica.seen()), listed(&after), "seed {seed}");
        }
    }
    println!("{n_shadows} shadows recorded");
    assert!(n_shadows > 100, "the test lost its cases");
}

#[test]
fn the_smallest_member_records_what_a_member_that_is_gone_lost() {
    let lost_by = Origin(5);
    let id = data_id(Version {
        stamp: Stamp(3),
        origin: lost_by,
    });
    let (a, b) = (Origin(1), Origin(2));
    assert!(!conflict::is_judge(a, id, &[a, b, lost_by]));
    assert!(conflict::is_judge(lost_by, id, &[a, b, lost_by]));
    assert!(conflict::is_judge(a, id, &[a, b]));
    assert!(!conflict::is_judge(b, id, &[a, b]));
}
