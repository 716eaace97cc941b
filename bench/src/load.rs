// SPDX-License-Identifier: Apache-2.0
//! A load generator for any running filer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;

use crate::drive::{Driven, Limits, drive};
use crate::entries;
use crate::process::cpu_of;
use crate::system::connect;
use crate::workloads::grpc::Call;
use crate::workloads::http;

/// What the generator does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Op {
    /// CreateEntry
    Create,
    /// LookupDirectoryEntry
    Lookup,
    /// UpdateEntry
    Update,
    /// ListEntries of directories of 1,000 files
    List,
    /// DeleteEntry
    Delete,
    /// PUT of 4 KiB; the target is the HTTP port
    Put,
    /// GET of 4 KiB; the target is the HTTP port
    Get,
}

/// Arguments of `load`.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// A filer's gRPC address; for put and get its HTTP address
    #[arg(long, default_value = "127.0.0.1:18888")]
    target: String,
    #[arg(long, default_value = "create")]
    op: Op,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 32)]
    clients: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Operations begun per second; as fast as it goes where absent
    #[arg(long)]
    rate: Option<f64>,
    /// Most operations
    #[arg(long, default_value_t = u64::MAX)]
    operations: u64,
    /// Files written first, for operations that need some
    #[arg(long, default_value_t = 10_000)]
    prepare: u64,
    /// Files lie in /bench/SET; new at each run where absent
    #[arg(long)]
    set: Option<String>,
    /// Process of the filer, to tell its CPU time per operation
    #[arg(long)]
    pid: Option<u32>,
}

/// Runs the load and prints what came of it.
///
/// # Errors
///
/// The first operation that fails.
pub(crate) async fn run(args: LoadArgs) -> Result<()> {
    let set = match &args.set {
        Some(set) => set.clone(),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            format!("load-{}", now.as_millis())
        }
    };
    let limits = Limits {
        time: Duration::from_secs(args.seconds),
        operations: args.operations,
        rate: args.rate,
    };
    let driven = match args.op {
        Op::Create => calls(&args, Call::Create, &set, limits, 0).await?,
        Op::Lookup => calls(&args, Call::Lookup, &set, limits, args.prepare).await?,
        Op::Update => calls(&args, Call::Update, &set, limits, args.prepare).await?,
        Op::List => calls(&args, Call::List, &set, limits, args.prepare).await?,
        Op::Delete => calls(&args, Call::Delete, &set, limits, args.prepare).await?,
        Op::Put | Op::Get => over_http(&args, &set, limits).await?,
    };
    let (driven, cpu) = driven;
    let n = driven.operations as f64;
    let h = &driven.latencies_us;
    println!(
        "{:?}: {} operations in {:.2} s, {:.0}/s, p50 {} us, p99 {} us, greatest {} us",
        args.op,
        driven.operations,
        driven.elapsed.as_secs_f64(),
        n / driven.elapsed.as_secs_f64(),
        h.value_at_quantile(0.5),
        h.value_at_quantile(0.99),
        h.max()
    );
    if let Some(cpu) = cpu {
        println!(
            "CPU time of the filer: {:.1} us per operation",
            cpu.as_secs_f64() * 1e6 / n.max(1.0)
        );
    }
    Ok(())
}

type Outcome = (Driven, Option<Duration>);

async fn calls(
    args: &LoadArgs,
    call: Call,
    set: &str,
    mut limits: Limits,
    prepare: u64,
) -> Result<Outcome> {
    let mut clients = Vec::with_capacity(args.clients);
    for _ in 0..args.clients {
        clients.push(connect(&args.target).await?);
    }
    let full = prepare.next_multiple_of(entries::FILES_PER_DIRECTORY);
    if prepare > 0 {
        let set = set.to_owned();
        drive(&clients, Limits::operations(full), move |client, n| {
            Call::Create.perform(client, set.clone(), full, n)
        })
        .await?;
    }
    if call == Call::Delete {
        limits.operations = limits.operations.min(full);
    }
    let set = set.to_owned();
    measured(args, || {
        drive(&clients, limits, move |client, n| {
            call.perform(client, set.clone(), full, n)
        })
    })
    .await
}

async fn over_http(args: &LoadArgs, set: &str, limits: Limits) -> Result<Outcome> {
    let (_, port) = args.target.rsplit_once(':').context("host:port")?;
    let port: u16 = port.parse().context("a port")?;
    let clients = http::clients(args.clients)?;
    let set = set.to_owned();
    if args.op == Op::Put {
        return measured(args, || {
            drive(&clients, limits, move |client, n| {
                http::put(client, port, set.clone(), n)
            })
        })
        .await;
    }
    let (first, size) = (set.clone(), args.prepare.max(1));
    drive(&clients, Limits::operations(size), move |client, n| {
        http::put(client, port, first.clone(), n)
    })
    .await?;
    measured(args, || {
        drive(&clients, limits, move |client, n| {
            http::get(client, port, set.clone(), entries::scatter(n) % size)
        })
    })
    .await
}

async fn measured<Fut>(args: &LoadArgs, work: impl FnOnce() -> Fut) -> Result<Outcome>
where
    Fut: Future<Output = Result<Driven>>,
{
    let before = args.pid.map(cpu_of).transpose()?;
    let driven = work().await?;
    let after = args.pid.map(cpu_of).transpose()?;
    let used = before.zip(after).map(|(b, a)| a.saturating_sub(b));
    Ok((driven, used))
}
