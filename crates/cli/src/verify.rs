// SPDX-License-Identifier: Apache-2.0
//! `dulse verify`: are all filers equal, and where not.
//!
//! Sums of buckets first, then the directories of buckets that differ, then the names of
//! directories that differ: two streams side by side, in bounded memory.

mod compare;
mod scrub;
mod side;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use dulse_types::ServerAddress;

use crate::status::{self, ask, report};
use compare::{Differences, compare};

/// Arguments of `dulse verify`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when all filers are equal; 1 with the paths that differ, or when `--scrub` found what it could not repair; 2 when the \
                  call cannot work as typed; 3 when the filers could not be compared, as when one \
                  of them is down."
)]
pub(crate) struct VerifyArgs {
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    pub(crate) master: Vec<ServerAddress>,
    /// The filers' group
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
    /// Compare these filers, `host:port`, a comma list, instead of asking the master
    #[arg(long, value_delimiter = ',')]
    pub(crate) filers: Vec<ServerAddress>,
    /// How long filers that are still catching up are waited for, in seconds
    #[arg(long, default_value_t = 10)]
    pub(crate) wait_seconds: u64,
    /// Have every filer look through all that it stores first, at full speed, and repair what
    /// is damaged; waits until that is done
    #[arg(long)]
    pub(crate) scrub: bool,
}

/// Compares all filers; true when they are equal. Differing paths are printed.
///
/// # Errors
///
/// When no master answers, or a filer does not.
pub(crate) async fn verify(args: VerifyArgs) -> Result<bool> {
    let mut is_whole = true;
    if args.scrub {
        for filer in &look(&args).await?.filers {
            is_whole &= scrub::scrub(&filer.address.parse()?).await?;
        }
    }
    Ok(compare_all(args).await? && is_whole)
}

async fn compare_all(args: VerifyArgs) -> Result<bool> {
    let deadline = Instant::now() + Duration::from_secs(args.wait_seconds);
    loop {
        let before = look(&args).await?;
        let is_late = Instant::now() >= deadline;
        if !before.is_level() && !is_late {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let found = differences(&before.filers).await?;
        // What was written meanwhile differs for a moment and says nothing.
        let is_settled = before.is_level() && vectors(&look(&args).await?) == vectors(&before);
        if found.is_empty() && before.is_level() {
            println!("{} filers are equal", before.filers.len());
            return Ok(true);
        }
        if is_settled || is_late {
            tell(&found, before.is_level());
            return Ok(found.is_empty() && before.is_level());
        }
    }
}

/// What the filers say; all must answer.
async fn look(args: &VerifyArgs) -> Result<report::Cluster> {
    let until = Instant::now() + status::ANSWER_TIME_MAX;
    if args.filers.is_empty() {
        let cluster = ask::cluster(&args.master, &args.filer_group, until).await?;
        if let Some(missing) = cluster.unreachable.first() {
            bail!(
                "cannot compare: the filer {} is down: {}",
                missing.address,
                missing.error
            );
        }
        if cluster.filers.is_empty() {
            bail!("cannot compare: the master lists no filer");
        }
        return Ok(cluster);
    }
    let mut filers = Vec::new();
    for address in &args.filers {
        let answer = ask::filer(address, until).await;
        filers
            .push(answer.with_context(|| format!("cannot compare: the filer {address} is down"))?);
    }
    Ok(report::Cluster::new(filers, Vec::new(), Vec::new()))
}

fn vectors(cluster: &report::Cluster) -> Vec<(&str, &std::collections::BTreeMap<String, String>)> {
    let rows = cluster.filers.iter();
    rows.map(|f| (f.origin.as_str(), &f.vector)).collect()
}

/// Where any filer differs from the first.
async fn differences(filers: &[report::Filer]) -> Result<Differences> {
    let mut found = Differences::default();
    if let Some((first, others)) = filers.split_first() {
        for other in others {
            let (a, b) = (first.address.parse()?, other.address.parse()?);
            compare(&a, &b, &mut found)
                .await
                .with_context(|| format!("compare {a} and {b}"))?;
        }
    }
    Ok(found)
}

fn tell(found: &Differences, is_level: bool) {
    if !is_level {
        println!("filers are still catching up or being written; compared as they are");
    }
    for path in found.paths() {
        println!("{path}");
    }
    let more = found.n_more();
    if more > 0 {
        println!("… and {more} more");
    }
    println!("{} paths differ", found.paths().len() as u64 + more);
}
