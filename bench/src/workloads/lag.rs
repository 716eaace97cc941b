// SPDX-License-Identifier: Apache-2.0
//! How long until a change made at one filer is visible at the other.

use std::time::{Duration, Instant};

use anyhow::Result;
use dulse_proto::filer as pb;
use hdrhistogram::Histogram;

use super::{Cpu, GRPC_CLIENTS, Plan, create};
use crate::drive::{Limits, drive, histogram};
use crate::entries::{self, scatter};
use crate::report::{Report, Sample};
use crate::system::{Client, System};

/// Creates per second beside the probes.
const RATE: f64 = 5_000.0;

/// Pause between probes, plus up to as much again.
const PAUSE: Duration = Duration::from_millis(5);

/// Between creates at one filer, asks the other for each until it is there.
pub(crate) async fn run(systems: &[System], plan: Plan, report: &mut Report) -> Result<()> {
    for repetition in 0..plan.repetitions {
        for system in systems {
            let set = format!("lag-idle-{repetition}");
            let before = Cpu::of(system)?;
            let idle = probe(system, &set, plan.probes).await?;
            let sample = Sample::times(idle, Cpu::of(system)?.since(before));
            report.add("visible at the peer, idle", system.kind, sample)?;

            let clients = system.filers[0].clients(GRPC_CLIENTS).await?;
            let of_clients = format!("lag-load-{repetition}");
            let limits = Limits {
                rate: Some(RATE),
                ..Limits::operations(u64::MAX)
            };
            let load = tokio::spawn(async move {
                drive(&clients, limits, move |client, n| {
                    create(client, of_clients.clone(), n)
                })
                .await
                .map(|_| ())
            });
            let set = format!("lag-busy-{repetition}");
            let before = Cpu::of(system)?;
            let busy = probe(system, &set, plan.probes).await;
            load.abort();
            let sample = Sample::times(busy?, Cpu::of(system)?.since(before));
            report.add("visible at the peer, 5000/s", system.kind, sample)?;
        }
    }
    Ok(())
}

async fn probe(system: &System, set: &str, n: u64) -> Result<Histogram<u64>> {
    let from = system.filers[0].client().await?;
    let mut to = system.filers[1].client().await?;
    let mut lags = histogram()?;
    for i in 0..n {
        create(from.clone(), set.to_owned(), i).await?;
        let acknowledged = Instant::now();
        while !is_visible(&mut to, set, i).await {}
        lags.record(u64::try_from(acknowledged.elapsed().as_micros())?)?;
        tokio::time::sleep(PAUSE + PAUSE.mul_f64((scatter(i) % 100) as f64 / 100.0)).await;
    }
    Ok(lags)
}

async fn is_visible(client: &mut Client, set: &str, n: u64) -> bool {
    let request = pb::LookupDirectoryEntryRequest {
        directory: entries::directory(set, n),
        name: entries::name(n),
    };
    let answer = client.lookup_directory_entry(request).await;
    answer.is_ok_and(|a| a.get_ref().entry.is_some())
}
