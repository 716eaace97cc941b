// SPDX-License-Identifier: Apache-2.0
//! A subscriber that reads the whole log.

use std::time::Instant;

use anyhow::{Result, bail};
use dulse_proto::filer as pb;

use super::{Cpu, Plan, fill};
use crate::report::{Report, Sample};
use crate::system::{Client, System};

/// Changes in the log, besides what other workloads left there.
const EVENTS: u64 = 100_000;

/// Subscribes from the beginning and reads until the newest change has come.
pub(crate) async fn run(systems: &[System], plan: Plan, report: &mut Report) -> Result<()> {
    for system in systems {
        fill(&system.filers[0], "drain", EVENTS.min(plan.missed_changes)).await?;
    }
    for repetition in 0..plan.repetitions {
        for system in systems {
            let marker = format!("drained-{repetition}");
            system.filers[0].mark("/bench/marks", &marker).await?;
            let client = system.filers[0].client().await?;
            let before = Cpu::of(system)?;
            let start = Instant::now();
            let events = drain(client, i32::try_from(repetition)? + 1, &marker).await?;
            let elapsed = start.elapsed();
            let used = Cpu::of(system)?.since(before);
            report.add(
                "subscriber drains the log",
                system.kind,
                Sample::total(events, elapsed, used),
            )?;
        }
    }
    Ok(())
}

async fn drain(mut client: Client, id: i32, marker: &str) -> Result<u64> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "bench".to_owned(),
        path_prefix: "/".to_owned(),
        since_ns: 1,
        client_id: 7000 + id,
        client_epoch: 1,
        client_supports_batching: true,
        ..Default::default()
    };
    let mut answers = client.subscribe_metadata(request).await?.into_inner();
    let mut events = 0;
    let is_marker = |event: &pb::SubscribeMetadataResponse| {
        let new = event.event_notification.as_ref()?.new_entry.as_ref()?;
        Some(new.take_name().ok()?.1 == marker)
    };
    while let Some(answer) = answers.message().await? {
        for event in std::iter::once(&answer).chain(&answer.events) {
            events += u64::from(event.event_notification.is_some());
            if event.directory == "/bench/marks" && is_marker(event) == Some(true) {
                return Ok(events);
            }
        }
    }
    bail!("the subscription ended before its last event")
}
