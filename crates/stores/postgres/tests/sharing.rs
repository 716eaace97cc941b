// SPDX-License-Identifier: Apache-2.0
//! Several filers on one database: what each announces, lost answers, a server that is killed.
//!
//! Against the real server; without one the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::future::Future;
use std::path::Path;

use dulse_shared_testkit::{
    Authority, as_store, cases, compared_entries_are_held, create, run, trial,
    what_is_locked_is_not_told_as_gone,
};
use dulse_store::{Error, ErrorKind};
use dulse_store_postgres::{Config, Postgres, SslMode, Tables};
use dulse_store_testkit::commit;
use server::Server;

type Shared = dulse_shared_testkit::Shared<Server>;

fn main() -> std::process::ExitCode {
    let lacks = Server::start().map(drop).err().map(|e| format!("{e:#}"));
    let mut cases = cases();
    cases.push((
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
    ));
    cases.push((
        "what_was_compared_stays_as_it_was_until_the_change_is_made",
        what_was_compared_stays_as_it_was_until_the_change_is_made,
    ));
    cases.push((
        "what_is_in_a_locked_table_is_not_told_as_gone",
        what_is_in_a_locked_table_is_not_told_as_gone,
    ));
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, Server::start, lacks.clone());
    run(cases.into_iter().map(of).collect())
}

impl dulse_shared_testkit::Server for Server {
    type Backend = Postgres;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const COMMIT: &'static [u8] = b"COMMIT\0";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        self.database_of(Tables::PerBucket, dir)
    }
    fn connect(config: Config) -> impl Future<Output = Result<Postgres, Error>> + Send + 'static {
        Postgres::connect(config)
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

fn what_was_compared_stays_as_it_was_until_the_change_is_made(server: Server) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    compared_entries_are_held(&server, || {
        server.sql("postgres", sql).unwrap().trim() != "0"
    });
}

fn what_is_in_a_locked_table_is_not_told_as_gone(server: Server) {
    what_is_locked_is_not_told_as_gone(&server, |config: &Config, for_s| {
        let sql = format!("LOCK TABLE filemeta IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({for_s})");
        server.sql(&config.database, &sql).unwrap();
    });
}

fn encrypted(mut server: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, other) = (Authority::new(mine.path()), Authority::new(another.path()));
    let [certificate, key] = trusted.signed("localhost");
    let shared = Shared::on(&server);
    server.encrypt(&certificate, &key).unwrap();
    let open = |hostname: &str, authorities: &Path| {
        let config = Config {
            hostname: hostname.to_owned(),
            ssl: SslMode::VerifyFull {
                authorities: Some(authorities.to_owned()),
            },
            ..shared.config.clone()
        };
        shared.open_with(config, &shared.options(1))
    };
    let refused = [
        open("localhost", &other.file),
        open("127.0.0.1", &trusted.file),
    ];
    for result in refused {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.repeated().to_string().contains("certificate"),
            "{error:?}"
        );
    }
    let store = open("localhost", &trusted.file).unwrap();
    commit(&as_store(&store), create("/a", "x")).unwrap();
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'dulse'";
    assert_eq!(
        server.sql(&shared.config.database, sql).unwrap().trim(),
        "t"
    );
}

/// The helper of other tests is used in parts.
const _: fn(Tables, &Path) -> Config = server::database_of;
