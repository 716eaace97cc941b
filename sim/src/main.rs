// SPDX-License-Identifier: Apache-2.0
//! Three filers in virtual time: partitions, crashes, freezes, moves, wiped machines.
//!
//! The real `merge`, `journal`, `replica` and the core of `replication` run on one thread
//! with virtual clocks, memory disks, the memory engine and a simulated network. All
//! follows from the seed; a failing one prints the command that replays it. `FAULTS.md`
//! says what is simulated and what is not.

mod check;
mod filer;
mod net;
mod workload;
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
    /// Print what happens
    #[arg(long)]
    trace: bool,
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
        match world::run(seed, arguments.trace) {
            Ok(counts) => totals.add(counts),
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                eprintln!("replay it with: cargo xtask sim --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} seeds: {} writes acknowledged, {} changes delivered, {} crashes, {} log cuts, \
         {} links cut, {} joins, {} of them resumed, {} relays, no violation, {:.1} s",
        behind - first,
        totals.writes,
        totals.applied,
        totals.crashes,
        totals.log_cuts,
        totals.cuts,
        totals.joins,
        totals.resumes,
        totals.relays,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
