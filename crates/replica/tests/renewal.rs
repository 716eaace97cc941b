// SPDX-License-Identifier: Apache-2.0
//! A store that takes a new origin: whatever crashes on the way, what only it had is made anew
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_merge::{KvRow, MemberStep};
use dulse_replica::reissue::item::Item;
use dulse_replica::{Clock, Durability, Known, Limits, Renewal, Replica, ReplicaOptions};
use dulse_store::{ListRange, Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{
    Entry, EntryFields, FileChunk, FileId, FullPath, Origin, Stamp, Vector, Version,
};

struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// What lasts over a crash.
struct Machine {
    disk: MemDisk,
    engine: MemoryEngine,
    random: u64,
    durability: Durability,
}

impl Machine {
    fn new(random: u64) -> Self {
        Self {
            disk: MemDisk::new(),
            engine: MemoryEngine::new(),
            random,
            durability: Durability::Fsync,
        }
    }

    fn try_open(&self) -> Result<Replica, dulse_store::Error> {
        Replica::open(ReplicaOptions {
            disk: Arc::new(self.disk.clone()),
            engine: Arc::new(self.engine.clone()),
            clock: Arc::new(Ticking(AtomicI64::new(1_000_000))),
            random: self.random,
            durability: self.durability,
            limits: Limits::STANDARD,
        })
    }

    fn open(&self) -> Replica {
        self.try_open().unwrap()
    }

    /// Power loss: what was not synced is gone.
    fn crash(&self) {
        self.engine.crash(|_| false);
        self.disk.crash(|_| 0);
    }
}

fn step(replica: &mut Replica, step: Step) -> Stamp {
    let transaction = Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    let mut results = replica.commit(vec![transaction]);
    results.remove(0).unwrap().stamp
}

fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn mkdir(replica: &mut Replica, at: &str) -> Stamp {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    let entry = fields.to_entry(&UnknownFields::default());
    let path = path(at);
    step(replica, Step::Create { path, entry })
}

fn names(replica: &Replica) -> Vec<String> {
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: true,
        limit: 100,
    };
    let rows = replica.shared().list(&FullPath::root(), &range).unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

/// What others have of a store that takes a new origin, and of nobody else.
fn renewal(known: Known) -> Renewal {
    Renewal {
        known,
        whole: Vec::new(),
        of_thirds: Vector::new(),
        is_in_use: false,
        random: 9 << 32 | 9,
    }
}

/// A member that has all but the last changes of a store, and that store's machine.
fn pair() -> (Replica, Machine, Known) {
    let machine = Machine::new(2 << 32 | 2);
    let mut store = machine.open();
    let lost = store.shared().origin();
    let mut member = Machine::new(1 << 32 | 1).open();
    let own = member.shared().origin();
    for who in [own, lost] {
        let address = String::new();
        let step = MemberStep::Join {
            member: who,
            address,
        };
        member.member(step).unwrap();
    }
    mkdir(&mut store, "/kept");
    let deleted = mkdir(&mut store, "/deleted");
    let shared = store.shared();
    let made = shared.changes_after(lost, Stamp::ZERO, usize::MAX).unwrap();
    let made: Vec<Bytes> = made.into_iter().map(|r| r.payload).collect();
    member.apply_remote(&made).unwrap();
    mkdir(&mut store, "/mine");
    let delete = Step::Delete {
        path: path("/deleted"),
        delete_chunks: true,
    };
    step(&mut store, delete);
    let put = Step::KvPut {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
    };
    step(&mut store, put);
    let mut known = Known::default();
    known.set(lost, deleted);
    (member, machine, known)
}

/// Has a fresh store take in what another has.
fn join(member: &mut Replica, store: &mut Replica) {
    let joiner = store.shared().origin();
    let address = String::new();
    let step = MemberStep::Join {
        member: joiner,
        address,
    };
    member.member(step).unwrap();
    let mut export = member.shared().export().unwrap();
    store.begin_import(export.vector().clone()).unwrap();
    loop {
        let part = export.next_part(3).unwrap();
        if part.is_empty() {
            break;
        }
        store.import(part).unwrap();
    }
    store.finish_import().unwrap();
}

fn reissue_all(store: &mut Replica) {
    while store.reissue(&[]).unwrap().has_more {}
}

fn assert_returned(member: &Replica, store: &Replica, old: Origin) {
    let shared = store.shared();
    assert_eq!(names(store), ["kept", "mine"]);
    let value = shared.kv_get(b"key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
    assert_ne!(shared.origin(), old);
    assert!(!shared.has_reissue().unwrap());
    let members = shared.members().unwrap();
    let row = members.iter().find(|(origin, _)| *origin == old);
    assert_eq!(row.unwrap().1.state, dulse_merge::MemberRow::REMOVED);
    assert!(
        names(member).contains(&"deleted".to_owned()),
        "it has not heard of it"
    );
}

#[test]
fn what_only_a_store_had_is_made_anew_under_its_next_origin() {
    let (mut member, machine, known) = pair();
    let mut store = machine.open();
    let old = store.shared().origin();
    let renewal = renewal(known);
    assert_eq!(store.renew(&renewal).unwrap(), 3);
    drop(store);
    machine.crash();
    let mut store = machine.open();
    assert_eq!(store.shared().origin(), Origin(9 << 32 | 9));
    assert!(store.shared().must_join().unwrap());
    join(&mut member, &mut store);
    reissue_all(&mut store);
    assert_returned(&member, &store, old);
}

/// A store that was shut out had a file of two names over which a client had written the entry of a
/// directory: no further name could be made of what it became, and nothing behind it was ever made
/// anew (simulated, seed 480004943 of that version).
#[test]
fn a_name_of_a_file_that_became_a_directory_is_lost_and_stops_nothing() {
    let (mut member, machine, known) = pair();
    let mut store = machine.open();
    let entry = |mode| {
        let mut fields = EntryFields::default();
        fields.attrs_mut().file_mode = mode;
        fields.to_entry(&UnknownFields::default())
    };
    let made = Step::Create {
        path: path("/f"),
        entry: entry(0o644),
    };
    step(&mut store, made);
    let linked = Step::Link {
        from: path("/f"),
        to: path("/g"),
    };
    step(&mut store, linked);
    let written = Step::Update {
        path: path("/f"),
        entry: entry(MODE_DIRECTORY | 0o755),
        delete_chunks: true,
    };
    step(&mut store, written);
    mkdir(&mut store, "/last");
    store.renew(&renewal(known)).unwrap();
    drop(store);
    let mut store = machine.open();
    join(&mut member, &mut store);
    reissue_all(&mut store);
    let names = names(&store);
    assert!(names.contains(&"last".to_owned()), "{names:?}");
    let n_made = names
        .iter()
        .filter(|name| ["f", "g"].contains(&name.as_str()));
    assert_eq!(n_made.count(), 1, "{names:?}");
    assert!(!store.shared().has_reissue().unwrap());
}

/// Others fetched more of a store that they had shut out after they had said what they have: with
/// its file made anew came back what they had dropped of it (simulated, seed 460016816 of that
/// version).
#[test]
fn what_others_fetched_behind_their_word_is_not_made_anew() {
    for is_whole in [true, false] {
        let (mut member, machine, known) = pair();
        let mut store = machine.open();
        let old = store.shared().origin();
        let late = store
            .shared()
            .changes_after(old, known.get(old).unwrap(), usize::MAX);
        let late: Vec<Bytes> = late.unwrap().into_iter().map(|r| r.payload).collect();
        let mut renewal = renewal(known);
        renewal.whole = if is_whole { vec![old] } else { Vec::new() };
        assert_eq!(store.renew(&renewal).unwrap(), 3);
        drop(store);
        member.apply_remote(&late).unwrap();
        let delete = Step::Delete {
            path: path("/mine"),
            delete_chunks: true,
        };
        step(&mut member, delete);
        let mut store = machine.open();
        join(&mut member, &mut store);
        reissue_all(&mut store);
        let left: &[&str] = if is_whole {
            &["kept"]
        } else {
            &["kept", "mine"]
        };
        assert_eq!(names(&store), left);
        assert!(!store.shared().has_reissue().unwrap());
    }
}

/// A store whose log parted was the last that had what a lost filer wrote: the others took
/// nothing from it, and it went on with their state.
#[test]
fn what_only_a_store_has_of_a_third_filer_is_taken_in_again() {
    let (mut member, machine, known) = pair();
    let mut store = machine.open();
    let mut lost = Machine::new(3 << 32 | 3).open();
    let third = lost.shared().origin();
    let both = mkdir(&mut lost, "/both");
    mkdir(&mut lost, "/only");
    mkdir(&mut lost, "/only2");
    let made = lost.shared().changes_after(third, Stamp::ZERO, usize::MAX);
    let made: Vec<Bytes> = made.unwrap().into_iter().map(|r| r.payload).collect();
    member.apply_remote(&made[..1]).unwrap();
    store.apply_remote(&made).unwrap();
    // Written on top of it.
    mkdir(&mut store, "/only/below");
    let mut of_thirds = Vector::new();
    of_thirds.set(third, both);
    let renewal = Renewal {
        of_thirds,
        ..renewal(known)
    };
    assert_eq!(store.renew(&renewal).unwrap(), 6);
    drop(store);
    machine.crash();
    let mut store = machine.open();
    join(&mut member, &mut store);
    assert_eq!(store.shared().vector().get(third), both);
    store.reissue(&[]).unwrap();
    let taken = store.shared().changes_after(third, both, usize::MAX);
    let taken: Vec<Bytes> = taken.unwrap().into_iter().map(|r| r.payload).collect();
    assert_eq!(taken, made[1..], "as it was, for others to fetch");
    drop(store);
    // Taken in and on disk: only its copy may be there still.
    machine.crash();
    let mut store = machine.open();
    reissue_all(&mut store);
    assert_eq!(names(&store), ["both", "kept", "mine", "only", "only2"]);
    let below = store.shared().find(&path("/only/below")).unwrap();
    assert!(below.is_some(), "in its place");
}

/// ⚠ Of a third filer that was shut out meanwhile the others may have drawn the cut.
#[test]
fn what_a_store_has_of_a_third_filer_is_dropped_once_that_is_gone() {
    let (mut member, machine, known) = pair();
    let mut store = machine.open();
    let mut lost = Machine::new(3 << 32 | 3).open();
    let third = lost.shared().origin();
    let address = String::new();
    let step = MemberStep::Join {
        member: third,
        address,
    };
    let both = lost.member(step).unwrap();
    mkdir(&mut lost, "/only");
    let made = lost.shared().changes_after(third, Stamp::ZERO, usize::MAX);
    let made: Vec<Bytes> = made.unwrap().into_iter().map(|r| r.payload).collect();
    member.apply_remote(&made[..1]).unwrap();
    store.apply_remote(&made).unwrap();
    let mut of_thirds = Vector::new();
    of_thirds.set(third, both);
    let renewal = Renewal {
        of_thirds,
        ..renewal(known)
    };
    store.renew(&renewal).unwrap();
    drop(store);
    let mut store = machine.open();
    let remove = MemberStep::Remove {
        member: third,
        cut: both,
    };
    member.member(remove).unwrap();
    join(&mut member, &mut store);
    reissue_all(&mut store);
    assert_eq!(store.shared().vector().get(third), both);
    assert_eq!(names(&store), ["kept", "mine"]);
}

/// ⚠ Every step is on disk before the next begins.
#[test]
fn a_crash_at_any_moment_of_taking_a_new_origin_costs_a_repetition() {
    for fails_at in 1..40 {
        let (mut member, machine, known) = pair();
        let mut store = machine.open();
        let old = store.shared().origin();
        let renewal = renewal(known);
        machine.disk.fail_at(fails_at);
        let renewed = store.renew(&renewal);
        drop(store);
        machine.crash();
        if renewed.is_err() {
            // Nothing has changed yet: it is done again.
            let mut store = machine.open();
            assert_eq!(store.shared().origin(), old);
            store.renew(&renewal).unwrap();
            drop(store);
        }
        machine.disk.fail_at(fails_at);
        drop(machine.try_open());
        machine.crash();
        let mut store = machine.open();
        assert!(store.shared().must_join().unwrap(), "at {fails_at}");
        join(&mut member, &mut store);
        // What was made anew is in the log; the engine lost that it was.
        store.reissue(&[]).unwrap();
        drop(store);
        machine.crash();
        let mut store = machine.open();
        reissue_all(&mut store);
        assert_returned(&member, &store, old);
    }
}

/// It was set back once more before all was made anew.
#[test]
fn what_an_earlier_renewal_set_aside_stays() {
    let (mut member, machine, known) = pair();
    let mut store = machine.open();
    let old = store.shared().origin();
    let first = renewal(known);
    store.renew(&first).unwrap();
    drop(store);
    let mut store = machine.open();
    join(&mut member, &mut store);
    mkdir(&mut store, "/later");
    mkdir(&mut store, "/latest");
    let mut known = Known::default();
    known.set(store.shared().origin(), Stamp::ZERO);
    let second = Renewal {
        random: 10 << 32 | 10,
        ..renewal(known)
    };
    assert_eq!(store.renew(&second).unwrap(), 2);
    drop(store);
    let mut store = machine.open();
    join(&mut member, &mut store);
    reissue_all(&mut store);
    assert_eq!(names(&store), ["kept", "later", "latest", "mine"]);
    let value = store.shared().kv_get(b"key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"value"[..]));
    assert_ne!(store.shared().origin(), old);
}

/// Under `os` the engine carries records of the old log that may not be on disk there. They
/// are no part of the new one.
#[test]
fn nothing_of_the_old_log_is_in_the_new_one() {
    let (mut member, mut machine, known) = pair();
    machine.durability = Durability::Os;
    let mut store = machine.open();
    let renewal = renewal(known);
    store.renew(&renewal).unwrap();
    // What was on its way when it was renewed.
    mkdir(&mut store, "/late");
    drop(store);
    let mut store = machine.open();
    let shared = store.shared();
    assert!(shared.is_fresh(), "{:?}", shared.vector());
    assert_eq!(shared.journal().lasts(), dulse_types::Vector::new());
    join(&mut member, &mut store);
}

/// In a split each side held the other for gone. Nobody pulls from those, so it could never
/// join the ones that are left.
#[test]
fn whom_a_store_held_for_gone_is_forgotten_with_its_origin() {
    let (mut member, machine, known) = pair();
    let theirs = member.shared().origin();
    let mut store = machine.open();
    store
        .member(MemberStep::Remove {
            member: theirs,
            cut: Stamp::ZERO,
        })
        .unwrap();
    let renewal = renewal(known);
    store.renew(&renewal).unwrap();
    drop(store);
    let mut store = machine.open();
    let members = store.shared().members().unwrap();
    assert!(!members.iter().any(|(origin, _)| *origin == theirs));
    join(&mut member, &mut store);
    let members = store.shared().members().unwrap();
    let row = members.iter().find(|(origin, _)| *origin == theirs);
    assert_eq!(row.unwrap().1.state, dulse_merge::MemberRow::MEMBER);
}

fn file(key: u64) -> Entry {
    files(&[key])
}

/// A file with chunks of these keys.
fn files(keys: &[u64]) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    let chunks = keys.iter().map(|key| {
        let mut chunk = FileChunk {
            size: 10,
            ..FileChunk::default()
        };
        chunk.set_id(FileId {
            volume_id: 3,
            key: *key,
            cookie: 7,
        });
        chunk
    });
    fields.chunks = chunks.collect();
    fields.to_entry(&UnknownFields::default())
}

/// Its chunks may be freed by now: whoever deleted it knew them.
#[test]
fn data_that_others_had_and_deleted_is_listed_and_not_made_anew() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    let lost = store.shared().origin();
    let at = path("/file");
    let (path, entry) = (at.clone(), file(1));
    let create = Step::Create { path, entry };
    let created = step(&mut store, create);
    let shared = store.shared();
    let has = member.shared().vector().get(lost);
    let made = shared.changes_after(lost, has, usize::MAX).unwrap();
    let made: Vec<Bytes> = made.into_iter().map(|r| r.payload).collect();
    member.apply_remote(&made).unwrap();
    let delete = Step::Delete {
        path: at.clone(),
        delete_chunks: true,
    };
    step(&mut member, delete);
    let update = Step::Update {
        path: at,
        entry: file(2),
        delete_chunks: true,
    };
    step(&mut store, update);
    let mut known = Known::default();
    known.set(lost, created);
    let renewal = renewal(known);
    store.renew(&renewal).unwrap();
    drop(store);
    let mut store = machine.open();
    join(&mut member, &mut store);
    let mut n_conflicts = 0;
    loop {
        let done = store.reissue(&[]).unwrap();
        n_conflicts += done.n_conflicts;
        if !done.has_more {
            break;
        }
    }
    assert_eq!(n_conflicts, 1);
    assert!(!names(&store).contains(&"file".to_owned()));
}

fn chunks_of(entry: &Entry) -> Vec<u64> {
    let ids = dulse_types::entry::split(entry).data.file_ids();
    ids.into_iter().map(|id| id.key).collect()
}

/// Hands the member what the store made so far; gives how far that is.
fn hand_over(store: &Replica, member: &mut Replica) -> Stamp {
    let own = store.shared().origin();
    let has = member.shared().vector().get(own);
    let made = store.shared().changes_after(own, has, usize::MAX).unwrap();
    let last = made.last().map_or(has, |record| record.stamp);
    let made: Vec<Bytes> = made.into_iter().map(|r| r.payload).collect();
    member.apply_remote(&made).unwrap();
    last
}

fn renew(machine: &Machine, store: Replica, has: Stamp, member: &mut Replica) -> Replica {
    let mut store = store;
    let mut known = Known::default();
    known.set(store.shared().origin(), has);
    let renewal = renewal(known);
    store.renew(&renewal).unwrap();
    drop(store);
    let mut store = machine.open();
    join(member, &mut store);
    store
}

fn create(replica: &mut Replica, at: &str, entry: Entry) {
    let path = path(at);
    step(replica, Step::Create { path, entry });
}

fn update(replica: &mut Replica, at: &str, entry: Entry) {
    let path = path(at);
    let update = Step::Update {
        path,
        entry,
        delete_chunks: true,
    };
    step(replica, update);
}

fn delete(replica: &mut Replica, at: &str) {
    let path = path(at);
    let delete = Step::Delete {
        path,
        delete_chunks: true,
    };
    step(replica, delete);
}

fn link(replica: &mut Replica, from: &str, to: &str) {
    let (from, to) = (path(from), path(to));
    step(replica, Step::Link { from, to });
}

/// Each of two files would have its chunks freed when it goes, and the other one still names them.
#[test]
fn names_of_one_file_are_made_anew_as_names_of_one_file() {
    // The place of one is taken.
    for (taken, left) in [("/a", ["/b", "/c"]), ("/c", ["/a", "/b"])] {
        let (mut member, machine, _) = pair();
        let mut store = machine.open();
        let has = hand_over(&store, &mut member);
        create(&mut store, "/a", file(1));
        link(&mut store, "/a", "/b");
        link(&mut store, "/a", "/c");
        create(&mut member, taken, file(2));
        let mut store = renew(&machine, store, has, &mut member);
        reissue_all(&mut store);
        let shared = store.shared();
        let found = |at: &str| shared.find(&path(at)).unwrap().unwrap();
        assert_eq!(chunks_of(&found(taken).entry), [2]);
        for at in left {
            assert_eq!(chunks_of(&found(at).entry), [1]);
            assert_eq!(found(at).n_links, 2);
        }
        let lost = shared.conflicts(b"", None, 9).unwrap().conflicts;
        assert_eq!(lost.len(), 0, "the file is there: {lost:?}");
        delete(&mut store, left[0]);
        let garbage = store.shared().garbage(None, 9).unwrap();
        assert_eq!(garbage, [], "the file has another name");
    }
}

/// What others had of the lost content they may have freed; what only this store named, nobody.
#[test]
fn a_loss_is_recorded_with_the_chunks_that_are_there_for_certain() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    create(&mut store, "/file", file(1));
    create(&mut store, "/gone", file(5));
    let has = hand_over(&store, &mut member);
    update(&mut store, "/file", files(&[1, 2]));
    update(&mut store, "/gone", files(&[5, 6]));
    update(&mut member, "/file", files(&[1, 3]));
    update(&mut member, "/file", files(&[3]));
    delete(&mut member, "/gone");
    create(&mut member, "/gone", file(7));
    let mut store = renew(&machine, store, has, &mut member);
    reissue_all(&mut store);
    let page = store.shared().conflicts(b"", None, 9).unwrap();
    let mut lost: Vec<_> = page.conflicts.iter().map(|c| chunks_of(&c.loser)).collect();
    lost.sort();
    assert_eq!(lost, [[2], [6]]);
}

/// Others may have known it in the manifest.
#[test]
fn a_chunk_that_was_taken_out_of_a_manifest_is_not_there_for_certain() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    create(&mut store, "/apart", folded(&[3, 4]));
    create(&mut store, "/longer", folded(&[5, 6]));
    let has = hand_over(&store, &mut member);
    update(&mut store, "/apart", files(&[4, 8, 9]));
    update(&mut store, "/longer", folded(&[5, 6, 7]));
    delete(&mut member, "/apart");
    delete(&mut member, "/longer");
    let mut store = renew(&machine, store, has, &mut member);
    reissue_all(&mut store);
    let page = store.shared().conflicts(b"", None, 9).unwrap();
    let mut lost: Vec<_> = page.conflicts.iter().map(|c| chunks_of(&c.loser)).collect();
    lost.sort();
    assert_eq!(lost, [vec![], vec![7]]);
}

/// Chunks as [`files`] has them, of which the first is a manifest.
fn folded(keys: &[u64]) -> Entry {
    let mut fields = files(keys).fields().unwrap();
    fields.chunks[0].is_chunk_manifest = true;
    fields.to_entry(&UnknownFields::default())
}

/// It may list chunks that the others had dropped before and have freed: their file is whole.
#[test]
fn a_manifest_that_others_never_knew_takes_the_place_of_nothing() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    create(&mut store, "/folded", files(&[1, 2]));
    create(&mut store, "/known", folded(&[3, 4]));
    create(&mut store, "/plain", file(5));
    let has = hand_over(&store, &mut member);
    update(&mut store, "/folded", folded(&[6, 2]));
    update(&mut store, "/known", folded(&[3, 4, 7]));
    update(&mut store, "/plain", files(&[5, 8]));
    create(&mut store, "/new", folded(&[9, 10]));
    let mut store = renew(&machine, store, has, &mut member);
    reissue_all(&mut store);
    let found = |at: &str| {
        let found = store.shared().find(&path(at)).unwrap().unwrap();
        chunks_of(&found.entry)
    };
    assert_eq!(found("/folded"), [1, 2]);
    assert_eq!(found("/known"), [3, 4, 7]);
    assert_eq!(found("/plain"), [5, 8]);
    assert_eq!(found("/new"), [9, 10]);
    let page = store.shared().conflicts(b"", None, 9).unwrap();
    let lost: Vec<_> = page.conflicts.iter().map(|c| chunks_of(&c.loser)).collect();
    assert_eq!(lost, [[6, 2]]);
}

/// A new name, then the old one goes: how many programs rename.
#[test]
fn a_further_name_of_a_file_that_others_know_is_a_link_to_it() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    create(&mut store, "/file", file(1));
    create(&mut store, "/gone", file(2));
    let has = hand_over(&store, &mut member);
    link(&mut store, "/file", "/other");
    delete(&mut store, "/file");
    link(&mut store, "/gone", "/lost");
    delete(&mut member, "/gone");
    let mut store = renew(&machine, store, has, &mut member);
    reissue_all(&mut store);
    let names = names(&store);
    assert!(!names.contains(&"file".to_owned()), "{names:?}");
    let found = store.shared().find(&path("/other")).unwrap().unwrap();
    assert_eq!(chunks_of(&found.entry), [1]);
    let garbage = store.shared().garbage(None, 9).unwrap();
    assert!(garbage.iter().all(|row| row.chunk.key != 1), "{garbage:?}");
    assert!(
        !names.contains(&"lost".to_owned()),
        "its chunk may be freed"
    );
    let page = store.shared().conflicts(b"/lost", None, 9).unwrap();
    assert_eq!(chunks_of(&page.conflicts[0].loser), [0; 0]);
}

/// Others moved a directory above the place that it had here: it cannot go there. Tried again and
/// again, it kept all that was behind it from being made anew (simulated, seed 98000624 of that
/// day).
#[test]
fn a_directory_that_cannot_go_back_to_its_place_stays_where_others_have_it() {
    let (mut member, machine, _) = pair();
    let mut store = machine.open();
    for at in ["/above", "/dir"] {
        mkdir(&mut store, at);
    }
    let has = hand_over(&store, &mut member);
    let rename = |replica: &mut Replica, from: &str, to: &str| {
        let (from, to) = (path(from), path(to));
        step(replica, Step::Rename { from, to })
    };
    rename(&mut member, "/above", "/other");
    let theirs = rename(&mut member, "/dir", "/above");
    let mut ours = rename(&mut store, "/dir", "/above/dir");
    while ours < theirs {
        rename(&mut store, "/above/dir", "/dir");
        ours = rename(&mut store, "/dir", "/above/dir");
    }
    mkdir(&mut store, "/zzz");
    let mut store = renew(&machine, store, has, &mut member);
    reissue_all(&mut store);
    let names = names(&store);
    for name in ["above", "other", "zzz"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    assert!(!names.contains(&"dir".to_owned()), "{names:?}");
}

/// Its join lay in the log of one that was shut out: nobody else ever held it for a member, but
/// whoever met it waits for it.
#[test]
fn an_origin_that_is_given_up_is_shut_out_though_nobody_knows_it_for_a_member() {
    let machine = Machine::new(2 << 32 | 2);
    let mut store = machine.open();
    mkdir(&mut store, "/mine");
    let old = store.shared().origin();
    let mut member = Machine::new(1 << 32 | 1).open();
    let own = member.shared().origin();
    let address = String::new();
    let join = MemberStep::Join {
        member: own,
        address,
    };
    member.member(join).unwrap();
    let mut store = renew(&machine, store, Stamp::ZERO, &mut member);
    reissue_all(&mut store);
    let members = store.shared().members().unwrap();
    let row = members.iter().find(|(origin, _)| *origin == old);
    assert_eq!(row.unwrap().1.state, dulse_merge::MemberRow::REMOVED);
}

/// A copy heard of its original only once it had another origin: it shut the original out.
#[test]
fn an_origin_that_another_process_uses_after_all_is_not_shut_out() {
    for is_used in [true, false] {
        let (mut member, machine, known) = pair();
        let store = machine.open();
        let old = store.shared().origin();
        let has = known.get(old).unwrap();
        let mut store = renew(&machine, store, has, &mut member);
        assert_eq!(store.shared().former().unwrap(), [old]);
        let in_use: Vec<_> = is_used.then_some(old).into_iter().collect();
        while store.reissue(&in_use).unwrap().has_more {}
        let members = store.shared().members().unwrap();
        let is_out = members
            .iter()
            .any(|(origin, row)| *origin == old && row.state == dulse_merge::MemberRow::REMOVED);
        assert_eq!(is_out, !is_used);
        let is_left = store.shared().has_reissue().unwrap();
        assert!(!is_left, "it is the other one's from now on");
    }
}

#[test]
fn nothing_is_set_aside_of_what_others_have() {
    let (_, machine, mut known) = pair();
    let mut store = machine.open();
    let own = store.shared().origin();
    known.set(own, store.shared().vector().get(own));
    let renewal = Renewal {
        is_in_use: true,
        ..renewal(known)
    };
    assert_eq!(store.renew(&renewal).unwrap(), 0);
    drop(store);
    let store = machine.open();
    assert!(
        !store.shared().has_reissue().unwrap(),
        "the old one lives on"
    );
    assert!(store.shared().is_fresh());
}

#[test]
fn what_is_set_aside_is_read_back_and_damage_is_told() {
    let item = Item::Key {
        key: Bytes::from_static(b"k"),
        row: KvRow {
            version: Version {
                stamp: Stamp(5),
                origin: Origin(7),
            },
            value: Some(Bytes::from_static(b"v")),
        },
    };
    let bytes = item.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(Item::decode(&bytes).unwrap(), item);
    for cut in 0..bytes.len() {
        assert!(Item::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// The bytes of the item above; `docs/formats/replica.md`.
const GOLDEN: &str = "0102016b1301000000000000000500000000000000070176";
