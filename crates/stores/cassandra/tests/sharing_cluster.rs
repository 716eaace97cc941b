// SPDX-License-Identifier: Apache-2.0
//! Two filers on a keyspace that three servers have: one of them is killed under load, then one
//! too many.
//!
//! Against real servers, the same for all cases; without them the cases are ignored with the
//! reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use dulse_shared::Stepwise;
use dulse_shared_testkit::{Case, as_store, cases_of_rows, create, run, trial};
use dulse_store::{Error, ErrorKind, Outcome};
use dulse_store_cassandra::{Cassandra, Config};
use dulse_store_testkit::{commit, path};
use server::Server;

type Shared = dulse_shared_testkit::Shared<Cluster>;

/// The case of all stores in which what is there is more than one server alone.
const OF_ROWS: &str = "a_killed_server_loses_and_doubles_nothing";

/// What is asked of a cluster alone. The last: it leaves one server.
const CASES: &[Case<Cluster>] = &[(
    "without_a_quorum_nothing_is_acknowledged_or_read",
    without_quorum,
)];

static SERVERS: Mutex<Vec<Server>> = Mutex::new(Vec::new());

/// The one that is killed under load: not the one that is asked first for the others.
const KILLED: usize = 1;

fn servers() -> MutexGuard<'static, Vec<Server>> {
    // A case that panicked has failed; the servers are as good as before.
    SERVERS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let started = match is_listed {
        true => Ok(Vec::new()),
        false => Server::start_cluster(),
    };
    let lacks = started.as_ref().err().map(|e| format!("{e:#}"));
    *servers() = started.unwrap_or_default();
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, || Ok(Cluster), lacks.clone());
    let mut cases = cases_of_rows();
    cases.retain(|(name, _)| *name == OF_ROWS);
    assert_eq!(cases.len(), 1, "it is there");
    let code = run(cases
        .into_iter()
        .chain(CASES.iter().copied())
        .map(of)
        .collect());
    servers().clear();
    code
}

/// Three servers, each of which has every row.
struct Cluster;

impl dulse_shared_testkit::Server for Cluster {
    type Backend = Stepwise<Cassandra>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    /// Starting it takes most of a minute on a busy machine.
    const N_KILLS: usize = 1;
    /// No case of these cuts connections.
    const COMMIT: &'static [u8] = b"EXECUTE";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        let servers = servers();
        let name = dir.file_name().expect("it has a name").to_string_lossy();
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "k");
        let name = name.to_lowercase();
        let first = servers.first().expect("it was started");
        first.make_keyspace_on(&name, servers.len()).unwrap();
        Config {
            hosts: servers.iter().map(Server::address).collect(),
            ..first.config(&name)
        }
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        Cassandra::connect(&config).await.map(Stepwise)
    }
    fn port(&self) -> u16 {
        servers().first().expect("it was started").port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            hosts: vec![format!("127.0.0.1:{port}")],
            ..config.clone()
        }
    }
    fn kill(&mut self) -> anyhow::Result<()> {
        servers()[KILLED].kill()
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        servers()[KILLED].start_again()
    }
}

fn without_quorum(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, create("/before", "x")).unwrap();
    for one in &mut servers()[1..] {
        one.kill().unwrap();
    }
    let error = commit(&store, create("/without", "x")).unwrap_err();
    println!("{}", error.repeated());
    let is_unknown = error.outcome() == Outcome::Unknown;
    assert!(error.is_retryable() || is_unknown, "{error:?}");
    let error = store.find(&path("/before")).unwrap_err();
    println!("{}", error.repeated());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}
