// SPDX-License-Identifier: Apache-2.0
//! Clients: each asks for one thing at a time and writes down what it was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method};
use tokio::task::JoinHandle;

use super::register::Register;
use super::{Ledger, lock};
use crate::Cluster;

/// Clients of each kind at each filer.
const CLIENTS: usize = 3;

/// Registers of one client.
const REGISTERS: u64 = 5;

/// Directories that sets are spread over, each shared by all clients.
const SETS: u64 = 10;

/// Directories that are moved about.
const TREES: usize = 6;

/// Files in each of them.
const FILES_OF_TREE: usize = 10;

/// A request without an answer after this is not waited for: the filer may be frozen.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);

/// Pause after a refusal: a filer that is down would be asked in a circle.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// Makes the directories that are moved about, with their files, everywhere.
pub(super) async fn prepare(cluster: &Cluster, ledger: &Mutex<Ledger>) -> Result<()> {
    for tree in 0..TREES {
        for file in 0..FILES_OF_TREE {
            let name = format!("wanderer-{tree}-{file}");
            let path = format!("/trees/home-{tree}/{name}");
            cluster
                .put(tree % 3, &path, name.clone().into_bytes())
                .await?;
            lock(ledger).wanderers.insert(name);
        }
    }
    cluster.wait_converged().await
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Done,
    Refused,
    None,
}

struct ClientOf {
    http: Client,
    port: u16,
    rng: StdRng,
    ledger: Arc<Mutex<Ledger>>,
    /// Names what this client makes.
    id: String,
}

/// Starts all clients; they end when told.
pub(super) fn start(
    cluster: &Cluster,
    seed: u64,
    ledger: &Arc<Mutex<Ledger>>,
    over: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for (filer, port) in cluster.filer_ports.iter().enumerate() {
        for n in 0..CLIENTS {
            for kind in ["registers", "sets", "trees"] {
                let number = (filer * CLIENTS + n) as u64;
                let client = ClientOf {
                    http: Client::builder()
                        .timeout(REQUEST_TIME_MAX)
                        .build()
                        .unwrap_or_default(),
                    port: *port,
                    rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000) + number),
                    ledger: Arc::clone(ledger),
                    id: format!("{filer}-{n}"),
                };
                let over = Arc::clone(over);
                tasks.push(tokio::spawn(async move {
                    match kind {
                        "registers" => client.registers(&over).await,
                        "sets" => client.sets(&over).await,
                        _ => client.trees(&over).await,
                    }
                }));
            }
        }
    }
    tasks
}

impl ClientOf {
    async fn ask(&self, method: Method, path: &str, body: String) -> Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let sent = self.http.request(method, url).body(body).send().await;
        let answer = match sent {
            Ok(answer) if answer.status().is_success() => Answer::Done,
            // A refusal of a request that was not carried out; 5xx may mean either, but for
            // the one that says that the filer is not ready.
            Ok(answer) if answer.status().is_client_error() => Answer::Refused,
            Ok(answer) if answer.status() == 503 => Answer::None,
            Ok(_) => Answer::None,
            Err(error) if error.is_connect() => Answer::Refused,
            Err(_) => Answer::None,
        };
        let counts = &mut lock(&self.ledger).counts;
        match answer {
            Answer::Done => counts.acknowledged += 1,
            Answer::Refused => counts.refused += 1,
            Answer::None => counts.unanswered += 1,
        }
        answer
    }

    async fn rest(&self, answer: Answer) {
        if answer != Answer::Done {
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }

    /// Growing numbers in files of its own.
    async fn registers(mut self, over: &AtomicBool) {
        let mut n = 0_u64;
        while !over.load(Ordering::Relaxed) {
            n += 1;
            let path = format!(
                "/registers/{}-{}",
                self.id,
                self.rng.random_range(0..REGISTERS)
            );
            self.of_register(&path, |register| register.send(n, Instant::now()));
            let answer = self.ask(Method::PUT, &path, n.to_string()).await;
            match answer {
                Answer::Done => self.of_register(&path, |register| register.acknowledge(n)),
                Answer::Refused => self.of_register(&path, |register| register.refuse(n)),
                Answer::None => {}
            }
            self.rest(answer).await;
        }
    }

    fn of_register(&self, path: &str, note: impl FnOnce(&mut Register)) {
        note(
            lock(&self.ledger)
                .registers
                .entry(path.to_owned())
                .or_default(),
        );
    }

    /// Names added to shared directories, a third of them removed again.
    async fn sets(mut self, over: &AtomicBool) {
        let mut n = 0_u64;
        while !over.load(Ordering::Relaxed) {
            n += 1;
            let set = self.rng.random_range(0..SETS);
            let path = format!("/sets/{set}/{}-{n}", self.id);
            lock(&self.ledger).sets.insert(path.clone(), None);
            let added = self.ask(Method::PUT, &path, String::new()).await;
            {
                let ledger = &mut *lock(&self.ledger);
                match added {
                    Answer::Done => {
                        ledger.sets.insert(path.clone(), Some(true));
                        ledger.added.insert(path.clone());
                    }
                    Answer::Refused => drop(ledger.sets.insert(path.clone(), Some(false))),
                    Answer::None => {}
                }
            }
            self.rest(added).await;
            if added == Answer::Done && self.rng.random_range(0..3) == 0 {
                lock(&self.ledger).sets.insert(path.clone(), None);
                let removed = self.ask(Method::DELETE, &path, String::new()).await;
                let certain = match removed {
                    Answer::Done => Some(false),
                    Answer::Refused => Some(true),
                    Answer::None => None,
                };
                lock(&self.ledger).sets.insert(path, certain);
                self.rest(removed).await;
            }
        }
    }

    /// Some directory of trees, to a name that nobody else gives.
    async fn trees(mut self, over: &AtomicBool) {
        let mut n = 0_u64;
        while !over.load(Ordering::Relaxed) {
            n += 1;
            let Some(from) = self.some_tree().await else {
                self.rest(Answer::None).await;
                continue;
            };
            let to = format!("/trees/{}-{n}", self.id);
            let path = format!("{to}?mv.from={from}");
            let answer = self.ask(Method::POST, &path, String::new()).await;
            self.rest(answer).await;
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }

    async fn some_tree(&mut self) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/trees/?limit=1000", self.port);
        let request = self.http.get(url).header("accept", "application/json");
        let listing: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
        let rows = listing["Entries"].as_array()?;
        let row = rows.get(self.rng.random_range(0..rows.len().max(1)))?;
        Some(row["FullPath"].as_str()?.to_owned())
    }
}
