// SPDX-License-Identifier: Apache-2.0
//! Several filers on one database: what each announces, lost answers, a server that is killed.
//!
//! Against the real server; without one the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dulse_shared::SharedStore;
use dulse_shared_testkit::{
    Authority, Case, Cuts, Server as _, announced, as_store, cases, compared_entries_are_held,
    create, one, run, shown, state, told, trial, what_is_locked_is_not_told_as_gone,
};
use dulse_store::{EntryStore, Error, ErrorKind, ListRange, Step, Transaction};
use dulse_store_mysql::{Config, MySql, Tables, Tls};
use dulse_store_testkit::{commit, directory, file, path};
use dulse_types::FullPath;
use server::{Kind, Server};

type Shared = dulse_shared_testkit::Shared<Server>;

/// What is asked of these servers alone, and of which.
const CASES: &[(Case<Server>, &[Kind])] = &[
    (
        (
            "a_commit_that_was_made_and_undone_by_another_is_not_made_again",
            undone,
        ),
        BOTH,
    ),
    (
        ("a_connection_that_hangs_with_its_locks_is_ended", hanging),
        BOTH,
    ),
    (
        (
            "names_are_listed_in_byte_order_against_the_index",
            byte_order,
        ),
        BOTH,
    ),
    (
        (
            "names_that_are_one_to_the_collation_are_refused_and_told_apart",
            collation,
        ),
        BOTH,
    ),
    (
        (
            "an_entry_above_the_servers_packet_is_refused_with_what_to_do",
            packet,
        ),
        BOTH,
    ),
    (
        (
            "the_table_of_a_removed_bucket_goes_unless_it_is_used_again",
            buckets,
        ),
        BOTH,
    ),
    (("a_log_of_statements_is_written_to", statement_log), BOTH),
    (
        (
            "what_was_compared_stays_as_it_was_until_the_change_is_made",
            what_was_compared_stays_as_it_was_until_the_change_is_made,
        ),
        BOTH,
    ),
    (
        (
            "what_is_in_a_locked_table_is_not_told_as_gone",
            what_is_in_a_locked_table_is_not_told_as_gone,
        ),
        BOTH,
    ),
    // MySQL 5.6 speaks no version of TLS that is still spoken.
    (
        (
            "only_a_server_that_a_trusted_authority_names_is_spoken_to",
            encrypted,
        ),
        &[Kind::MariaDb],
    ),
];

const BOTH: &[Kind] = &[Kind::MariaDb, Kind::MySql56];

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for (kind, server) in [(Kind::MariaDb, "mariadb"), (Kind::MySql56, "mysql56")] {
        let lacks = Server::start(kind, &[]).map(drop);
        let lacks = lacks.err().map(|e| format!("{e:#}"));
        let own = CASES.iter().filter(|(_, kinds)| kinds.contains(&kind));
        let own = own.map(|(case, _)| *case);
        let of = |(name, case): (&str, _)| {
            let name = format!("{server}::{name}");
            trial(name, case, move || Server::start(kind, &[]), lacks.clone())
        };
        trials.extend(cases().into_iter().chain(own).map(of));
    }
    run(trials)
}

impl dulse_shared_testkit::Server for Server {
    type Backend = MySql;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const COMMIT: &'static [u8] = b"\x03COMMIT";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        self.database_of(Tables::PerBucket, dir)
    }
    fn connect(config: Config) -> impl Future<Output = Result<MySql, Error>> + Send + 'static {
        MySql::connect(config)
    }
    fn port(&self) -> u16 {
        self.port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            port,
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

/// A filer behind a way that can be cut.
fn behind_cuts(server: &Server, shared: &Shared) -> (Arc<Cuts>, Arc<SharedStore<MySql>>) {
    let (cuts, port) = Cuts::to(server.port, Server::COMMIT);
    let config = Server::through(&shared.config, port);
    let filer = shared.open_with(config, &shared.options(1)).unwrap();
    (cuts, filer)
}

fn undone(server: Server) {
    let shared = Shared::on(&server);
    let (cuts, filer) = behind_cuts(&server, &shared);
    let (store, other) = (as_store(&filer), shared.open(2).unwrap());
    let others = as_store(&other);
    commit(&store, create("/before", "x")).unwrap();
    cuts.n_behind.store(1, Ordering::SeqCst);
    cuts.is_closed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let made = scope.spawn(|| commit(&store, create("/a", "x")));
        while shown(&others, "/a").is_none() {
            std::thread::yield_now();
        }
        let delete = Step::Delete {
            path: path("/a"),
            delete_chunks: true,
        };
        commit(&others, one(delete)).unwrap();
        // Only now can the first one ask.
        cuts.is_closed.store(false, Ordering::SeqCst);
        made.join().unwrap().unwrap();
    });
    assert_eq!(shown(&store, "/a"), None, "it is not made a second time");
    let all = [announced(&filer), announced(&other)];
    assert_eq!(all.each_ref().map(Vec::len), [2, 1]);
    assert_eq!(told(&all), state(&store));
}

fn hanging(server: Server) {
    let shared = Shared::on(&server);
    let (cuts, filer) = behind_cuts(&server, &shared);
    let store = as_store(&filer);
    cuts.n_hanging.store(1, Ordering::SeqCst);
    // The server waits for the commit and holds what was locked, until it is told not to.
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(cuts.n_hanging.load(Ordering::SeqCst), 0, "it was cut");
    let sql = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
               WHERE VARIABLE_NAME = 'COM_KILL'";
    assert_eq!(server.sql("", sql).unwrap(), ["1"]);
    assert_eq!(announced(&filer).len(), 1);
}

fn listed(store: &Arc<dyn EntryStore>, start: &str, limit: usize) -> Vec<String> {
    let range = ListRange {
        prefix: String::new(),
        start: start.to_owned(),
        inclusive: false,
        limit,
    };
    let rows = store.list(&path("/d"), &range).unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

fn in_d(store: &Arc<dyn EntryStore>, names: &[&str]) {
    let steps = names.iter().map(|name| Step::Create {
        path: FullPath::of("/d", name).unwrap(),
        entry: file(name),
    });
    let mut all = vec![Step::Create {
        path: path("/d"),
        entry: directory(),
    }];
    all.extend(steps);
    let all = Transaction {
        steps: all,
        ..Transaction::default()
    };
    commit(store, all).unwrap();
}

fn what_was_compared_stays_as_it_was_until_the_change_is_made(server: Server) {
    let sql = "SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS";
    compared_entries_are_held(&server, || server.sql("", sql).unwrap() != ["0"]);
}

fn what_is_in_a_locked_table_is_not_told_as_gone(server: Server) {
    what_is_locked_is_not_told_as_gone(&server, |config: &Config, for_s| {
        let sql = format!("LOCK TABLES filemeta WRITE; DO SLEEP({for_s})");
        server.sql(&config.database, &sql).unwrap();
    });
}

fn byte_order(server: Server) {
    let store = as_store(&Shared::on(&server).open(1).unwrap());
    let mut names = [
        "a", "a\t", "a\tb", "a\u{1}", "a b", "a \n", "ab", "a!", "b\u{1f}", "b", "\u{1}", "A", "é",
        "e\u{301}", "🦀", "z\u{7f}", "z",
    ];
    in_d(&store, &names);
    names.sort_unstable();
    for limit in [1, 2, 3, 5, 100] {
        let (mut all, mut start) = (Vec::new(), String::new());
        loop {
            let page = listed(&store, &start, limit);
            let is_end = page.len() < limit;
            start = page.last().cloned().unwrap_or_default();
            all.extend(page);
            if is_end {
                break;
            }
        }
        assert_eq!(all, names, "pages of {limit}");
    }
    let sql =
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_COLLATION = 'utf8mb4_bin'";
    assert_ne!(server.sql("", sql).unwrap(), ["0"], "it was that collation");
}

fn collation(server: Server) {
    let shared = Shared::on(&server);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, create("/a", "x")).unwrap();
    let refused = |store: &Arc<dyn EntryStore>, at: &str| {
        let error = commit(store, create(at, "y")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("for one name"), "{error}");
        assert_eq!(shown(store, at), None, "it is another one");
    };
    refused(&store, "/a ");
    assert_eq!(shown(&store, "/a"), Some(file("x")));
    let rename = Step::Rename {
        from: path("/a"),
        to: path("/a "),
    };
    commit(&store, one(rename)).unwrap();
    assert_eq!(shown(&store, "/a "), Some(file("x")));
    refused(&store, "/a");

    // A table that somebody made without thinking of it.
    let mut shared = Shared::on(&server);
    let create_table = &mut shared.config.create_table;
    *create_table = create_table.replace("utf8mb4_bin", "utf8mb4_general_ci");
    let store = as_store(&shared.open(1).unwrap());
    in_d(&store, &["b", "A", "_", "é"]);
    assert_eq!(listed(&store, "", 10), ["A", "_", "b", "é"]);
    assert_eq!(listed(&store, "A", 2), ["_", "b"]);
    refused(&store, "/d/B");
    refused(&store, "/d/e");
    assert_eq!(shown(&store, "/d/b"), Some(file("b")));
}

fn packet(server: Server) {
    let small = Server::start(server.kind(), &["--max-allowed-packet=1M"]).unwrap();
    let store = as_store(&Shared::on(&small).open(1).unwrap());
    let error = commit(&store, create("/a", &"x".repeat(2 << 20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error
            .to_string()
            .contains("max_allowed_packet of 1048576; raise it"),
        "{error}"
    );
    commit(&store, create("/a", &"x".repeat(900 << 10))).unwrap();
}

fn buckets(server: Server) {
    let shared = Shared::on(&server);
    let store = as_store(&shared.open(1).unwrap());
    let create = |at: &str| {
        let entry = directory();
        commit(
            &store,
            one(Step::Create {
                path: path(at),
                entry,
            }),
        )
        .unwrap();
    };
    let delete = |at: &str| {
        let delete_chunks = true;
        commit(
            &store,
            one(Step::Delete {
                path: path(at),
                delete_chunks,
            }),
        )
        .unwrap();
    };
    let tables = || server.sql(&shared.config.database, "SHOW TABLES").unwrap();
    for at in ["/buckets", "/buckets/one", "/buckets/one/d"] {
        create(at);
    }
    assert_eq!(tables(), ["filemeta", "one"]);
    delete("/buckets/one/d");
    delete("/buckets/one");
    assert_eq!(tables(), ["filemeta"]);
    // And again, as if it had never been.
    for at in ["/buckets/one", "/buckets/one/d"] {
        create(at);
    }
    delete("/buckets/one/d");
    let sql = "INSERT INTO one (dirhash, name, directory, meta) VALUES (1, 'x', '/other', 'y')";
    server.sql(&shared.config.database, sql).unwrap();
    delete("/buckets/one");
    assert_eq!(tables(), ["filemeta", "one"], "somebody's row is in it");
}

fn statement_log(server: Server) {
    let options = [
        "--log-bin=log",
        "--binlog-format=STATEMENT",
        "--server-id=1",
    ];
    let logging = Server::start(server.kind(), &options).unwrap();
    let shared = Shared::on(&logging);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = as_store(&filers[writer % 2]);
            scope.spawn(move || {
                for n in 0..25 {
                    commit(&store, create(&format!("/{n}-{writer}"), "x")).unwrap();
                }
            });
        }
    });
    let all = [announced(&filers[0]), announced(&filers[1])];
    assert_eq!(all.each_ref().map(Vec::len), [50, 50]);
    assert_eq!(told(&all), state(&as_store(&filers[0])));
}

fn encrypted(mut server: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, other) = (Authority::new(mine.path()), Authority::new(another.path()));
    let shared = Shared::on(&server);
    let [certificate, key] = trusted.signed("localhost");
    server.encrypt(&certificate, &key, &trusted.file).unwrap();
    let users = "CREATE USER coded@'%' REQUIRE SSL; CREATE USER known@'%' REQUIRE X509; \
                 GRANT ALL ON *.* TO coded@'%'; GRANT ALL ON *.* TO known@'%'";
    for sql in users.split("; ") {
        server.sql("", sql).unwrap();
    }
    let open = |user: &str, hostname: &str, tls: Option<Tls>| {
        let config = Config {
            hostname: hostname.to_owned(),
            username: user.to_owned(),
            tls,
            ..shared.config.clone()
        };
        dulse_store_mysql::open(config, &shared.options(1))
    };
    let trusting = |authority: &Authority| Tls {
        authorities: Some(authority.file.clone()),
        identity: None,
        server_name: String::new(),
        is_unchecked: false,
    };
    let refused = |result: Result<SharedStore<MySql>, Error>, because: &str| {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let chain = error.repeated().to_string();
        assert!(chain.contains(because), "{chain}");
    };
    refused(
        open("coded", "localhost", Some(trusting(&other))),
        "certificate",
    );
    refused(
        open("coded", "127.0.0.1", Some(trusting(&trusted))),
        "certificate",
    );
    refused(open("coded", "localhost", None), "Access denied");
    // The user may not be spoken to in the clear: that it works shows that it was not.
    let store = Arc::new(open("coded", "localhost", Some(trusting(&trusted))).unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    drop(store);
    let named = Tls {
        server_name: "localhost".to_owned(),
        ..trusting(&trusted)
    };
    drop(open("coded", "127.0.0.1", Some(named)).unwrap());
    let unchecked = Tls {
        is_unchecked: true,
        ..trusting(&other)
    };
    drop(open("coded", "localhost", Some(unchecked)).unwrap());

    refused(
        open("known", "localhost", Some(trusting(&trusted))),
        "Access denied",
    );
    let files = ["client.crt", "client.key"].map(|name| mine.path().join(name));
    for (file, content) in files.iter().zip(trusted.signed("filer")) {
        std::fs::write(file, content).unwrap();
    }
    let [certificate, key] = files;
    let known = Tls {
        identity: Some((certificate, key)),
        ..trusting(&trusted)
    };
    let store = Arc::new(open("known", "localhost", Some(known)).unwrap());
    commit(&as_store(&store), create("/b", "x")).unwrap();
    let missing = Tls {
        authorities: Some(mine.path().join("none")),
        ..trusting(&trusted)
    };
    let error = open("coded", "localhost", Some(missing))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("expected PEM certificates"),
        "{error}"
    );
}
