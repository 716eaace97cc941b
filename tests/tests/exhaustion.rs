// SPDX-License-Identifier: Apache-2.0
//! S17: one filer without room on its disk, or without file descriptors, among others.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, PATIENCE, Role, free_port, program, wait_for};

/// Size of the small disk: the store's reserve is a part of it.
const DISK: &str = "size=160m";

/// Descriptors of the filer that runs out of them; it needs some forty when idle.
const DESCRIPTORS: u32 = 90;

/// Connections held open against it.
const CONNECTIONS: usize = 150;

/// A filer behind a program that limits it and then becomes it.
fn start_limited(cluster: &mut Cluster, limits: &str, dir: &str) -> Result<usize> {
    let port = free_port()?;
    let mut arguments: Vec<String> = limits.split(' ').map(str::to_owned).collect();
    let limiter = PathBuf::from(arguments.remove(0));
    let script = arguments.pop().context("a script")?;
    arguments.push(script.replace("DIR", dir).replace('~', " "));
    arguments.extend(["sh".to_owned(), program()?.display().to_string()]);
    arguments.extend([
        "filer".to_owned(),
        format!("--port={port}"),
        format!("--dir={dir}"),
        format!("--config-dir={}", cluster.dir.path().display()),
        "--exit-with-stdin".to_owned(),
        format!("--master=127.0.0.1:{}", cluster.master_port),
    ]);
    cluster
        .filers
        .push(Role::start_program(limiter, arguments)?);
    cluster.filer_ports.push(port);
    Ok(cluster.filers.len() - 1)
}

async fn mkdir_status(cluster: &Cluster, filer: usize, path: &str) -> Result<(u16, String)> {
    let url = cluster.url(filer, &format!("{path}/"));
    let answer = cluster.http.post(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn s17_a_filer_on_a_full_disk_refuses_writes_reads_on_and_resumes_by_itself() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let dir = cluster.dir.path().join("small");
    std::fs::create_dir(&dir)?;
    let dir = dir.display().to_string();
    // The mount is the filer's own and ends with it.
    let limits = format!(
        "unshare --user --map-root-user --mount sh -c mount~-t~tmpfs~-o~{DISK}~tmpfs~DIR~&&~exec~\"$@\""
    );
    let small = start_limited(&mut cluster, &limits, &dir)?;
    cluster.wait_ready(small).await?;
    cluster.mkdir(small, "/s17/before").await?;
    cluster.wait_converged().await?;

    let inside = format!("/proc/{}/root{dir}/ballast", cluster.filers[small].pid());
    let mut ballast = std::fs::File::create(&inside)?;
    let block = vec![0; 1 << 20];
    while ballast.write_all(&block).is_ok() {}
    let mut n_acknowledged = 0;
    let refused = wait_refused(&cluster, small, &mut n_acknowledged).await?;
    ensure!(refused.0 == 507, "{refused:?}");
    ensure!(refused.1.contains("full"), "says why: {}", refused.1);
    assert_eq!(
        cluster.names(small, "/s17").await?.len(),
        1 + n_acknowledged
    );
    for i in 0..100 {
        cluster.mkdir(i % 2, &format!("/s17/meanwhile-{i}")).await?;
    }
    // What the others do goes on between them, and this one is told, not stopped.
    let others = || async { cluster.names(1, "/s17").await.is_ok_and(|n| n.len() > 100) };
    wait_for("the other two in step", others).await?;

    drop(ballast);
    std::fs::remove_file(&inside)?;
    cluster.wait_converged().await?;
    let all = 101 + n_acknowledged;
    assert_eq!(cluster.names(small, "/s17").await?.len(), all);
    cluster.mkdir(small, "/s17/after").await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.names(0, "/s17").await?.len(), all + 1);
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

/// Writes until the filer refuses; what it said, and how many it took.
async fn wait_refused(cluster: &Cluster, filer: usize, taken: &mut usize) -> Result<(u16, String)> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let answer = mkdir_status(cluster, filer, &format!("/s17/own-{taken}")).await?;
        if answer.0 != 201 {
            return Ok(answer);
        }
        *taken += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("it took {taken} writes on a full disk")
}

#[tokio::test]
async fn s17_a_filer_without_descriptors_resumes_by_itself_and_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&["redb"]).await?;
    let dir = cluster.dir.path().join("limited").display().to_string();
    let limits = format!("/bin/sh -c ulimit~-n~{DESCRIPTORS}~&&~exec~\"$@\"");
    let limited = start_limited(&mut cluster, &limits, &dir)?;
    cluster.wait_ready(limited).await?;
    cluster.mkdir(limited, "/s17/before").await?;

    let at = ("127.0.0.1", cluster.filer_ports[limited]);
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(tokio::net::TcpStream::connect(at).await?);
    }
    let pid = cluster.filers[limited].pid();
    let exhausted = || async {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        open.is_ok_and(|open| open.count() >= DESCRIPTORS as usize - 1)
    };
    wait_for("a filer without descriptors", exhausted).await?;
    // A connection from before still works, and so does the other filer.
    let (status, text) = mkdir_status(&cluster, limited, "/s17/during").await?;
    ensure!(matches!(status, 201 | 500 | 503 | 507), "{status} {text}");
    let n_acknowledged = usize::from(status == 201);
    for i in 0..50 {
        cluster.mkdir(0, &format!("/s17/other-{i}")).await?;
    }
    let names = cluster.names(limited, "/s17").await?;
    ensure!(names.iter().any(|n| n == "before"), "{names:?}");

    drop(held);
    cluster.wait_ready(limited).await?;
    cluster.wait_converged().await?;
    cluster.mkdir(limited, "/s17/after").await?;
    cluster.wait_converged().await?;
    let all = 52 + n_acknowledged;
    assert_eq!(cluster.names(limited, "/s17").await?.len(), all);
    assert_eq!(cluster.names(0, "/s17").await?.len(), all);
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}
