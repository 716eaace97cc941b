// SPDX-License-Identifier: Apache-2.0
//! Files of 4 KiB over HTTP; their content goes to a volume server.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Cpu, Plan};
use crate::drive::{Limits, drive};
use crate::entries::{self, scatter};
use crate::report::{Report, Sample};
use crate::system::{Kind, System};

/// Clients, each with a connection of its own.
pub(crate) const CLIENTS: usize = 16;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// As many clients, each with a connection of its own.
pub(crate) fn clients(n: usize) -> Result<Vec<reqwest::Client>> {
    let client = |_| {
        Ok(reqwest::Client::builder()
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?)
    };
    (0..n).map(client).collect()
}

/// Writes the n-th file of a set.
pub(crate) async fn put(client: reqwest::Client, port: u16, set: String, n: u64) -> Result<()> {
    let put = client.put(url(port, &set, n)).body(entries::content(n));
    let answer = put.send().await?;
    let status = answer.status();
    ensure!(status == 201, "put: {status} {}", answer.text().await?);
    answer.bytes().await?;
    Ok(())
}

/// Reads the n-th file of a set.
pub(crate) async fn get(client: reqwest::Client, port: u16, set: String, n: u64) -> Result<()> {
    let answer = client.get(url(port, &set, n)).send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    ensure!(
        status == 200 && body.len() == 4096,
        "get: {status}, {} bytes",
        body.len()
    );
    Ok(())
}

fn url(port: u16, set: &str, n: u64) -> String {
    let (directory, name) = (entries::directory(set, n), entries::name(n));
    format!("http://127.0.0.1:{port}{directory}/{name}")
}

/// Runs puts and gets on each system, the systems in turn.
pub(crate) async fn run(systems: &[System], plan: Plan, report: &mut Report) -> Result<()> {
    let clients = clients(CLIENTS)?;
    for system in systems.iter().filter(|s| s.kind != Kind::Ceiling) {
        // Volumes are made at the first writes.
        let port = system.filers[0].port;
        drive(&clients, Limits::operations(200), move |client, n| {
            put(client, port, "h-first".to_owned(), n)
        })
        .await?;
    }
    for repetition in 0..plan.repetitions {
        let set = format!("h{repetition}");
        let mut sizes = Vec::new();
        for system in systems {
            let (port, of_clients) = (system.filers[0].port, set.clone());
            let before = Cpu::of(system)?;
            let driven = drive(&clients, Limits::time(plan.time), move |client, n| {
                put(client, port, of_clients.clone(), n)
            })
            .await?;
            let used = Cpu::of(system)?.since(before);
            sizes.push(driven.operations);
            report.add("http put 4 KiB", system.kind, Sample::of(&driven, used))?;
        }
        for (system, size) in systems.iter().zip(sizes) {
            let (port, of_clients) = (system.filers[0].port, set.clone());
            let before = Cpu::of(system)?;
            let driven = drive(&clients, Limits::time(plan.time), move |client, n| {
                get(client, port, of_clients.clone(), scatter(n) % size.max(1))
            })
            .await?;
            let used = Cpu::of(system)?.since(before);
            report.add("http get 4 KiB", system.kind, Sample::of(&driven, used))?;
        }
    }
    Ok(())
}
