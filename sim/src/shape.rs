// SPDX-License-Identifier: Apache-2.0
//! What a seed's world looks like before anything happens in it.

use rand::Rng;
use rand::rngs::StdRng;

use crate::{MS, Operators, SECOND, faults, workload};

/// Most filers of a world.
pub const FILERS_MAX: usize = 7;

/// One world's size and what happens in it.
///
/// Each seed leaves most faults and workloads out: with everything at once nothing goes
/// on for long enough, and rare combinations stay rare ("swarm testing", Groce et al. 2012).
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many filers, at most [`FILERS_MAX`].
    pub filers: usize,
    /// Faults and writes happen for this long, in nanoseconds.
    pub trouble: u64,
    /// The longest pause between two groups of writes at one filer, in nanoseconds.
    pub write_pause_max: u64,
    /// The longest pause between two faults, in nanoseconds.
    pub fault_pause_max: u64,
    /// The weight of each of `faults::ALL`.
    pub faults: Vec<u32>,
    /// The weight of each of `workload::ALL`.
    pub workloads: Vec<u32>,
}

impl Shape {
    /// Nothing happens but what a test does.
    #[must_use]
    pub fn quiet(filers: usize) -> Self {
        Self {
            filers,
            trouble: 0,
            write_pause_max: 0,
            fault_pause_max: 0,
            faults: vec![0; faults::ALL.len()],
            workloads: vec![0; workload::ALL.len()],
        }
    }

    /// Of a seed.
    pub(crate) fn of(rng: &mut StdRng, operators: Operators) -> Self {
        let filers = match rng.random_range(0..100) {
            0..=19 => 2,
            20..=69 => 3,
            70..=84 => 4,
            85..=94 => 5,
            95..=97 => 6,
            _ => FILERS_MAX,
        };
        // Work grows with the square of the filers: the bigger the world, the shorter.
        let trouble = match filers {
            2..=3 => rng.random_range(10 * SECOND..40 * SECOND),
            4 => rng.random_range(10 * SECOND..20 * SECOND),
            _ => rng.random_range(8 * SECOND..12 * SECOND),
        };
        let faults = faults::ALL.iter().map(|fault| {
            let is_in = rng.random_bool(0.6);
            if is_in { fault.weight() } else { 0 }
        });
        let mut faults: Vec<u32> = faults.collect();
        // What operators do to members and what they do to disks, one of the two in a world.
        let group = if rng.random_bool(0.5) {
            faults::OF_DISKS
        } else {
            faults::OF_MEMBERS
        };
        for (fault, weight) in faults::ALL.iter().zip(&mut faults) {
            let is_operators = faults::OF_DISKS.contains(&fault.name())
                || faults::OF_MEMBERS.contains(&fault.name());
            if group.contains(&fault.name()) || (is_operators && operators == Operators::None) {
                *weight = 0;
            }
        }
        let mut workloads: Vec<u32> = workload::ALL
            .iter()
            .map(|workload| {
                let is_in = rng.random_bool(0.5);
                if is_in { workload.weight() } else { 0 }
            })
            .collect();
        if workloads.iter().all(|weight| *weight == 0) {
            workloads[0] = 1;
        }
        Self {
            filers,
            trouble,
            write_pause_max: rng.random_range(50 * MS..600 * MS),
            fault_pause_max: rng.random_range(500 * MS..3 * SECOND),
            faults,
            workloads,
        }
    }
}

/// The place that a weighted die falls on; `None` when all weights are 0.
pub(crate) fn throw(weights: &[u32], rng: &mut StdRng) -> Option<usize> {
    let sum: u32 = weights.iter().sum();
    if sum == 0 {
        return None;
    }
    let mut at = rng.random_range(0..sum);
    weights.iter().position(|weight| {
        let is_here = at < *weight;
        at = at.saturating_sub(*weight);
        is_here
    })
}
