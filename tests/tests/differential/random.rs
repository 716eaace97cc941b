// SPDX-License-Identifier: Apache-2.0
//! Random operations from a seed, on few names so that they meet.
//!
//! Left out is what is known to differ (`known.rs`): parents that an operation makes, links,
//! expiry; written cases have those.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::Case;
use crate::op::{How, Kill, Op, Range, What};

/// Cases, and operations in each.
const CASES: usize = 30;
const OPS: usize = 16;

/// No name begins with another.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    let case = |at: usize| {
        let mut ops = vec![Op::mkdir(""), Op::mkdir("a"), Op::mkdir("a/b")];
        ops.extend((0..OPS).map(|_| op(&mut rng)));
        Case {
            name: format!("random-{at}"),
            ops,
        }
    };
    (0..CASES).map(case).collect()
}

fn path(rng: &mut StdRng, depth: usize) -> String {
    let names: Vec<&str> = (0..rng.random_range(1..=depth))
        .filter_map(|_| NAMES.choose(rng).copied())
        .collect();
    names.join("/")
}

fn what(rng: &mut StdRng) -> What {
    let at = rng.random_range(0..1_000);
    What {
        uid: rng.random_range(0..3),
        mtime: 1_600_000_000 + at,
        chunks: (0..rng.random_range(0..3))
            .map(|i| (at as u64 * 4 + i, 10 + i))
            .collect(),
        ..What::file()
    }
}

fn op(rng: &mut StdRng) -> Op {
    match rng.random_range(0..20) {
        // Only where no parent has to be made.
        0..=4 => Op::Create(path(rng, 1), what(rng), how(rng)),
        5..=6 => Op::mkdir(&path(rng, 1)),
        7..=9 => Op::Update(path(rng, 3), what(rng), Vec::new()),
        10..=12 => {
            let kill = Kill {
                recursive: rng.random(),
                data: true,
                ..Kill::default()
            };
            Op::Delete(path(rng, 3), kill)
        }
        13..=15 => Op::Rename(path(rng, 3), path(rng, 1)),
        16 => Op::StreamRename(path(rng, 2), path(rng, 1)),
        17 => Op::Lookup(path(rng, 3)),
        18 => Op::List(
            path(rng, 2),
            Range {
                limit: rng.random_range(0..4),
                inclusive: rng.random(),
                ..Range::default()
            },
        ),
        _ => Op::Traverse(path(rng, 2), Vec::new()),
    }
}

fn how(rng: &mut StdRng) -> How {
    How {
        exclusive: rng.random_bool(0.3),
        ..How::default()
    }
}
