// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer under our master beside ours: shown as foreign, not replicated, in nobody's
//! way.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, free_port, program, raw, start_weed_filer, wait_for};
use serde_json::Value;

fn status(master_port: u16) -> Result<Value> {
    let output = Command::new(program()?)
        .args(["status", "--format=json", "--master"])
        .arg(format!("127.0.0.1:{master_port}"))
        .output()?;
    serde_json::from_slice(&output.stdout).context("status prints JSON")
}

/// States of a peer, as each of our filers shows it.
fn states_of(status: &Value, port: u16) -> Vec<String> {
    let filers = status["filers"].as_array().cloned().unwrap_or_default();
    let peers = filers
        .iter()
        .flat_map(|filer| filer["peers"].as_array().cloned().unwrap_or_default());
    let at = format!("127.0.0.1:{port}");
    peers
        .filter(|peer| peer["address"].as_str().is_some_and(|a| a.starts_with(&at)))
        .map(|peer| peer["state"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_filer_under_our_master_is_foreign_and_holds_nobody_back() -> Result<()> {
    // The foreign one is there first: our fresh filers must found a cluster all the same.
    let mut cluster = Cluster::start(&[]).await?;
    let port = free_port()?;
    let _weed = start_weed_filer(cluster.dir.path(), port, cluster.master_port, &[])?;
    let takes_writes = || async {
        let put = raw::ask(port, "PUT", "/theirs", &[], b"theirs").await;
        put.is_ok_and(|answer| answer.status == 201)
    };
    wait_for("upstream's filer under our master", takes_writes).await?;
    for engine in ["redb", "sqlite"] {
        let n = cluster.add_filer(engine)?;
        cluster.wait_ready(n).await?;
    }
    cluster.put(0, "/ours", b"ours".to_vec()).await?;
    let master_port = cluster.master_port;
    let both_show_it = || async move {
        status(master_port).is_ok_and(|s| states_of(&s, port) == ["foreign", "foreign"])
    };
    wait_for("both of our filers to show it as foreign", both_show_it).await?;
    let shown = status(master_port)?;
    let foreign = shown["foreign"][0]["address"].as_str();
    ensure!(
        foreign.is_some_and(|a| a.starts_with(&format!("127.0.0.1:{port}")))
            && shown["unreachable"].as_array().is_some_and(Vec::is_empty),
        "it is not down: {shown}"
    );
    let replicated = || async { cluster.get(1, "/ours").await.ok().flatten().is_some() };
    wait_for("our filers to replicate all the same", replicated).await?;
    let theirs = cluster.get(0, "/theirs").await?;
    ensure!(
        theirs.is_none(),
        "a foreign filer's changes are not replicated"
    );
    Ok(())
}
