// SPDX-License-Identifier: Apache-2.0
//! Three filers in virtual time: partitions, crashes, lost syncs.
//!
//! The real `merge`, `journal` and `replica` run on one thread with a virtual clock,
//! memory disks and the memory engine. Everything follows from the seed; a failing one
//! prints the command that replays it. Not simulated yet: the network code of
//! `replication`; changes are handed over as its streams would.

mod world;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Runs seeds; each ends with healed links and demands equal filers.
#[derive(Parser)]
struct Arguments {
    /// How many seeds, from `--first` on
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run only this seed
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, behind) = match arguments.seed {
        Some(seed) => (seed, seed + 1),
        None => (arguments.first, arguments.first + arguments.seeds),
    };
    let began = Instant::now();
    let mut totals = world::Counts::default();
    for seed in first..behind {
        match world::run(seed) {
            Ok(counts) => totals.add(counts),
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                eprintln!("replay it with: cargo xtask sim --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} seeds: {} writes acknowledged, {} changes delivered, {} crashes, {} partitions, \
         no violation, {:.1} s",
        behind - first,
        totals.writes,
        totals.delivered,
        totals.crashes,
        totals.partitions,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
