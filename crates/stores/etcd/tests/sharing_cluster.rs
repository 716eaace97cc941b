// SPDX-License-Identifier: Apache-2.0
//! Several filers on one cluster of three members: members that are killed, the leader among
//! them, and too many of them.
//!
//! Against real servers; without them the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use dulse_shared::Stepwise;
use dulse_shared_testkit::{
    Case, announced, as_store, cases_of_rows, create, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome};
use dulse_store_etcd::{Config, Etcd};
use dulse_store_testkit::{commit, file, path};
use server::Server;

type Shared = dulse_shared_testkit::Shared<Cluster>;

/// What is asked of a cluster alone.
const CASES: &[Case<Cluster>] = &[
    ("a_cluster_without_its_leader_goes_on", without_leader),
    (
        "a_cluster_without_a_quorum_refuses_and_recovers",
        without_quorum,
    ),
    ("a_member_that_forgot_who_we_are_is_told_again", forgotten),
];

/// Cases of all stores in which what is there is more than one server alone.
const OF_ROWS: [&str; 2] = [
    "announcements_of_all_in_order_of_stamps_lead_to_the_state",
    "a_killed_server_loses_and_doubles_nothing",
];

fn main() -> std::process::ExitCode {
    let start = || {
        let members = Server::start_cluster()?;
        Ok(Cluster {
            members,
            killed: 0,
            n_kills: 0,
        })
    };
    let lacks = start().map(drop).err().map(|e| format!("{e:#}"));
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, start, lacks.clone());
    let mut cases = cases_of_rows();
    cases.retain(|(name, _)| OF_ROWS.contains(name));
    assert_eq!(cases.len(), OF_ROWS.len(), "each is there");
    run(cases
        .into_iter()
        .chain(CASES.iter().copied())
        .map(of)
        .collect())
}

/// Three members.
struct Cluster {
    members: Vec<Server>,
    /// The one that was killed last.
    killed: usize,
    n_kills: usize,
}

impl Cluster {
    fn leader(&self) -> anyhow::Result<usize> {
        let began = std::time::Instant::now();
        loop {
            if let Some(leader) = self.members.iter().position(Server::leads) {
                return Ok(leader);
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "nobody leads");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl dulse_shared_testkit::Server for Cluster {
    type Backend = Stepwise<Etcd>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    /// No case of these cuts connections.
    const COMMIT: &'static [u8] = b"\x10\x01\x1a";

    fn database(&self, _: usize, n: usize, _: &Path) -> Config {
        let all: Vec<String> = self.members.iter().map(Server::address).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Config {
            key_prefix: format!("store-{n}."),
            ..Config::at(&all)
        }
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        Etcd::connect(&config).await.map(Stepwise)
    }
    fn port(&self) -> u16 {
        self.members.first().expect("there are three").port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            servers: vec![format!("127.0.0.1:{port}")],
            ..config.clone()
        }
    }
    /// In turn the leader, and the member behind it.
    fn kill(&mut self) -> anyhow::Result<()> {
        let leader = self.leader()?;
        self.killed = (leader + self.n_kills % 2) % self.members.len();
        self.n_kills += 1;
        self.members[self.killed].kill()
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        self.members[self.killed].start_again()
    }
}

/// Writes until one is acknowledged; gives its path, and how many were not.
fn write_on(store: &std::sync::Arc<dyn dulse_store::EntryStore>, name: &str) -> (String, usize) {
    for n in 0..100 {
        let at = format!("/{name}-{n}");
        match commit(store, create(&at, "x")) {
            Ok(_) => return (at, n),
            Err(error) => {
                let is_unknown = error.outcome() == Outcome::Unknown;
                assert!(error.is_retryable() || is_unknown, "{error:?}");
            }
        }
    }
    panic!("{name}: no write is made any more");
}

fn without_leader(mut cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..20 {
        commit(&store, create(&format!("/before-{n}"), "x")).unwrap();
    }
    dulse_shared_testkit::Server::kill(&mut cluster).unwrap();
    let (first, n_failed) = write_on(&store, "behind");
    println!("{n_failed} writes failed until another one led");
    let others: Vec<String> = (0..50).map(|n| format!("/on-{n}")).collect();
    for at in &others {
        commit(&store, create(at, "x")).unwrap();
    }
    // A filer that starts meanwhile passes over the one that is gone.
    let second = as_store(&shared.open(2).unwrap());
    assert_eq!(shown(&second, &first), Some(file("x")));
    dulse_shared_testkit::Server::start_again(&mut cluster).unwrap();
    // The one that was away says the same as the others, and takes writes.
    let back = cluster.members[cluster.killed].address();
    let config = Config {
        servers: vec![back],
        ..shared.config.clone()
    };
    let back = as_store(&shared.open_with(config, &shared.options(3)).unwrap());
    let there = state(&back);
    assert_eq!(there, state(&store));
    for at in others.iter().chain([&first]) {
        assert!(there.contains_key(&path(at)), "{at} is lost");
    }
    commit(&back, create("/by-it", "x")).unwrap();
    assert_eq!(shown(&store, "/by-it"), Some(file("x")));
}

fn without_quorum(mut cluster: Cluster) {
    let mut shared = Shared::on(&cluster);
    shared.config.timeout = Duration::from_millis(500);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/before", "x")).unwrap();
    let leader = cluster.leader().unwrap();
    let gone = [leader, (leader + 1) % 3];
    for one in gone {
        cluster.members[one].kill().unwrap();
    }
    // Nothing is made, or nobody knows; and nothing is read that could be old.
    let error = commit(&store, create("/without", "x")).unwrap_err();
    println!("{}", error.repeated());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = store.find(&path("/before")).unwrap_err();
    println!("{}", error.repeated());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = shared.open(2).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    cluster.members[gone[0]].start_again().unwrap();
    let (made, n_failed) = write_on(&store, "behind");
    println!("{n_failed} writes failed with a quorum");
    cluster.members[gone[1]].start_again().unwrap();
    // What was unknown is known at the next start.
    drop((store, filer));
    let filer = shared.open(1).unwrap();
    let there = state(&as_store(&filer));
    for at in ["/before", &made] {
        assert!(there.contains_key(&path(at)), "{at} is lost");
    }
    assert_eq!(told(&[announced(&filer)]), there);
}

/// Members keep tokens in memory: one that was restarted asks anew, and so does one that we had
/// not spoken to.
fn forgotten(mut cluster: Cluster) {
    let mut shared = Shared::on(&cluster);
    let first = cluster.members.first().context("there are three").unwrap();
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        first.ctl(arguments).unwrap();
    }
    "root".clone_into(&mut shared.config.username);
    "secret".clone_into(&mut shared.config.password);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/a", "x")).unwrap();
    for n in 0..cluster.members.len() {
        let member = &mut cluster.members[n];
        member.kill().unwrap();
        write_on(&store, &format!("without-{n}"));
        cluster.members[n].start_again().unwrap();
        write_on(&store, &format!("with-{n}"));
    }
    drop((store, filer));
    let filer = shared.open(1).unwrap();
    assert_eq!(told(&[announced(&filer)]), state(&as_store(&filer)));
}
