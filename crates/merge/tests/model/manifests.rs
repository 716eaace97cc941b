// SPDX-License-Identifier: Apache-2.0
//! Files whose chunks are listed in manifests: filers write, fold, take apart, link, move and
//! delete them at once and apart, and free what their rows and the manifests allow. No live
//! file ever names a freed chunk, however indirectly, and in the end nothing else is left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_merge::apply::DroppedRow;
use dulse_merge::holders::{Held, Listing, Resolving, Verdict, tidy};
use dulse_merge::keys::{self, Space};
use dulse_merge::{Change, ConflictRow, ConflictStep, NameRow, Rows, Step, Txn, forget};
use dulse_types::entry::{UnknownFields, split};
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Identity, Origin, Stamp, Vector};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::guards::{act, path, receive_all};
use crate::world::{Op, Replica, deliver};

fn id(key: u64) -> FileId {
    FileId {
        volume_id: 1,
        key,
        cookie: 1,
    }
}

/// A chunk; those from `MANIFESTS` on are manifests.
const MANIFESTS: u64 = 1_000_000;

fn chunk(key: u64) -> FileChunk {
    let mut chunk = FileChunk {
        size: 1,
        is_chunk_manifest: key >= MANIFESTS,
        ..FileChunk::default()
    };
    chunk.set_id(id(key));
    chunk
}

fn file(keys: &[u64]) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    fields.chunks = keys.iter().map(|key| chunk(*key)).collect();
    fields.to_entry(&UnknownFields::default())
}

/// What lies on the volume servers.
#[derive(Default)]
struct Volumes {
    /// What manifests list.
    listed: BTreeMap<u64, Vec<u64>>,
    written: BTreeSet<u64>,
    freed: BTreeSet<u64>,
    last: u64,
}

impl Volumes {
    fn write(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn fold(&mut self, keys: &[u64]) -> u64 {
        let key = MANIFESTS + self.write();
        self.listed.insert(key, keys.to_vec());
        key
    }

    /// All that some chunks hold on to.
    fn reach(&self, keys: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        let (mut found, mut left) = (BTreeSet::new(), Vec::from_iter(keys));
        while let Some(key) = left.pop() {
            if found.insert(key) {
                left.extend(self.listed.get(&key).into_iter().flatten());
            }
        }
        found
    }

    fn answer(&self, chunk: &FileChunk) -> Listing {
        let key = chunk.id().unwrap().key;
        if self.freed.contains(&key) {
            return Listing::Gone;
        }
        Listing::Chunks(self.listed[&key].iter().map(|key| chunk_of(*key)).collect())
    }
}

fn chunk_of(key: u64) -> FileChunk {
    chunk(key)
}

fn names(replica: &Replica) -> Vec<(NameRow, Vec<u64>)> {
    let seen = replica.seen();
    let content = |row: &NameRow| match seen.inodes.get(&row.inode) {
        Some(inode) => inode.content.clone(),
        None => row.content.clone(),
    };
    let keys = |row: &NameRow| content(row).data.file_ids().into_iter().map(|id| id.key);
    let named = seen.all().map(|row| (row.clone(), keys(row).collect()));
    named.collect()
}

/// What conflicts keep at a replica, of losses that nobody has judged.
fn pinned(replica: &Replica) -> Vec<u64> {
    let seen = replica.seen();
    let rows = seen.conflicts.values().flat_map(ConflictRow::chunks);
    rows.map(|id| id.key).collect()
}

/// The rows of dropped chunks that are due, by inode.
fn due(replica: &Replica, stable: &Vector) -> BTreeMap<Identity, Vec<(FileId, DroppedRow)>> {
    let (from, to) = (Space::Garbage.range().0, keys::garbage_end());
    let txn = Txn::new(&replica.rows);
    let mut due: BTreeMap<Identity, Vec<_>> = BTreeMap::new();
    for (key, value) in replica.rows.scan(&from, &to, usize::MAX).unwrap() {
        let (inode, chunk) = keys::parse_garbage(&key).unwrap();
        let row = DroppedRow::decode(&value).unwrap();
        let is_due = stable.covers(row.cause) && stable.covers(row.winner);
        if is_due && !dulse_merge::apply::is_pinned(&txn, chunk).unwrap() {
            due.entry(inode).or_default().push((chunk, row));
        }
    }
    due
}

/// Reads what is asked for, and decides.
fn decide(
    replica: &Replica,
    volumes: &Volumes,
    inode: Identity,
    rows: &[(FileId, DroppedRow)],
    stable: &Vector,
) -> Verdict {
    let txn = Txn::new(&replica.rows);
    let of: Vec<_> = rows
        .iter()
        .map(|(id, r)| (*id, r.cause, r.winner))
        .collect();
    let is_over = |cause, winner| stable.covers(cause) && stable.covers(winner);
    let mut resolving = Resolving::begin(&txn, inode, &of, &is_over).unwrap();
    while let Some(chunk) = resolving.wanted().cloned() {
        assert!(resolving.read(&txn, volumes.answer(&chunk)).unwrap());
    }
    resolving.finish()
}

/// One replica frees what it may, as its filer does; now and then it dies on the way.
fn free(replica: &mut Replica, volumes: &mut Volumes, stable: &Vector, rng: &mut StdRng) {
    for (inode, rows) in due(replica, stable) {
        if inode.origin != replica.origin {
            continue;
        }
        let txn = Txn::new(&replica.rows);
        let is_plain = dulse_merge::holders::held(&txn, inode).unwrap().is_none()
            && rows.iter().all(|(_, row)| row.manifest.is_none());
        let verdict = match is_plain {
            true => Verdict {
                free: rows.iter().map(|(id, _)| *id).collect(),
                ..Verdict::default()
            },
            false => decide(replica, volumes, inode, &rows, stable),
        };
        let parts = verdict.listed.iter().chain([&verdict.free]);
        let pinned = volumes.reach(pinned(replica));
        for part in parts.chain([&verdict.manifests]) {
            let lost = part.iter().find(|id| pinned.contains(&id.key));
            assert_eq!(lost, None, "a conflict names it");
            volumes.freed.extend(part.iter().map(|id| id.key));
            if rng.random_bool(0.05) {
                return;
            }
        }
        let gone = [verdict.free, verdict.manifests, verdict.held].concat();
        forget_rows(replica, inode, &rows, &gone);
    }
}

fn forget_rows(
    replica: &mut Replica,
    inode: Identity,
    rows: &[(FileId, DroppedRow)],
    gone: &[FileId],
) {
    let before = replica.rows.clone();
    let mut txn = Txn::new(&before);
    for (chunk, row) in rows.iter().filter(|(id, _)| gone.contains(id)) {
        dulse_merge::forget::freed(&mut txn, inode, *chunk, (row.cause, row.winner)).unwrap();
    }
    tidy(&mut txn, inode).unwrap();
    replica.rows.write(txn.finish().unwrap().0);
}

/// Another one hears that rows of it are freed elsewhere: the other has none of them.
fn hear(replica: &mut Replica, other: &Replica, stable: &Vector) {
    for (inode, rows) in due(replica, stable) {
        if inode.origin == other.origin {
            let is_gone = |id: &FileId| !other.rows.0.contains_key(&keys::garbage(inode, *id));
            let gone = rows.iter().map(|(id, _)| *id).filter(is_gone);
            let gone: Vec<FileId> = gone.collect();
            forget_rows(replica, inode, &rows, &gone);
        }
    }
}

/// What a client writes that read these chunks.
fn rewritten(keys: &[u64], volumes: &mut Volumes, rng: &mut StdRng) -> Vec<u64> {
    let (manifests, data): (Vec<u64>, Vec<u64>) = keys.iter().partition(|key| **key >= MANIFESTS);
    let mut out = keys.to_vec();
    match rng.random_range(0..8) {
        0 => out = vec![volumes.write()],
        1 | 2 => out.push(volumes.write()),
        3 => {
            // Folds what is not folded.
            out = manifests;
            if !data.is_empty() {
                out.push(volumes.fold(&data));
            }
            out.push(volumes.write());
        }
        4 => {
            // Folds everything, manifests too.
            out = vec![volumes.fold(keys)];
        }
        5 => {
            // Takes manifests apart, and perhaps folds them anew.
            out = data;
            out.extend(manifests.iter().flat_map(|key| volumes.listed[key].clone()));
            if rng.random_bool(0.5) {
                let half = out.split_off(out.len() / 2);
                out.push(volumes.fold(&half));
            }
        }
        6 => {
            // Cuts something off, perhaps out of a manifest.
            out.shuffle(rng);
            out.pop();
            if let Some(key) = manifests.first().filter(|key| out.contains(key)) {
                let mut listed = volumes.listed[key].clone();
                listed.pop();
                out.retain(|other| other != key);
                out.push(volumes.fold(&listed));
            }
        }
        _ => out = Vec::new(),
    }
    out
}

const FILES: &[&str] = &["/a", "/b", "/c"];

fn write(replica: &mut Replica, volumes: &mut Volumes, rng: &mut StdRng) {
    let at = path(FILES.choose(rng).unwrap());
    let shown = Txn::new(&replica.rows).shown(&at).unwrap();
    let op = match shown {
        None => Op::Create(at, file(&[volumes.write(), volumes.write()])),
        Some(row) => match rng.random_range(0..12) {
            0 => Op::Delete(at, true),
            1 => Op::Rename(at, path(FILES.choose(rng).unwrap())),
            2 => Op::Link(at, path(FILES.choose(rng).unwrap())),
            _ => {
                let named = names(replica);
                let keys = &named
                    .iter()
                    .find(|(name, _)| name.name == row.name)
                    .unwrap()
                    .1;
                let keys = rewritten(keys, volumes, rng);
                Op::Update(at, file(&keys))
            }
        },
    };
    if replica.local(&op, rng).is_err() {
        return;
    }
    if let Op::Create(_, entry) | Op::Update(_, entry) = &op {
        let named = split(entry).data.file_ids().into_iter().map(|id| id.key);
        let reached = volumes.reach(named);
        volumes.written.extend(reached);
    }
}

fn check(replicas: &[Replica], volumes: &Volumes) {
    for replica in replicas {
        for (row, keys) in names(replica) {
            let reached = volumes.reach(keys.iter().copied());
            let gone: Vec<_> = reached.intersection(&volumes.freed).collect();
            assert!(
                gone.is_empty(),
                "{:?} names {keys:?} at {:?}, of which {gone:?} are freed",
                row.path,
                replica.origin
            );
        }
        held_rows_say_what_is_there(replica);
    }
}

/// Whatever has manifests, or dropped one that waits, has a row that says what it names.
fn held_rows_say_what_is_there(replica: &Replica) {
    let txn = Txn::new(&replica.rows);
    let seen = replica.seen();
    for row in seen.all() {
        let data = match seen.inodes.get(&row.inode) {
            Some(inode) => &inode.content.data,
            None => &row.content.data,
        };
        let (from, to) = keys::garbage_of(row.inode);
        let rows = replica.rows.scan(&from, &to, usize::MAX).unwrap();
        let mut rows = rows.iter().map(|(_, row)| DroppedRow::decode(row).unwrap());
        let is_wanted = !data.manifests().is_empty() || rows.any(|row| row.manifest.is_some());
        let held = dulse_merge::holders::held(&txn, row.inode).unwrap();
        assert_eq!(held, is_wanted.then(|| Held::of(data)), "{row:?}");
    }
}

/// What a replica knows to be on disk at all, with what each said when it was at which stamp.
fn stable(replica: &Replica, said: &BTreeMap<Origin, Vec<(Stamp, Vector)>>) -> Vector {
    let own = &replica.vector;
    let mut stable = own.clone();
    for (member, said) in said.iter().filter(|(o, _)| **o != replica.origin) {
        let counted = said.iter().rfind(|(at, _)| own.get(*member) >= *at);
        let has = counted
            .map(|(_, vector)| vector.clone())
            .unwrap_or_default();
        stable = stable
            .iter()
            .map(|(origin, stamp)| (origin, stamp.min(has.get(origin))))
            .collect();
    }
    stable
}

fn forget_all(replica: &mut Replica, stable: &Vector) {
    let rows = replica.rows.clone();
    let mut txn = Txn::new(&rows);
    forget(&mut txn, replica.origin, stable, b"", usize::MAX).unwrap();
    replica.rows.write(txn.finish().unwrap().0);
}

fn run(seed: u64) -> usize {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut replicas: Vec<Replica> = (1..=3).map(Replica::new).collect();
    let mut volumes = Volumes::default();
    let mut said: BTreeMap<Origin, Vec<(Stamp, Vector)>> = BTreeMap::new();
    for _ in 0..120 {
        let at = rng.random_range(0..replicas.len());
        match rng.random_range(0..8) {
            0..=2 => write(&mut replicas[at], &mut volumes, rng),
            3..=5 => {
                let from = replicas.choose(rng).unwrap().log.clone();
                let seen = replicas[at].vector.clone();
                if let Some(next) = from.iter().find(|c| c.stamp > seen.get(c.origin)) {
                    replicas[at].receive(next);
                }
            }
            6 => {
                let vector = replicas[at].vector.clone();
                let state = (vector.get(replicas[at].origin), vector);
                said.entry(replicas[at].origin).or_default().push(state);
            }
            _ if said.len() == replicas.len() => {
                let stable = stable(&replicas[at], &said);
                forget_all(&mut replicas[at], &stable);
                free(&mut replicas[at], &mut volumes, &stable, rng);
                let other = replicas.choose(rng).unwrap().clone();
                hear(&mut replicas[at], &other, &stable);
            }
            _ => {}
        }
        check(&replicas, &volumes);
    }
    let logs: Vec<Vec<Change>> = replicas.iter().map(|r| r.log.clone()).collect();
    for replica in &mut replicas {
        deliver(replica, &logs, rng);
    }
    let all = replicas[0].vector.clone();
    for _ in 0..12 {
        for at in 0..replicas.len() {
            forget_all(&mut replicas[at], &all);
            free(&mut replicas[at], &mut volumes, &all, rng);
            for other in replicas.clone() {
                hear(&mut replicas[at], &other, &all);
            }
        }
        check(&replicas, &volumes);
    }
    let named = names(&replicas[0]).into_iter().flat_map(|(_, keys)| keys);
    let named = volumes.reach(named.chain(replicas.iter().flat_map(pinned)));
    let left: Vec<_> = volumes
        .written
        .difference(&volumes.freed)
        .copied()
        .collect();
    let leaked: Vec<_> = left.iter().filter(|key| !named.contains(key)).collect();
    assert!(leaked.is_empty(), "{leaked:?} are left");
    for replica in &replicas {
        let (from, to) = (Space::Garbage.range().0, keys::garbage_end());
        let rows = replica.rows.scan(&from, &to, usize::MAX).unwrap();
        let rows = rows.iter().filter_map(|(key, _)| keys::parse_garbage(key));
        let left: Vec<_> = rows.filter(|(_, id)| !named.contains(&id.key)).collect();
        assert!(left.is_empty(), "rows are left: {left:?}");
    }
    volumes.freed.len()
}

#[test]
fn no_live_file_names_a_freed_chunk_and_in_the_end_nothing_else_is_left() {
    let mut n_freed = 0;
    for seed in 0..600 {
        let run = std::panic::catch_unwind(|| run(seed));
        n_freed += run.unwrap_or_else(|e| {
            println!("seed {seed}");
            std::panic::resume_unwind(e)
        });
    }
    assert!(n_freed > 5_000, "{n_freed}");
}

/// What becomes of dropped chunks when everything is stable.
fn verdict(replica: &Replica, volumes: &Volumes) -> Verdict {
    verdict_at(replica, volumes, &replica.vector)
}

/// What becomes of dropped chunks when that is stable.
fn verdict_at(replica: &Replica, volumes: &Volumes, stable: &Vector) -> Verdict {
    let due = due(replica, stable);
    let [(inode, rows)] = &Vec::from_iter(due)[..] else {
        panic!("one inode dropped something");
    };
    decide(replica, volumes, *inode, rows, stable)
}

/// Chunks that were folded into a manifest stay, whoever wrote the long list at the same time;
/// what the manifest lists goes before the manifest when the file is cut off.
#[test]
fn what_a_manifest_lists_goes_with_it_and_not_before() {
    let mut one = Replica::new(1);
    let volumes = Volumes {
        listed: [(MANIFESTS, vec![1, 2]), (MANIFESTS + 1, vec![MANIFESTS, 3])].into(),
        ..Volumes::default()
    };
    let change =
        |replica: &mut Replica, keys: &[u64]| act(replica, &Op::Update(path("/a"), file(keys)));
    let made = act(&mut one, &Op::Create(path("/a"), file(&[1, 2, 4])));
    let mut two = Replica::new(2);
    two.receive(&made);
    let cut = change(&mut two, &[5]);
    let folded = change(&mut one, &[MANIFESTS, 4]);
    let again = change(&mut one, &[MANIFESTS, 6]);
    for order in [
        [&made, &folded, &again, &cut],
        [&made, &cut, &folded, &again],
    ] {
        let mut replica = Replica::new(3);
        receive_all(&mut replica, &order);
        let verdict = verdict(&replica, &volumes);
        assert_eq!(verdict.held, [id(1), id(2)], "they are in the manifest");
        assert_eq!(verdict.free, [id(4), id(5)]);
        assert!(verdict.listed.is_empty() && verdict.manifests.is_empty());
    }
    change(&mut one, &[MANIFESTS + 1]);
    change(&mut one, &[7]);
    let verdict = verdict(&one, &volumes);
    assert_eq!(
        verdict.listed,
        [vec![id(3)]],
        "what has rows of its own goes by them"
    );
    assert_eq!(verdict.free, [id(1), id(2), id(4), id(6)]);
    assert_eq!(verdict.manifests, [id(MANIFESTS), id(MANIFESTS + 1)]);
}

/// While a conflict keeps a manifest, it keeps what that lists: another manifest that lists the
/// same goes without it.
#[test]
fn what_a_manifest_of_a_conflict_lists_stays() {
    let mut one = Replica::new(1);
    let volumes = Volumes {
        listed: [(MANIFESTS, vec![1, 2]), (MANIFESTS + 1, vec![2, 3])].into(),
        ..Volumes::default()
    };
    act(&mut one, &Op::Create(path("/a"), file(&[MANIFESTS, 9])));
    act(&mut one, &Op::Update(path("/a"), file(&[5])));
    let record = ConflictStep::Record {
        id: Identity {
            stamp: Stamp(1),
            origin: Origin(7),
            index: u32::MAX,
        },
        kind: dulse_merge::conflict::DATA,
        name: Identity::default(),
        path: path("/a"),
        loser: file(&[MANIFESTS + 1]).raw().clone(),
        winner: Identity::default().birth(),
    };
    act(&mut one, &Op::Other(Step::Conflict(record)));
    let verdict = verdict(&one, &volumes);
    assert_eq!(verdict.listed, [vec![id(1)]]);
    assert_eq!(verdict.manifests, [id(MANIFESTS)]);
    assert_eq!(verdict.free, [id(9)]);
}

/// Until all have it on disk that a manifest was dropped, somebody may come with data that names
/// it: what it lists stays, though its own rows say that it may go.
#[test]
fn what_a_dropped_manifest_lists_stays_while_that_waits() {
    let mut one = Replica::new(1);
    let volumes = Volumes {
        listed: [(MANIFESTS, vec![1, 2])].into(),
        ..Volumes::default()
    };
    act(&mut one, &Op::Create(path("/a"), file(&[1, 2, 9])));
    let folded = act(&mut one, &Op::Update(path("/a"), file(&[MANIFESTS])));
    let cut = act(&mut one, &Op::Update(path("/a"), file(&[5])));
    let mut stable = Vector::new();
    stable.set(folded.origin, folded.stamp);
    let waits = verdict_at(&one, &volumes, &stable);
    assert_eq!(waits.held, [id(1), id(2)], "they are in the manifest");
    assert_eq!(waits.free, [id(9)]);
    assert!(waits.listed.is_empty() && waits.manifests.is_empty());
    stable.set(cut.origin, cut.stamp);
    let over = verdict_at(&one, &volumes, &stable);
    assert_eq!(over.free, [id(1), id(2), id(9)]);
    assert_eq!(over.manifests, [id(MANIFESTS)]);
}

/// A manifest of the present data that cannot be read any more may list anything.
#[test]
fn while_a_manifest_that_holds_is_gone_nothing_goes() {
    let mut one = Replica::new(1);
    act(&mut one, &Op::Create(path("/a"), file(&[MANIFESTS, 1])));
    act(&mut one, &Op::Update(path("/a"), file(&[MANIFESTS, 2])));
    let rows = due(&one, &one.vector);
    let txn = Txn::new(&one.rows);
    let (inode, rows) = rows.first_key_value().unwrap();
    let of: Vec<_> = rows
        .iter()
        .map(|(id, r)| (*id, r.cause, r.winner))
        .collect();
    let begin = || Resolving::begin(&txn, *inode, &of, &|_, _| true).unwrap();
    let mut resolving = begin();
    assert_eq!(
        resolving.wanted().and_then(FileChunk::id),
        Some(id(MANIFESTS))
    );
    assert!(!resolving.read(&txn, Listing::Gone).unwrap());
    // What nests without end is kept, too.
    let mut resolving = begin();
    let mut n_read = 0;
    while resolving.wanted().is_some() {
        let more = Listing::Chunks(vec![chunk(MANIFESTS + 1 + n_read)]);
        if !resolving.read(&txn, more).unwrap() {
            break;
        }
        n_read += 1;
    }
    assert_eq!(n_read, dulse_merge::holders::DEPTH_MAX as u64);
}

/// A dropped manifest that is gone had been read before: what it listed was freed then.
#[test]
fn a_dropped_manifest_that_is_gone_holds_nothing_up() {
    let mut one = Replica::new(1);
    act(&mut one, &Op::Create(path("/a"), file(&[MANIFESTS])));
    act(&mut one, &Op::Update(path("/a"), file(&[2])));
    let volumes = Volumes {
        freed: [MANIFESTS].into(),
        ..Volumes::default()
    };
    let verdict = verdict(&one, &volumes);
    assert_eq!(
        (verdict.n_gone, &verdict.manifests[..]),
        (1, &[id(MANIFESTS)][..])
    );
}

/// Whoever takes a manifest apart names chunks that may have rows; a dropped manifest itself,
/// and chunks of a file without manifests, do not come back.
#[test]
fn who_takes_a_manifest_apart_may_name_what_it_lists() {
    use dulse_merge::local::LocalError;
    let mut one = Replica::new(1);
    let rng = &mut StdRng::seed_from_u64(0);
    act(&mut one, &Op::Create(path("/a"), file(&[1, 2])));
    act(&mut one, &Op::Update(path("/a"), file(&[MANIFESTS])));
    act(&mut one, &Op::Update(path("/a"), file(&[1, 2])));
    let stale = one.local(&Op::Update(path("/a"), file(&[MANIFESTS])), rng);
    assert!(matches!(stale, Err(LocalError::DroppedChunk(_))));
}

#[test]
fn a_row_of_held_chunks_reads_as_it_was_written() {
    let held = Held {
        is_forgotten: true,
        manifests: vec![Bytes::from_static(b"\x08\x01"), Bytes::new()],
        chunks: vec![id(1), id(u64::MAX)],
    };
    assert_eq!(Held::decode(&held.encode()).unwrap(), held);
    for cut in 0..held.encode().len() {
        drop(Held::decode(&held.encode()[..cut]));
    }
    assert!(Held::decode(&[2, 0]).is_err());
}
