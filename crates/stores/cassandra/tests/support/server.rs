// SPDX-License-Identifier: Apache-2.0
//! A Cassandra server for tests: one node in a directory of its own, on loopback, ended with its
//! test.
//!
//! Its archives are Maven Central's, laid into the cache by `cargo xtask setup`;
//! `DULSE_CASSANDRA` names their folder where they lie elsewhere. It needs Java 17.
//!
//! What it has acknowledged is in its log on the disk (`commitlog_sync: batch`), so that it
//! survives its being killed.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_shared_testkit::{Process, java, place};
use dulse_store_cassandra::Config;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Where `cargo xtask setup` lays the archives, below the cache.
const ARCHIVES: &str = "servers/cassandra-5.0.8";

/// How long the server may take until it answers: most of a minute on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(180);

/// How long it may take to answer one statement of the tests' own.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// The Java that it is started with: it knows 11 and 17.
const JAVA: u32 = 17;

/// Where servers listen; the first is asked for the others.
const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

/// A server that is alone knows no others, and waits for none. About 1.3 GiB in all, however much
/// it is asked for.
const ALONE: [&str; 4] = [
    "-Xms256m",
    "-Xmx900m",
    "-XX:MaxDirectMemorySize=256m",
    "-Dcassandra.ring_delay_ms=1",
];

/// One of several.
const AMONG_OTHERS: [&str; 4] = [
    "-Xms256m",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=128m",
    "-Dcassandra.ring_delay_ms=5000",
];

/// What Cassandra reaches into of Java's own.
const EXPORTED: [&str; 9] = [
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
];
const OPENED: [&str; 14] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "java.base/java.lang",
    "java.base/java.util",
    "jdk.management/com.sun.management.internal",
    "jdk.compiler/com.sun.tools.javac",
];

pub(crate) struct Server {
    dir: tempfile::TempDir,
    archives: PathBuf,
    host: &'static str,
    pub(crate) port: u16,
    options: &'static [&'static str],
    process: Option<Process>,
    /// Keyspaces, and whose directory each is of: making one takes long, emptying it does not.
    keyspaces: BTreeMap<String, PathBuf>,
    reach: Reach,
}

/// How the tests' own statements reach a server: who they are, and how they are encrypted.
pub(crate) type Reach = Arc<dyn Fn(SessionBuilder) -> SessionBuilder + Send + Sync>;

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// The one server of this process; a case that failed leaves it to the next.
pub(crate) fn held() -> MutexGuard<'static, Option<Server>> {
    SERVER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Starts the one server of this process.
pub(crate) fn start() -> Result<()> {
    *held() = Some(Server::start()?);
    Ok(())
}

/// Ends it.
pub(crate) fn stop() {
    drop(held().take());
}

/// The keyspace that belongs to a directory.
pub(crate) fn keyspace_of(dir: &Path) -> Result<Config> {
    let mut server = held();
    let server = server.as_mut().context("a case runs only with a server")?;
    server.keyspace_of(dir)
}

/// A port that is free at all of some addresses.
fn free_port(hosts: &[&str]) -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind((HOSTS[0], 0))?.local_addr()?.port();
        if hosts
            .iter()
            .all(|host| TcpListener::bind((*host, port)).is_ok())
        {
            return Ok(port);
        }
    }
    bail!("no port is free at {hosts:?}")
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        Self::start_with("", Arc::new(|session| session))
    }

    /// - `more`: lines of `cassandra.yaml`.
    pub(crate) fn start_with(more: &str, reach: Reach) -> Result<Self> {
        let ports = [free_port(&HOSTS[..1])?, free_port(&HOSTS[..1])?];
        let mut server = Self::new(place()?, HOSTS[0], ports, &ALONE, more, reach)?;
        server.start_again()?;
        Ok(server)
    }

    /// Where its syncs cost what they cost.
    pub(crate) fn start_on_disk() -> Result<Self> {
        let ports = [free_port(&HOSTS[..1])?, free_port(&HOSTS[..1])?];
        let (dir, reach) = (tempfile::tempdir()?, Arc::new(|session| session));
        let mut server = Self::new(dir, HOSTS[0], ports, &ALONE, "", reach)?;
        server.start_again()?;
        Ok(server)
    }

    /// One that was not started yet.
    fn new(
        dir: tempfile::TempDir,
        host: &'static str,
        [port, storage_port]: [u16; 2],
        options: &'static [&'static str],
        more: &str,
        reach: Reach,
    ) -> Result<Self> {
        let archives = java::archives("Cassandra", "DULSE_CASSANDRA", ARCHIVES)?;
        std::fs::create_dir(dir.path().join("conf"))?;
        let settings = settings(host, port, storage_port) + more;
        std::fs::write(dir.path().join("conf/cassandra.yaml"), settings)?;
        std::fs::write(dir.path().join("conf/logback.xml"), LOGGING)?;
        Ok(Self {
            dir,
            archives,
            host,
            port,
            options,
            process: None,
            keyspaces: BTreeMap::new(),
            reach,
        })
    }

    /// Three servers of one cluster, each with a third of the ring.
    pub(crate) fn start_cluster() -> Result<Vec<Self>> {
        let ports = [free_port(&HOSTS)?, free_port(&HOSTS)?];
        let start = |(n, host): (usize, &&'static str)| {
            let part = (1_i128 << 64) / HOSTS.len() as i128;
            let token = i128::from(i64::MIN) + 1 + part * n as i128;
            let more = format!("initial_token: {token}\nauto_bootstrap: false\n");
            let mut server = Self::new(
                place()?,
                host,
                ports,
                &AMONG_OTHERS,
                &more,
                Arc::new(|one| one),
            )?;
            // Each asks the first for the others.
            server.start_again()?;
            Ok(server)
        };
        let servers: Result<Vec<Self>> = HOSTS.iter().enumerate().map(start).collect();
        let servers = servers?;
        for server in &servers {
            server.wait_for_others()?;
        }
        Ok(servers)
    }

    /// Waits until it knows the others of its cluster.
    fn wait_for_others(&self) -> Result<()> {
        let began = Instant::now();
        let others = "SELECT release_version FROM system.peers_v2";
        while self.texts(&[others])?.len() + 1 < HOSTS.len() {
            ensure!(began.elapsed() < START_TIME_MAX, "it knows no others");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Kills it as a machine that loses power would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let process = self.process.as_ref().context("it was started")?;
        process.signal(signal)
    }

    /// Starts it where it is not running, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let dir = self.dir.path();
        let log = dir.join("log");
        let mut command = Command::new(java::java("Cassandra", JAVA..=JAVA)?);
        command.args(self.options);
        command.args([
            "-XX:ReservedCodeCacheSize=64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ]);
        for export in EXPORTED {
            command.args(["--add-exports", &format!("{export}=ALL-UNNAMED")]);
        }
        for package in OPENED {
            command.args(["--add-opens", &format!("{package}=ALL-UNNAMED")]);
        }
        let path = |name: &str| dir.join(name).display().to_string();
        command.args([
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dcassandra-foreground=yes",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.superuser_setup_delay_ms=0",
        ]);
        command.arg(format!(
            "-Dcassandra.config=file://{}",
            path("conf/cassandra.yaml")
        ));
        command.arg(format!("-Dcassandra.storagedir={}", path("data")));
        command.arg("-cp");
        command.arg(format!("{}:{}/*", path("conf"), self.archives.display()));
        command
            .arg("org.apache.cassandra.service.CassandraDaemon")
            .current_dir(dir);
        self.process = Some(Process::start(&command, &log)?);
        self.wait()
            .with_context(|| format!("Cassandra's log ends with:\n{}", java::end_of(&log)))
    }

    /// Asks it who it is, until there is an answer.
    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let why = match self.run(&["SELECT release_version FROM system.local"]) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let process = self.process.as_ref().context("it was started")?;
            ensure!(!process.has_ended(), "Cassandra ended");
            if began.elapsed() > START_TIME_MAX {
                bail!(
                    "Cassandra does not answer within {} s: {why:#}",
                    START_TIME_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Has it do something.
    pub(crate) fn run(&self, statements: &[&str]) -> Result<()> {
        self.texts(statements).map(drop)
    }

    /// What it answers to the last of some statements, the first column of each row.
    pub(crate) fn texts(&self, statements: &[&str]) -> Result<Vec<String>> {
        let (address, reach) = (self.address(), Arc::clone(&self.reach));
        let statements: Vec<String> = statements.iter().map(|&one| one.to_owned()).collect();
        let asked = async move {
            let profile = scylla::client::execution_profile::ExecutionProfile::builder()
                .request_timeout(Some(STATEMENT_TIME_MAX))
                .build();
            let session = SessionBuilder::new()
                .known_node(address)
                .fetch_schema_metadata(false)
                .default_execution_profile_handle(profile.into_handle());
            let session: Session = reach(session).build().await?;
            let mut texts = Vec::new();
            for statement in statements {
                let result = session.query_unpaged(statement, ()).await?;
                texts.clear();
                if result.is_rows() {
                    for row in result.into_rows_result()?.rows::<scylla::value::Row>()? {
                        let first = row?.columns.into_iter().next().flatten();
                        let text = first.and_then(|value| value.into_string());
                        texts.extend(text);
                    }
                }
            }
            anyhow::Ok(texts)
        };
        // On a thread of its own: whoever asks may be in a runtime already.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(asked)
        });
        thread.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    }

    /// A keyspace with upstream's table, which upstream leaves to its operators.
    pub(crate) fn make_with_table(&self, name: &str) -> Result<()> {
        self.make_keyspace(name)?;
        let make = format!(
            "CREATE TABLE {name}.filemeta (dirhash bigint, directory varchar, name varchar, \
             meta blob, PRIMARY KEY ((dirhash, directory), name)) \
             WITH CLUSTERING ORDER BY (name ASC)"
        );
        self.run(&[&make])
    }

    /// A keyspace with nothing in it, on one server.
    pub(crate) fn make_keyspace(&self, name: &str) -> Result<()> {
        self.make_keyspace_on(name, 1)
    }

    /// - `n_servers`: that have each row.
    pub(crate) fn make_keyspace_on(&self, name: &str, n_servers: usize) -> Result<()> {
        let make = format!(
            "CREATE KEYSPACE {name} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {n_servers}}}"
        );
        self.run(&[&make])
    }

    /// The keyspace that belongs to a directory, empty at first: one that was of a directory that
    /// is gone, or a new one.
    pub(crate) fn keyspace_of(&mut self, dir: &Path) -> Result<Config> {
        let known = self.keyspaces.iter().find(|(_, of)| *of == dir);
        let name = match known {
            Some((name, _)) => name.clone(),
            None => {
                let mut all = self.keyspaces.iter();
                let name = all
                    .find(|(_, of)| !of.exists())
                    .map(|(name, _)| name.clone());
                let name = match name {
                    Some(name) => {
                        self.run(&[&format!("TRUNCATE {name}.filemeta")])?;
                        name
                    }
                    None => {
                        let name = format!("k{}", self.keyspaces.len());
                        self.make_keyspace(&name)?;
                        name
                    }
                };
                self.keyspaces.insert(name.clone(), dir.to_owned());
                name
            }
        };
        Ok(self.config(&name))
    }

    /// How a keyspace is reached.
    pub(crate) fn config(&self, keyspace: &str) -> Config {
        Config {
            // The machine may be busy.
            connect_time_max: Duration::from_secs(10),
            ..Config::at(&[&self.address()], keyspace)
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is needed: its directory goes with it.
        let _ = self.kill();
    }
}

const LOGGING: &str = r#"<configuration>
<appender name="A" class="ch.qos.logback.core.ConsoleAppender">
<encoder><pattern>%date{ISO8601} %level %logger{0} %msg%n</pattern></encoder>
</appender>
<root level="INFO"><appender-ref ref="A"/></root>
</configuration>
"#;

/// `cassandra.yaml`: a node of one range, on loopback.
fn settings(host: &str, port: u16, storage_port: u16) -> String {
    let first = HOSTS[0];
    format!(
        "cluster_name: test\n\
         num_tokens: 1\n\
         seed_provider:\n\
         - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
         \x20 parameters:\n\
         \x20 - seeds: \"{first}:{storage_port}\"\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         endpoint_snitch: SimpleSnitch\n\
         listen_address: {host}\n\
         storage_port: {storage_port}\n\
         rpc_address: {host}\n\
         native_transport_port: {port}\n\
         # An answer means that it is on the disk.\n\
         commitlog_sync: batch\n\
         # Entries of 16 MiB, what they were and what they become.\n\
         commitlog_segment_size: 64MiB\n\
         native_transport_max_frame_size: 64MiB\n\
         native_transport_max_request_data_in_flight: 256MiB\n\
         native_transport_max_request_data_in_flight_per_ip: 128MiB\n\
         # Emptying a table keeps nothing of it.\n\
         auto_snapshot: false\n"
    )
}
