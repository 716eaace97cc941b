// SPDX-License-Identifier: Apache-2.0
//! Asks the filers how they are, once a second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dulse_types::ServerAddress;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::plan::Server;
use crate::status::ask;
use crate::status::report::Filer;

/// How often the filers are asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What one filer said.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// `filer 1` …
    pub(super) name: String,
    /// Its answer; `None` when there was none.
    pub(super) filer: Option<Filer>,
    /// Whether it has not answered yet since `up` began.
    pub(super) is_starting: bool,
    /// Changes applied per second since it was asked before.
    pub(super) changes_per_second: f64,
}

/// When a filer was asked, and how many changes it had applied.
type Before = BTreeMap<String, (Instant, u64)>;

/// Starts asking; what is watched is in the order of the filers.
pub(super) fn start(servers: &[Server]) -> (JoinHandle<()>, watch::Receiver<Vec<Seen>>) {
    let filers: Vec<(String, ServerAddress)> = servers
        .iter()
        .filter(|server| server.engine.is_some())
        .map(|server| (server.name.clone(), server.address.clone()))
        .collect();
    let (send, seen) = watch::channel(Vec::new());
    let task = tokio::spawn(async move {
        let (mut before, mut met) = (Before::new(), BTreeSet::new());
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let until = Instant::now() + ASK_EVERY;
            let asked = filers.iter().map(|(_, address)| ask::filer(address, until));
            let answers = futures::future::join_all(asked).await;
            let rows = filers.iter().zip(answers);
            let rows = rows.map(|((name, _), answer)| {
                if answer.is_ok() {
                    met.insert(name.clone());
                }
                let is_starting = !met.contains(name);
                row(name, answer.ok(), is_starting, &mut before)
            });
            if send.send(rows.collect()).is_err() {
                return;
            }
        }
    });
    (task, seen)
}

fn row(name: &str, filer: Option<Filer>, is_starting: bool, before: &mut Before) -> Seen {
    let now = Instant::now();
    let changes = filer.as_ref().map(|filer| filer.changes_applied);
    let last = match changes {
        Some(changes) => before.insert(name.to_owned(), (now, changes)),
        None => before.remove(name),
    };
    let changes_per_second = match (changes, last) {
        // A filer that started again counts from 0.
        (Some(changes), Some((at, then))) if changes >= then => {
            (changes - then) as f64 / now.duration_since(at).as_secs_f64().max(0.001)
        }
        _ => 0.0,
    };
    Seen {
        name: name.to_owned(),
        filer,
        is_starting,
        changes_per_second,
    }
}
