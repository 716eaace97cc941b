// SPDX-License-Identifier: Apache-2.0
//! A short run of the workloads under faults; `cargo xtask chaos --minutes 10` is a long one.

use std::time::Duration;

use anyhow::{Result, ensure};

/// How long faults are inflicted.
const FAULTS_FOR: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_under_faults_is_there_and_seen_at_every_filer() -> Result<()> {
    let seed = std::env::var("DULSE_CHAOS_SEED").ok();
    let seed = seed.map_or(Ok(1), |seed| seed.parse())?;
    println!("again with DULSE_CHAOS_SEED={seed}");
    let report = dulse_tests::chaos::run(seed, FAULTS_FOR).await?;
    println!("{report:#?}");
    let f = report.faults;
    ensure!(f.frozen + f.killed + f.stopped > 5, "hardly a fault: {f:?}");
    ensure!(
        report.counts.acknowledged > 500,
        "hardly a write: {:?}",
        report.counts
    );
    Ok(())
}
