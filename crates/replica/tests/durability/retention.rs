// SPDX-License-Identifier: Apache-2.0
//! The log is cut where it is stable, durable in the engine, and old or too much.

use std::time::Duration;

use dulse_journal::Space;
use dulse_replica::{Durability, LOG_RETENTION, Replica};
use dulse_types::{Stamp, Vector};

use crate::machine::{Machine, create, dump};

fn fill(replica: &mut Replica, from: usize) {
    for n in from..from + 40 {
        let made = replica.commit(vec![create(&format!("/f{n}"))]).remove(0);
        made.unwrap();
    }
}

fn begin(replica: &Replica) -> u64 {
    replica.shared().journal().begin()
}

#[test]
fn what_is_old_goes_once_every_member_has_it() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    fill(&mut replica, 0);
    let own = replica.shared().origin();
    let half = replica.shared().vector();
    machine.leap(LOG_RETENTION / 2);
    fill(&mut replica, 100);
    replica.checkpoint().unwrap();
    replica.stable(replica.shared().vector()).unwrap();
    assert_eq!(begin(&replica), 0, "stable, but young");
    replica.stable(Vector::new()).unwrap();
    machine.leap(LOG_RETENTION / 2 + Duration::from_secs(60));
    replica.checkpoint().unwrap();
    assert_eq!(begin(&replica), 0, "old, but a member may still want it");
    replica.stable(replica.shared().vector()).unwrap();
    let cut = begin(&replica);
    assert!(cut > 0, "the old half goes");
    let shared = replica.shared();
    let kept = shared.changes_after(own, Stamp::ZERO, usize::MAX).unwrap();
    // Whoever is behind the cut sees it: the first change follows one that is not there.
    assert!(kept[0].prev > Stamp::ZERO && kept[0].prev <= half.get(own));
    assert!(kept.len() >= 40, "the young half stays");
    let before = dump(&replica);
    drop(replica);
    let replica = machine.open();
    assert_eq!((begin(&replica), dump(&replica)), (cut, before));
}

#[test]
fn a_log_over_its_budget_goes_young_but_never_before_it_is_stable() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.log_budget_bytes = 6_000;
    let mut replica = machine.open();
    fill(&mut replica, 0);
    fill(&mut replica, 100);
    replica.checkpoint().unwrap();
    assert!(replica.shared().journal().size_bytes() > 12_000);
    assert_eq!(begin(&replica), 0);
    replica.stable(replica.shared().vector()).unwrap();
    let size = replica.shared().journal().size_bytes();
    assert!((3_000..=6_000).contains(&size), "{size}");
}

#[test]
fn the_budget_is_a_tenth_of_a_small_disk() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.disk.set_space(Some(Space {
        free_bytes: 50_000,
        total_bytes: 60_000,
    }));
    let mut replica = machine.open();
    fill(&mut replica, 0);
    fill(&mut replica, 100);
    replica.checkpoint().unwrap();
    replica.stable(replica.shared().vector()).unwrap();
    let size = replica.shared().journal().size_bytes();
    assert!((3_000..=6_000).contains(&size), "{size}");
}

#[test]
fn what_the_engine_may_lose_stays() {
    let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    machine.limits.log_budget_bytes = 0;
    machine.limits.checkpoint_every_bytes = 1 << 30;
    let mut replica = machine.open();
    fill(&mut replica, 0);
    replica.stable(replica.shared().vector()).unwrap();
    assert_eq!(begin(&replica), 0, "nothing is durable in the engine");
    let before = dump(&replica);
    drop(replica);
    machine.engine.engine.crash(|_| false);
    let replica = machine.open();
    assert_eq!(dump(&replica), before);
}
