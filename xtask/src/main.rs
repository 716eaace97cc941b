// SPDX-License-Identifier: Apache-2.0
//! The commands of this repository: `cargo xtask COMMAND`.
//!
//! CI runs exactly these. Nothing else needs to be installed; what tests need
//! is fetched into the cache and said so.

mod bench;
mod cache;
mod cassandra;
mod chaos;
mod check;
mod compare;
mod crates;
mod debian;
mod dist;
mod etcd;
mod fetch;
mod hbase;
mod maven;
mod mutate;
mod mysql;
mod plan;
mod postgres;
mod power;
mod redis;
mod rocksdb;
mod run;
mod scenarios;
mod supply;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Commands to check, test and measure this repository.
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, layering, docs and dependencies; writes nothing.
    Check,
    /// Mends formatting and what clippy can mend by itself.
    Fix,
    /// Runs the tests: all rings, or the one named.
    Test {
        /// `quick` (no filers), `servers` (our own processes), `upstream` (beside the real weed),
        /// `rocksdb` (all that is built with that engine).
        ring: Option<plan::Ring>,
    },
    /// Runs the conformance suite of one engine or store: `redb`, `leveldb`, `sqlite`, `rocksdb`,
    /// `memory`, `replica`, `cassandra`, `etcd`, `hbase`, `mysql`, `postgres` or `redis`.
    Conformance {
        /// The engine.
        store: String,
    },
    /// Runs the deterministic simulation.
    Sim {
        /// What the simulation itself understands: `--seeds N`, `--seed S`, `--new`, `--trace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Removes each guard in turn and demands that a test fails; a nightly ring.
    Mutate {
        /// Only mutants whose names contain this; may be given more than once.
        #[arg(long)]
        only: Vec<String>,
        /// Only shows them.
        #[arg(long)]
        list: bool,
        /// How many tests run at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Fuzzes one decoder, or all: under libFuzzer with `cargo fuzz`, else with mutations.
    Fuzz {
        /// The target; all when none is named.
        target: Option<String>,
        /// How long each runs, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Measures against upstream's program in the same run and prints ratios; `bench load …`
    /// puts load on a filer that is running; `bench engines` compares the engines and writes
    /// docs/engines.md; `bench stores` measures filers on each shared store and writes
    /// docs/stores.md; `bench -- --help` tells all.
    Bench {
        /// Passed on to the benchmark: `--quick`, `--only create,http`, `--json FILE`, `load …`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Cuts the power of filers' disks at random writes, and looks for what was acknowledged.
    Power {
        /// Cuts in each test.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Repeats a run, as far as real processes permit.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Real filers under random faults for some minutes, judged by what was acknowledged.
    Chaos {
        /// How long faults are inflicted.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// What faults and requests follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Runs the same scenarios at Dulse and at upstream's program; writes docs/comparison.md.
    Compare {
        /// What random choices follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only these, a comma list such as `S23,S24`; then the table is printed, not written.
        #[arg(long)]
        only: Option<String>,
    },
    /// Fetches what the tests need and says what it does.
    Setup,
    /// Builds the release archive.
    Dist,
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(cache::root())?;
    match Cli::parse().command {
        Command::Check => check::check(),
        Command::Fix => check::fix(),
        Command::Test { ring } => test::test(ring),
        Command::Conformance { store } => test::conformance(&store),
        Command::Sim { arguments } => test::sim(&arguments),
        Command::Mutate { only, list, jobs } => mutate::mutate(&mutate::Options {
            only,
            is_list: list,
            n_jobs: jobs,
        }),
        Command::Fuzz { target, seconds } => test::fuzz(target.as_deref(), seconds),
        Command::Bench { arguments } => bench::bench(&arguments),
        Command::Chaos { minutes, seed } => chaos::chaos(minutes, seed),
        Command::Power { rounds, seed } => power::power(rounds, seed),
        Command::Compare { seed, only } => compare::compare(seed, only.as_deref()),
        Command::Setup => fetch::setup(),
        Command::Dist => dist::dist(),
    }
}
