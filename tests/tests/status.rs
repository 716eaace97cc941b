// SPDX-License-Identifier: Apache-2.0
//! `dulse status` and `dulse verify`: who is there, who is not, and where filers differ.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, free_port, program, wait_for};
use serde_json::Value;

fn run(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(program()?).args(arguments).output()?)
}

fn status(cluster: &Cluster) -> Result<Value> {
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let output = run(&["status", "--format=json", "--master", &master])?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).context("JSON")
}

#[tokio::test]
async fn status_tells_everything_of_each_filer_and_who_is_down() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.put(0, "/a.txt", b"a".to_vec()).await?;
    cluster.wait_converged().await?;
    let all = status(&cluster)?;
    assert_eq!(all["converged"], true);
    let filers = all["filers"].as_array().context("filers")?;
    assert_eq!(filers.len(), 2);
    for filer in filers {
        assert_eq!(
            (&filer["ready"], &filer["entries"]),
            (&true.into(), &1.into())
        );
        assert_eq!(filer["digest"].as_str().map(str::len), Some(32));
        let vector = filer["vector"].as_object().context("vector")?;
        ensure!(!vector.is_empty() && vector.values().all(Value::is_string));
        assert_eq!(filer["origin"].as_str().map(str::len), Some(16));
        let peer = &filer["peers"][0];
        assert_eq!(
            (&peer["state"], &peer["lag_changes"]),
            (&"streaming".into(), &0.into())
        );
        assert_eq!(peer["lag_seconds"], 0.0);
        assert_eq!(peer["lag_bytes"], 0);
        assert_eq!(
            (&filer["stuck"], &filer["clock_refuses"]),
            (&Value::Array(vec![]), &false.into())
        );
    }
    let mut engines: Vec<_> = filers.iter().map(|f| f["engine"].as_str()).collect();
    engines.sort();
    assert_eq!(engines, [Some("redb"), Some("sqlite")]);

    // Each has all that the other has on disk: either may be stopped.
    let may_stop = || async {
        status(&cluster).is_ok_and(|all| {
            let mut filers = all["filers"].as_array().into_iter().flatten();
            filers.all(|filer| filer["safe_to_stop"] == true)
        })
    };
    wait_for("filers that may be stopped", may_stop).await?;
    // Frozen, its connections stay; killed, the master forgets that it was connected.
    cluster.filers[1].freeze()?;
    let gone = format!("127.0.0.1:{}.", cluster.filer_ports[1]);
    let names = |all: &Value| all["unreachable"][0]["address"].to_string().contains(&gone);
    let frozen = status(&cluster)?;
    assert!(names(&frozen) && frozen["converged"] == false, "{frozen}");
    cluster.filers[1].kill()?;
    let is_told = || async { status(&cluster).is_ok_and(|s| names(&s) && s["converged"] == false) };
    wait_for("a status that tells who is down", is_told).await?;
    // The one that is left has nobody who has its data and answers.
    let is_last = || async {
        status(&cluster).is_ok_and(|all| {
            let filer = &all["filers"][0];
            let why = filer["not_safe_to_stop"].to_string();
            filer["safe_to_stop"] == false && why.contains("no other member answers")
        })
    };
    wait_for("a filer that must not be stopped", is_last).await?;
    let master = format!("127.0.0.1:{}", cluster.master_port);
    // Of several masters, the one that answers counts.
    let masters = format!("127.0.0.1:{},{master}", free_port()?);
    let verified = run(&["verify", "--master", &masters])?;
    assert_eq!(
        verified.status.code(),
        Some(3),
        "not compared is neither equal nor different"
    );
    assert!(String::from_utf8_lossy(&verified.stderr).contains("is down"));
    Ok(())
}

#[tokio::test]
async fn without_a_master_status_fails_with_one_sentence() -> Result<()> {
    let master = format!("127.0.0.1:{}", free_port()?);
    let output = run(&["status", "--master", &master])?;
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("the master {master} does not answer")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn verify_finds_the_one_path_that_differs() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    for i in 0..300 {
        cluster
            .mkdir(i % 2, &format!("/verify/{}/{i}", i % 7))
            .await?;
    }
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    // Apart: each at a new port, one without a master, so that they do not find each other.
    cluster.filers[0].terminate()?;
    cluster.filers[1].terminate()?;
    cluster.filer_ports = vec![free_port()?, free_port()?];
    let nowhere = format!("127.0.0.1:{}", free_port()?);
    let ports = cluster.filer_ports.clone();
    cluster.filers[1].restart_with("master", &nowhere)?;
    cluster.filers[1].kill()?;
    cluster.filers[1].restart_with("port", &ports[1].to_string())?;
    cluster.filers[0].restart_with("port", &ports[0].to_string())?;
    cluster.wait_ready(0).await?;
    cluster.mkdir(0, "/verify/3/only-here").await?;
    let filers = format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]);
    let arguments = ["verify", "--wait-seconds=0", "--filers", &filers];
    let is_up = || async { run(&arguments).is_ok_and(|o| o.status.code() == Some(1)) };
    wait_for("both filers", is_up).await?;
    let output = run(&arguments)?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().any(|line| line == "/verify/3/only-here"),
        "{said}"
    );
    assert!(said.ends_with("1 paths differ\n"), "{said}");
    Ok(())
}
