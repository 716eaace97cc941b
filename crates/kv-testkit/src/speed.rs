// SPDX-License-Identifier: Apache-2.0
//! Speed of an engine alone: one thread, no journal, rows as entries have them.
//!
//! Figures for decisions, not promises:
//! `cargo run --release -p dulse-engine-redb --example redb_speed`. Measured are calls of the
//! trait on a warm file; not measured are several threads, a cold cache, and a store larger
//! than memory.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use dulse_kv::{Batch, Engine, Order, ReadExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::case::Open;

/// Rows of the store.
const N_ROWS: u32 = 200_000;

/// Rows of one batch.
const BATCH_ROWS: u32 = 64;

/// Rows between two checkpoints, about what a filer writes between them.
const CHECKPOINT_ROWS: u32 = 32_768;

/// Rows of one directory, and so of one listing.
const DIRECTORY_ROWS: u32 = 1_000;

/// Random reads.
const N_GETS: u32 = 200_000;

/// Opens a store in an empty directory, measures, and prints a line for each figure.
///
/// # Panics
///
/// When the engine fails.
pub fn print(open: &Open, dir: &Path) {
    let engine = open(dir).expect("open the store");
    let engine = &*engine;
    let timed = |what: &str, n: u32, run: &dyn Fn()| {
        let start = Instant::now();
        run();
        let each = start.elapsed().as_secs_f64() / f64::from(n);
        let (name, us, rate) = (engine.name(), each * 1e6, 1.0 / each);
        println!("{name:>7}  {what:<34} {us:>9.2} us  {rate:>12.0} /s");
    };
    timed("put in order, 64 a batch", N_ROWS, &|| put(engine, |n| n));
    timed("put at random, 64 a batch", N_ROWS, &|| {
        put(engine, |n| n.wrapping_mul(7919) % N_ROWS);
    });
    timed("get at random", N_GETS, &|| get(engine, N_GETS));
    let n_listings = 2 * N_ROWS / DIRECTORY_ROWS;
    timed("scan of 1,000 rows, collected", n_listings, &|| {
        list(engine, n_listings)
    });
    timed("scan of 1,000 rows, visited", n_listings, &|| {
        visit(engine, n_listings)
    });
    timed("scan of 1 row", N_GETS, &|| first(engine, N_GETS));
    timed("checkpoint with nothing new", 20, &|| {
        (0..20).for_each(|_| engine.checkpoint().expect("checkpoint"));
    });
    timed("remove in order, 64 a batch", N_ROWS, &|| remove(engine));
    let usage = engine.usage().expect("usage");
    println!(
        "{:>7}  files: {} MiB",
        engine.name(),
        usage.disk_bytes >> 20
    );
}

fn key(n: u32) -> Vec<u8> {
    let (directory, file) = (n / DIRECTORY_ROWS, n % DIRECTORY_ROWS);
    format!("\x01/directory/of/some/depth-{directory:06}\0file-{file:09}.bin").into_bytes()
}

fn write(engine: &dyn Engine, n: u32, row: impl Fn(u32) -> (Vec<u8>, Option<Bytes>)) {
    let writes = (n..n + BATCH_ROWS).map(row).collect();
    engine.write(Batch { writes }).expect("write a batch");
    if n.is_multiple_of(CHECKPOINT_ROWS) {
        engine.checkpoint().expect("checkpoint");
    }
}

fn put(engine: &dyn Engine, place: impl Fn(u32) -> u32) {
    let value = Bytes::from(vec![7; 250]);
    for n in (0..N_ROWS).step_by(BATCH_ROWS as usize) {
        write(engine, n, |n| (key(place(n)), Some(value.clone())));
    }
}

fn remove(engine: &dyn Engine) {
    for n in (0..N_ROWS).step_by(BATCH_ROWS as usize) {
        write(engine, n, |n| (key(n), None));
    }
}

fn get(engine: &dyn Engine, n: u32) {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..n {
        let found = engine.get(&key(random.random_range(0..N_ROWS)));
        assert!(found.expect("get").is_some());
    }
}

fn first(engine: &dyn Engine, n: u32) {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..n {
        let from = key(random.random_range(0..N_ROWS));
        let rows = engine.scan(&from, &[0xff; 64], 1).expect("scan");
        assert_eq!(rows.len(), 1);
    }
}

/// A random directory: its first key and one behind all of its.
fn directory(random: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
    let at = random.random_range(0..N_ROWS / DIRECTORY_ROWS - 1);
    (key(at * DIRECTORY_ROWS), key((at + 1) * DIRECTORY_ROWS))
}

fn list(engine: &dyn Engine, n: u32) {
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..n {
        let (from, to) = directory(&mut random);
        let rows = engine.scan(&from, &to, usize::MAX).expect("scan");
        assert_eq!(rows.len(), DIRECTORY_ROWS as usize);
    }
}

fn visit(engine: &dyn Engine, n: u32) {
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..n {
        let (from, to) = directory(&mut random);
        let mut n_bytes = 0;
        let visited = engine.visit(&from[..]..&to[..], Order::Ascending, &mut |key, value| {
            n_bytes += key.len() + value.len();
            ControlFlow::Continue(())
        });
        visited.expect("visit");
        assert!(n_bytes > 0);
    }
}
