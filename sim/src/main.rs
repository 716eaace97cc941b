// SPDX-License-Identifier: Apache-2.0
//! Runs seeds of the simulation, see the library.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use dulse_sim::{Counts, Operators, Options};

/// Runs seeds; each ends with healed links and demands equal filers.
#[derive(Parser)]
struct Arguments {
    /// How many seeds, from `--first` on
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Start at a seed that depends on the minute, so that each run tries others
    #[arg(long)]
    new: bool,
    /// Run only this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happens
    #[arg(long)]
    trace: bool,
    /// Check at every turn what else is checked at rest: slow, and finds the moment
    #[arg(long)]
    careful: bool,
    /// Operators put back and copy disks, take members away and have them leave: not at all,
    /// one thing after the other, or whenever they like
    #[arg(long, value_enum, default_value_t = When::InTurn)]
    operators: When,
    /// Go on behind a seed that fails
    #[arg(long)]
    keep_going: bool,
}

/// When operators act.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    None,
    InTurn,
    AtWill,
}

impl Arguments {
    fn range(&self) -> (u64, u64) {
        if let Some(seed) = self.seed {
            return (seed, seed + 1);
        }
        let first = if self.new { new_seed() } else { self.first };
        (first, first + self.seeds)
    }
}

/// Seeds between two lines that say how far it is.
const PROGRESS_EVERY: u64 = 1_000;

/// Minutes since 1970, a million seeds for each.
fn new_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 60 * 1_000_000)
}

/// What this process used of CPUs, where the system says so: others may use the machine too.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, behind) = arguments.range();
    println!("seeds {first}..{behind}");
    let began = Instant::now();
    let options = Options {
        is_traced: arguments.trace,
        is_careful: arguments.careful,
        operators: match arguments.operators {
            When::None => Operators::None,
            When::InTurn => Operators::InTurn,
            When::AtWill => Operators::AtWill,
        },
    };
    let mut totals = Counts::default();
    let (mut hash, mut n_failed, mut slowest) = (0_u64, 0, (0.0, first));
    for seed in first..behind {
        let at = Instant::now();
        match dulse_sim::run(seed, options) {
            Ok(report) => {
                totals.add(report.counts);
                hash = hash.rotate_left(1) ^ report.hash;
            }
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                let operators = match arguments.operators {
                    When::None => " --operators none",
                    When::InTurn => "",
                    When::AtWill => " --operators at-will",
                };
                eprintln!("replay it with: cargo xtask sim --seed {seed}{operators}");
                n_failed += 1;
                if !arguments.keep_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        if (seed + 1 - first).is_multiple_of(PROGRESS_EVERY) {
            println!("{} seeds, {n_failed} violations", seed + 1 - first);
        }
        let took = at.elapsed().as_secs_f64() * 1e3;
        if took > slowest.0 {
            slowest = (took, seed);
        }
    }
    let n_seeds = behind - first;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds().map_or(String::new(), |cpu| {
        format!(
            ", {:.1} ms of CPU a seed",
            cpu * 1e3 / n_seeds.max(1) as f64
        )
    });
    println!("{n_seeds} seeds: {totals}, {n_failed} violations");
    println!(
        "{seconds:.1} s, {:.1} ms a seed{cpu}, the slowest {} with {:.0} ms, trace hash {hash:016x}",
        seconds * 1e3 / n_seeds.max(1) as f64,
        slowest.1,
        slowest.0,
    );
    if n_failed > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
