// SPDX-License-Identifier: Apache-2.0
//! A filer or the database is killed under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::calls::{shown, store_id, write};
use super::follow::{compare, followers, now_ns, state};
use super::load::Load;
use super::{Database, Filer, Replaced, Shared};

/// Writers at three filers, many on the same paths, one of them killed: all subscribers see one
/// sequence, each change once, and it leads to what every filer shows.
pub(super) async fn a_filer<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 3, &[]).await?;
    let id = store_id(&shared, 0).await?;
    for n in 1..3 {
        ensure!(store_id(&shared, n).await? == id, "one store has one id");
    }
    let from_ns = now_ns()?;
    let told = followers(&shared, from_ns);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for who in 0..3 {
        let port = shared.cluster.filer_ports[who] + 10_000;
        let is_over = Arc::clone(&is_over);
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut filer = None;
            for n in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                if filer.is_none() {
                    filer = Filer::connect(format!("http://127.0.0.1:{port}"))
                        .await
                        .ok();
                }
                let Some(at) = &mut filer else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let (name, content) = match n % 3 {
                    0 => (format!("hot-{}", n % 7), format!("{who}-{n}")),
                    _ => (format!("{who}-{n}"), format!("{who}-{n}")),
                };
                match write(at, "/w", &name, &content).await {
                    Ok(()) => acknowledged.push((name, content)),
                    Err(_) => filer = None,
                }
            }
            acknowledged
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    shared.cluster.filers[2].kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    shared.cluster.filers[2].restart()?;
    shared.cluster.wait_ready(2).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_over.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await?);
    }
    ensure!(
        acknowledged.iter().all(|own| own.len() > 20),
        "there was load"
    );
    let events = compare(&shared, told).await?;
    let told: BTreeSet<_> = events
        .iter()
        .filter_map(|event| event.new.clone())
        .collect();
    for (name, content) in acknowledged.iter().flatten() {
        let path = format!("/w/{name}");
        ensure!(
            told.contains(&(path, content.clone())),
            "{name}={content} was never told"
        );
    }
    let state = state(&events);
    for n in 0..3 {
        let mut filer = shared.grpc(n).await?;
        for (path, content) in state.iter().filter(|(path, _)| path.starts_with("/w/")) {
            let name = path.trim_start_matches("/w/");
            let there = shown(&mut filer, "/w", name).await?;
            ensure!(
                there.as_deref() == Some(content),
                "{path} at {n}: {there:?}, told {content}"
            );
        }
        let names = shared.cluster.names(n, "/w").await?;
        ensure!(
            names.len() == state.len() - 1,
            "{} of {}",
            names.len(),
            state.len()
        );
    }
    Ok(())
}

/// The database is killed under load: what was acknowledged is there, errors are clear, and all
/// goes on by itself.
pub(super) async fn the_database<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let load = Load::start(server, section).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.kill()?;
    let (mut ready, mut why) = (true, String::new());
    for _ in 0..300 {
        (ready, why) = load.cluster().readiness(0).await;
        if !ready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(!ready && why.contains("does not answer"), "{ready} {why}");
    server.start_again()?;
    load.goes_on("again").await?;
    load.end().await
}

/// Another server takes over from one that is killed under load, which comes back later: what was
/// acknowledged is there, each change is told once, and all goes on by itself.
pub(super) async fn a_server<D: Replaced>(server: &mut D, section: &str) -> Result<()> {
    let load = Load::start(server, section).await?;
    load.goes_on("before").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.replace()?;
    load.goes_on("replaced").await?;
    server.start_again()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.goes_on("back").await?;
    load.end().await
}
