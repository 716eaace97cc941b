// SPDX-License-Identifier: Apache-2.0
//! Several filers on one etcd: what each announces, lost answers, a server that is killed or full.
//!
//! Against the real server; without one the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use dulse_shared::Stepwise;
use dulse_shared_testkit::{
    Authority, Case, announced, as_store, cases, create, one, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome, Step, Transaction};
use dulse_store_etcd::{Config, Etcd, Tls};
use dulse_store_testkit::{commit, directory, file, path};
use server::Server;

type Shared = dulse_shared_testkit::Shared<Server>;

/// What is asked of this server alone.
const CASES: &[Case<Server>] = &[
    ("a_member_that_is_gone_is_passed_over", gone_member),
    ("a_filer_logs_in_and_again_when_it_is_forgotten", login),
    (
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
    ),
    (
        "a_write_that_hangs_in_a_stopped_server_is_not_made_when_it_goes_on",
        stopped,
    ),
    (
        "an_entry_above_what_etcd_takes_is_refused_as_that",
        too_large,
    ),
    ("a_directory_of_more_than_a_transaction_is_moved", many_rows),
    ("a_full_database_is_told_as_one", full),
];

fn main() -> std::process::ExitCode {
    let start = || Server::start(&[]);
    let lacks = start().map(drop).err().map(|e| format!("{e:#}"));
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, start, lacks.clone());
    run(cases()
        .into_iter()
        .chain(CASES.iter().copied())
        .map(of)
        .collect())
}

impl dulse_shared_testkit::Server for Server {
    type Backend = Stepwise<Etcd>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    /// That a row which is to be made is not there, and the tag of its key: nothing else that a
    /// filer asks compares revisions of creation.
    const COMMIT: &'static [u8] = b"\x10\x01\x1a";

    fn database(&self, _: usize, n: usize, _: &Path) -> Config {
        Config {
            key_prefix: format!("store-{n}."),
            ..Config::at(&[&self.address()])
        }
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        Etcd::connect(&config).await.map(Stepwise)
    }
    fn port(&self) -> u16 {
        self.port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            servers: vec![format!("127.0.0.1:{port}")],
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

fn gone_member(server: Server) {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut shared = Shared::on(&server);
    shared.config.servers.insert(0, gone.clone());
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(shown(&store, "/a"), Some(file("x")));
    shared.config.servers = vec![gone];
    let error = shared.open(2).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

fn login(server: Server) {
    let mut shared = Shared::on(&server);
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        server.ctl(arguments).unwrap();
    }
    let refused = |shared: &Shared| {
        let error = shared.open(1).map(drop).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        let chain = error.repeated().to_string();
        assert!(!chain.contains("wrong"), "{chain}");
        error.kind()
    };
    // Who says nothing of itself has settings that cannot be; who is not known may be later.
    assert_eq!(refused(&shared), ErrorKind::Invalid);
    "root".clone_into(&mut shared.config.username);
    "wrong".clone_into(&mut shared.config.password);
    assert_eq!(refused(&shared), ErrorKind::Unavailable);
    "secret".clone_into(&mut shared.config.password);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, create("/a", "x")).unwrap();
    // A change of users: what was known of us is no longer believed.
    server
        .ctl(&["--user", "root:secret", "user", "add", "other:x"])
        .unwrap();
    commit(&store, create("/b", "x")).unwrap();
    assert_eq!(shown(&store, "/b"), Some(file("x")));
}

fn encrypted(mut server: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, other) = (Authority::new(mine.path()), Authority::new(another.path()));
    let shared = Shared::on(&server);
    let [certificate, key] = trusted.signed("localhost");
    server.encrypt(&certificate, &key, &trusted.file).unwrap();
    let files = ["client.crt", "client.key"].map(|name| mine.path().join(name));
    for (file, content) in files.iter().zip(trusted.signed("filer")) {
        std::fs::write(file, content).unwrap();
    }
    let [certificate, key] = files;
    let open = |host: &str, authority: &Authority, is_known: bool| {
        let config = Config {
            servers: vec![format!("{host}:{}", server.port)],
            tls: Some(Tls {
                authorities: authority.file.clone(),
                identity: is_known.then(|| (certificate.clone(), key.clone())),
            }),
            ..shared.config.clone()
        };
        shared.open_with(config, &shared.options(1))
    };
    for result in [
        open("localhost", &other, true),
        open("127.0.0.1", &trusted, true),
        open("localhost", &trusted, false),
    ] {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let store = as_store(&open("localhost", &trusted, true).unwrap());
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(shown(&store, "/a"), Some(file("x")));
}

/// Writers give up what hangs in a server that stands still, ask again, and are told what is true;
/// what hung is not made on top of it when the server goes on.
fn stopped(server: Server) {
    let mut shared = Shared::on(&server);
    shared.config.timeout = Duration::from_millis(300);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..40 {
                    let at = format!("/{writer}-{n}");
                    commit(store, create(&at, "x")).unwrap();
                    let delete = Step::Delete {
                        path: path(&at),
                        delete_chunks: true,
                    };
                    // What is taken away could come again unseen.
                    if n % 2 == 0 {
                        commit(store, one(delete)).unwrap();
                    }
                }
            });
        }
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(200));
            server.signal("STOP").unwrap();
            std::thread::sleep(Duration::from_secs(1));
            server.signal("CONT").unwrap();
        }
    });
    let log = announced(&filer);
    assert_eq!(log.len(), 8 * 60, "each once");
    assert_eq!(state(&store).len(), 8 * 20);
    assert_eq!(told(&[log]), state(&store));
}

fn too_large(server: Server) {
    let store = as_store(&Shared::on(&server).open(1).unwrap());
    let error = commit(&store, create("/a", &"x".repeat(4 << 20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let chain = error.repeated().to_string();
    assert!(
        chain.contains("larger") || chain.contains("too large"),
        "{chain}"
    );
    assert_eq!(shown(&store, "/a"), None);
    // Just below what it takes, and written over: what is compared is not sent again.
    for content in ["x", "y"] {
        let entry = file(&content.repeat(1_400 << 10));
        let step = match shown(&store, "/b") {
            None => Step::Create {
                path: path("/b"),
                entry: entry.clone(),
            },
            Some(_) => Step::Update {
                path: path("/b"),
                entry: entry.clone(),
                delete_chunks: true,
            },
        };
        commit(&store, one(step)).unwrap();
        assert_eq!(shown(&store, "/b"), Some(entry));
    }
}

/// More rows than one transaction of etcd takes.
fn many_rows(server: Server) {
    let filer = Shared::on(&server).open(1).unwrap();
    let store = as_store(&filer);
    let mut steps = vec![Step::Create {
        path: path("/d"),
        entry: directory(),
    }];
    steps.extend((0..300).map(|n| Step::Create {
        path: path(&format!("/d/{n}")),
        entry: file("x"),
    }));
    let all = Transaction {
        steps,
        ..Transaction::default()
    };
    commit(&store, all).unwrap();
    let rename = Step::Rename {
        from: path("/d"),
        to: path("/e"),
    };
    commit(&store, one(rename)).unwrap();
    let there = state(&store);
    assert_eq!(there.len(), 301);
    assert!(there.keys().all(|at| !at.as_str().starts_with("/d")));
    assert_eq!(told(&[announced(&filer)]), there);
}

fn full(server: Server) {
    drop(server);
    let small = Server::start(&["--quota-backend-bytes=2000000"]).unwrap();
    let shared = Shared::on(&small);
    let store = as_store(&shared.open(1).unwrap());
    let mut n_made = 0;
    let error = loop {
        match commit(
            &store,
            create(&format!("/{n_made}"), &"x".repeat(100 << 10)),
        ) {
            Ok(_) => n_made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
    assert!(n_made > 0);
    assert_eq!(state(&store).len(), n_made, "what it refused is not there");
}
