// SPDX-License-Identifier: Apache-2.0
//! Random histories: whatever order changes arrive in, replicas end alike, and as the
//! naive model says.

use dulse_merge::Change;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::naive::Naive;
use crate::world::{Mix, Replica, deliver, history};

/// Up to this many changes, every order of delivery is tried.
const EVERY_ORDER_MAX: usize = 7;

/// Panics with the changes and the first difference, unless both are equal.
pub(crate) fn assert_same(name: &str, got: &Naive, expect: &Naive, logs: &[Vec<Change>]) {
    if got == expect {
        return;
    }
    for change in logs.iter().flatten() {
        eprintln!("{change:?}\n");
    }
    for path in got.tree.keys().chain(expect.tree.keys()) {
        let (a, b) = (got.tree.get(path), expect.tree.get(path));
        assert_eq!(a, b, "{name}: {path:?}");
    }
    assert_eq!(got.graves, expect.graves, "{name}: graves");
    assert_eq!(got.partial, expect.partial, "{name}: partial");
    assert_eq!(got.inodes, expect.inodes, "{name}: inodes");
    assert_eq!(got.kv, expect.kv, "{name}: kv");
    assert_eq!(got.members, expect.members, "{name}: members");
    assert_eq!(got.conflicts, expect.conflicts, "{name}: conflicts");
    assert_eq!(got.garbage, expect.garbage, "{name}: garbage");
    assert_eq!(got.digest, expect.digest, "{name}: digest");
}

/// Delivers the rest in every order that keeps each origin's; every state on the way is
/// compared with the naive model.
fn every_order(replica: &Replica, logs: &[Vec<Change>], n_orders: &mut u64) {
    let applied = |c: &&Change| c.stamp <= replica.vector.get(c.origin);
    let naive = Naive::of(logs.iter().flatten().filter(applied));
    assert_same("on the way", &replica.seen(), &naive, logs);
    let mut is_end = true;
    for log in logs {
        let Some(next) = log.iter().find(|c| !applied(c)) else {
            continue;
        };
        is_end = false;
        let mut replica = replica.clone();
        replica.receive(next);
        every_order(&replica, logs, n_orders);
    }
    *n_orders += u64::from(is_end);
}

fn converge(seed: u64, n: u32, n_ops: usize, mix: Mix) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut replicas = history(&mut rng, n, n_ops, mix);
    let logs: Vec<Vec<Change>> = replicas.iter().map(|r| r.log.clone()).collect();
    let expect = Naive::of(logs.iter().flatten());
    replicas.push(Replica::new(99));
    replicas.push(Replica::new(98));
    for replica in &mut replicas {
        deliver(replica, &logs, &mut rng);
        assert_same(&format!("seed {seed}"), &replica.seen(), &expect, &logs);
    }
}

fn converge_all(n_seeds: u64, mix: Mix) {
    for seed in 0..n_seeds {
        converge(seed, 2 + (seed % 4) as u32, 4 + (seed % 20) as usize, mix);
    }
}

#[test]
fn random_histories_end_as_the_naive_model_says() {
    converge_all(1_000, Mix::PLAIN);
}

#[test]
fn random_histories_with_hard_links_end_as_the_naive_model_says() {
    converge_all(1_500, Mix::LINKS);
}

#[test]
fn random_histories_of_everything_end_as_the_naive_model_says() {
    // Directories and hard links together, hard link ids, times to live and the touches
    // that extend them, access times, keys, members, conflict records.
    converge_all(2_000, Mix::ALL);
}

/// Every order of histories of up to seven changes.
fn every_order_of(n_seeds: u64, mix: Mix) -> u64 {
    let mut n_orders = 0;
    for seed in 0..n_seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let n_ops = 3 + (seed as usize % (EVERY_ORDER_MAX - 2));
        let replicas = history(&mut rng, 2 + (seed % 4) as u32, n_ops, mix);
        let logs: Vec<Vec<Change>> = replicas.into_iter().map(|r| r.log).collect();
        every_order(&Replica::new(99), &logs, &mut n_orders);
    }
    n_orders
}

#[test]
fn every_order_of_few_changes_passes_through_the_states_of_the_naive_model() {
    for (n_seeds, mix) in [(300, Mix::LINKS), (300, Mix::ALL)] {
        let n_orders = every_order_of(n_seeds, mix);
        println!("{n_orders} orders of {n_seeds} histories of up to five origins");
        assert!(n_orders > 20_000, "the test lost its cases");
    }
}
