// SPDX-License-Identifier: Apache-2.0
//! Power is lost at a random request, and comes back.

use anyhow::{Context, Result, ensure};
use dulse_tests::disk::Loss;
use rand::Rng;

use crate::left::Left;
use crate::load::{Writer, shown};
use crate::rig::{Rig, rounds, seed};

/// Requests until the cut.
const AFTER: std::ops::Range<u64> = 20..800;

/// The same in each fifth round of long runs: a checkpoint comes every five seconds.
const LONG_AFTER: std::ops::Range<u64> = 800..6000;

/// Requests of a first start.
const OF_A_START: std::ops::Range<u64> = 1..80;

fn of_filer_0(writers: &[Writer]) -> Vec<&Writer> {
    writers.iter().filter(|w| w.filer == 0).collect()
}

/// The origin of each filer, from `dulse status`.
fn origins(rig: &Rig) -> Result<Vec<String>> {
    let master = format!("127.0.0.1:{}", rig.cluster.master_port);
    let output = std::process::Command::new(dulse_tests::program()?)
        .args(["status", "--format=json", "--master", &master])
        .output()?;
    let all: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let filers = all["filers"].as_array().context("filers")?;
    let origins = filers.iter().map(|f| f["origin"].to_string());
    Ok(origins.collect())
}

/// Cuts the power in several rounds; what was acknowledged is there each time.
async fn cut(rig: &mut Rig, n_rounds: usize, is_certain: bool) -> Result<()> {
    rig.settle().await?;
    let before = origins(rig)?;
    for round in 0..n_rounds {
        // At least once what the scenario says: all that is not synced goes.
        let loss = Loss::EACH[round % 3];
        let is_long = round % 5 == 4;
        let after = rig
            .random
            .random_range(if is_long { LONG_AFTER } else { AFTER });
        let writers = rig.cut_under_load(after, loss).await?;
        let own = of_filer_0(&writers);
        let n: usize = own.iter().map(|w| w.n_acknowledged).sum();
        let what = format!("round {round}, {loss:?} after {after} requests, {n} acknowledged");
        println!("{what}");

        let left = Left::open(&rig.disk, rig.engine).context(what.clone())?;
        let places = left.places(&own, is_certain).context(what.clone())?;
        let kept = own.iter().zip(&places);
        let n_lost = kept.map(|(w, place)| w.n_acknowledged.saturating_sub(*place));
        println!("{} acknowledged writes lost", n_lost.sum::<usize>());
        left.log_and_state_are_equal().context(what.clone())?;

        rig.recover().await.context(what.clone())?;
        rig.settle().await.context(what.clone())?;
        let after = origins(rig)?;
        ensure!(
            after == before,
            "{what}: another origin: {before:?} {after:?}"
        );
        let mut places = places.into_iter();
        for writer in &writers {
            for filer in 0..rig.cluster.filers.len() {
                let tree = shown(&rig.cluster, filer, &writer.dir).await?;
                // What was there before anybody was asked is there, no less and no more: no
                // filer has what its origin lost.
                let among = if writer.filer > 0 {
                    writer.certain()
                } else if filer == 0 {
                    let place = places.next().context("a place")?;
                    place..=place
                } else {
                    writer.any()
                };
                let placed = writer.place(&tree, among);
                placed.with_context(|| format!("{what}, at filer {filer}"))?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn of_three(engine: &'static str) -> Result<()> {
    let seed = seed("of_three")?;
    let mut rig = Rig::start(seed, engine, &["redb", "sqlite"], &[]).await?;
    cut(&mut rig, rounds(3)?, true).await
}

pub(crate) async fn alone(engine: &'static str) -> Result<()> {
    let mut rig = Rig::start(seed("alone")?, engine, &[], &[]).await?;
    cut(&mut rig, rounds(3)?, true).await
}

pub(crate) async fn with_os(engine: &'static str) -> Result<()> {
    let flags = ["--durability=os"];
    let mut rig = Rig::start(seed("with_os")?, engine, &["sqlite"], &flags).await?;
    cut(&mut rig, rounds(3)?, false).await
}

/// A first start that is cut off leaves nothing that a second one stumbles over.
pub(crate) async fn made(engine: &'static str) -> Result<()> {
    let mut rig = Rig::start(seed("made")?, engine, &[], &["--alone"]).await?;
    for round in 0..rounds(4)? {
        rig.cluster.filers[0].kill()?;
        rig.disk.cut_after(0, Loss::All);
        rig.disk.power_on()?;
        std::fs::remove_dir_all(rig.store())?;
        let loss = Loss::EACH[round % 3];
        let after = rig.random.random_range(OF_A_START);
        let writers = rig.start_and_cut(after, loss).await?;
        let what = format!("round {round}, {loss:?} after {after} requests");
        println!("{what}");
        rig.recover().await.context(what.clone())?;
        rig.settle().await.context(what.clone())?;
        for writer in &writers {
            let tree = shown(&rig.cluster, 0, &writer.dir).await?;
            writer
                .place(&tree, writer.certain())
                .context(what.clone())?;
        }
    }
    Ok(())
}
