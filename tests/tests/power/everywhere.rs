// SPDX-License-Identifier: Apache-2.0
//! Every filer of a cluster loses its power at one moment.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use dulse_tests::Cluster;
use dulse_tests::disk::{Disk, Loss};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::left::Left;
use crate::load::{Writer, shown};
use crate::rig::{rounds, seed};

/// Requests at the first disk until the cut.
const AFTER: std::ops::Range<u64> = 50..600;

/// Writers at each filer.
const WRITERS: usize = 2;

/// What each filer acknowledged is there before any of them talks, and they agree afterwards.
pub(crate) async fn at_once(engine: &'static str) -> Result<()> {
    let seed = seed("everywhere::at_once")?;
    let mut random = StdRng::seed_from_u64(seed);
    let engines = [engine, "redb", "sqlite"];
    // Order: processes end before their disks, and these before the directory.
    let dir = tempfile::tempdir()?;
    let mut disks = Vec::new();
    for filer in 0..engines.len() {
        let at = dir.path().join(format!("disk-{filer}"));
        disks.push(Disk::mount(&at, random.random())?);
    }
    let mut cluster = Cluster::start(&[]).await?;
    for (filer, (disk, engine)) in disks.iter().zip(engines).enumerate() {
        let at = disk.path().join("store");
        cluster.add_filer_at(&at, engine, &["--inline-below=4KiB"])?;
        cluster.wait_ready(filer).await?;
    }
    for round in 0..rounds(3)? {
        let loss = Loss::EACH[round % 3];
        let after = random.random_range(AFTER);
        let mut writers = Vec::new();
        for (filer, port) in cluster.filer_ports.iter().enumerate() {
            for n in 0..WRITERS {
                let dir = format!("/all-{round}/{filer}-{n}");
                writers.push(Writer::new(filer, *port, dir, random.random()));
            }
        }
        cut(&mut cluster, &disks, &mut writers, (after, loss)).await?;
        let n: usize = writers.iter().map(|w| w.n_acknowledged).sum();
        let what = format!("round {round}, {loss:?} after {after} requests, {n} acknowledged");
        println!("{what}");
        for (filer, (disk, engine)) in disks.iter_mut().zip(engines).enumerate() {
            let left = Left::open(disk, engine).context(what.clone())?;
            let own: Vec<_> = writers.iter().filter(|w| w.filer == filer).collect();
            left.places(&own, true).context(what.clone())?;
            disk.power_on()?;
        }
        for filer in &mut cluster.filers {
            filer.restart()?;
        }
        for filer in 0..engines.len() {
            cluster.wait_ready(filer).await?;
        }
        cluster.wait_converged().await.context(what.clone())?;
        ensure!(cluster.verify()? == Some(0), "{what}: verify");
        for writer in &writers {
            for filer in 0..engines.len() {
                let tree = shown(&cluster, filer, &writer.dir).await?;
                let placed = writer.place(&tree, writer.certain());
                placed.with_context(|| format!("{what}, at filer {filer}"))?;
            }
        }
    }
    Ok(())
}

/// Cuts the power of all when the first has had so many requests.
async fn cut(
    cluster: &mut Cluster,
    disks: &[Disk],
    writers: &mut [Writer],
    (after, loss): (u64, Loss),
) -> Result<()> {
    let over = AtomicBool::new(false);
    disks[0].cut_after(after, loss);
    let killer = async {
        disks[0].wait_off().await;
        for disk in &disks[1..] {
            disk.cut_after(0, loss);
        }
        over.store(true, Ordering::Relaxed);
        cluster.filers.iter_mut().try_for_each(|filer| filer.kill())
    };
    let working = writers.iter_mut().map(|writer| writer.work(&over));
    let (killed, _) = futures::join!(killer, futures::future::join_all(working));
    killed
}
