// SPDX-License-Identifier: Apache-2.0
//! Several filers on one server: what each announces, lost answers, a server that is killed, one
//! that is replaced.
//!
//! Against the real server; without one the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use dulse_shared_testkit::{
    Authority, Case, announced, as_store, cases, create, one, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome, Step};
use dulse_store_redis::{Config, Names, Redis, Servers, Tls};
use dulse_store_testkit::{commit, directory, file, path};
use dulse_types::Entry;
use server::Server;

type Shared = dulse_shared_testkit::Shared<Server>;

/// What is asked of this server alone.
const CASES: &[Case<Server>] = &[
    (
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
    ),
    ("user_password_database_and_prefix_are_used", logged_in),
    ("a_killed_master_is_replaced", failover),
    ("a_stopped_master_is_replaced", stopped_master),
    ("a_full_server_refuses_writes_and_loses_nothing", full),
    (
        "a_server_that_misses_its_replicas_makes_nothing",
        without_replicas,
    ),
    ("what_expired_keeps_no_name", expired),
    ("upstreams_lock_on_a_list_of_names_is_waited_for", locked),
    ("tickets_go_once_they_are_known", few_tickets),
];

fn main() -> std::process::ExitCode {
    let lacks = Server::start().map(drop).err().map(|e| format!("{e:#}"));
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, Server::start, lacks.clone());
    run(cases()
        .into_iter()
        .chain(CASES.iter().copied())
        .map(of)
        .collect())
}

impl dulse_shared_testkit::Server for Server {
    type Backend = Redis;
    type Config = Config;
    const LAYOUTS: usize = 2;
    const COMMIT: &'static [u8] = b"EXEC\r\n";

    fn database(&self, layout: usize, n: usize, _: &Path) -> Config {
        let names = [Names::SortedSet, Names::SkipList][layout];
        let mut config = Config::at(names, Servers::One(self.address()));
        if n > 0 {
            config.key_prefix = format!("{n}:");
        }
        config
    }
    fn connect(config: Config) -> impl Future<Output = Result<Redis, Error>> + Send + 'static {
        Redis::connect(config)
    }
    fn port(&self) -> u16 {
        self.port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            servers: Servers::One(format!("127.0.0.1:{port}")),
            ..config.clone()
        }
    }
    fn kill(&mut self) -> anyhow::Result<()> {
        Self::kill(self)
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        Self::start_again(self)
    }
}

fn encrypted(_: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, other) = (Authority::new(mine.path()), Authority::new(another.path()));
    let [certificate, key] = trusted.signed("localhost");
    let file = |name: &str, content: &str| {
        let file = mine.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let own = (file("server.crt", &certificate), file("server.key", &key));
    let text = |path: &Path| path.display().to_string();
    let tls_port = server::free_port().unwrap();
    let server = Server::start_with(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &text(&own.0),
        "--tls-key-file",
        &text(&own.1),
        "--tls-ca-cert-file",
        &text(&trusted.file),
        "--tls-auth-clients",
        "yes",
    ])
    .unwrap();
    let shared = Shared::on(&server);
    let open = |host: &str, authorities: &Path, own: Option<_>| {
        let config = Config {
            servers: Servers::One(format!("{host}:{tls_port}")),
            tls: Tls::On {
                authorities: Some(authorities.to_owned()),
                own,
            },
            ..shared.config.clone()
        };
        shared.open_with(config, &shared.options(1))
    };
    let refused = [
        open("localhost", &other.file, Some(own.clone())),
        open("127.0.0.1", &trusted.file, Some(own.clone())),
        // The server asks for a certificate.
        open("localhost", &trusted.file, None),
    ];
    for result in refused {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    let store = open("localhost", &trusted.file, Some(own)).unwrap();
    commit(&as_store(&store), create("/a", "x")).unwrap();
    assert_eq!(shown(&as_store(&store), "/a"), Some(file_of("x")));
}

fn file_of(content: &str) -> Entry {
    dulse_store_testkit::file(content)
}

fn logged_in(server: Server) {
    server
        .command(&[
            "ACL", "SETUSER", "filer", "on", ">secret", "~*", "+@all", "-config", "-@admin",
        ])
        .unwrap();
    server
        .command(&["ACL", "SETUSER", "default", "off"])
        .unwrap();
    let shared = Shared::on(&server);
    let open = |password: &str| {
        let config = Config {
            username: "filer".to_owned(),
            password: password.to_owned(),
            database: 5,
            key_prefix: "p:".to_owned(),
            ..shared.config.clone()
        };
        shared.open_with(config, &shared.options(1))
    };
    let error = open("wrong").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let store = Arc::new(open("secret").unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    let user = ["--user", "filer", "--pass", "secret", "--no-auth-warning"];
    let keys = |database: &str| {
        let mut all = user.to_vec();
        all.extend(["-n", database, "KEYS", "p:/*"]);
        server.command(&all).unwrap()
    };
    assert_eq!(keys("0"), "");
    assert!(keys("5").contains("p:/a"), "{}", keys("5"));
}

/// A master with a replica and a sentinel, and a store that asks the sentinel.
struct Watched {
    master: Server,
    replica: Server,
    sentinel: Server,
}

impl Watched {
    fn start() -> Self {
        let master = Server::start().unwrap();
        let of = format!("127.0.0.1 {}", master.port);
        let replica = Server::start_with(&[
            "--appendonly",
            "yes",
            "--replicaof",
            &of,
            "--repl-diskless-sync-delay",
            "0",
        ])
        .unwrap();
        replica
            .wait_for(&["INFO", "replication"], "master_link_status:up")
            .unwrap();
        let sentinel = Server::start_sentinel(master.port).unwrap();
        sentinel
            .wait_for(&["SENTINEL", "REPLICAS", "main"], "slave")
            .unwrap();
        Self {
            master,
            replica,
            sentinel,
        }
    }

    fn servers(&self) -> Servers {
        Servers::Sentinel {
            sentinels: vec!["127.0.0.1:1".to_owned(), self.sentinel.address()],
            master: "main".to_owned(),
            username: String::new(),
            password: String::new(),
        }
    }

    /// Waits until the master has what was acknowledged at its replica.
    fn settle(&self) {
        self.master.wait_for_replica().unwrap();
    }
}

/// A master that is killed, or stops, is replaced; writes go on at the new one, and what was at
/// both is there.
fn replaced(signal: &str, server: &Server) {
    let watched = Watched::start();
    let mut shared = Shared::on(server);
    shared.config.servers = watched.servers();
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..50 {
        commit(&store, create(&format!("/before-{n}"), "x")).unwrap();
    }
    watched.settle();
    watched.master.signal(signal).unwrap();
    // What is asked for meanwhile is refused, or its outcome unknown; then it goes on.
    let (mut made, mut n_failed) = (Vec::new(), 0);
    for n in 0.. {
        let at = format!("/behind-{n}");
        match commit(&store, create(&at, "x")) {
            Ok(_) => made.push(at),
            Err(error) => {
                assert!(
                    error.is_retryable() || error.outcome() == Outcome::Unknown,
                    "{error:?}"
                );
                n_failed += 1;
                assert!(n_failed < 100, "no other master: {error:?}");
            }
        }
        if made.len() == 50 {
            break;
        }
    }
    println!("{n_failed} writes failed until the replica took over");
    let role = watched.replica.command(&["ROLE"]).unwrap();
    assert!(role.starts_with("master"), "{role}");
    for at in made
        .iter()
        .map(String::as_str)
        .chain(["/before-0", "/before-49"])
    {
        assert!(shown(&store, at).is_some(), "{at} is lost");
    }
    // It comes back as a replica: nobody reads there what is old.
    watched.master.signal("CONT").unwrap_or(());
    commit(&store, create("/last", "x")).unwrap();
    assert_eq!(shown(&store, "/last"), Some(file("x")));
}

fn failover(server: Server) {
    replaced("KILL", &server);
}

fn stopped_master(server: Server) {
    replaced("STOP", &server);
}

fn full(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/a", "x")).unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = commit(&store, create("/b", "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(shown(&store, "/a"), Some(file("x")), "reads go on");
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    assert_eq!(shown(&store, "/b"), None);
    commit(&store, create("/b", "x")).unwrap();
    let log = announced(&filer);
    assert_eq!(log.len(), 2);
    assert_eq!(told(&[log]), state(&store));
}

fn without_replicas(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .unwrap();
    let error = commit(&store, create("/a", "x")).unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error:?}"
    );
    assert_eq!(shown(&store, "/a"), None);
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .unwrap();
    commit(&store, create("/a", "x")).unwrap();
}

/// What the server takes out when its time is over is not listed, and its name goes, too.
fn expired(server: Server) {
    let mut shared = Shared::on(&server);
    for names in [Names::SortedSet, Names::SkipList] {
        shared.config.names = names;
        shared.config.key_prefix = format!("{names:?}:");
        let journal = match names {
            Names::SortedSet => 1,
            Names::SkipList => 2,
        };
        let store = as_store(&shared.open(journal).unwrap());
        let mut fields = file("x").fields().unwrap();
        fields.attrs_mut().ttl_sec = 3_600;
        let entry = fields.to_entry(&file("x").unknown());
        commit(
            &store,
            one(Step::Create {
                path: path("/d"),
                entry: directory(),
            }),
        )
        .unwrap();
        commit(
            &store,
            one(Step::Create {
                path: path("/d/a"),
                entry,
            }),
        )
        .unwrap();
        commit(&store, create("/d/b", "x")).unwrap();
        let key = format!("{names:?}:/d/a");
        let left: i64 = server.command(&["TTL", &key]).unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&left), "{left}");
        server.command(&["PEXPIRE", &key, "1"]).unwrap();
        server.wait_for(&["EXISTS", &key], "0").unwrap();
        assert_eq!(shown(&store, "/d/a"), None);
        // A name without its row is nothing that keeps the directory.
        let delete = |at: &str| {
            one(Step::Delete {
                path: path(at),
                delete_chunks: true,
            })
        };
        commit(&store, delete("/d/b")).unwrap();
        commit(&store, delete("/d")).unwrap();
        assert!(state(&store).is_empty());
    }
}

/// Upstream's filers change lists of names under a lock; nothing of ours is made meanwhile.
fn locked(server: Server) {
    let mut shared = Shared::on(&server);
    shared.config.names = Names::SkipList;
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    server
        .command(&[
            "EVAL",
            "return redis.call('SET', '/\\0lock', 'theirs', 'PX', 300)",
            "0",
        ])
        .unwrap();
    commit(&store, create("/a", "x")).unwrap();
    let held = ["EVAL", "return redis.call('EXISTS', '/\\0lock')", "0"];
    assert_eq!(
        server.command(&held).unwrap(),
        "0",
        "it waited until the lock was gone"
    );
    assert_eq!(state(&store).len(), 1);
}

/// Only what is not known yet has tickets in the server, and those of a while ago go.
fn few_tickets(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..100 {
        commit(&store, create(&format!("/{n}"), "x")).unwrap();
    }
    let keys = ["EVAL", "return #redis.call('KEYS', 'dulse.ticket.*')", "0"];
    let count = || server.command(&keys).unwrap().parse::<usize>().unwrap();
    assert!(count() > 0);
    let ttl = [
        "EVAL",
        "return redis.call('TTL', redis.call('KEYS', 'dulse.ticket.*')[1])",
        "0",
    ];
    assert!(
        server.command(&ttl).unwrap().parse::<i64>().unwrap() > 0,
        "they go by themselves"
    );
    // Those above are known for long enough after a while; each attempt takes some out.
    let began = std::time::Instant::now();
    let mut n = 100;
    while count() > 50 {
        commit(&store, create(&format!("/{n}"), "x")).unwrap();
        n += 1;
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(
            began.elapsed().as_secs() < 60,
            "{} tickets are left",
            count()
        );
    }
}
