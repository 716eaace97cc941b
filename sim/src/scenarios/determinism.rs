// SPDX-License-Identifier: Apache-2.0
//! A seed replays bit for bit.

/// A hash map's order, a wall clock or a thread would make a failing seed worthless.
#[test]
fn a_seed_replays_to_the_same_trace_hash() {
    for seed in [3, 4, 5, 6] {
        let first = crate::run(seed, crate::Options::default()).unwrap();
        let again = crate::run(seed, crate::Options::default()).unwrap();
        assert_eq!(first.hash, again.hash, "seed {seed}");
    }
    let other = crate::run(7, crate::Options::default()).unwrap();
    assert_ne!(
        other.hash,
        crate::run(3, crate::Options::default()).unwrap().hash
    );
}
