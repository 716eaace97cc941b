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

/// The origins of all members, in order.
fn origins(cluster: &Cluster, state: &str) -> Result<Vec<String>> {
    let members = members(cluster)?;
    let of = members.iter().filter(|m| m["state"] == state);
    Ok(of
        .filter_map(|m| m["origin"].as_str().map(str::to_owned))
        .collect())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy(&item.path(), &target)?;
        } else {
            std::fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}

/// It was away, was fenced, and what it had acknowledged and handed to nobody is made anew.
#[tokio::test]
async fn s09_a_filer_that_was_fenced_comes_back_with_what_only_it_had() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    cluster.put(0, "/s09/old", b"old".to_vec()).await?;
    cluster.wait_converged().await?;
    for filer in 0..2 {
        cluster.filers[filer].freeze()?;
    }
    cluster.mkdir(2, "/s09/mine").await?;
    cluster.filers[2].kill()?;
    for filer in 0..2 {
        cluster.filers[filer].kill()?;
        cluster.filers[filer].restart_adding("--max-offline=3s")?;
    }
    let is_fenced = || async { origins(&cluster, "fenced").is_ok_and(|all| all.len() == 1) };
    wait_for("a member that is fenced", is_fenced).await?;
    cluster.mkdir(0, "/s09/theirs").await?;
    cluster.filers[2].restart()?;
    let is_back = || async {
        let names = cluster.names(2, "/s09").await;
        names.is_ok_and(|names| names == ["mine", "old", "theirs"])
    };
    wait_for("a filer that has everything", is_back).await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    for filer in 0..3 {
        assert_eq!(
            cluster.names(filer, "/s09").await?,
            ["mine", "old", "theirs"]
        );
        assert_eq!(
            cluster.get(filer, "/s09/old").await?.as_deref(),
            Some(&b"old"[..])
        );
    }
    assert_eq!(origins(&cluster, "live")?.len(), 3);
    Ok(())
}

/// A store is restored from an old backup.
#[tokio::test]
async fn s10_a_store_that_was_restored_from_a_backup_loses_and_doubles_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.mkdir(1, "/s10/before").await?;
    cluster.wait_converged().await?;
    let store = cluster.dir.path().join("filer-1");
    let backup = cluster.dir.path().join("backup");
    cluster.filers[1].terminate()?;
    copy(&store, &backup)?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    cluster.mkdir(1, "/s10/after").await?;
    cluster.wait_converged().await?;
    cluster.filers[1].kill()?;
    std::fs::remove_dir_all(&store)?;
    copy(&backup, &store)?;
    cluster.filers[1].restart()?;
    let is_removed = || async { origins(&cluster, "removed").is_ok_and(|all| all.len() == 1) };
    wait_for("an old origin that is removed", is_removed).await?;
    cluster.wait_ready(1).await?;
    cluster.mkdir(1, "/s10/again").await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    for filer in 0..2 {
        assert_eq!(
            cluster.names(filer, "/s10").await?,
            ["after", "again", "before"]
        );
    }
    Ok(())
}

/// A store directory is copied to a new filer that runs beside the old one.
#[tokio::test]
async fn s10_a_copied_store_runs_beside_its_original_under_another_origin() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.mkdir(1, "/s10/before").await?;
    cluster.wait_converged().await?;
    let known = origins(&cluster, "live")?;
    cluster.filers[1].terminate()?;
    let store = cluster.dir.path().join("filer-1");
    copy(&store, &cluster.dir.path().join("filer-2"))?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    cluster.mkdir(1, "/s10/meanwhile").await?;
    let clone = cluster.add_filer("sqlite")?;
    let is_third = || async { origins(&cluster, "live").is_ok_and(|all| all.len() == 3) };
    wait_for("a third member", is_third).await?;
    cluster.wait_ready(clone).await?;
    cluster.mkdir(clone, "/s10/copy").await?;
    cluster.mkdir(1, "/s10/original").await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    for filer in 0..3 {
        assert_eq!(
            cluster.names(filer, "/s10").await?,
            ["before", "copy", "meanwhile", "original"]
        );
    }
    let live = origins(&cluster, "live")?;
    ensure!(known.iter().all(|origin| live.contains(origin)), "{live:?}");
    Ok(())
}
