// SPDX-License-Identifier: Apache-2.0
//! One disk fails to sync.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dulse_tests::disk::Loss;
use dulse_tests::wait_for;

use crate::left::Left;
use crate::load::{Writer, all_there, shown};
use crate::rig::{Rig, seed};

/// Writes that are tried after the failure, none of which may be acknowledged.
const TRIES: usize = 20;

/// Lets writers work for a moment; all go on.
async fn work_a_while(rig: &mut Rig) -> Result<Vec<Writer>> {
    let mut writers = rig.writers();
    for writer in &mut writers {
        for _ in 0..20 {
            writer.step().await;
        }
        ensure!(writer.refusal.is_empty(), "refused: {}", writer.refusal);
    }
    Ok(writers)
}

/// Restarts the filer with a disk that works again, and loses the power then: what was shown
/// after the restart is there, although the system held it for written.
async fn restart_and_lose_power(rig: &mut Rig, writers: &mut Vec<Writer>) -> Result<()> {
    rig.cluster.filers[0].kill()?;
    rig.disk.fail_syncs(None);
    rig.cluster.filers[0].restart()?;
    rig.cluster.wait_ready(0).await?;
    rig.settle().await?;
    writers.extend(work_a_while(rig).await?);
    // The others have it a moment later.
    rig.settle().await?;
    all_there(&rig.cluster, writers).await?;
    rig.cluster.filers[0].kill()?;
    rig.disk.cut_after(0, Loss::All);
    let left = Left::open(&rig.disk, rig.engine)?;
    let own: Vec<_> = writers.iter().filter(|w| w.filer == 0).collect();
    left.places(&own, true)?;
    left.log_and_state_are_equal()?;
    rig.disk.power_on()?;
    rig.cluster.filers[0].restart()?;
    rig.cluster.wait_ready(0).await?;
    rig.settle().await?;
    all_there(&rig.cluster, writers).await
}

/// The log: nothing is acknowledged any more, reads and the others go on.
pub(crate) async fn log(engine: &'static str) -> Result<()> {
    let mut rig = Rig::start(seed("failing::log")?, engine, &["redb", "sqlite"], &[]).await?;
    let mut writers = work_a_while(&mut rig).await?;
    rig.disk.fail_syncs(Some(".seg"));
    let own = &mut writers[0];
    own.work(&AtomicBool::new(false)).await;
    ensure!(rig.disk.counts().failed > 0, "no sync failed");
    println!("the first refusal: {}", own.refusal);
    // Also when syncs succeed again: what failed is not on the disk.
    rig.disk.fail_syncs(None);
    for i in 0..TRIES {
        let made = rig.cluster.mkdir(0, &format!("/refused-{i}")).await;
        let said = made.err().context("acknowledged after a failed sync")?;
        let said = format!("{said:#}");
        ensure!(said.contains("503") && said.contains("restart"), "{said}");
    }
    let text = status(&rig)?;
    ensure!(
        text.contains("writes are refused: its log could not"),
        "{text}"
    );
    let asked = rig.cluster.http.get(rig.cluster.url(0, "/metrics"));
    let metrics = asked.send().await?.text().await?;
    ensure!(metrics.contains("dulse_journal_failed 1"), "the metric");
    shown(&rig.cluster, 0, &writers[1].dir).await?;
    for i in 0..TRIES {
        rig.cluster.mkdir(1, &format!("/others/go-on-{i}")).await?;
    }
    let at_the_third = || async {
        let names = rig.cluster.names(2, "/others").await;
        names.is_ok_and(|names| names.len() == TRIES)
    };
    wait_for("what the others do between them", at_the_third).await?;
    restart_and_lose_power(&mut rig, &mut writers).await
}

fn status(rig: &Rig) -> Result<String> {
    let master = format!("127.0.0.1:{}", rig.cluster.master_port);
    let output = std::process::Command::new(dulse_tests::program()?)
        .args(["status", "--master", &master])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The engine's file: what is acknowledged is in the log.
pub(crate) async fn engine(engine: &'static str) -> Result<()> {
    let test = "failing::engine";
    let mut rig = Rig::start(seed(test)?, engine, &["redb", "sqlite"], &[]).await?;
    let mut writers = work_a_while(&mut rig).await?;
    // Its file, or its logs.
    rig.disk.fail_syncs(Some(match engine {
        "leveldb" => ".log",
        _ => "store.",
    }));
    let mut more = rig.writers();
    let failed = || async { rig.disk.counts().failed > 0 };
    let (waited, _) = futures::join!(wait_for("a failed sync of the engine", failed), async {
        // Until then, and a while longer, as long as it takes writes.
        for writer in more.iter_mut().filter(|w| w.filer == 0) {
            for _ in 0..200 {
                writer.step().await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    waited?;
    // The log has what was acknowledged until then, and the engine's refusal is told.
    let said: Vec<_> = more.iter().map(|w| w.refusal.as_str()).collect();
    println!("said: {said:?}");
    let said = rig.cluster.mkdir(0, "/refused").await;
    let said = format!(
        "{:#}",
        said.err().context("acknowledged without an engine")?
    );
    ensure!(
        said.contains("failed sync") || said.contains("Previous I/O error"),
        "{said}"
    );
    let text = status(&rig)?;
    ensure!(text.contains("writes are refused: its engine"), "{text}");
    writers.extend(more);
    restart_and_lose_power(&mut rig, &mut writers).await
}
