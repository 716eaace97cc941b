// SPDX-License-Identifier: Apache-2.0
//! Traffic is proportional to what differs, not to what there is.
//!
//! `DULSE_REPAIR_BIG=1000000` makes a tree of that many entries, with a thousandth of them
//! damaged, and prints what repairing them took; without it a small one is made.

use std::time::Instant;

use dulse_merge::keys::{self, Space};
use dulse_replica::PART_ROWS;
use dulse_replication::repair::round::Target;
use dulse_store::Transaction;

use crate::world::{Filer, create, heal, is_healed, round};

/// Entries of one directory, but for the one that has a tenth of all.
const PER_DIRECTORY: usize = 100;

/// Bytes that a round may take whatever differs: the sums of all buckets.
const BYTES_FIXED: u64 = 120_000;

/// Bytes for one difference: the ranges of its directory that are compared, the hashes of one
/// range, its row, and its share of the digest rows of its bucket.
const BYTES_EACH: u64 = 16_000;

fn fill(filer: &mut Filer, n_entries: usize) {
    let path = |n: usize| match n % 10 {
        0 => format!("/large/f{n}"),
        _ => format!("/d{}/f{n}", n / PER_DIRECTORY),
    };
    let all: Vec<usize> = (0..n_entries).collect();
    for group in all.chunks(512) {
        let group: Vec<Transaction> = group.iter().map(|n| create(&path(*n), 7)).collect();
        let results = filer.replica.commit(group);
        assert!(results.iter().all(Result::is_ok));
    }
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
}

/// Loses, flips and empties every so many entries.
fn damage(filer: &Filer, every: usize) -> u64 {
    let mut n_damaged = 0;
    let rows = filer.rows(Space::Entries);
    let names = rows.iter().filter(|(key, _)| key.contains(&b'f'));
    for (n, (key, value)) in names.enumerate() {
        if n % every != every / 2 {
            continue;
        }
        let row = match n_damaged % 3 {
            0 => None,
            1 => Some("no row".into()),
            _ => {
                let mut flipped = value.to_vec();
                *flipped.last_mut().unwrap() ^= 1;
                Some(flipped.into())
            }
        };
        filer.damage(vec![(key.to_vec(), row)]);
        n_damaged += 1;
    }
    n_damaged
}

#[test]
fn traffic_is_proportional_to_what_differs() {
    let asked = std::env::var("DULSE_REPAIR_BIG");
    let n_entries = asked.map_or(20_000, |text| text.parse().unwrap());
    let mut filers = vec![Filer::new(1), Filer::new(2)];
    fill(&mut filers[0], n_entries);
    let (from, to) = filers.split_at_mut(1);
    copy(&from[0], &mut to[0]);
    let n_damaged = damage(&filers[1], 1_000);
    assert_eq!(n_damaged, n_entries as u64 / 1_000);

    let began = Instant::now();
    let found = filers[1].scrub();
    let scrubbed = began.elapsed();
    let report = round(&mut filers, 1, 0, &Target::Directories(found.dirs));
    let repaired = began.elapsed() - scrubbed;
    println!(
        "{n_entries} entries, {n_damaged} damaged: found in {scrubbed:?}, repaired in \
         {repaired:?}, {} rows and {} bytes fetched, {:?}",
        report.n_rows, report.n_bytes, report.repaired
    );
    // A row that does not decode has no identity: it differs from the whole one by its key.
    assert!(
        (n_damaged..=2 * n_damaged).contains(&report.n_items),
        "{report:?}"
    );
    assert!(report.n_rows <= n_damaged, "{report:?}");
    assert!(
        report.n_bytes <= BYTES_FIXED + n_damaged * BYTES_EACH,
        "{report:?}"
    );
    assert!(is_healed(&filers));

    // The same from the top, when digests tell: sums of buckets, then what differs.
    let n_damaged = damage(&filers[1], 2_000);
    let dirs = filers[1].scrub().dirs;
    for dir in &dirs {
        filers[1].damage(vec![(keys::digest(dir), None)]);
    }
    filers[1].replica.recount(0, u16::MAX).unwrap();
    let began = Instant::now();
    let report = round(&mut filers, 1, 0, &Target::All);
    println!(
        "from the buckets down: {n_damaged} damaged, {:?}, {} rows and {} bytes fetched",
        began.elapsed(),
        report.n_rows,
        report.n_bytes
    );
    // What replaces damage, what is merged, and what is asked for once more because a grave
    // anywhere means dead.
    assert!(report.n_rows <= 3 * n_damaged, "{report:?}");
    assert!(
        report.n_bytes <= BYTES_FIXED + n_damaged * BYTES_EACH,
        "{report:?}"
    );
    heal(&mut filers);
}
