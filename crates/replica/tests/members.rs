// SPDX-License-Identifier: Apache-2.0
//! What a replica takes of origins that are members no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_merge::{MemberRow, MemberStep};
use dulse_replica::{Applied, Clock, Durability, Limits, Replica, ReplicaOptions};
use dulse_store::{ErrorKind, Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{EntryFields, FullPath, Origin, Stamp};

struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }

    fn monotonic(&self) -> std::time::Duration {
        let ns = self.0.load(Ordering::Relaxed);
        std::time::Duration::from_nanos(ns.unsigned_abs())
    }
}

fn open(random: u64) -> Replica {
    Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(Ticking(AtomicI64::new(1_000_000))),
        random,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })
    .unwrap()
}

fn mkdir(path: &str) -> Transaction {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
    Transaction {
        steps: vec![Step::Create {
            path: FullPath::parse(path).unwrap(),
            entry: fields.to_entry(&UnknownFields::default()),
        }],
        ..Transaction::default()
    }
}

fn origin(replica: &Replica) -> Origin {
    replica.shared().origin()
}

fn join(replica: &mut Replica, member: Origin) {
    let address = String::new();
    let step = MemberStep::Join { member, address };
    replica.member(step).unwrap();
}

fn changes(replica: &Replica) -> Vec<Bytes> {
    let shared = replica.shared();
    let all = shared.changes_after(shared.origin(), Stamp::ZERO, usize::MAX);
    all.unwrap().into_iter().map(|r| r.payload).collect()
}

/// ⚠ What the gone one itself brings after its end is refused, what a member brings is not.
#[test]
fn changes_of_one_that_was_shut_out_count_only_when_a_member_brings_them() {
    let (mut one, mut gone, member, stranger) = (open(1 << 32 | 1), open(2 << 32 | 2), 3, 4);
    let (member, stranger) = (Origin(member << 32 | 3), Origin(stranger << 32 | 4));
    let own = origin(&one);
    let lost = origin(&gone);
    for who in [own, lost, member] {
        join(&mut one, who);
    }
    for name in ["/a", "/b", "/c"] {
        gone.commit(vec![mkdir(name)]).pop().unwrap().unwrap();
    }
    let made = changes(&gone);
    let taken = one.apply_from(lost, &made[..1]).unwrap();
    assert_eq!(taken, [Applied::Now]);
    let cut = one.shared().vector().get(lost);
    let step = MemberStep::Fence { member: lost, cut };
    one.member(step).unwrap();
    for through in [lost, stranger] {
        let refused = one.apply_from(through, &made[1..2]).unwrap();
        assert_eq!(refused, [Applied::Refused { cut }]);
    }
    let taken = one.apply_from(member, &made[1..2]).unwrap();
    assert_eq!(taken, [Applied::Now]);
    // Nor does a member count that was shut out itself.
    let step = MemberStep::Remove { member, cut };
    one.member(step).unwrap();
    let refused = one.apply_from(member, &made[2..]).unwrap();
    assert_eq!(refused, [Applied::Refused { cut }]);
}

/// Bug: the rescue of a damaged store merged what its log alone had though the store's origin
/// was removed meanwhile. Others had drawn the cut without it and freed chunks that it names.
#[test]
fn nothing_that_only_a_log_has_counts_of_one_that_was_shut_out() {
    let (mut one, mut gone, mut third) = (open(1 << 32 | 1), open(2 << 32 | 2), open(3 << 32 | 3));
    let (own, lost) = (origin(&one), origin(&gone));
    for who in [own, lost, origin(&third)] {
        join(&mut one, who);
    }
    for name in ["/a", "/b", "/c"] {
        gone.commit(vec![mkdir(name)]).pop().unwrap().unwrap();
    }
    third.commit(vec![mkdir("/d")]).pop().unwrap().unwrap();
    let made = changes(&gone);
    assert_eq!(one.apply_remote(&made[..1]).unwrap(), [Applied::Now]);
    let cut = one.shared().vector().get(lost);
    for step in [
        MemberStep::Fence { member: lost, cut },
        MemberStep::Remove { member: lost, cut },
    ] {
        one.member(step).unwrap();
        let told = one.apply_remote(&made[..2]).unwrap();
        assert_eq!(told, [Applied::Already, Applied::Refused { cut }]);
    }
    assert_eq!(one.shared().vector().get(lost), cut);
    let taken = one.apply_remote(&changes(&third)).unwrap();
    assert_eq!(taken, [Applied::Now], "a member's count");
}

/// ⚠ Whoever left has said its last word, whoever brings more.
#[test]
fn nothing_counts_that_comes_after_a_leave_and_whoever_left_stamps_nothing() {
    let mut one = open(1 << 32 | 1);
    let own = origin(&one);
    join(&mut one, own);
    let left = one.member(MemberStep::Leave { member: own }).unwrap();
    let refused = one.commit(vec![mkdir("/late")]).pop().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let again = one.member(MemberStep::Join {
        member: own,
        address: String::new(),
    });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(one.shared().vector().get(own), left);

    let mut other = open(2 << 32 | 2);
    let taken = other.apply_remote(&changes(&one)).unwrap();
    assert_eq!(taken, [Applied::Now, Applied::Now]);
    let mut late = dulse_merge::Change::decode(&changes(&one)[1]).unwrap();
    (late.prev, late.first, late.stamp) = (left, left.next(), left.next());
    let refused = other.apply_remote(&[late.encode()]).unwrap();
    assert_eq!(refused, [Applied::Refused { cut: left }]);
}

#[test]
fn how_long_members_are_silent_is_kept() {
    let mut one = open(1 << 32 | 1);
    let (a, b) = (Origin(7), Origin(8));
    let of = std::time::Duration::from_secs;
    one.note_silences(&[(a, of(5)), (b, of(6))]).unwrap();
    one.note_silences(&[(a, of(9))]).unwrap();
    assert_eq!(one.shared().silences().unwrap(), [(a, of(9)), (b, of(6))]);
}

/// ⚠ Its join is on its way, or was journaled by one that was shut out: what it has not
/// acknowledged is not stable, and what it has of one that is gone counts.
#[test]
fn one_whose_join_has_not_arrived_is_a_member() {
    let (mut one, mut gone, mut joiner) = (open(1 << 32 | 1), open(2 << 32 | 2), open(3 << 32 | 3));
    let (own, lost, unheard) = (origin(&one), origin(&gone), origin(&joiner));
    for who in [own, lost] {
        join(&mut one, who);
    }
    for name in ["/a", "/b"] {
        gone.commit(vec![mkdir(name)]).pop().unwrap().unwrap();
    }
    let made = changes(&gone);
    one.apply_from(lost, &made[..1]).unwrap();
    let cut = one.shared().vector().get(lost);
    one.member(MemberStep::Remove { member: lost, cut })
        .unwrap();
    joiner.commit(vec![mkdir("/c")]).pop().unwrap().unwrap();
    let taken = one.apply_from(unheard, &changes(&joiner)).unwrap();
    assert_eq!(taken, [Applied::Now]);
    let members = one.shared().members().unwrap();
    let row = members.iter().find(|(origin, _)| *origin == unheard);
    assert_eq!(row.map(|(_, row)| row.state), Some(MemberRow::MEMBER));
    let taken = one.apply_from(unheard, &made[1..]).unwrap();
    assert_eq!(taken, [Applied::Now]);
}

/// Who hears of them learns whether anything of it may be known to the members.
#[test]
fn the_joins_of_a_filer_lead_back_to_the_founder() {
    let (mut founder, mut second, mut third) = (open(1 << 32 | 1), open(2 << 32 | 2), open(5));
    let [own, with_founder, with_second] = [&founder, &second, &third].map(origin);
    join(&mut founder, own);
    join(&mut founder, with_founder);
    second.apply_remote(&changes(&founder)).unwrap();
    join(&mut second, with_second);
    third.apply_remote(&changes(&founder)).unwrap();
    third.apply_remote(&changes(&second)).unwrap();
    let by = |replica: &Replica| {
        let joins = replica.shared().joins().unwrap();
        let covers = |join| third.shared().vector().covers(join);
        assert!(joins.iter().all(|join| covers(*join)), "{joins:?}");
        joins.iter().map(|join| join.origin).collect::<Vec<_>>()
    };
    assert_eq!(by(&third), [with_founder, own, own]);
    assert_eq!(by(&founder), [own]);
    assert_eq!(by(&open(7)), [], "it has not joined");
}

/// Its store was set back, and its clock is behind: what it writes must not come below what
/// subscribers were told on its word.
#[test]
fn what_others_heard_a_filer_promise_it_keeps() {
    let mut store = open(1 << 32 | 1);
    let before = store.commit(vec![mkdir("/before")]).remove(0).unwrap();
    let promised = Stamp(before.stamp.0 + 3_600_000_000_000);
    store.shared().keep_promise(promised);
    let after = store.commit(vec![mkdir("/after")]).remove(0).unwrap();
    assert!(after.stamp > promised, "{} and {promised}", after.stamp);
}
