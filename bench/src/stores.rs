// SPDX-License-Identifier: Apache-2.0
//! Filers on each shared store, beside upstream's on the same server.
//!
//! The real server is started, with settings by which it syncs what it acknowledges; then ours
//! and upstream's, each a master, a volume server and a filer, with a store of its own on that
//! server. Both are driven in turn by the same clients with the same calls.

#[path = "../../tests/tests/databases/cassandra.rs"]
mod cassandra;
#[path = "../../tests/tests/databases/etcd.rs"]
mod etcd;
#[path = "../../tests/tests/databases/hbase.rs"]
mod hbase;
#[path = "../../tests/tests/databases/mysql.rs"]
mod mysql;
#[path = "../../tests/tests/databases/postgres.rs"]
mod postgres;
#[path = "../../tests/tests/databases/redis.rs"]
mod redis;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use dulse_proto::filer as pb;
use dulse_shared_testkit::{Database, Place};

use crate::drive::{Driven, Limits, drive};
use crate::entries::{self, FILES_PER_DIRECTORY};
use crate::machine::{self, Machine};
use crate::page;
use crate::process::cpu_of_descendants;
use crate::system::{Client, Kind, Programs, System};
use crate::workloads::grpc::{self, CALLS, Call};
use crate::workloads::{GRPC_CLIENTS, Plan, create};

/// Sections of `filer.toml` that are measured; the first layouts of SQL databases, `postgres` and
/// `mysql`, are measured when they are named.
const STORES: [&str; 9] = [
    "postgres2",
    "mysql2",
    "redis2",
    "redis3",
    "redis_cluster2",
    "redis_cluster3",
    "etcd",
    "cassandra2",
    "hbase",
];

/// The others that can be named.
const MORE: [&str; 2] = ["postgres", "mysql"];

/// Those whose keys have no prefix, so that each filer needs a server of its own.
const WITHOUT_PREFIX: &[&str] = &["redis_cluster3"];

/// Connections that each filer may have: upstream's template has 50. Tests do with fewer.
const CONNECTIONS: [&str; 2] = ["connection_max_open = 10\n", "connection_max_open = 50\n"];

/// Arguments of a comparison of stores.
#[derive(Args, Debug)]
pub(crate) struct StoresArgs {
    /// Only these, by their sections of filer.toml; postgres and mysql are measured only so
    #[arg(long, value_delimiter = ',')]
    store: Vec<String>,
    /// Seconds of each call instead of 4
    #[arg(long)]
    seconds: Option<f64>,
    /// One second of each call: too short for figures to rely on
    #[arg(long)]
    quick: bool,
    /// A page in which the table is replaced, if all could be measured
    #[arg(long)]
    out: Option<PathBuf>,
    /// What else the machine did meanwhile, for readers of the table
    #[arg(long, default_value = "not told")]
    beside: String,
    /// Our program; `cargo xtask bench` builds and names it
    #[arg(long, env = "DULSE_BIN")]
    dulse: Option<PathBuf>,
    /// Upstream's program; `cargo xtask setup` fetches it
    #[arg(long, env = "DULSE_WEED")]
    weed: Option<PathBuf>,
}

impl StoresArgs {
    fn sections(&self) -> Result<Vec<&'static str>> {
        if self.store.is_empty() {
            return Ok(STORES.to_vec());
        }
        let known = || STORES.iter().chain(&MORE).copied();
        let one = |name: &String| {
            known().find(|known| known == name).with_context(|| {
                let all: Vec<&str> = known().collect();
                format!("unknown store `{name}`; expected one of {}", all.join(", "))
            })
        };
        self.store.iter().map(one).collect()
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::full();
        plan.repetitions = 1;
        if self.quick {
            plan.time = Duration::from_secs(1);
        }
        if let Some(seconds) = self.seconds {
            plan.time = Duration::from_secs_f64(seconds.max(0.1));
        }
        plan
    }

    fn programs(&self) -> Result<Programs> {
        let dulse = self.dulse.clone();
        let dulse = dulse.context("DULSE_BIN is not set; run `cargo xtask bench stores`")?;
        let weed = self.weed.clone().filter(|weed| weed.exists());
        let weed = weed.context("upstream's program is not there; run `cargo xtask setup`")?;
        Ok(Programs {
            weed,
            dulse,
            // Filers on shared stores have none.
            engine: String::new(),
            durability: String::new(),
        })
    }
}

/// Measures each store and prints the table.
///
/// # Errors
///
/// When a store fails, once the others have been measured and printed; or when the page cannot
/// be written.
pub(crate) async fn run(args: &StoresArgs) -> Result<()> {
    let (sections, plan, programs) = (args.sections()?, args.plan(), args.programs()?);
    let machine = Machine::look()?;
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for section in sections {
        eprintln!("measuring {section}");
        match store(section, &programs, plan).await {
            Ok(store) => measured.push(store),
            Err(error) => {
                eprintln!("{section} FAILED: {error:#}");
                failed.push(format!("{section}: {error:#}"));
            }
        }
    }
    let text = format!(
        "{machine}; load after it {}. Beside it ran: {}. {} clients, {:?} for each call, once.\n\n{}",
        machine::load(),
        args.beside,
        GRPC_CLIENTS,
        plan.time,
        table::of(&measured)
    );
    println!("{text}");
    if !failed.is_empty() {
        bail!(
            "{} of {} stores could not be measured, no page was written:\n{}",
            failed.len(),
            failed.len() + measured.len(),
            failed.join("\n")
        );
    }
    match &args.out {
        Some(page) => page::replace(page, &text),
        None => Ok(()),
    }
}

/// What came of one store.
#[derive(Debug)]
pub(crate) struct Measured {
    section: &'static str,
    /// What the server is, and how it syncs.
    synced: &'static str,
    rows: Vec<Row>,
}

/// One call on one store.
#[derive(Debug)]
struct Row {
    call: Call,
    upstream: Theirs,
    ours: Figures,
}

/// What upstream's filer came to.
#[derive(Clone, Debug)]
enum Theirs {
    Figures(Figures),
    /// It does not do what was asked: what it does instead.
    Wrong(String),
}

/// What one filer came to in one call.
#[derive(Clone, Debug)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU time of the filer for one call, and of the database.
    cpu_us: f64,
    database_us: f64,
}

async fn store(section: &'static str, programs: &Programs, plan: Plan) -> Result<Measured> {
    match section {
        "postgres" | "postgres2" => on::<postgres::Postgres>(section, programs, plan).await,
        "mysql" | "mysql2" => on::<mysql::MariaDb>(section, programs, plan).await,
        "etcd" => on::<etcd::Etcd>(section, programs, plan).await,
        "cassandra2" => on::<cassandra::Cassandra>(section, programs, plan).await,
        "hbase" => on::<hbase::Hbase>(section, programs, plan).await,
        _ => on::<redis::Redis>(section, programs, plan).await,
    }
}

async fn on<D: Database>(
    section: &'static str,
    programs: &Programs,
    plan: Plan,
) -> Result<Measured> {
    // Servers are waited for, and asked from runtimes of their own.
    let prepared = tokio::task::spawn_blocking(move || prepare::<D>(section)).await?;
    let (servers, [upstream, ours]) = prepared.context("the server")?;
    let mut both = Vec::new();
    for (kind, place) in [(Kind::Upstream, upstream), (Kind::Dulse, ours)] {
        let toml = place.toml.replace(CONNECTIONS[0], CONNECTIONS[1]);
        let system = System::start_on(kind, programs, &toml).await;
        both.push(Side::new(system.with_context(|| format!("{kind:?}'s filer"))?).await?);
    }
    let rows = rows(&mut both, plan).await;
    let rows = rows.with_context(|| {
        let logs = both.iter().map(|side| {
            let log = side.system.filers[0].process.end_of_log();
            format!("\n{:?}'s filer's log ends with:\n{log}", side.system.kind)
        });
        logs.collect::<String>()
    })?;
    // Order: filers first, else they say that their database is gone.
    drop(both);
    drop(servers);
    Ok(Measured {
        section,
        synced: D::SYNCED,
        rows,
    })
}

/// Starts a server, or one for each where stores on one have something in common; makes a store
/// for upstream's filer and one for ours.
fn prepare<D: Database>(section: &str) -> Result<(Vec<D>, [Place; 2])> {
    let first = D::start_synced()?;
    let upstream = first.make(section, "upstream")?;
    let (ours, servers) = if WITHOUT_PREFIX.contains(&section) {
        let second = D::start_synced()?;
        (second.make(section, "ours")?, vec![first, second])
    } else {
        (first.make(section, "ours")?, vec![first])
    };
    Ok((servers, [upstream, ours]))
}

/// A system with its clients and its files.
struct Side {
    system: System,
    clients: Vec<Client>,
    /// Files of the set.
    size: u64,
}

/// The set that is measured, and the one that is written before.
const SET: &str = "stores";
const WARM: &str = "warm";

impl Side {
    async fn new(system: System) -> Result<Self> {
        let clients = system.filers[0].clients(GRPC_CLIENTS).await?;
        Ok(Self {
            system,
            clients,
            size: 0,
        })
    }

    /// Creates for a while: connections are made, and what runs in a Java machine is compiled.
    async fn warm(&self, time: Duration) -> Result<()> {
        let creating = drive(&self.clients, Limits::time(time), |client, n| {
            create(client, WARM.to_owned(), n)
        });
        creating.await.map(drop)
    }

    /// Has as many files as fill a directory, which is listed.
    async fn fill(&mut self) -> Result<()> {
        let (first, missing) = (self.size, FILES_PER_DIRECTORY.saturating_sub(self.size));
        let limits = Limits::operations(missing);
        drive(&self.clients, limits, move |client, n| {
            create(client, SET.to_owned(), first + n)
        })
        .await?;
        self.size += missing;
        Ok(())
    }

    /// Why a listing of a full directory is not what was asked for, if it is not.
    async fn lists_wrongly(&self) -> Result<Option<String>> {
        let request = pb::ListEntriesRequest {
            directory: entries::directory(SET, 0),
            limit: u32::try_from(FILES_PER_DIRECTORY)?,
            ..Default::default()
        };
        let mut client = self.clients[0].clone();
        let mut rows = client.list_entries(request).await?.into_inner();
        let mut names = Vec::new();
        while let Some(row) = rows.message().await? {
            names.push(row.entry.context("an entry")?.name().to_string());
        }
        Ok(wrong_listing(&names))
    }
}

/// All calls on both, one after the other, each first in turn.
async fn rows(both: &mut [Side], plan: Plan) -> Result<Vec<Row>> {
    // All of ours and upstream's processes: what else we have started is the database.
    let filers: Vec<u32> = both
        .iter()
        .flat_map(|side| side.system.process_ids())
        .collect();
    for side in &*both {
        side.warm(plan.time / 2).await?;
    }
    let mut rows = Vec::new();
    for (n, call) in CALLS.into_iter().enumerate() {
        let (mut upstream, mut ours) = (None, None);
        let mut order = [0, 1];
        order.rotate_left(n % 2);
        for i in order {
            let side = &mut both[i];
            let wrong = match call {
                Call::List => side.lists_wrongly().await?,
                _ => None,
            };
            let kind = side.system.kind;
            match (kind, wrong) {
                (Kind::Upstream, Some(wrong)) => upstream = Some(Theirs::Wrong(wrong)),
                (_, Some(wrong)) => bail!("our filer {wrong}"),
                (Kind::Upstream, None) => {
                    let figures = figures(side, call, plan, &filers).await;
                    upstream = Some(Theirs::Figures(figures.context("upstream's filer")?));
                }
                (_, None) => ours = Some(figures(side, call, plan, &filers).await?),
            }
        }
        let row = upstream.zip(ours);
        let (upstream, ours) = row.context("one system is upstream's and one ours")?;
        eprintln!("  {}: upstream {upstream:?}, ours {ours:?}", call.name());
        rows.push(Row {
            call,
            upstream,
            ours,
        });
    }
    Ok(rows)
}

/// One call for as long as planned.
///
/// - `filers`: processes that are not the database's.
async fn figures(side: &mut Side, call: Call, plan: Plan, filers: &[u32]) -> Result<Figures> {
    let database = || cpu_of_descendants(std::process::id(), filers);
    let before = database()?;
    let measured = grpc::one(&side.system, &side.clients, call, SET, side.size, plan).await;
    let (driven, cpu) = measured.with_context(|| call.name())?;
    let used = database()?.saturating_sub(before);
    if call == Call::Create {
        side.size = driven.operations;
        side.fill().await?;
    }
    Ok(Figures::of(&driven, cpu.first, used))
}

impl Figures {
    fn of(driven: &Driven, filer: Duration, database: Duration) -> Self {
        let n = driven.operations.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / n;
        let ms = |quantile| driven.latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            per_second: n / driven.elapsed.as_secs_f64().max(1e-9),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_us: each(filer),
            database_us: each(database),
        }
    }
}

/// What is wrong with a listing of a full directory.
fn wrong_listing(names: &[String]) -> Option<String> {
    let expected = (0..FILES_PER_DIRECTORY).map(entries::name);
    if expected.eq(names.iter().cloned()) {
        return None;
    }
    let different: BTreeSet<&String> = names.iter().collect();
    Some(format!(
        "lists a directory of {FILES_PER_DIRECTORY} files as {} names, {} of them different",
        names.len(),
        different.len()
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        stores: StoresArgs,
    }

    fn parsed(arguments: &[&str]) -> StoresArgs {
        let words = ["stores"].iter().chain(arguments);
        Cli::try_parse_from(words).unwrap().stores
    }

    #[test]
    fn stores_are_named_by_their_sections() {
        assert_eq!(parsed(&[]).sections().unwrap(), STORES);
        let some = parsed(&["--store", "hbase,postgres"]).sections();
        assert_eq!(some.unwrap(), ["hbase", "postgres"]);
        let error = parsed(&["--store", "redis"]).sections().unwrap_err();
        assert!(
            error.to_string().contains("unknown store `redis`"),
            "{error}"
        );
    }

    #[test]
    fn a_call_takes_as_long_as_is_asked_for() {
        let time = |arguments: &[&str]| parsed(arguments).plan().time.as_secs_f64();
        assert_eq!([time(&[]), time(&["--quick"])], [4.0, 1.0]);
        assert_eq!(time(&["--quick", "--seconds", "2.5"]), 2.5);
    }

    /// As upstream's filer on HBase gives the names of a page again and again.
    #[test]
    fn a_listing_that_gives_a_name_twice_or_not_at_all_is_wrong() {
        let all: Vec<String> = (0..FILES_PER_DIRECTORY).map(entries::name).collect();
        assert_eq!(wrong_listing(&all), None);
        let twice = [&all[..500], &all[..500]].concat();
        let said = wrong_listing(&twice).unwrap();
        assert!(
            said.ends_with("as 1000 names, 500 of them different"),
            "{said}"
        );
        assert!(wrong_listing(&all[1..]).is_some());
    }
}
