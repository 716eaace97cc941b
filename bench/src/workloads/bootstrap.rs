// SPDX-License-Identifier: Apache-2.0
//! A fresh filer takes everything from one that has it.

use std::time::Instant;

use anyhow::Result;

use super::{Cpu, Plan, fill, wait_quiet};
use crate::report::{Report, Sample};
use crate::system::{Kind, Programs, System};

/// Starts a fresh filer beside one with many entries and waits until it shows the last;
/// then until both are quiet, and asks for their memory.
pub(crate) async fn run(
    kinds: &[Kind],
    programs: &Programs,
    plan: Plan,
    report: &mut Report,
) -> Result<()> {
    for kind in kinds {
        let mut system = System::start(*kind, programs, 1).await?;
        fill(&system.filers[0], "tree", plan.bootstrap_entries).await?;
        // Breadth first, this one comes last.
        system.filers[0].mark("/bench/zz", "zzzz").await?;
        wait_quiet(&system).await?;
        for _ in 0..plan.repetitions {
            let first = system.filers[0].process.cpu()?;
            let start = Instant::now();
            system.add_filer()?;
            system.filers[1].wait_visible("/bench/zz", "zzzz").await?;
            let elapsed = start.elapsed();
            wait_quiet(&system).await?;
            let used = Cpu {
                first: system.filers[1].process.cpu()?,
                others: system.filers[0].process.cpu()?.saturating_sub(first),
            };
            let mut sample = Sample::total(plan.bootstrap_entries, elapsed, used);
            let fresh = system.filers[1].process.resident_bytes()?;
            let old = system.filers[0].process.resident_bytes()?;
            sample.resident_bytes = Some((fresh, old));
            report.add("bootstrap of a fresh filer", *kind, sample)?;
            let mut fresh = system.filers.remove(1);
            fresh.process.stop()?;
        }
    }
    Ok(())
}
