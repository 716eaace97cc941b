// SPDX-License-Identifier: Apache-2.0
//! Runs a target over mutations from a new seed, for a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use dulse_fuzz::{TARGETS, run::run, target};

/// Runs fuzz targets without libFuzzer.
#[derive(Parser)]
struct Arguments {
    /// The targets; all when none is named.
    targets: Vec<String>,
    /// How long each runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the mutations start; a new one each time unless told.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs this one input instead.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Writes the seeds of the target into this directory and ends.
    #[arg(long)]
    write_seeds: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let known = || {
        TARGETS
            .iter()
            .map(|t| t.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut chosen = Vec::new();
    for name in &arguments.targets {
        let found = target(name);
        chosen.push(*found.with_context(|| format!("no target `{name}`; expected {}", known()))?);
    }
    if chosen.is_empty() {
        chosen = TARGETS.to_vec();
    }
    for target in chosen {
        if let Some(path) = &arguments.input {
            (target.run)(&std::fs::read(path)?);
            continue;
        }
        if let Some(dir) = &arguments.write_seeds {
            std::fs::create_dir_all(dir)?;
            for (n, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(dir.join(format!("seed-{n}")), seed)?;
            }
            continue;
        }
        let seed = arguments.seed.unwrap_or_else(rand::random);
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        match run(&target, seed, |n| n % 64 != 0 || Instant::now() < end) {
            Ok(n) => println!("{}: {n} mutations from seed {seed}, no find", target.name),
            Err(find) => {
                let path = PathBuf::from(format!("find-{}", target.name));
                std::fs::write(&path, &find.input)?;
                let (name, path) = (target.name, path.display());
                bail!("{name} panics; the input is in {path}: run it with --input {path}");
            }
        }
    }
    Ok(())
}
