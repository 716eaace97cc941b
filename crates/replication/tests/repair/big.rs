// SPDX-License-Identifier: Apache-2.0
//! Traffic is proportional to what differs, not to what there is, with every engine.
//!
//! `DULSE_REPAIR_BIG=1000000` makes trees of that many entries, a thousandth of which differ,
//! and prints what repairing them took; without it small ones are made.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dulse_engine_redb::RedbEngine;
use dulse_engine_sqlite::SqliteEngine;
use dulse_kv::{Engine, MemoryEngine};
use dulse_merge::digest::Sum;
use dulse_merge::keys::{self, Space};
use dulse_replica::{PART_ROWS, Repair};
use dulse_replication::repair::round::{Report, Target};
use dulse_store::Transaction;

use crate::world::{Filer, create, heal, is_healed, round};

/// Entries of one directory, but for the large one.
const PER_DIRECTORY: usize = 100;

/// One of so many entries lies in the large directory.
const LARGE_EVERY: usize = 10;

/// Bytes that a round may take whatever differs: the sums of all buckets.
const BYTES_FIXED: u64 = 140_000;

/// Bytes for one difference, both ways: the fine ranges of a coarse one or of its directory,
/// the hashes of one range, its row, and its share of the digest rows of its bucket.
const BYTES_EACH: u64 = 9_000;

fn fill(filer: &mut Filer, n_entries: usize, large_every: usize) {
    let path = |n: usize| match n % large_every {
        0 => format!("/large/f{n}"),
        _ => format!("/d{}/f{n}", n / PER_DIRECTORY),
    };
    let all: Vec<usize> = (0..n_entries).collect();
    for group in all.chunks(512) {
        let group: Vec<Transaction> = group.iter().map(|n| create(&path(*n), 7)).collect();
        let results = filer.replica.commit(group);
        assert!(results.iter().all(Result::is_ok));
    }
    filer.replica.checkpoint().unwrap();
}

/// The same state at a fresh filer.
fn copy(from: &Filer, to: &mut Filer) {
    let mut export = from.shared().export().unwrap();
    to.replica.begin_import(export.vector().clone()).unwrap();
    loop {
        let part = export.next_part(PART_ROWS).unwrap();
        if part.is_empty() {
            break;
        }
        to.replica.import(part).unwrap();
    }
    to.replica.finish_import().unwrap();
    to.replica.checkpoint().unwrap();
}

/// Two filers on such engines with the same entries.
fn two(engine: &str, n_entries: usize, large_every: usize) -> (tempfile::TempDir, Vec<Filer>) {
    let dir = tempfile::tempdir().unwrap();
    let filers = (1..=2).map(|n| {
        let at = dir.path().join(n.to_string());
        std::fs::create_dir(&at).unwrap();
        let engine: Arc<dyn Engine> = match engine {
            "memory" => Arc::new(MemoryEngine::new()),
            "redb" => Arc::new(RedbEngine::open(&at).unwrap()),
            _ => Arc::new(SqliteEngine::open(&at).unwrap()),
        };
        Filer::with_engine(n, engine)
    });
    let mut filers: Vec<Filer> = filers.collect();
    fill(&mut filers[0], n_entries, large_every);
    let (from, to) = filers.split_at_mut(1);
    copy(&from[0], &mut to[0]);
    (dir, filers)
}

/// So many entries of a filer, spread over all directories.
fn some(filer: &Filer, n_wanted: usize) -> Vec<(Bytes, Bytes)> {
    let rows = filer.rows(Space::Entries);
    let names: Vec<_> = rows
        .into_iter()
        .filter(|(k, _)| k.contains(&b'f'))
        .collect();
    let every = names.len() / n_wanted;
    let picked = names.into_iter().skip(every / 2).step_by(every);
    picked.take(n_wanted).collect()
}

/// Loses, empties and flips so many entries; their directories.
fn damage(filer: &Filer, n_wanted: usize) -> Vec<Bytes> {
    let picked = some(filer, n_wanted);
    let damaged = picked.iter().enumerate().map(|(n, (key, value))| {
        let row = match n % 3 {
            0 => None,
            1 => Some("no row".into()),
            _ => {
                let mut flipped = value.to_vec();
                *flipped.last_mut().unwrap() ^= 1;
                Some(flipped.into())
            }
        };
        (key.to_vec(), row)
    });
    filer.damage(damaged.collect());
    directories(&picked)
}

fn directories(rows: &[(Bytes, Bytes)]) -> Vec<Bytes> {
    let dirs = rows.iter().map(|(key, _)| {
        let path = keys::path_of(key).unwrap();
        Bytes::copy_from_slice(keys::split_path(&path).0)
    });
    let mut dirs: Vec<Bytes> = dirs.collect();
    dirs.dedup();
    dirs
}

/// Takes so many entries away as if they had never been: the digest rows of their directories
/// fit what is left, so nothing but the other filer tells.
fn part_ways(filer: &mut Filer, n_wanted: usize) {
    let picked = some(filer, n_wanted);
    filer.damage(picked.iter().map(|(k, _)| (k.to_vec(), None)).collect());
    let corrected = {
        let census = filer.shared().census().unwrap();
        let lacking = directories(&picked).into_iter().map(|dir| {
            let (stored, counted) = (census.stored(&dir).unwrap(), census.counted(&dir).unwrap());
            let sum = Sum {
                sum: counted.sum.wrapping_sub(stored.sum),
                count: counted.count - stored.count,
            };
            (dir, sum)
        });
        lacking.collect()
    };
    let repair = Repair {
        corrected,
        ..Repair::default()
    };
    filer.replica.repair(repair).unwrap();
}

/// What something took: seconds, and of these on a processor.
struct Taken {
    began: Instant,
    cpu: f64,
}

impl Taken {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    fn tell(&self) -> String {
        let (wall, cpu) = (self.began.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        format!("{wall:.2} s, {cpu:.2} s of processor")
    }
}

/// What this thread has used: both filers of a round run on it. 0 where nobody counts.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    ns.unwrap_or(0) as f64 / 1e9
}

/// Runs a round and says what it took.
fn measured(what: &str, filers: &mut [Filer], target: &Target) -> Report {
    let taken = Taken::begin();
    let report = round(filers, 1, 0, target);
    println!(
        "{what}: {}, {} differences in {} directories, {} questions, {} rows, {} bytes \
         sent, {} received",
        taken.tell(),
        report.n_items,
        report.n_directories,
        report.n_messages,
        report.n_rows,
        report.n_sent_bytes,
        report.n_bytes
    );
    report
}

fn bytes(report: &Report) -> u64 {
    report.n_sent_bytes + report.n_bytes
}

fn check(engine: &str) {
    let asked = std::env::var("DULSE_REPAIR_BIG");
    let n_entries = asked.map_or(20_000, |text| text.parse().unwrap());
    let n_differing = n_entries / 1_000;
    let n_allowed = n_differing as u64;
    let (_dir, mut filers) = two(engine, n_entries, LARGE_EVERY);

    damage(&filers[1], n_differing);
    let taken = Taken::begin();
    let found = filers[1].scrub();
    println!("{engine}, {n_entries} entries, scrubbed: {}", taken.tell());
    let target = Target::Directories(found.dirs);
    let report = measured("damage that the scrub found", &mut filers, &target);
    // A row that does not decode has no identity: it differs from the whole one by its key.
    assert!(
        (n_allowed..=2 * n_allowed).contains(&report.n_items),
        "{report:?}"
    );
    assert!(report.n_rows <= n_allowed, "{report:?}");
    assert!(bytes(&report) <= n_allowed * BYTES_EACH, "{report:?}");
    assert!(is_healed(&filers));

    // The same from the top, when digests tell: sums of buckets, then what differs.
    for dir in damage(&filers[1], n_differing) {
        filers[1].damage(vec![(keys::digest(&dir), None)]);
    }
    filers[1].replica.recount(0, u16::MAX).unwrap();
    let report = measured("damage without digest rows", &mut filers, &Target::All);
    // What replaces damage, what is merged, and what is asked for once more because a grave
    // anywhere means dead.
    assert!(report.n_rows <= 3 * n_allowed, "{report:?}");
    let bytes_allowed = BYTES_FIXED + n_allowed * BYTES_EACH;
    assert!(bytes(&report) <= bytes_allowed, "{report:?}");
    heal(&mut filers);

    part_ways(&mut filers[1], n_differing);
    assert_ne!(filers[0].shared().digest(), filers[1].shared().digest());
    let report = measured("entries that one side lacks", &mut filers, &Target::All);
    assert_eq!(report.n_items, n_allowed, "{report:?}");
    assert!(report.n_rows <= 2 * n_allowed, "{report:?}");
    assert!(bytes(&report) <= bytes_allowed, "{report:?}");
    assert!(is_healed(&filers));
}

#[test]
fn traffic_is_proportional_to_what_differs_in_memory() {
    check("memory");
}

#[test]
fn traffic_is_proportional_to_what_differs_on_redb() {
    check("redb");
}

#[test]
fn traffic_is_proportional_to_what_differs_on_sqlite() {
    check("sqlite");
}

/// One that differs in a large directory costs what it costs in a small one, but for the fine
/// ranges of one coarse range, and one range more for each 4,096 entries.
#[test]
fn traffic_does_not_grow_with_the_directory() {
    let mut taken = Vec::new();
    for n_entries in [400, 40_000] {
        let (_dir, mut filers) = two("memory", n_entries, 1);
        let rows = filers[1].rows(Space::Entries);
        let large = keys::children(Space::Entries, b"/large").0;
        let mut rows = rows.iter().filter(|(key, _)| key.starts_with(&large));
        let (key, _) = rows.nth(n_entries / 2).unwrap();
        filers[1].damage(vec![(key.to_vec(), None)]);
        let target = Target::Directories(vec!["/large".into()]);
        let report = measured("one entry", &mut filers, &target);
        assert_eq!((report.n_items, report.n_rows), (1, 1), "{report:?}");
        assert!(is_healed(&filers));
        taken.push(bytes(&report));
    }
    assert!(taken[1] <= taken[0] + 4_000, "{taken:?}");
}
