// SPDX-License-Identifier: Apache-2.0
//! Filers that were away: killed, frozen, lost, restored, moved, restarted.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;

use super::super::Client;
use super::{Outcome, Side, fill};
use crate::{free_port, wait_for};

/// Changes made while a filer is frozen.
const MISSED: usize = 5_000;

/// Clients that write during a rolling restart.
const WRITERS: usize = 6;

/// How long all filers run between two restarts.
const BETWEEN: Duration = Duration::from_secs(3);

/// Pause of a client after each request.
const PAUSE: Duration = Duration::from_millis(5);

/// Pause of a client whose request failed.
const RETRY: Duration = Duration::from_millis(50);

pub(super) async fn s01(side: &mut Side) -> Result<Outcome> {
    side.put(0, "/s01/gone", b"x").await?;
    side.put(0, "/s01/kept", b"x").await?;
    side.agree("/s01", &[0, 1, 2], &[]).await?;
    side.filers[0].freeze()?;
    side.filers[1].freeze()?;
    side.delete(2, "/s01/gone").await?;
    side.filers[2].kill()?;
    side.filers[0].thaw()?;
    side.filers[1].thaw()?;
    side.filers[2].restart()?;
    side.wait_serving(2).await?;
    let kept = ["/s01/kept".to_owned()];
    let mut outcome = side.agree("/s01", &[0, 1, 2], &kept).await?;
    if outcome.passes && side.get(0, "/s01/gone").await?.is_some() {
        outcome = Outcome::fail("equal, but the deleted file is back");
    }
    Ok(outcome)
}

pub(super) async fn s02(side: &mut Side) -> Result<Outcome> {
    side.filers[1].kill()?;
    side.master.kill()?;
    let mut wanted = fill(side, 0, "/s02/a", 100).await?;
    side.filers[1].restart()?;
    side.wait_serving(1).await?;
    wanted.extend(fill(side, 1, "/s02/b", 100).await?);
    side.agree("/s02", &[0, 1], &wanted).await
}

pub(super) async fn s07(side: &mut Side) -> Result<Outcome> {
    side.put(0, "/s07/f", b"old").await?;
    side.agree("/s07", &[0, 1], &[]).await?;
    let (older, newer) = (b"older than it looks".as_slice(), b"newer".as_slice());
    side.filers[1].freeze()?;
    side.put(0, "/s07/f", older).await?;
    side.filers[0].freeze()?;
    side.filers[1].thaw()?;
    side.put(1, "/s07/f", newer).await?;
    side.filers[1].kill()?;
    side.filers[0].thaw()?;
    side.filers[1].restart()?;
    side.wait_serving(1).await?;
    let outcome = side.agree("/s07", &[0, 1], &[]).await?;
    for filer in 0..2 {
        let got = side.get(filer, "/s07/f").await?;
        if outcome.passes && got.as_deref() != Some(newer) {
            return Ok(Outcome::fail("equal, but the newer write is gone"));
        }
    }
    Ok(outcome)
}

pub(super) async fn s08(side: &mut Side) -> Result<Outcome> {
    let mut wanted = fill(side, 0, "/s08/a", 100).await?;
    wanted.extend(fill(side, 1, "/s08/b", 100).await?);
    side.agree("/s08", &[0, 1], &wanted).await?;
    side.filers[0].kill()?;
    side.wipe(0)?;
    wanted.extend(fill(side, 1, "/s08/c", 100).await?);
    side.filers[0].restart()?;
    side.wait_serving(0).await?;
    side.agree("/s08", &[0, 1], &wanted).await
}

pub(super) async fn s10(side: &mut Side) -> Result<Outcome> {
    let mut wanted = fill(side, 0, "/s10/a", 50).await?;
    wanted.extend(fill(side, 1, "/s10/b", 50).await?);
    side.agree("/s10", &[0, 1], &wanted).await?;
    side.filers[1].kill()?;
    let backup = side.dir.path().join("backup");
    copy(&side.store(1), &backup)?;
    side.filers[1].restart()?;
    side.wait_serving(1).await?;
    wanted.extend(fill(side, 1, "/s10/since", 100).await?);
    let arrived = side.agree("/s10", &[0, 1], &wanted).await?;
    ensure!(
        arrived.passes,
        "the other filer has not got it: {}",
        arrived.seen
    );
    side.filers[1].kill()?;
    std::fs::remove_dir_all(side.store(1))?;
    copy(&backup, &side.store(1))?;
    side.filers[1].restart()?;
    side.wait_serving(1).await?;
    wanted.extend(fill(side, 0, "/s10/after-0", 20).await?);
    // It may refuse writes until it has what it lost.
    let path = "/s10/after-1";
    let taken = || async { side.mkdir(1, path).await.is_ok() };
    wait_for("a filer that takes writes again", taken).await?;
    wanted.push(path.to_owned());
    side.agree("/s10", &[0, 1], &wanted).await
}

/// Copies a directory with all that is in it, as `cp -a` does.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp -a {from:?} {to:?}: {status}");
    Ok(())
}

pub(super) async fn s18(side: &mut Side) -> Result<Outcome> {
    let mut wanted = Vec::new();
    for filer in 0..3 {
        wanted.extend(fill(side, filer, &format!("/s18/before-{filer}"), 20).await?);
    }
    side.agree("/s18", &[0, 1, 2], &wanted).await?;
    side.filers[1].kill()?;
    side.filers[2].kill()?;
    let (old, new) = (side.ports[1], free_port()?);
    side.restart_at(1, new)?;
    side.restart_at(2, old)?;
    for filer in 1..3 {
        side.wait_serving(filer).await?;
    }
    for filer in 0..3 {
        wanted.extend(fill(side, filer, &format!("/s18/after-{filer}"), 20).await?);
    }
    side.agree("/s18", &[0, 1, 2], &wanted).await
}

pub(super) async fn s19(side: &mut Side) -> Result<Outcome> {
    side.mkdir(0, "/s19/dir").await?;
    side.agree("/s19", &[0, 1, 2], &[]).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(written(side.client(), n, Arc::clone(&is_over))))
        .collect();
    for filer in 0..3 {
        tokio::time::sleep(BETWEEN).await;
        // Services are killed that do not stop.
        if side.filers[filer].terminate().is_err() {
            side.filers[filer].kill()?;
        }
        side.filers[filer].restart()?;
        side.wait_serving(filer).await?;
    }
    tokio::time::sleep(BETWEEN).await;
    is_over.store(true, Ordering::Relaxed);
    let mut wanted = Vec::new();
    for writer in join_all(writers).await {
        wanted.extend(writer?);
    }
    side.agree("/s19", &[0, 1, 2], &wanted).await
}

/// Makes directories one after the other, at the next filer when one fails, until it is
/// over. Gives those that were acknowledged.
async fn written(client: Client, writer: usize, is_over: Arc<AtomicBool>) -> Vec<String> {
    let (mut acknowledged, mut filer) = (Vec::new(), writer % 3);
    for n in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let path = format!("/s19/{writer}-{n}");
        match client.mkdir(filer, &path).await {
            Ok(()) => {
                acknowledged.push(path);
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {
                filer = (filer + 1) % 3;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    acknowledged
}

pub(super) async fn s23(side: &mut Side) -> Result<Outcome> {
    side.filers[1].freeze()?;
    let wanted = fill(side, 0, "/s23", MISSED).await?;
    side.filers[0].kill()?;
    side.filers[0].restart()?;
    side.filers[1].thaw()?;
    side.wait_serving(0).await?;
    side.agree("/s23", &[0, 1], &wanted).await
}

pub(super) async fn s26(side: &mut Side) -> Result<Outcome> {
    side.filers[2].freeze()?;
    let wanted = fill(side, 0, "/s26", 200).await?;
    let arrived = side.agree("/s26", &[0, 1], &wanted).await?;
    anyhow::ensure!(arrived.passes, "they did not reach the first peer");
    side.filers[0].kill()?;
    side.wipe(0)?;
    side.filers[2].thaw()?;
    side.agree("/s26", &[1, 2], &wanted).await
}
