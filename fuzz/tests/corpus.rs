// SPDX-License-Identifier: Apache-2.0
//! Every target over its seeds and a bounded number of mutations from a fixed seed.
//!
//! `DULSE_FUZZ_MUTATIONS` multiplies their number.

use std::process::ExitCode;

use dulse_fuzz::{TARGETS, Target, run::run};
use libtest_mimic::{Arguments, Failed, Trial};

/// Where the mutations start.
const SEED: u64 = 4;

fn main() -> ExitCode {
    let trial = |target: &'static Target| {
        let name = format!("fuzz::{}_takes_any_bytes", target.name);
        Trial::test(name, move || check(target))
    };
    let trials = TARGETS.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn check(target: &Target) -> Result<(), Failed> {
    let factor = std::env::var("DULSE_FUZZ_MUTATIONS").ok();
    let factor: u32 = factor.map_or(Ok(1), |text| text.parse())?;
    let n_max = target.n_quick.saturating_mul(factor);
    match run(target, SEED, |n| n < n_max) {
        Ok(_) => Ok(()),
        Err(find) => Err(format!("{} panics on {:02x?}", target.name, find.input).into()),
    }
}
