// SPDX-License-Identifier: Apache-2.0
//! Writers at two filers while something happens to the database, and what must be there then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinHandle;
use tonic::Code;

use super::calls::{shown, write};
use super::follow::{Seen, compare, followers, now_ns, state};
use super::{Database, Filer, Shared};
use crate::{Cluster, wait_for};

/// Writers, two at each of two filers.
const N_WRITERS: usize = 4;

/// Writes of which so many are acknowledged are load.
const N_ACKNOWLEDGED_MIN: usize = 50;

/// What one writer was acknowledged, and the errors that it met.
type Written = (Vec<String>, BTreeSet<&'static str>);

/// Writers and subscribers that are at work.
pub(super) struct Load {
    shared: Shared,
    told: Vec<JoinHandle<Result<Vec<Seen>>>>,
    is_over: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Written>>>,
}

impl Load {
    /// Starts two filers on a new store, and all who use them.
    pub(super) async fn start<D: Database>(server: &D, section: &str) -> Result<Self> {
        let shared = Shared::start(server, section, 2, &[]).await?;
        let told = followers(&shared, now_ns()?);
        let is_over = Arc::new(AtomicBool::new(false));
        let ports = &shared.cluster.filer_ports;
        let writers = (0..N_WRITERS).map(|who| {
            let port = ports[who % ports.len()] + 10_000;
            tokio::spawn(writes(who, port, Arc::clone(&is_over)))
        });
        Ok(Self {
            writers: writers.collect(),
            shared,
            told,
            is_over,
        })
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// Both filers are ready, and a write is made at each, soon.
    ///
    /// - `name`: not used before.
    pub(super) async fn goes_on(&self, name: &str) -> Result<()> {
        for n in 0..2 {
            self.shared.cluster.wait_ready(n).await?;
            let filer = self.shared.grpc(n).await?;
            let name = format!("{name}-{n}");
            let works = || {
                let (mut filer, name) = (filer.clone(), name.clone());
                async move { write(&mut filer, "/w", &name, &name).await.is_ok() }
            };
            wait_for("a write", works).await?;
        }
        Ok(())
    }

    /// Ends it: what was acknowledged is there and was told, and nothing else is there than what
    /// was told.
    pub(super) async fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::SeqCst);
        let (mut acknowledged, mut errors) = (Vec::new(), BTreeSet::new());
        for writer in self.writers {
            let (own, met) = writer.await??;
            acknowledged.extend(own);
            errors.extend(met);
        }
        println!(
            "{} writes acknowledged, errors: {errors:?}",
            acknowledged.len()
        );
        ensure!(acknowledged.len() > N_ACKNOWLEDGED_MIN, "there was load");
        // Not made, or it may be: what a client can act upon.
        let clear = [Code::Unavailable, Code::DeadlineExceeded].map(|code| code.description());
        ensure!(errors.iter().all(|met| clear.contains(met)), "{errors:?}");
        let mut filer = self.shared.grpc(0).await?;
        for name in &acknowledged {
            let there = shown(&mut filer, "/w", name).await?;
            ensure!(
                there.as_ref() == Some(name),
                "{name} was acknowledged and is {there:?}"
            );
        }
        let state = state(&compare(&self.shared, self.told).await?);
        for name in &acknowledged {
            let told = state.get(&format!("/w/{name}"));
            ensure!(told == Some(name), "{name} was told as {told:?}");
        }
        let names = self.shared.cluster.names(1, "/w").await?;
        let n_told = state.keys().filter(|path| path.starts_with("/w/")).count();
        ensure!(
            names.len() == n_told,
            "{} are there and {n_told} were told",
            names.len()
        );
        Ok(())
    }
}

async fn writes(who: usize, port: u16, is_over: Arc<AtomicBool>) -> Result<Written> {
    let mut filer = Filer::connect(format!("http://127.0.0.1:{port}")).await?;
    let (mut acknowledged, mut errors) = (Vec::new(), BTreeSet::new());
    for n in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{who}-{n}");
        match write(&mut filer, "/w", &name, &name).await {
            Ok(()) => acknowledged.push(name),
            Err(code) => {
                errors.insert(code.description());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok((acknowledged, errors))
}
