// SPDX-License-Identifier: Apache-2.0
//! Power loss at every point: what the disk may hold then, and what the engine makes of it.
//!
//! An engine's [`Rig`] runs some work and hands back everything that was done to its files, in
//! order: writes, changes of length, syncs. From that, the disk's contents after a power loss
//! at any step are built: what was synced is there; of what was not, any sectors of 512 bytes,
//! in any order, one of them torn. The engine opens the files, and its rows must be those after
//! some number of whole batches, no fewer than the last checkpoint covered and no more than had
//! begun.
//!
//! What the model leaves out: sectors that were synced and rot; names of files that vanish.
//!
//! `DULSE_CRASH_SEED` replays one seed.

mod disk;
mod work;

use std::path::Path;
use std::sync::Arc;

use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::case::{Open, scratch};
use crate::model::{Model, all, put};

pub use disk::{Image, Recording, SECTOR_BYTES, Step, Survival};
pub use work::{Event, Work};

/// Runs work on an engine and records what is done to its files.
pub trait Rig: Send + Sync {
    /// Opens a store over the files of `image`, does the work, closes the store.
    ///
    /// Every [`Event`] the work passes on is a step of the recording, at its place.
    fn record(&self, image: &Image, work: &mut Work<'_>) -> Recording;
}

/// Seeds of a run.
const N_SEEDS: u64 = 3;

/// Points of each recording at which the power is lost.
const N_CRASHES: usize = 60;

/// The tests.
pub fn trials(open: &Arc<Open>, rig: impl Rig + 'static) -> Vec<Trial> {
    let rig = Arc::new(rig);
    let trial = |name: &str, test: fn(&Open, &dyn Rig, u64)| {
        let (open, rig) = (Arc::clone(open), Arc::clone(&rig));
        Trial::test(format!("crash::{name}"), move || {
            for seed in seeds() {
                println!("replay with DULSE_CRASH_SEED={seed}");
                test(&*open, &*rig, seed);
            }
            Ok(())
        })
    };
    vec![
        trial("power_loss_keeps_checkpoints_and_a_prefix", once),
        trial("a_second_power_loss_keeps_as_much", twice),
    ]
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("DULSE_CRASH_SEED").ok();
    match asked.map(|seed| seed.parse().expect("DULSE_CRASH_SEED is a number")) {
        Some(seed) => seed..=seed,
        None => 1..=N_SEEDS,
    }
}

/// A store as a crash left it: its files, and the rows they must show.
struct Crashed {
    image: Image,
    rows: Model,
}

fn once(open: &Open, rig: &dyn Rig, seed: u64) {
    let start = Crashed {
        image: Image::new(),
        rows: Model::new(),
    };
    let mut random = StdRng::seed_from_u64(seed);
    crashes(open, rig, &start, &mut random, N_CRASHES);
}

/// What a crash left goes through other work and a second crash.
fn twice(open: &Open, rig: &dyn Rig, seed: u64) {
    let start = Crashed {
        image: Image::new(),
        rows: Model::new(),
    };
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
    let firsts = crashes(open, rig, &start, &mut random, 6);
    for first in &firsts {
        crashes(open, rig, first, &mut random, 10);
    }
}

/// Does random work and loses the power at `n` random points of it, in several ways each.
fn crashes(
    open: &Open,
    rig: &dyn Rig,
    start: &Crashed,
    random: &mut StdRng,
    n: usize,
) -> Vec<Crashed> {
    let plan = work::Plan::random(random, &start.rows);
    let recording = rig.record(&start.image, &mut |engine, mark| plan.run(engine, mark));
    let n_syncs = recording.count(|step| matches!(step, Step::Sync { .. }));
    assert!(n_syncs > 0, "the recording holds no sync");
    let mut left = Vec::new();
    for _ in 0..n {
        let at = random.random_range(recording.n_opening..=recording.steps.len());
        for survival in Survival::all(random) {
            let image = recording.lose_power(&start.image, at, &survival, random);
            let promised = recording.promised(at);
            let rows = check(open, &image, &plan.states[promised.clone()], &|| {
                let file = recording.steps.get(at.saturating_sub(1));
                format!(
                    "power lost after step {at} of {} ({}), {survival:?}: expected the rows \
                     after {promised:?} batches",
                    recording.steps.len(),
                    file.map_or_else(String::new, ToString::to_string),
                )
            });
            left.push(Crashed { image, rows });
        }
    }
    left.truncate(n);
    left
}

/// Opens what a crash left; its rows must be one of these states. Then the store must work.
fn check(open: &Open, image: &Image, states: &[Model], context: &dyn Fn() -> String) -> Model {
    let dir = scratch().unwrap();
    image.write_to(dir.path());
    let opened = open(dir.path());
    let engine = opened.unwrap_or_else(|e| panic!("{}: opening failed: {e:?}", context()));
    let rows = all(&*engine);
    if !states.contains(&rows) {
        let nearest = states.iter().map(|state| differing(state, &rows)).min();
        panic!(
            "{}; {} rows, {nearest:?} differ from the nearest",
            context(),
            rows.len()
        );
    }
    works(open, &*engine, &rows, context);
    drop(engine);
    reopens(open, dir.path(), &rows, context);
    rows
}

fn works(_: &Open, engine: &dyn dulse_kv::Engine, rows: &Model, context: &dyn Fn() -> String) {
    let written = engine
        .write(put(b"after", b"1"))
        .and_then(|()| engine.checkpoint());
    written.unwrap_or_else(|e| panic!("{}: writing after it failed: {e:?}", context()));
    assert_eq!(all(engine).len(), rows.len() + 1, "{}", context());
}

fn reopens(open: &Open, dir: &Path, rows: &Model, context: &dyn Fn() -> String) {
    let opened = open(dir);
    let engine = opened.unwrap_or_else(|e| panic!("{}: a second open failed: {e:?}", context()));
    let mut again = all(&*engine);
    assert!(again.remove(&b"after"[..]).is_some(), "{}", context());
    assert!(again == *rows, "{}: rows changed after it", context());
}

fn differing(a: &Model, b: &Model) -> usize {
    let missing = a
        .iter()
        .filter(|(key, value)| b.get(*key) != Some(value))
        .count();
    missing + b.keys().filter(|key| !a.contains_key(*key)).count()
}
