// SPDX-License-Identifier: Apache-2.0
//! What is held for stable while a filer joins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_cluster::{Acknowledgements, Statement};
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_merge::{MemberRow, MemberStep};
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};
use dulse_store::{Step, Transaction};
use dulse_types::{EntryFields, FullPath, Origin, Vector};

fn open(id: u64) -> Replica {
    Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(SystemClock),
        random: id << 32 | id,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })
    .unwrap()
}

fn join(replica: &mut Replica, member: Origin) {
    let address = String::new();
    replica
        .member(MemberStep::Join { member, address })
        .unwrap();
}

fn create(replica: &mut Replica, path: &str) {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    let step = Step::Create {
        path: FullPath::parse(path).unwrap(),
        entry: fields.to_entry(&Default::default()),
    };
    let transaction = Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    replica.commit(vec![transaction]).remove(0).unwrap();
}

fn pull(from: &mut Replica, to: &mut Replica) {
    from.sync().unwrap();
    let (shared, have) = (from.shared(), to.shared().vector());
    let origin = shared.origin();
    let records = shared.changes_after(origin, have.get(origin), usize::MAX);
    let changes: Vec<Bytes> = records.unwrap().into_iter().map(|r| r.payload).collect();
    to.apply_remote(&changes).unwrap();
    to.sync().unwrap();
}

/// What a filer says of itself.
fn said(replica: &Replica) -> Statement {
    let shared = replica.shared();
    let applied = shared.vector();
    Statement {
        position: applied.get(shared.origin()),
        durable: shared.durable_vector(),
        applied,
        ..Statement::default()
    }
}

/// What a filer holds for stable, by the members that it knows.
fn stable(replica: &Replica, heard: &Acknowledgements) -> Vector {
    let shared = replica.shared();
    let rows = shared.members().unwrap().into_iter();
    let members = rows.filter(|(_, row)| row.state == MemberRow::MEMBER);
    heard.stable(
        shared.origin(),
        members.map(|(origin, _)| origin),
        &shared.durable_vector(),
        &shared.vector(),
    )
}

/// A filer was made a member by one, and took the state from another, which had heard of that and
/// lacked a change. A third one, which had not heard of it, counted both: what the first had said
/// before and the second said later, so that it held for stable what the joiner lacked
/// (simulated, seed 77016271 of that day).
#[test]
fn who_hands_out_a_state_journals_a_join_of_its_own() {
    let [mut writer, mut admits, mut provides] = [1, 2, 3].map(open);
    let all = [&writer, &admits, &provides].map(|r| r.shared().origin());
    let joiner = Origin(4 << 32 | 4);
    for member in all {
        join(&mut writer, member);
    }
    pull(&mut writer, &mut admits);
    pull(&mut writer, &mut provides);
    create(&mut writer, "/f");
    pull(&mut writer, &mut admits);
    let mut heard = Acknowledgements::default();
    heard.stated(Duration::ZERO, all[1], said(&admits));
    join(&mut admits, joiner);
    pull(&mut admits, &mut provides);
    // Handing out a state, as the service does it.
    if !provides.shared().has_admitted(joiner).unwrap() {
        join(&mut provides, joiner);
    }
    let handed_out = provides.shared().vector();
    pull(&mut writer, &mut provides);
    heard.stated(Duration::ZERO, all[2], said(&provides));
    pull(&mut provides, &mut writer);
    let stable = stable(&writer, &heard);
    assert!(
        handed_out.includes(&stable),
        "{stable} is held for stable, the joiner has {handed_out}"
    );
    // And it was not for want of acknowledgements: with the joiner's, it is.
    let of_joiner = Statement {
        durable: writer.shared().vector(),
        ..Statement::default()
    };
    heard.stated(Duration::ZERO, joiner, of_joiner);
    let rows = writer.shared().members().unwrap();
    assert!(rows.iter().any(|(origin, _)| *origin == joiner));
    let stable = self::stable(&writer, &heard);
    assert!(!handed_out.includes(&stable), "{stable}");
}
