// SPDX-License-Identifier: Apache-2.0
//! Members that leave or are removed: nobody waits for them, and nothing they handed over is lost.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, program, wait_for};
use serde_json::Value;

fn run(cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let mut command = Command::new(program()?);
    command.args(arguments).args(["--master", &master]);
    Ok(command.output()?)
}

/// `dulse cluster members`.
fn members(cluster: &Cluster) -> Result<Vec<Value>> {
    let output = run(cluster, &["cluster", "members", "--format=json"])?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).context("JSON")?;
    Ok(value.as_array().context("a list")?.clone())
}

/// The state of the member at a filer's address.
fn state(cluster: &Cluster, filer: usize) -> Result<String> {
    let at = format!("127.0.0.1:{}.", cluster.filer_ports[filer]);
    let members = members(cluster)?;
    let found = members
        .iter()
        .find(|m| m["address"].as_str().is_some_and(|a| a.starts_with(&at)));
    let found = found.with_context(|| format!("nobody at {at}: {members:?}"))?;
    Ok(found["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_filer_that_leaves_hands_over_everything_and_holds_back_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    cluster.filers[2].kill()?;
    cluster.filers[2].restart_adding("--leave-on-shutdown")?;
    cluster.wait_ready(2).await?;
    for i in 0..200 {
        cluster.mkdir(2, &format!("/leaver/{i}")).await?;
    }
    cluster.filers[2].terminate()?;
    assert_eq!(state(&cluster, 2)?, "left");
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    for filer in 0..2 {
        ensure!(
            cluster.names(filer, "/leaver").await?.len() == 200,
            "filer {filer}"
        );
    }
    let holds = members(&cluster)?;
    ensure!(holds.iter().all(|m| m["holds_back"].is_null()), "{holds:?}");
    Ok(())
}

#[tokio::test]
async fn the_last_filer_does_not_leave() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    cluster.mkdir(0, "/kept").await?;
    cluster.filers[0].terminate()?;
    cluster.filers[0].restart_adding("--leave-on-shutdown")?;
    cluster.wait_ready(0).await?;
    cluster.filers[0].terminate()?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    assert_eq!(cluster.names(0, "").await?, ["kept"]);
    assert_eq!(state(&cluster, 0)?, "live");
    Ok(())
}

#[tokio::test]
async fn a_filer_that_is_lost_for_good_is_removed_and_missed_by_nobody() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    cluster.mkdir(1, "/lost/made-by-the-lost-one").await?;
    cluster.wait_converged().await?;
    let lost = format!("127.0.0.1:{}", cluster.filer_ports[1]);
    let refused = run(&cluster, &["cluster", "remove", &lost, "--yes"])?;
    ensure!(refused.status.code() == Some(2), "it is alive: {refused:?}");
    cluster.filers[1].kill()?;
    cluster.mkdir(0, "/lost/made-since").await?;
    assert_eq!(cluster.verify()?, Some(3), "one of them is down");
    let is_silent = || async { state(&cluster, 1).is_ok_and(|state| state == "silent") };
    wait_for("a member that is silent", is_silent).await?;
    let held = members(&cluster)?;
    ensure!(held.iter().any(|m| !m["holds_back"].is_null()), "{held:?}");
    let removed = run(&cluster, &["cluster", "remove", &lost, "--yes"])?;
    ensure!(removed.status.code() == Some(0), "{removed:?}");
    let again = run(&cluster, &["cluster", "remove", &lost, "--yes"])?;
    ensure!(again.status.code() == Some(2), "{again:?}");
    assert_eq!(state(&cluster, 1)?, "removed");
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    let is_free = || async {
        members(&cluster).is_ok_and(|all| all.iter().all(|m| m["holds_back"].is_null()))
    };
    wait_for("members that hold back nothing", is_free).await?;
    // A new one in its place finds everything.
    let new = cluster.add_filer("sqlite")?;
    cluster.wait_ready(new).await?;
    assert_eq!(
        cluster.names(new, "/lost").await?,
        ["made-by-the-lost-one", "made-since"]
    );
    cluster.wait_converged().await?;
    Ok(())
}
