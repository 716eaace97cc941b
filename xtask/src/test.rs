// SPDX-License-Identifier: Apache-2.0
//! Test runs: a plan first, a table of times at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cache;
use crate::plan::{Ring, Step, steps_of};
use crate::run::{cargo, output, run};

/// A run that takes longer fails, so that CI's own limit is never met.
const RUN_TIME_MAX: Duration = Duration::from_secs(88 * 60);

/// Runs all rings or one.
///
/// # Errors
///
/// The first step that fails, or a run above [`RUN_TIME_MAX`].
pub(crate) fn test(ring: Option<Ring>) -> Result<()> {
    let steps = steps_of(ring)?;
    println!("plan, with estimates for two cores and a warm cache:");
    for step in &steps {
        println!("  {:>5} s  {:?}: {}", step.estimate_s, step.ring, step.name);
    }
    let total: u64 = steps.iter().map(|s| s.estimate_s).sum();
    println!("  {total:>5} s  in all; a cold cache adds about 12 minutes of building");
    println!(
        "builds and fetched programs are kept in {}",
        cache::cache().display()
    );

    let start = Instant::now();
    let mut table = Vec::new();
    let result = steps.iter().try_for_each(|step| {
        println!("\n=== {}", step.name);
        let began = Instant::now();
        let done = perform(step);
        table.push(Line {
            name: step.name.clone(),
            time: began.elapsed(),
            verdict: done.as_ref().map_or("FAILED", |verdict| verdict),
        });
        done?;
        if start.elapsed() > RUN_TIME_MAX {
            bail!("the run took over {} minutes", RUN_TIME_MAX.as_secs() / 60);
        }
        Ok(())
    });
    print_table(&table, start.elapsed());
    result
}

/// Performs a step, or says why it is ignored; CI ignores nothing that set-up could bring.
fn perform(step: &Step) -> Result<&'static str> {
    if let Some(why) = step.cannot.and_then(|cannot| cannot()) {
        println!("NOT RUN on this machine: {why}");
        return Ok("NOT RUN");
    }
    match step.lacks.and_then(|lacks| lacks()) {
        None => (step.action)().map(|()| "ok"),
        Some(why) if std::env::var_os("CI").is_some() => bail!("{}: {why}", step.name),
        Some(why) => {
            println!("ignored: {why}");
            Ok("ignored")
        }
    }
}

/// One line of the table of times.
struct Line {
    name: String,
    time: Duration,
    verdict: &'static str,
}

fn print_table(table: &[Line], total: Duration) {
    println!("\ntimes:");
    for line in table {
        let seconds = line.time.as_secs_f64();
        println!("  {seconds:>7.1} s  {:<7}  {}", line.verdict, line.name);
    }
    println!("  {:>7.1} s  in all", total.as_secs_f64());
}

/// Engines and stores with a conformance suite, and the packages that run it.
const ENGINES: &[(&str, &str)] = &[
    ("redb", "dulse-engine-redb"),
    ("leveldb", "dulse-engine-leveldb"),
    ("sqlite", "dulse-engine-sqlite"),
    ("memory", "dulse-kv"),
    ("replica", "dulse-replica"),
    ("etcd", "dulse-store-etcd"),
    ("mysql", "dulse-store-mysql"),
    ("postgres", "dulse-store-postgres"),
    ("redis", "dulse-store-redis"),
    ("hbase", "dulse-store-hbase"),
    ("cassandra", "dulse-store-cassandra"),
];

/// Runs one engine's or store's conformance suite, crashes and full disks of engines included.
///
/// # Errors
///
/// When a case fails, or none has this name.
pub(crate) fn conformance(store: &str) -> Result<()> {
    if store == "rocksdb" {
        crate::rocksdb::setup()?;
        return crate::rocksdb::test(&["-p", "dulse-engine-rocksdb"]);
    }
    let Some((_, package)) = ENGINES.iter().find(|(name, _)| *name == store) else {
        let names: Vec<_> = ENGINES.iter().map(|(name, _)| *name).collect();
        bail!(
            "no engine or store `{store}`; expected rocksdb or one of {}",
            names.join(", ")
        );
    };
    let mut command = cargo(&["test", "--profile", "ci", "-p", package]);
    command.args(["--test", "conformance"]);
    // Their directories of a million are programs of their own.
    if ["cassandra", "mysql"].contains(&store) {
        command.args(["--test", "million"]);
    }
    run(&mut command)
}

/// Runs the simulation.
///
/// # Errors
///
/// When a seed fails.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    let mut command = cargo(&["run", "--profile", "ci", "-q", "-p", "dulse-sim", "--"]);
    run(command.args(arguments))
}

/// Fuzzes one target, or all, each for some seconds: under libFuzzer where `cargo fuzz` is
/// installed, else with mutations from a new seed.
///
/// # Errors
///
/// When a decoder misbehaves, or no target has this name.
pub(crate) fn fuzz(target: Option<&str>, seconds: u64) -> Result<()> {
    let seconds = seconds.to_string();
    let plain = || cargo(&["run", "--profile", "ci", "-q", "-p", "dulse-fuzz", "--"]);
    let has_libfuzzer = output(&mut cargo(&["fuzz", "--version"])).is_ok();
    let Some(target) = target.filter(|_| has_libfuzzer) else {
        println!("without libFuzzer: that takes `cargo fuzz` and the name of one target");
        let mut command = plain();
        return run(command.args(target).args(["--seconds", &seconds]));
    };
    let corpus = cache::cache().join("fuzz").join(target);
    run(plain().args([target, "--write-seeds"]).arg(&corpus))?;
    // Sanitizers are unstable options of the compiler.
    run(
        cargo(&["fuzz", "run", "--fuzz-dir", "fuzz/libfuzzer", "any"])
            .arg(&corpus)
            .args([
                "--",
                &format!("-max_total_time={seconds}"),
                "-max_len=65536",
            ])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("DULSE_FUZZ_TARGET", target)
            .env("CARGO_TARGET_DIR", cache::target().join("fuzz")),
    )
}
