// SPDX-License-Identifier: Apache-2.0
//! Three masters of upstream's that elect a leader, and our filers under them.

use std::path::Path;

use anyhow::{Context, Result};
use dulse_tests::{Role, free_port, program, wait_for, weed};
use serde_json::Value;

/// Masters, a volume server, and filers that are told of all masters.
struct Masters {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    roles: Vec<Role>,
    http: reqwest::Client,
}

impl Masters {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = vec![free_port()?, free_port()?, free_port()?];
        let peers = list(&ports);
        let start = |port: &u16| {
            let home = dir.path().join(format!("master-{port}"));
            std::fs::create_dir_all(&home)?;
            let flags = ["master", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"].map(str::to_owned);
            let mut flags = flags.to_vec();
            flags.extend([
                format!("-port={port}"),
                format!("-peers={peers}"),
                format!("-mdir={}", home.display()),
                "-electionTimeout=2s".to_owned(),
                "-volumeSizeLimitMB=100".to_owned(),
            ]);
            Role::start_program(weed()?, flags)
        };
        let roles = ports.iter().map(start).collect::<Result<_>>()?;
        let http = reqwest::Client::builder().timeout(dulse_tests::PATIENCE);
        Ok(Self {
            dir,
            ports,
            roles,
            http: http.build()?,
        })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The one of these masters that the others call their leader.
    async fn leader(&self, among: &[usize]) -> Option<usize> {
        for n in among {
            let url = format!("http://127.0.0.1:{}/cluster/status", self.ports[*n]);
            let asked = self
                .http
                .get(url)
                .timeout(std::time::Duration::from_secs(2));
            let Ok(answer) = asked.send().await else {
                continue;
            };
            let status: Value = answer.json().await.ok()?;
            if status["IsLeader"] == true {
                return Some(*n);
            }
        }
        None
    }

    async fn wait_leader(&self, among: &[usize]) -> Result<usize> {
        let has = || async { self.leader(among).await.is_some() };
        wait_for("a leader among the masters", has).await?;
        self.leader(among).await.context("the leader is gone again")
    }

    fn start_volume(&self) -> Result<Role> {
        let (port, home) = (free_port()?, self.path().join("volume"));
        Role::start_program(
            program()?,
            vec![
                "volume".to_owned(),
                format!("--port={port}"),
                format!("--dir={}", home.display()),
                format!("--config-dir={}", self.path().display()),
                format!("--master={}", list(&self.ports)),
                "--exit-with-stdin".to_owned(),
            ],
        )
    }

    async fn start_filer(&self, n: usize) -> Result<(Role, u16)> {
        let (port, home) = (free_port()?, self.path().join(format!("filer-{n}")));
        let role = Role::start_program(
            program()?,
            vec![
                "filer".to_owned(),
                format!("--port={port}"),
                format!("--dir={}", home.display()),
                format!("--config-dir={}", self.path().display()),
                format!("--master={}", list(&self.ports)),
                "--exit-with-stdin".to_owned(),
            ],
        )?;
        let url = format!("http://127.0.0.1:{port}/readyz");
        let ready = || async {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|a| a.status().is_success())
        };
        wait_for("a filer that is ready", ready).await?;
        Ok((role, port))
    }

    async fn put(&self, filer: u16, path: &str) -> Result<bool> {
        let url = format!("http://127.0.0.1:{filer}{path}");
        let answer = self.http.put(url).body(path.to_owned()).send().await?;
        Ok(answer.status() == 201)
    }

    async fn wait_read(&self, filer: u16, path: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{filer}{path}");
        let reads = || async {
            let Ok(answer) = self.http.get(&url).send().await else {
                return false;
            };
            answer.status() == 200 && answer.text().await.is_ok_and(|text| text == path)
        };
        wait_for(&format!("{path} at {filer}"), reads).await
    }
}

fn list(ports: &[u16]) -> String {
    let all: Vec<_> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    all.join(",")
}

/// Frozen, not killed: a machine without power resets no connection.
#[tokio::test]
async fn s21_the_leading_master_loses_power_and_discovery_goes_on_at_the_next() -> Result<()> {
    let masters = Masters::start()?;
    let leader = masters.wait_leader(&[0, 1, 2]).await?;
    let _volume = masters.start_volume()?;
    let (_first, first) = masters.start_filer(0).await?;
    let (_second, second) = masters.start_filer(1).await?;
    let put = || async { masters.put(first, "/before").await.is_ok_and(|ok| ok) };
    wait_for("a volume that takes writes", put).await?;
    masters.wait_read(second, "/before").await?;

    masters.roles[leader].freeze()?;
    // Known peers keep streaming: a directory needs no master.
    let made = masters
        .http
        .post(format!("http://127.0.0.1:{first}/known/"));
    assert_eq!(made.send().await?.status(), 201);
    let seen = || async {
        let url = format!("http://127.0.0.1:{second}/known/?limit=1");
        let answer = masters.http.get(url).send().await;
        answer.is_ok_and(|a| a.status() == 200)
    };
    wait_for("a change while the leader is gone", seen).await?;

    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    masters.wait_leader(&others).await?;
    let (_third, third) = masters.start_filer(2).await?;
    masters.wait_read(third, "/before").await?;
    let put = || async { masters.put(third, "/after").await.is_ok_and(|ok| ok) };
    wait_for("a volume at the next leader", put).await?;
    for filer in [first, second] {
        masters.wait_read(filer, "/after").await?;
    }
    Ok(())
}
