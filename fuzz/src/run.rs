// SPDX-License-Identifier: Apache-2.0
//! Running a target without libFuzzer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::Target;
use crate::mutate::mutate;

/// An input that made a target panic.
#[derive(Debug)]
pub struct Find {
    /// The input, made as short as could be.
    pub input: Vec<u8>,
}

/// Runs the target's seeds and then mutations of them while `goes_on` says so of their number.
///
/// # Errors
///
/// The first input that makes it panic.
pub fn run(target: &Target, seed: u64, mut goes_on: impl FnMut(u32) -> bool) -> Result<u32, Find> {
    let inputs = (target.seeds)();
    for input in &inputs {
        check(target, input)?;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut n = 0;
    while goes_on(n) {
        check(target, &mutate(&inputs, &mut random))?;
        n += 1;
    }
    Ok(n)
}

fn check(target: &Target, input: &[u8]) -> Result<(), Find> {
    if !panics(target, input) {
        return Ok(());
    }
    let input = shorten(target, input.to_vec());
    Err(Find { input })
}

fn panics(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err()
}

/// Takes pieces out for as long as the target still panics.
fn shorten(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut piece = input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + piece).min(input.len()));
            if panics(target, &shorter) {
                input = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    input
}
