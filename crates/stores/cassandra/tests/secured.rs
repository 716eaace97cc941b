// SPDX-License-Identifier: Apache-2.0
//! A server that wants a login and a certificate of its clients, and has one of its own: who is
//! let in, and what the others are told.
//!
//! Against the real server, one for all cases; without one they are ignored with the reason, in
//! CI failed.

#[path = "support/server.rs"]
mod server;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result};
use dulse_shared::Stepwise;
use dulse_shared_testkit::{
    Authority, Case, announced, as_store, create, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome};
use dulse_store_cassandra::{Cassandra, Config, Tls};
use dulse_store_testkit::{commit, file};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use server::held;

type Shared = dulse_shared_testkit::Shared<Secured>;

/// The user of the filers, and its password.
const LOGIN: (&str, &str) = ("filer", "secret");

const CASES: &[Case<Secured>] = &[
    ("a_user_with_a_certificate_is_let_in", let_in),
    ("a_wrong_or_missing_login_is_refused_at_once", wrong_login),
    (
        "a_server_that_is_not_who_its_certificate_names_is_not_spoken_to",
        wrong_server,
    ),
    ("a_filer_without_a_certificate_is_told_so", no_certificate),
    ("a_user_who_may_not_make_the_table_is_told_so", no_rights),
    (
        "a_user_of_few_rights_is_told_how_the_server_keeps_what_it_acknowledges",
        settings,
    ),
    ("a_filer_logs_in_again_when_the_server_is_back", killed),
];

/// Certificates of both sides, for as long as this process runs.
struct Files {
    dir: tempfile::TempDir,
    trusted: Authority,
    certificate: PathBuf,
    key: PathBuf,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("there is room");
    let trusted = Authority::new(dir.path());
    let write = |name: &str, content: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, content).expect("there is room");
        file
    };
    let [certificate, key] = trusted.signed("filer");
    let (certificate, key) = (write("filer.crt", &certificate), write("filer.key", &key));
    let [own, of_own] = trusted.signed("127.0.0.1");
    write("server.pem", &(of_own + &own));
    Files {
        certificate,
        key,
        trusted,
        dir,
    }
});

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let lacks = match is_listed {
        true => None,
        false => start().err().map(|e| format!("{e:#}")),
    };
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, || Ok(Secured), lacks.clone());
    let code = run(CASES.iter().copied().map(of).collect());
    server::stop();
    code
}

/// Starts the server, and makes the user of the filers.
fn start() -> Result<()> {
    let file = |name: &str| FILES.dir.path().join(name).display().to_string();
    let settings = format!(
        "authenticator: PasswordAuthenticator\n\
         authorizer: CassandraAuthorizer\n\
         role_manager: CassandraRoleManager\n\
         # What is granted holds at once.\n\
         permissions_validity: 0ms\n\
         client_encryption_options:\n\
         \x20 enabled: true\n\
         \x20 optional: false\n\
         \x20 require_client_auth: true\n\
         \x20 keystore: {}\n\
         \x20 truststore: {}\n\
         \x20 ssl_context_factory:\n\
         \x20   class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n",
        file("server.pem"),
        FILES.trusted.file.display(),
    );
    let tls = Arc::new(own_tls()?);
    // Its first user is Cassandra's own.
    let reach = Arc::new(
        move |session: scylla::client::session_builder::SessionBuilder| {
            let session = session.user("cassandra", "cassandra");
            session.tls_context(Some(Arc::clone(&tls)))
        },
    );
    let server = server::Server::start_with(&settings, reach)?;
    let (user, password) = LOGIN;
    server.run(&[&format!(
        "CREATE ROLE {user} WITH PASSWORD = '{password}' AND LOGIN = true"
    )])?;
    *held() = Some(server);
    Ok(())
}

/// How the tests' own statements are encrypted.
fn own_tls() -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&FILES.trusted.file)?)?;
    let chain = vec![CertificateDer::from_pem_file(&FILES.certificate)?];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&FILES.key)?)?)
}

/// The one server of all cases.
struct Secured;

impl dulse_shared_testkit::Server for Secured {
    type Backend = Stepwise<Cassandra>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    /// Nobody looks into what is encrypted.
    const COMMIT: &'static [u8] = b"EXECUTE";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        let config = server::keyspace_of(dir).expect("the server makes or empties a keyspace");
        grant(&["CREATE", "SELECT", "MODIFY"], &config.keyspace);
        Config {
            username: LOGIN.0.to_owned(),
            password: LOGIN.1.to_owned(),
            tls: Some(Tls {
                authorities: Some(FILES.trusted.file.clone()),
                identity: Some((FILES.certificate.clone(), FILES.key.clone())),
            }),
            ..config
        }
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
    fn kill(&mut self) -> Result<()> {
        held().as_mut().expect("it was started").kill()
    }
    fn start_again(&mut self) -> Result<()> {
        held().as_mut().expect("it was started").start_again()
    }
}

fn asked(statements: &[&str]) -> Vec<String> {
    let server = held();
    let server = server.as_ref().expect("it was started");
    server.texts(statements).unwrap()
}

/// Lets the filers' user do what is named in a keyspace, and nothing else.
fn grant(rights: &[&str], keyspace: &str) {
    let user = LOGIN.0;
    let mut statements = vec![format!("REVOKE ALL ON KEYSPACE {keyspace} FROM {user}")];
    for right in rights {
        statements.push(format!("GRANT {right} ON KEYSPACE {keyspace} TO {user}"));
    }
    asked(&statements.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The refusal of a filer's start, as an operator reads it.
fn refused(shared: &Shared, config: Config, kind: ErrorKind) -> String {
    let error = shared.open_with(config, &shared.options(1));
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
    let chain = error.repeated().to_string();
    println!("{chain}");
    assert!(!chain.contains(LOGIN.1), "{chain}");
    chain
}

fn let_in(server: Secured) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(shown(&store, "/a"), Some(file("x")));
    let clients = "SELECT username FROM system_views.clients WHERE ssl_enabled = true \
                   ALLOW FILTERING";
    let all = asked(&[clients]);
    assert!(all.iter().any(|user| user == LOGIN.0), "{all:?}");
    println!(
        "{:?}",
        asked(&["GRANT SELECT ON system_views.settings TO filer"])
    );
    // Once the table is there, it need not be made.
    grant(&["SELECT", "MODIFY"], &shared.config.keyspace);
    let store = as_store(&shared.open(2).unwrap());
    assert_eq!(shown(&store, "/a"), Some(file("x")));
}

fn wrong_login(server: Secured) {
    let shared = Shared::on(&server);
    for (username, password) in [(LOGIN.0, "guessed"), ("nobody", LOGIN.1)] {
        let config = Config {
            username: username.to_owned(),
            password: password.to_owned(),
            ..shared.config.clone()
        };
        let chain = refused(&shared, config, ErrorKind::Invalid);
        assert!(chain.contains("`username`"), "{chain}");
        assert!(!chain.contains(password), "{chain}");
    }
    let config = Config {
        username: String::new(),
        ..shared.config.clone()
    };
    let chain = refused(&shared, config, ErrorKind::Invalid);
    assert!(chain.contains("set `username` and `password`"), "{chain}");
}

/// A way to the server at another address of the loopback interface, which no certificate names.
fn elsewhere(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let passing = || -> Result<()> {
                let server = TcpStream::connect(("127.0.0.1", port))?;
                let (mut from, mut back) = (server.try_clone()?, client.try_clone()?);
                std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                let (mut client, mut server) = (client, server);
                std::thread::spawn(move || std::io::copy(&mut client, &mut server));
                Ok(())
            };
            // Who meets a broken way fails for it.
            let _ = passing().context("the way to the server");
        }
    });
    own
}

fn wrong_server(server: Secured) {
    let shared = Shared::on(&server);
    let another = tempfile::tempdir().unwrap();
    let other = Authority::new(another.path());
    let tls = shared.config.tls.clone().unwrap();
    let by_other = Config {
        tls: Some(Tls {
            authorities: Some(other.file),
            ..tls
        }),
        ..shared.config.clone()
    };
    let of_other_name = Config {
        hosts: vec![format!(
            "127.0.0.2:{}",
            elsewhere(dulse_shared_testkit::Server::port(&server))
        )],
        ..shared.config.clone()
    };
    for config in [by_other, of_other_name] {
        let chain = refused(&shared, config, ErrorKind::Unavailable);
        assert!(chain.contains("invalid peer certificate"), "{chain}");
        assert!(chain.contains("`ssl_ca_path`"), "{chain}");
    }
}

fn no_certificate(server: Secured) {
    let shared = Shared::on(&server);
    let tls = shared.config.tls.clone().unwrap();
    let without = Config {
        tls: Some(Tls {
            identity: None,
            ..tls
        }),
        ..shared.config.clone()
    };
    let chain = refused(&shared, without, ErrorKind::Unavailable);
    assert!(chain.contains("`ssl_cert_path`"), "{chain}");
    let unencrypted = Config {
        tls: None,
        ..shared.config.clone()
    };
    let chain = refused(&shared, unencrypted, ErrorKind::Unavailable);
    assert!(chain.contains("`ssl_ca_path`"), "{chain}");
}

fn no_rights(server: Secured) {
    let shared = Shared::on(&server);
    grant(&["SELECT", "MODIFY"], &shared.config.keyspace);
    let table = format!("DROP TABLE IF EXISTS {}.filemeta", shared.config.keyspace);
    asked(&[&table]);
    let chain = refused(&shared, shared.config.clone(), ErrorKind::Invalid);
    assert!(chain.contains("CREATE"), "{chain}");
    grant(&["CREATE", "SELECT", "MODIFY"], &shared.config.keyspace);
    drop(shared.open(1).unwrap());
    // Who makes a table may do all with it.
    let table = format!("{}.filemeta", shared.config.keyspace);
    let user = LOGIN.0;
    asked(&[
        &format!("REVOKE ALL ON {table} FROM {user}"),
        &format!("TRUNCATE {table}"),
    ]);
    grant(&["SELECT"], &shared.config.keyspace);
    let chain = refused(&shared, shared.config.clone(), ErrorKind::Unavailable);
    assert!(chain.contains("MODIFY"), "{chain}");
}

/// Its settings a server tells everyone.
fn settings(server: Secured) {
    let shared = Shared::on(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(async {
        let table = Cassandra::connect(&shared.config).await.unwrap();
        table.log_sync().await
    });
    assert_eq!(said.as_deref(), Some("batch"));
}

fn killed(mut server: Secured) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/before", "x")).unwrap();
    dulse_shared_testkit::Server::kill(&mut server).unwrap();
    dulse_shared_testkit::Server::start_again(&mut server).unwrap();
    let mut n_failed = 0;
    while let Err(error) = commit(&store, create(&format!("/behind-{n_failed}"), "x")) {
        let is_unknown = error.outcome() == Outcome::Unknown;
        assert!(error.is_retryable() || is_unknown, "{error:?}");
        n_failed += 1;
        assert!(n_failed < 600, "{error:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{n_failed} writes failed");
    let behind = format!("/behind-{n_failed}");
    for at in ["/before", &behind] {
        assert_eq!(shown(&store, at), Some(file("x")), "{at}");
    }
    assert_eq!(told(&[announced(&filer)]), state(&store));
}
