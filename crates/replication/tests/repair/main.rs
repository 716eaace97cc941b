// SPDX-License-Identifier: Apache-2.0
//! I1 restored: whatever is flipped, lost or doubled in one replica, the others heal it.

mod big;
mod damage;
mod guards;
mod world;

use dulse_merge::keys::{self, Space};
use dulse_replication::repair::round::Target;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use world::{cluster, create, exchange, heal, is_healed, random_step, round};

/// Three filers with a few entries, all the same.
fn three() -> Vec<world::Filer> {
    let mut filers = cluster(3);
    for n in 0..20 {
        let at = n as usize % 3;
        assert!(filers[at].commit(create(&format!("/d{}/f{n}", n % 4), n)));
    }
    exchange(&mut filers);
    assert!(is_healed(&filers));
    filers
}

fn heals(filers: &mut [world::Filer], wanted: &world::Filer) {
    assert!(!is_healed(filers), "the damage was not noticed");
    heal(filers);
    for filer in filers.iter() {
        assert_eq!(filer.dump(), wanted.dump());
    }
}

#[test]
fn a_flipped_entry_is_found_by_the_scrub_and_taken_from_a_peer() {
    let (mut filers, wanted) = (three(), three());
    let (key, value) = filers[0].rows(Space::Entries)[6].clone();
    let mut flipped = value.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    filers[0].damage(vec![(key.to_vec(), Some(flipped.into()))]);
    let vectors = filers[0].shared().digest();
    assert_eq!(vectors, filers[1].shared().digest(), "no digest tells it");
    heals(&mut filers, &wanted[0]);
}

#[test]
fn an_entry_that_does_not_decode_is_taken_from_a_peer() {
    let (mut filers, wanted) = (three(), three());
    let (key, _) = filers[1].rows(Space::Entries)[6].clone();
    filers[1].damage(vec![(key.to_vec(), Some("no row".into()))]);
    heals(&mut filers, &wanted[0]);
}

#[test]
fn a_lost_entry_is_taken_from_a_peer() {
    let (mut filers, wanted) = (three(), three());
    let (key, _) = filers[2].rows(Space::Entries)[9].clone();
    filers[2].damage(vec![(key.to_vec(), None)]);
    heals(&mut filers, &wanted[0]);
}

#[test]
fn a_doubled_entry_is_removed() {
    let (mut filers, wanted) = (three(), three());
    let (_, value) = filers[2].rows(Space::Entries)[9].clone();
    filers[2].damage(vec![
        (keys::entry(b"/d1/doubled"), Some(value.clone())),
        (keys::entry(b"/nowhere/doubled"), Some(value)),
    ]);
    heals(&mut filers, &wanted[0]);
}

#[test]
fn a_lost_digest_row_is_counted_anew() {
    for has_restarted in [false, true] {
        let (mut filers, wanted) = (three(), three());
        filers[1].damage(vec![(keys::digest(b"/d2"), None)]);
        if has_restarted {
            filers[1].crash(usize::MAX);
            assert_ne!(filers[0].shared().digest(), filers[1].shared().digest());
        }
        heals(&mut filers, &wanted[0]);
    }
}

#[test]
fn a_digest_row_that_is_wrong_or_does_not_decode_is_counted_anew() {
    for row in [&[7; 24][..], b"bad"] {
        let (mut filers, wanted) = (three(), three());
        let row = bytes::Bytes::copy_from_slice(row);
        filers[1].damage(vec![(keys::digest(b"/d2"), Some(row))]);
        heals(&mut filers, &wanted[0]);
    }
}

#[test]
fn what_was_written_over_damage_is_repaired_too() {
    let mut filers = three();
    let (key, _) = filers[0].rows(Space::Entries)[6].clone();
    let name = String::from_utf8(keys::path_of(&key).unwrap()).unwrap();
    filers[0].damage(vec![(key.to_vec(), None)]);
    // The lost name is born anew; everywhere else it shadows the one that was lost here.
    assert!(filers[0].commit(create(&name, 99)));
    exchange(&mut filers);
    heal(&mut filers);
    assert_eq!(filers[0].dump(), filers[1].dump());
    assert_eq!(filers[0].dump(), filers[2].dump());
}

#[test]
fn a_crash_that_loses_a_repair_leaves_it_to_be_made_again() {
    let (mut filers, wanted) = (three(), three());
    filers[0].replica.checkpoint().unwrap();
    let (key, _) = filers[0].rows(Space::Entries)[6].clone();
    filers[0].damage(vec![(key.to_vec(), None)]);
    let dirs = filers[0].scrub().dirs;
    let report = round(&mut filers, 0, 1, &Target::Directories(dirs));
    assert!(report.repaired.n_changed > 0, "{report:?}");
    assert!(is_healed(&filers));
    // Of the batches behind the checkpoint only the damage was on disk.
    filers[0].crash(1);
    heals(&mut filers, &wanted[0]);
}

/// A few, or as many as asked for.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("DULSE_REPAIR_SEEDS");
    0..asked.map_or(300, |text| text.parse().unwrap())
}

#[test]
fn any_damage_of_any_state_heals() {
    let mut n_exact = 0;
    for seed in seeds() {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut filers = cluster(if rng.random_bool(0.5) { 2 } else { 3 });
        for _ in 0..rng.random_range(5..60) {
            let at = rng.random_range(0..filers.len());
            filers[at].commit(random_step(&mut rng));
            if rng.random_bool(0.2) {
                exchange(&mut filers);
            }
        }
        exchange(&mut filers);
        assert!(is_healed(&filers), "seed {seed}: unequal before any damage");
        let wanted = filers[0].dump();
        let victim = rng.random_range(0..filers.len());
        let what = damage::some(&filers[victim], &mut rng);
        if rng.random_bool(0.3) {
            filers[victim].crash(usize::MAX);
        }
        world::heal_or(&mut filers, &(seed, &what));
        // Where a row and the witness of what was there are damaged at once, nobody can tell
        // a name that never was from one that only this filer had: it is kept, everywhere.
        let has_witness = !what.iter().any(|damage| damage.starts_with("Digest"));
        let healed = filers[0].dump();
        for (n, filer) in filers.iter().enumerate() {
            assert_eq!(filer.dump(), healed, "seed {seed}, filer {n}, {what:?}");
            world::vector_of(filer);
        }
        if has_witness || what.len() == 1 {
            n_exact += 1;
            assert_eq!(healed, wanted, "seed {seed}, {what:?}");
        } else {
            let mut paths = wanted.keys().filter(|key| key[0] == Space::Entries as u8);
            let lost = paths.find(|key| !healed.contains_key(*key));
            assert_eq!(lost, None, "seed {seed}, {what:?}");
        }
    }
    assert!(n_exact > 0, "no damage that must heal exactly");
}
