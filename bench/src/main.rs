// SPDX-License-Identifier: Apache-2.0
//! Measurements beside upstream: the same calls, the same machine, one run.
//!
//! `run` starts the systems, has the same clients do the same work on each in turn, and
//! prints throughput, CPU time of the server per operation and their ratios. It asserts
//! nothing. `load` is the same client side for any filer that runs already.

mod ceiling;
mod drive;
mod engines;
mod entries;
mod load;
mod machine;
mod page;
mod process;
mod report;
mod stores;
mod system;
mod workloads;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::machine::Machine;
use crate::report::Report;
use crate::system::{Kind, Programs, System};
use crate::workloads::{Plan, bootstrap, catch_up, drain, grpc, http, lag};

#[derive(Parser)]
#[command(name = "dulse-bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Puts load on a filer that is running
    Load(load::LoadArgs),
    /// Compares the embedded engines, each under a replica
    Engines(engines::EnginesArgs),
    /// Measures filers on each shared store beside upstream's on the same server
    Stores(stores::StoresArgs),
    /// Fills a store with one engine (the comparison starts it itself)
    #[command(hide = true)]
    EngineFill(engines::work::WorkArgs),
    /// Opens one again (the comparison starts it itself)
    #[command(hide = true)]
    EngineOpen(engines::work::WorkArgs),
    /// Serves empty answers: the ceiling (the benchmark starts it itself)
    Ceiling {
        #[arg(long)]
        http: SocketAddr,
        #[arg(long)]
        grpc: SocketAddr,
    },
}

/// Arguments of a run.
#[derive(Args, Debug)]
struct RunArgs {
    /// One short repetition of everything
    #[arg(long)]
    quick: bool,
    /// Only these: create, lookup, update, list-1000, delete (or calls for the five), each
    /// with 1 filer, or with `-2` behind it with 2; http, drain, lag, catch-up, bootstrap
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these systems: upstream, dulse, ceiling
    #[arg(long, value_delimiter = ',')]
    system: Vec<String>,
    /// Repetitions instead of 3 (quick: 1)
    #[arg(long)]
    repetitions: Option<u32>,
    /// Seconds of each timed workload
    #[arg(long)]
    seconds: Option<f64>,
    /// Engine of our filers
    #[arg(long, default_value = "redb")]
    engine: String,
    /// Durability of our filers
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Writes the figures as JSON to a file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Our program; `cargo xtask bench` builds and names it
    #[arg(long, env = "DULSE_BIN")]
    dulse: Option<PathBuf>,
    /// Upstream's program; `cargo xtask setup` fetches it
    #[arg(long, env = "DULSE_WEED")]
    weed: Option<PathBuf>,
}

/// Names that `--only` takes, besides those with `-2`.
const NAMES: &[&str] = &[
    "create",
    "lookup",
    "update",
    "list-1000",
    "delete",
    "calls",
    "http",
    "drain",
    "lag",
    "catch-up",
    "bootstrap",
];

impl RunArgs {
    fn check(&self) -> Result<()> {
        for name in &self.only {
            let plain = name.strip_suffix("-2").unwrap_or(name);
            ensure!(
                NAMES.contains(&plain),
                "unknown workload `{name}`; expected one of {}",
                NAMES.join(", ")
            );
        }
        for name in &self.system {
            ensure!(
                ["upstream", "dulse", "ceiling"].contains(&name.as_str()),
                "unknown system `{name}`; expected upstream, dulse or ceiling"
            );
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Whether any call with 1 filer (suffix empty) or 2 (`-2`) is wanted.
    fn wants_call(&self, call: &str, suffix: &str) -> bool {
        self.wants(&format!("{call}{suffix}")) || self.wants(&format!("calls{suffix}"))
    }

    fn wants_calls(&self, suffix: &str) -> bool {
        let calls = grpc::CALLS.iter();
        calls.into_iter().any(|c| self.wants_call(c.name(), suffix))
    }

    fn kinds(&self, kinds: &[Kind]) -> Vec<Kind> {
        let wanted = |kind: &&Kind| {
            let name = format!("{kind:?}").to_lowercase();
            self.system.is_empty() || self.system.contains(&name)
        };
        kinds.iter().filter(wanted).copied().collect()
    }

    fn plan(&self) -> Plan {
        let mut plan = if self.quick {
            Plan::quick()
        } else {
            Plan::full()
        };
        if let Some(n) = self.repetitions {
            plan.repetitions = n.max(1);
        }
        if let Some(seconds) = self.seconds {
            plan.time = std::time::Duration::from_secs_f64(seconds.max(0.1));
        }
        plan
    }

    fn programs(&self) -> Result<Programs> {
        let dulse = self
            .dulse
            .clone()
            .context("DULSE_BIN is not set; run `cargo xtask bench`")?;
        let weed = self.weed.clone().unwrap_or_default();
        ensure!(
            weed.exists() || self.kinds(&[Kind::Upstream]).is_empty(),
            "upstream's program is not there; run `cargo xtask setup`, or measure with \
             --system dulse,ceiling"
        );
        Ok(Programs {
            weed,
            dulse,
            engine: self.engine.clone(),
            durability: self.durability.clone(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Load(args)) => load::run(args).await,
        Some(Command::Engines(args)) => engines::run(&args),
        Some(Command::Stores(args)) => tokio::select! {
            result = stores::run(&args) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        },
        Some(Command::EngineFill(args)) => engines::work::fill(&args),
        Some(Command::EngineOpen(args)) => engines::work::open_again(&args),
        Some(Command::Ceiling { http, grpc }) => ceiling::serve(http, grpc).await,
        None => {
            cli.run.check()?;
            tokio::select! {
                result = run(&cli.run) => result,
                // Dropping the run ends what it started.
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        }
    }
}

async fn run(args: &RunArgs) -> Result<()> {
    let (plan, programs) = (args.plan(), args.programs()?);
    let mut report = Report::new(Machine::look()?, plan);
    one_filer(args, &programs, plan, &mut report).await?;
    two_filers(args, &programs, plan, &mut report).await?;
    if args.wants("bootstrap") {
        let kinds = args.kinds(&[Kind::Upstream, Kind::Dulse]);
        bootstrap::run(&kinds, &programs, plan, &mut report).await?;
    }
    println!("{}", report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report.json())?)?;
        eprintln!("figures are in {}", path.display());
    }
    Ok(())
}

async fn start(kinds: &[Kind], programs: &Programs, n_filers: usize) -> Result<Vec<System>> {
    let mut systems = Vec::new();
    for kind in kinds {
        eprintln!("starting {kind:?}, {n_filers} filer(s)");
        systems.push(System::start(*kind, programs, n_filers).await?);
    }
    Ok(systems)
}

async fn one_filer(
    args: &RunArgs,
    programs: &Programs,
    plan: Plan,
    report: &mut Report,
) -> Result<()> {
    if !(args.wants_calls("") || args.wants("http") || args.wants("drain")) {
        return Ok(());
    }
    let kinds = args.kinds(&[Kind::Upstream, Kind::Dulse, Kind::Ceiling]);
    let mut systems = start(&kinds, programs, 1).await?;
    if args.wants_calls("") {
        grpc::run(&systems, plan, |call| args.wants_call(call, ""), report).await?;
    }
    if args.wants("http") {
        http::run(&systems, plan, report).await?;
    }
    systems.retain(|system| system.kind != Kind::Ceiling);
    if args.wants("drain") {
        drain::run(&systems, plan, report).await?;
    }
    Ok(())
}

async fn two_filers(
    args: &RunArgs,
    programs: &Programs,
    plan: Plan,
    report: &mut Report,
) -> Result<()> {
    if !(args.wants_calls("-2") || args.wants("lag") || args.wants("catch-up")) {
        return Ok(());
    }
    let kinds = args.kinds(&[Kind::Upstream, Kind::Dulse]);
    let mut systems = start(&kinds, programs, 2).await?;
    if args.wants_calls("-2") {
        grpc::run(&systems, plan, |call| args.wants_call(call, "-2"), report).await?;
    }
    if args.wants("lag") {
        lag::run(&systems, plan, report).await?;
    }
    if args.wants("catch-up") {
        catch_up::run(&mut systems, plan, report).await?;
    }
    Ok(())
}
