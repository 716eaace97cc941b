// SPDX-License-Identifier: Apache-2.0
//! Several filers on one keyspace: what each announces, lost answers, a server that is killed; and
//! what is Cassandra's own: writes that come late, times to live, super large directories.
//!
//! Against the real server, one for all cases; without one they are ignored with the reason, in
//! CI failed.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_shared::{At, RowWrite, Rows, Stepwise};
use dulse_shared_testkit::{
    Case, announced, as_store, cases_of_rows, create, one, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome, Step, Transaction};
use dulse_store_cassandra::{Cassandra, Config};
use dulse_store_testkit::{commit, directory, entry, file, path};
use dulse_types::Entry;
use server::held;

type Shared = dulse_shared_testkit::Shared<One>;

/// What is asked of this server alone.
const CASES: &[Case<One>] = &[
    (
        "a_keyspace_that_is_missing_and_a_table_that_is_another_are_refused",
        refused,
    ),
    (
        "the_server_says_how_it_keeps_what_it_acknowledges",
        log_sync,
    ),
    (
        "what_expires_goes_by_itself_and_nothing_older_shows_again",
        expires,
    ),
    (
        "what_is_written_over_a_row_of_upstream_takes_that_along",
        written_over,
    ),
    (
        "names_of_super_large_directories_are_found_and_not_listed",
        super_large,
    ),
    ("a_directory_of_more_than_a_write_is_moved", many_rows),
    (
        "a_write_that_a_server_makes_after_it_was_given_up_is_found",
        made_late,
    ),
];

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let lacks = match is_listed {
        true => None,
        false => server::start().err().map(|e| format!("{e:#}")),
    };
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, || Ok(One), lacks.clone());
    let all = cases_of_rows().into_iter().chain(CASES.iter().copied());
    let code = run(all.map(of).collect());
    server::stop();
    code
}

/// The one server of all cases, each with a keyspace of its own meanwhile; some of them kill it.
struct One;

impl dulse_shared_testkit::Server for One {
    type Backend = Stepwise<Cassandra>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    /// Statements are asked for by their ids: no case that looks for an attempt is among those
    /// of rows.
    const COMMIT: &'static [u8] = b"EXECUTE";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        server::keyspace_of(dir).expect("the server makes or empties a keyspace")
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        Cassandra::connect(&config).await.map(Stepwise)
    }
    fn port(&self) -> u16 {
        held().as_ref().expect("it was started").port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            hosts: vec![format!("127.0.0.1:{port}")],
            ..config.clone()
        }
    }
    fn kill(&mut self) -> anyhow::Result<()> {
        held().as_mut().expect("it was started").kill()
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        held().as_mut().expect("it was started").start_again()
    }
}

fn asked(statements: &[&str]) -> Vec<String> {
    let server = held();
    let server = server.as_ref().expect("it was started");
    server.texts(statements).unwrap()
}

fn created(at: &str, entry: &Entry) -> Step {
    Step::Create {
        path: path(at),
        entry: entry.clone(),
    }
}

fn rename(from: &str, to: &str) -> Transaction {
    one(Step::Rename {
        from: path(from),
        to: path(to),
    })
}

/// An entry that lasts.
fn lasting(seconds: i32) -> Entry {
    entry(|fields| {
        fields.attrs_mut().crtime = 2_000_000_000;
        fields.attrs_mut().ttl_sec = seconds;
    })
}

fn refused(server: One) {
    let shared = Shared::on(&server);
    let missing = Config {
        keyspace: "missing".to_owned(),
        ..shared.config.clone()
    };
    let error = shared.open_with(missing, &shared.options(1));
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("CREATE KEYSPACE"), "{error}");
    // Upstream's first layout.
    asked(&[
        "CREATE KEYSPACE IF NOT EXISTS first WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE IF NOT EXISTS first.filemeta (directory varchar, name varchar, meta blob, \
         PRIMARY KEY (directory, name)) WITH CLUSTERING ORDER BY (name ASC)",
    ]);
    let first = Config {
        keyspace: "first".to_owned(),
        ..shared.config.clone()
    };
    let error = shared.open_with(first, &shared.options(1));
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("dirhash"), "{error}");
}

/// A killed server loses nothing because of it, and a filer warns where it is otherwise.
fn log_sync(server: One) {
    let shared = Shared::on(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(async {
        let table = Cassandra::connect(&shared.config).await.unwrap();
        table.log_sync().await
    });
    assert_eq!(said.as_deref(), Some("batch"));
}

fn expires(server: One) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, one(created("/stays", &lasting(1_000)))).unwrap();
    // Later than Cassandra can count: it is the filer that removes it.
    commit(&store, one(created("/long", &lasting(i32::MAX)))).unwrap();
    // For ever, then for a moment.
    commit(&store, create("/goes", "for ever")).unwrap();
    let update = Step::Update {
        path: path("/goes"),
        entry: lasting(2),
        delete_chunks: true,
    };
    commit(&store, one(update)).unwrap();
    let began = Instant::now();
    while let Some(there) = shown(&store, "/goes") {
        assert!(there == lasting(2), "what was there before shows again");
        assert!(began.elapsed() < Duration::from_secs(60), "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    let names: Vec<String> = state(&store).keys().map(ToString::to_string).collect();
    assert_eq!(names, ["/long", "/stays"]);
    commit(&store, create("/goes", "again")).unwrap();
    assert_eq!(shown(&store, "/goes"), Some(file("again")));
}

/// Upstream inserts rows that last without their values, too.
fn written_over(server: One) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let rows = format!(
        "SELECT name FROM {}.filemeta WHERE dirhash = 7378810950367401542 AND directory = '/'",
        shared.config.keyspace
    );
    let insert = |name: &str| {
        format!(
            "INSERT INTO {}.filemeta (dirhash, directory, name, meta) \
             VALUES (7378810950367401542, '/', '{name}', 0x)",
            shared.config.keyspace
        )
    };
    // Of upstream's rows an empty value is an entry without any field.
    asked(&[&insert("expires"), &insert("removed")]);
    assert_eq!(asked(&[&rows]), ["expires", "removed"]);
    let update = Step::Update {
        path: path("/expires"),
        entry: lasting(2),
        delete_chunks: true,
    };
    commit(&store, one(update)).unwrap();
    let delete = Step::Delete {
        path: path("/removed"),
        delete_chunks: true,
    };
    commit(&store, one(delete)).unwrap();
    assert_eq!(asked(&[&rows]), ["expires"]);
    let began = Instant::now();
    while !asked(&[&rows]).is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "a row without a value stays, which upstream would list"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn super_large(server: One) {
    let mut shared = Shared::on(&server);
    shared.config.super_large = ["/big".to_owned(), "/new".to_owned()].into();
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let steps = vec![
        created("/big", &directory()),
        created("/big/one", &file("1")),
        created("/big/sub", &directory()),
        created("/big/sub/two", &file("2")),
    ];
    let transaction = Transaction {
        steps,
        ..Transaction::default()
    };
    commit(&store, transaction).unwrap();
    assert_eq!(shown(&store, "/big/one"), Some(file("1")));
    commit(&store, rename("/big/one", "/big/1")).unwrap();
    assert_eq!(shown(&store, "/big/one"), None);
    assert_eq!(shown(&store, "/big/1"), Some(file("1")));
    // Its own entries are not listed; those of a directory in it are.
    let names: Vec<String> = state(&store).keys().map(ToString::to_string).collect();
    assert_eq!(names, ["/big"]);
    let whole = dulse_store::ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 10,
    };
    assert_eq!(store.list(&path("/big/sub"), &whole).unwrap().len(), 1);
    let error = commit(&store, rename("/big", "/other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.to_string().contains("nobody knows"), "{error}");
    assert_eq!(shown(&store, "/other"), None);
    // Nor does one become super large by a move: nobody would list what is in it.
    commit(&store, one(created("/staging", &directory()))).unwrap();
    commit(&store, create("/staging/x", "x")).unwrap();
    let error = commit(&store, rename("/staging", "/new")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(shown(&store, "/staging/x"), Some(file("x")));
    let there = asked(&[&format!(
        "SELECT directory FROM {}.filemeta",
        shared.config.keyspace
    )]);
    for partition in ["42de1", "42desub", "/big/sub"] {
        assert!(there.iter().any(|one| one == partition), "{there:?}");
    }
}

/// More rows, and more bytes, than one write of ours has.
fn many_rows(server: One) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let mut steps = vec![created("/d", &directory())];
    let content = "x".repeat(4 << 10);
    steps.extend((0..600).map(|n| created(&format!("/d/{n}"), &file(&content))));
    let all = Transaction {
        steps,
        ..Transaction::default()
    };
    commit(&store, all).unwrap();
    commit(&store, rename("/d", "/e")).unwrap();
    let there = state(&store);
    assert_eq!(there.len(), 601);
    assert!(there.keys().all(|at| !at.as_str().starts_with("/d")));
    assert_eq!(told(&[announced(&filer)]), there);
}

/// A server that stands still for longer than a filer waits for its answer, and then does what
/// it was asked for: when that is over, what is there stays.
fn made_late(server: One) {
    let shared = Shared::on(&server);
    let signal = |signal| {
        let server = held();
        server.as_ref().expect("it was started").signal(signal)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let table = Cassandra::connect(&shared.config).await.unwrap();
        let at = path("/a");
        let value = |text: &'static [u8]| Some(Bytes::from_static(text));
        let row = |before, after| RowWrite {
            at: At::Path(at.clone()),
            before,
            after,
        };
        assert!(table.write(&[row(None, value(b"x"))]).await.unwrap());
        signal("STOP").unwrap();
        let given_up = table.write(&[row(value(b"x"), value(b"y"))]).await;
        signal("CONT").unwrap();
        let error = given_up.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        tokio::time::sleep(table.late_max()).await;
        table.settle(&[At::Path(at.clone())]).await.unwrap();
        assert_eq!(table.get(&at).await.unwrap(), value(b"y"));
        assert!(!table.write(&[row(value(b"x"), value(b"z"))]).await.unwrap());
        assert!(table.write(&[row(value(b"y"), None)]).await.unwrap());
        assert_eq!(table.get(&at).await.unwrap(), None);
    });
}
