// SPDX-License-Identifier: Apache-2.0
//! Clusters of which every server asks for a login and a certificate, and has one of its own.

use std::path::{Path, PathBuf};

use dulse_shared_testkit::{Authority, as_store, create, shown};
use dulse_store::{ErrorKind, Outcome};
use dulse_store_redis::{Config, Servers, Tls};
use dulse_store_testkit::{commit, file};

use super::server::Server;
use super::{Cluster, Shared, moving};

/// The password of the filers' user.
const SECRET: &str = "secret";

/// Three servers, and what filers need to be let in.
struct Secured {
    dir: tempfile::TempDir,
    trusted: Authority,
    servers: Vec<Server>,
}

impl Secured {
    /// - `name`: what their certificates name.
    fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trusted = Authority::new(dir.path());
        let write = |file: &str, content: &str| {
            let file = dir.path().join(file);
            std::fs::write(&file, content).unwrap();
            file.display().to_string()
        };
        let [certificate, key] = trusted.signed(name);
        let own = [
            write("server.crt", &certificate),
            write("server.key", &key),
            trusted.file.display().to_string(),
        ];
        let [certificate, key] = trusted.signed("filer");
        write("filer.crt", &certificate);
        write("filer.key", &key);
        let filer = format!(">{SECRET}");
        let names = ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"];
        let certificates = names
            .iter()
            .zip(&own)
            .flat_map(|(name, file)| [*name, file]);
        let users = [
            ["--user", "default", "off"].as_slice(),
            &["--user", "operator", "on", ">operates", "~*", "&*", "+@all"],
            &[
                "--user", "filer", "on", &filer, "~*", "+@all", "-config", "-@admin",
            ],
        ];
        let mut arguments = vec!["--tls-cluster", "yes", "--tls-auth-clients", "yes"];
        arguments.extend(certificates);
        arguments.extend(users.concat());
        let cli = [
            "--tls",
            "--cert",
            &own[0],
            "--key",
            &own[1],
            "--cacert",
            &own[2],
            "--user",
            "operator",
            "--pass",
            "operates",
            "--no-auth-warning",
        ];
        let servers = Server::start_known_cluster(0, &arguments, &cli).unwrap();
        Self {
            dir,
            trusted,
            servers,
        }
    }

    /// - `host`: by which the servers are reached at first.
    fn config(&self, host: &str, config: &Config) -> Config {
        let ports = self.servers.iter().map(|server| server.port);
        let addresses = ports.map(|port| format!("{host}:{port}")).collect();
        let own = |file: &str| self.dir.path().join(file);
        Config {
            servers: Servers::Cluster(addresses),
            username: "filer".to_owned(),
            password: SECRET.to_owned(),
            tls: tls(
                &self.trusted.file,
                Some((own("filer.crt"), own("filer.key"))),
            ),
            ..config.clone()
        }
    }
}

fn tls(authorities: &Path, own: Option<(PathBuf, PathBuf)>) -> Tls {
    Tls::On {
        authorities: Some(authorities.to_owned()),
        own,
    }
}

/// The refusal of a filer's start, as an operator reads it.
fn refused(shared: &Shared, config: &Config, kind: ErrorKind) -> String {
    let error = shared.open_with(config.clone(), &shared.options(9));
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
    let chain = error.repeated().to_string();
    println!("{chain}");
    assert!(!chain.contains(&config.password), "{chain}");
    chain
}

/// The cluster names its servers by their addresses; slots move, and who asks is sent on.
pub(crate) fn followed(cluster: Cluster) {
    let secured = Secured::start("127.0.0.1");
    let mut shared = Shared::on(&cluster);
    let known = secured.config("127.0.0.1", &shared.config);
    let guessed = Config {
        password: "guessed".to_owned(),
        ..known.clone()
    };
    let chain = refused(&shared, &guessed, ErrorKind::Invalid);
    assert!(chain.contains("authentication failed"), "{chain}");
    let another = tempfile::tempdir().unwrap();
    let other = Config {
        tls: tls(&Authority::new(another.path()).file, None),
        ..known.clone()
    };
    let chain = refused(&shared, &other, ErrorKind::Unavailable);
    assert!(chain.contains("certificate"), "{chain}");
    let uncertified = Config {
        tls: tls(&secured.trusted.file, None),
        ..known.clone()
    };
    refused(&shared, &uncertified, ErrorKind::Unavailable);
    let unencrypted = Config {
        tls: Tls::Off,
        ..known.clone()
    };
    refused(&shared, &unencrypted, ErrorKind::Unavailable);
    shared.config = known;
    moving::under_load(&shared, &secured.servers);
}

/// Certificates of names need a cluster that tells its servers' names.
pub(crate) fn named(cluster: Cluster) {
    let secured = Secured::start("localhost");
    let mut shared = Shared::on(&cluster);
    shared.config = secured.config("localhost", &shared.config);
    let chain = refused(&shared, &shared.config, ErrorKind::Unavailable);
    assert!(chain.contains("127.0.0.1"), "{chain}");
    for server in &secured.servers {
        let set = ["CONFIG", "SET", "cluster-announce-hostname", "localhost"];
        server.command(&set).unwrap();
        let set = [
            "CONFIG",
            "SET",
            "cluster-preferred-endpoint-type",
            "hostname",
        ];
        server.command(&set).unwrap();
    }
    for server in &secured.servers {
        // Each hears the names of the others after a while.
        let slots = ["CLUSTER", "SLOTS"];
        let began = std::time::Instant::now();
        loop {
            let said = server.command(&slots).unwrap();
            if said.matches("localhost").count() >= secured.servers.len() && !said.contains('?') {
                break;
            }
            assert!(began.elapsed().as_secs() < 60, "{said}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let store = as_store(&shared.open(1).unwrap());
    for n in 0..20 {
        let at = format!("/{n}");
        commit(&store, create(&at, "x")).unwrap();
        assert_eq!(shown(&store, &at), Some(file("x")));
    }
}
