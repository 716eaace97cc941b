// SPDX-License-Identifier: Apache-2.0
//! A filer that was away and comes back.

use anyhow::Result;

use super::{Cpu, Plan, fill};
use crate::report::{Report, Sample};
use crate::system::System;

/// Stops the second filer, makes changes at the first, starts the second again and waits
/// until it shows the last one. The time includes the start of the process.
pub(crate) async fn run(systems: &mut [System], plan: Plan, report: &mut Report) -> Result<()> {
    for repetition in 0..plan.repetitions {
        for system in systems.iter_mut() {
            system.filers[1].process.stop()?;
            let set = format!("missed-{repetition}");
            fill(&system.filers[0], &set, plan.missed_changes).await?;
            system.filers[0].mark("/bench/marks", &set).await?;
            let first = system.filers[0].process.cpu()?;
            system.filers[1].process.restart()?;
            let elapsed = system.filers[1].wait_visible("/bench/marks", &set).await?;
            let used = Cpu {
                // What is measured is the returning filer; the other serves it.
                first: system.filers[1].process.cpu()?,
                others: system.filers[0].process.cpu()?.saturating_sub(first),
            };
            report.add(
                "catch-up of missed changes",
                system.kind,
                Sample::total(plan.missed_changes, elapsed, used),
            )?;
        }
    }
    Ok(())
}
