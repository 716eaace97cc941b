// SPDX-License-Identifier: Apache-2.0
//! What every member has on disk is forgotten, in the engine too, and stays dead over crashes.

use dulse_kv::{Engine, Read, ReadExt};
use dulse_merge::keys::Space;
use dulse_replica::{Durability, Replica};
use dulse_types::Vector;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::machine::{Machine, dump, random_step};

/// Rows of the dead and of what moved.
fn n_dead(machine: &Machine) -> usize {
    let (from, to) = (Space::Moved.range().0, Space::Graves.range().1);
    let rows = machine.engine.engine.scan(&from, &to, usize::MAX).unwrap();
    rows.len()
}

fn forget_all(replica: &mut Replica) {
    while replica.forget().unwrap() {}
}

#[test]
fn nothing_is_forgotten_before_it_is_stable_and_on_disk_and_all_of_it_afterwards() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut machine = Machine::new(1 << 32 | 1, Durability::Fsync);
        // A checkpoint comes when the test makes one.
        machine.limits.checkpoint_every_bytes = u64::MAX;
        let mut replica = machine.open();
        for _ in 0..120 {
            let _ = replica.commit(vec![random_step(&mut rng)]);
        }
        let (before, dead) = (dump(&replica), n_dead(&machine));
        assert!(dead > 0);
        replica.stable(replica.shared().vector()).unwrap();
        forget_all(&mut replica);
        assert_eq!(n_dead(&machine), dead, "a replay needs them");
        replica.checkpoint().unwrap();
        forget_all(&mut replica);
        assert_eq!(n_dead(&machine), 0);
        // Digest and tree do not change, nor after power loss, whatever the engine kept.
        assert_eq!(dump(&replica), before);
        drop(replica);
        machine.crash(&mut rng);
        let mut replica = machine.open();
        assert_eq!(dump(&replica), before);
        replica.stable(replica.shared().vector()).unwrap();
        forget_all(&mut replica);
        assert_eq!(n_dead(&machine), 0, "quiet since its checkpoint");
    }
}

/// Whoever has less had acknowledged more: its store was set back.
#[test]
fn up_to_where_was_forgotten_is_known_and_stays_known_until_a_state_is_taken_in() {
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    let row = || machine.engine.engine.get(&Space::Meta.key(b"forgotten"));
    let mut rng = StdRng::seed_from_u64(1);
    while n_dead(&machine) == 0 {
        let _ = replica.commit(vec![random_step(&mut rng)]);
    }
    let stable = replica.shared().vector();
    replica.stable(stable.clone()).unwrap();
    assert_eq!(replica.shared().forgotten(), Vector::new());
    replica.checkpoint().unwrap();
    forget_all(&mut replica);
    assert_eq!(replica.shared().forgotten(), stable);
    let hex: String = row()
        .unwrap()
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let stamp = stable.get(replica.shared().origin());
    assert_eq!(hex, format!("01010000000100000001{:016x}", stamp.0));
    drop(replica);
    let replica = machine.open();
    assert_eq!(
        replica.shared().forgotten(),
        stable,
        "of an earlier process"
    );
    drop(replica);
    let other = Machine::new(2 << 32 | 2, Durability::Fsync);
    other
        .engine
        .engine
        .write(dulse_kv::Batch {
            writes: vec![(Space::Meta.key(b"forgotten"), row().unwrap())],
        })
        .unwrap();
    let mut fresh = other.open();
    assert_eq!(fresh.shared().forgotten(), stable);
    fresh.begin_import(stable).unwrap();
    assert_eq!(
        fresh.shared().forgotten(),
        Vector::new(),
        "that was of other rows"
    );
    drop(fresh);
    assert_eq!(other.open().shared().forgotten(), Vector::new());
}

#[test]
fn while_a_member_is_away_nothing_is_forgotten() {
    let mut rng = StdRng::seed_from_u64(1);
    let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
    let mut replica = machine.open();
    for _ in 0..120 {
        let _ = replica.commit(vec![random_step(&mut rng)]);
    }
    let dead = n_dead(&machine);
    replica.stable(Vector::new()).unwrap();
    replica.checkpoint().unwrap();
    forget_all(&mut replica);
    assert_eq!(n_dead(&machine), dead);
}
