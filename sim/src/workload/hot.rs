// SPDX-License-Identifier: Apache-2.0
//! Few paths, so that everything collides.

use bytes::Bytes;
use dulse_store::{Step, Transaction};
use dulse_types::Entry;
use rand::Rng;
use rand::rngs::StdRng;

use super::Workload;
use super::make::{any_path, directory, file, one};
use crate::world::World;

const PATHS: [&str; 7] = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/hot"];

pub(crate) struct Hot;

impl Workload for Hot {
    fn weight(&self) -> u32 {
        10
    }

    fn group(&self, world: &mut World, _filer: usize) -> Vec<Transaction> {
        let rng = &mut world.rng;
        (0..rng.random_range(1..4))
            .map(|_| one(step(rng)))
            .collect()
    }
}

fn step(rng: &mut StdRng) -> Step {
    let path = any_path(&PATHS, rng);
    match rng.random_range(0..12) {
        0..=4 => Step::Create {
            path,
            entry: entry(rng),
        },
        5 => Step::Update {
            path,
            entry: entry(rng),
            delete_chunks: true,
        },
        6..=7 => Step::Delete {
            path,
            delete_chunks: true,
        },
        8..=9 => Step::Rename {
            from: path,
            to: any_path(&PATHS, rng),
        },
        10 => Step::Link {
            from: path,
            to: any_path(&PATHS, rng),
        },
        _ => Step::KvPut {
            key: Bytes::from_static(b"k"),
            value: vec![rng.random()].into(),
        },
    }
}

fn entry(rng: &mut StdRng) -> Entry {
    if rng.random_bool(0.4) {
        directory(rng)
    } else {
        file(rng)
    }
}
