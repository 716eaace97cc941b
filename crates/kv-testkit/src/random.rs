// SPDX-License-Identifier: Apache-2.0
//! Random operations, compared with a sorted map after each step.
//!
//! `DULSE_KV_SEED` replays one seed.

use std::ops::ControlFlow;
use std::path::Path;

use dulse_kv::{Engine, Order, Read};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::case::{Body, Case, Open, Suite};
use crate::model::{END, Model, all, apply, random_batch, random_key};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "random",
    cases: &[Case {
        name: "random_operations_agree_with_a_sorted_map",
        body: Body::Open(random_operations_agree_with_a_sorted_map),
    }],
};

/// Seeds of a run.
const N_SEEDS: u64 = 4;

/// Operations of a seed.
const N_STEPS: usize = 250;

/// Snapshots held at once.
const SNAPSHOTS_MAX: usize = 4;

struct Run<'a> {
    open: &'a Open,
    dir: &'a Path,
    engine: Option<Box<dyn Engine>>,
    model: Model,
    snapshots: Vec<(Box<dyn Read>, Model)>,
    random: StdRng,
}

fn random_operations_agree_with_a_sorted_map(open: &Open, dir: &Path) {
    let asked = std::env::var("DULSE_KV_SEED").ok();
    let seeds = match asked.map(|seed| seed.parse().expect("DULSE_KV_SEED is a number")) {
        Some(seed) => seed..=seed,
        None => 1..=N_SEEDS,
    };
    for seed in seeds {
        println!("replay with DULSE_KV_SEED={seed}");
        let dir = dir.join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        let mut run = Run {
            open,
            dir: &dir,
            engine: Some(open(&dir).unwrap()),
            model: Model::new(),
            snapshots: Vec::new(),
            random: StdRng::seed_from_u64(seed),
        };
        for step in 0..N_STEPS {
            run.step();
            let rows = all(run.engine());
            assert!(
                rows == run.model,
                "seed {seed}, step {step}: rows differ from the map"
            );
        }
    }
}

impl Run<'_> {
    fn engine(&self) -> &dyn Engine {
        &**self.engine.as_ref().expect("open between steps")
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..45 => {
                let batch = random_batch(&mut self.random, 12);
                apply(&mut self.model, &batch);
                self.engine().write(batch).unwrap();
            }
            45..60 => self.look(),
            60..85 => self.scan(),
            85..90 => self.engine().checkpoint().unwrap(),
            90..98 => self.turn_snapshots(),
            _ => self.reopen(),
        }
    }

    fn look(&mut self) {
        let key = random_key(&mut self.random);
        assert_eq!(
            self.engine().get(&key).unwrap().as_ref(),
            self.model.get(&key)
        );
        if let Some((snapshot, model)) = self.snapshots.first() {
            assert_eq!(snapshot.get(&key).unwrap().as_ref(), model.get(&key));
        }
    }

    fn scan(&mut self) {
        let (from, to) = (random_key(&mut self.random), random_key(&mut self.random));
        let limit = self.random.random_range(1..20);
        let order = if self.random.random() {
            Order::Ascending
        } else {
            Order::Descending
        };
        let inside = |(key, _): &(&Vec<u8>, &bytes::Bytes)| **key >= from && **key < to;
        let mut expect: Vec<_> = self.model.iter().filter(inside).collect();
        if order == Order::Descending {
            expect.reverse();
        }
        expect.truncate(limit);
        let mut shown = Vec::new();
        let mut visitor = |key: &[u8], value: &[u8]| {
            shown.push((key.to_vec(), value.to_vec()));
            if shown.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        self.engine()
            .visit(&from[..]..&to[..], order, &mut visitor)
            .unwrap();
        let is_equal = shown.iter().map(|(k, v)| (&k[..], &v[..]));
        assert!(
            is_equal.eq(expect.iter().map(|(k, v)| (&k[..], &v[..]))),
            "{from:?}..{to:?}"
        );
    }

    fn turn_snapshots(&mut self) {
        for (snapshot, model) in &self.snapshots {
            assert!(all(&**snapshot) == *model, "a snapshot changed");
        }
        if self.snapshots.len() == SNAPSHOTS_MAX {
            let at = self.random.random_range(0..SNAPSHOTS_MAX);
            drop(self.snapshots.swap_remove(at));
        }
        let snapshot = self.engine().snapshot().unwrap();
        self.snapshots.push((snapshot, self.model.clone()));
    }

    fn reopen(&mut self) {
        self.engine().checkpoint().unwrap();
        self.snapshots.clear();
        self.engine = None;
        self.engine = Some((self.open)(self.dir).unwrap());
        assert!(all(self.engine()).keys().all(|key| key.as_slice() < END));
    }
}
