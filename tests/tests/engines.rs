// SPDX-License-Identifier: Apache-2.0
//! The topologies that are promised for embedded stores, with real processes: two and three
//! filers on one engine, and every two engines side by side.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use dulse_tests::Cluster;
use futures::{StreamExt, TryStreamExt};
use libtest_mimic::{Arguments, Failed, Trial};

/// Directories that each filer makes in each round.
const MADE: usize = 120;

/// Writes at all filers at once, on own and on shared paths.
async fn work(cluster: &Cluster, filers: &[usize], round: &str) -> Result<()> {
    let paths = filers.iter().flat_map(|filer| {
        (0..MADE).map(move |i| match i % 4 {
            // Everybody's path: made by whoever comes first, and the same for all in the end.
            0 => (*filer, format!("/{round}/shared/{i}")),
            _ => (*filer, format!("/{round}/of-{filer}/{i}")),
        })
    });
    let made = futures::stream::iter(paths).map(|(filer, path)| async move {
        match cluster.mkdir(filer, &path).await {
            Err(e) if path.contains("/shared/") && e.to_string().contains("409") => Ok(()),
            made => made,
        }
    });
    made.buffer_unordered(16).try_collect::<()>().await?;
    for filer in filers {
        let content = format!("of {filer} in {round}").repeat(500).into_bytes();
        cluster
            .put(*filer, &format!("/{round}/file-{filer}"), content)
            .await?;
    }
    Ok(())
}

/// All filers show what was written in a round.
async fn shown(cluster: &Cluster, filers: &[usize], round: &str) -> Result<()> {
    for at in 0..cluster.filers.len() {
        let n = cluster.names(at, &format!("/{round}/shared")).await?.len();
        ensure!(
            n == MADE / 4,
            "filer {at} shows {n} shared names of {round}"
        );
        for filer in filers {
            let n = cluster
                .names(at, &format!("/{round}/of-{filer}"))
                .await?
                .len();
            ensure!(
                n == MADE - MADE / 4,
                "filer {at}: {n} names of {filer} in {round}"
            );
            let content = cluster.get(at, &format!("/{round}/file-{filer}")).await?;
            let expect = format!("of {filer} in {round}").repeat(500).into_bytes();
            ensure!(
                content.as_deref() == Some(&expect[..]),
                "the file of {filer} at {at}"
            );
        }
    }
    Ok(())
}

/// Work at all; each filer killed in turn while the others work; one wiped; equal in the end.
async fn topology(engines: &[&str]) -> Result<()> {
    let mut cluster = Cluster::start(engines).await?;
    let all: Vec<usize> = (0..engines.len()).collect();
    work(&cluster, &all, "first").await?;
    cluster.wait_converged().await?;
    shown(&cluster, &all, "first").await?;
    for killed in all.iter().copied() {
        cluster.filers[killed].kill()?;
        let others: Vec<usize> = all.iter().copied().filter(|f| *f != killed).collect();
        let round = format!("without-{killed}");
        work(&cluster, &others, &round).await?;
        cluster.filers[killed].restart()?;
        cluster.wait_ready(killed).await?;
        cluster.wait_converged().await?;
        shown(&cluster, &others, &round).await?;
    }
    // A store is filled anew from another engine's.
    let wiped = engines.len() - 1;
    cluster.filers[wiped].kill()?;
    std::fs::remove_dir_all(cluster.dir.path().join(format!("filer-{wiped}")))?;
    cluster.filers[wiped].restart()?;
    cluster.wait_ready(wiped).await?;
    cluster.wait_converged().await?;
    shown(&cluster, &all, "first").await?;
    ensure!(cluster.verify()? == Some(0), "the filers differ");
    for (filer, engine) in engines.iter().enumerate() {
        let remembered = cluster.dir.path().join(format!("filer-{filer}/engine"));
        let remembered = std::fs::read_to_string(remembered).context("the engine's name")?;
        ensure!(remembered == *engine, "filer {filer} is on {remembered}");
    }
    Ok(())
}

fn trial(name: String, engines: Vec<&'static str>) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        let done = runtime.block_on(topology(&engines));
        done.map_err(|error| Failed::from(format!("{error:?}")))
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each runs up to five processes.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let mut trials = Vec::new();
    let engines = dulse_registry::ENGINES;
    for (at, engine) in engines.iter().copied().enumerate() {
        trials.push(trial(format!("two_filers::{engine}"), vec![engine; 2]));
        trials.push(trial(format!("three_filers::{engine}"), vec![engine; 3]));
        for other in engines[at + 1..].iter().copied() {
            let name = format!("{engine}_beside::{other}");
            trials.push(trial(name, vec![engine, other]));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
