// SPDX-License-Identifier: Apache-2.0
//! Random operations, compared with a sorted map after each step.
//!
//! `DULSE_STORE_SEED` replays one seed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dulse_store::{EntryStore, ListRange, Step};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::case::{Open, suite};
use crate::make::{apply, create, delete, directory, file, front, path, refused, rename, update};
use crate::model::{Model, walk};

suite! { "random":
    Open random_operations_agree_with_a_sorted_map,
}

/// Seeds of a run.
const N_SEEDS: u64 = 3;

/// Operations of a seed.
const N_STEPS: usize = 150;

fn random_operations_agree_with_a_sorted_map(open: &Open, dir: &Path) {
    let asked = std::env::var("DULSE_STORE_SEED").ok();
    let seeds = match asked.map(|seed| seed.parse().expect("DULSE_STORE_SEED is a number")) {
        Some(seed) => seed..=seed,
        None => 1..=N_SEEDS,
    };
    for seed in seeds {
        println!("replay with DULSE_STORE_SEED={seed}");
        let dir = dir.join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        run(seed, open, &dir);
    }
}

fn run(seed: u64, open: &Open, dir: &Path) {
    let mut store = open(dir).unwrap();
    let mut model = Model::default();
    let mut random = StdRng::seed_from_u64(seed);
    for step in 0..N_STEPS {
        if random.random_ratio(1, 40) {
            drop(store);
            store = open(dir).unwrap();
        }
        let n_steps = random.random_range(1..4);
        let mut ahead = model.clone();
        let mut steps = Vec::new();
        for _ in 0..n_steps {
            let next = any(&mut random, &ahead);
            // The model goes along so that later steps meet what earlier ones left.
            let _ = ahead.apply(std::slice::from_ref(&next));
            steps.push(next);
        }
        let expected = model.apply(&steps);
        let result = apply(&store, steps.clone());
        match expected {
            Ok(()) => {
                drop(result.unwrap_or_else(|e| panic!("seed {seed}, step {step}: {e}: {steps:?}")))
            }
            Err(kind) => assert_eq!(refused(result), kind, "seed {seed}, step {step}: {steps:?}"),
        }
        assert!(
            walk(&store) == model.entries,
            "seed {seed}, step {step}: entries differ from the map after {steps:?}"
        );
        for key in [&b"k1"[..], b"k2", b"a longer key"] {
            let value = store.kv_get(key).unwrap();
            assert_eq!(value.as_deref(), model.kv.get(key).map(|v| &v[..]));
        }
        look(&mut random, &store, &model);
    }
}

/// One step, mostly one that can be done.
fn any(random: &mut StdRng, model: &Model) -> Step {
    let paths: Vec<&String> = model.entries.keys().collect();
    let there = paths.choose(random).map(|p| p.to_string());
    let key = *[&b"k1"[..], b"k2", b"a longer key"]
        .choose(random)
        .expect("three keys");
    let key = Bytes::from_static(key);
    match (random.random_range(0..100), there) {
        (0..45, _) | (_, None) => create(&place(random, model), &content(random)),
        (45..60, Some(at)) => {
            let is_dir = model.entries[&at].is_dir();
            let entry = if is_dir {
                directory()
            } else {
                file(&random.random::<u16>().to_string())
            };
            update(&at, &entry)
        }
        (60..78, Some(at)) => delete(&at),
        (78..90, Some(at)) => {
            let to = place(random, model);
            // What the contract leaves open is not asked for.
            let is_open = to.starts_with(&format!("{at}/")) || model.entries.contains_key(&to);
            if is_open || at == to {
                delete(&at)
            } else {
                rename(&at, &to)
            }
        }
        (90..96, _) => Step::KvPut {
            key,
            value: Bytes::from(random.random::<u32>().to_string()),
        },
        _ => Step::KvDelete { key },
    }
}

fn content(random: &mut StdRng) -> dulse_types::Entry {
    if random.random_ratio(1, 3) {
        directory()
    } else {
        file(&random.random::<u16>().to_string())
    }
}

/// A path in a directory that is there.
fn place(random: &mut StdRng, model: &Model) -> String {
    let dirs = model.entries.iter().filter(|(_, entry)| entry.is_dir());
    let mut dirs: Vec<String> = dirs.map(|(path, _)| path.clone()).collect();
    dirs.push(String::new());
    let names = ["a", "b", "ab", "%", "_", "é", "日本", "A", "a b", "z\\"];
    let dir = dirs.choose(random).expect("the root");
    format!("{dir}/{}", names.choose(random).expect("ten names"))
}

/// One listing of any kind.
fn look(random: &mut StdRng, store: &Arc<dyn EntryStore>, model: &Model) {
    let dirs: Vec<&String> = model.entries.keys().collect();
    let dir = dirs.choose(random).map_or("/", |dir| dir.as_str());
    let range = ListRange {
        prefix: ["", "", "a", "é", "%"]
            .choose(random)
            .expect("five")
            .to_string(),
        start: ["", "", "a", "ab", "b", "x"]
            .choose(random)
            .expect("six")
            .to_string(),
        inclusive: random.random(),
        ..front(random.random_range(1..6))
    };
    let after = |name: &String| match range.inclusive {
        true => *name >= range.start,
        false => *name > range.start,
    };
    let names = model.names(dir);
    let expected: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with(&range.prefix) && after(name))
        .take(range.limit)
        .collect();
    let rows = store.list(&path(dir), &range).expect("a listing");
    let names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    assert_eq!(names, expected, "{dir} {range:?}");
}
