// SPDX-License-Identifier: Apache-2.0
//! A Cassandra server for tests: one node in a directory of its own, on loopback. A shell stands
//! between: it ends the server by its id as soon as the pipe to it closes, so that none outlives
//! its test, however that ends.
//!
//! Its archives are Maven Central's, laid into the cache by `cargo xtask setup`;
//! `DULSE_CASSANDRA` names their folder where they lie elsewhere. It needs Java 17.
//!
//! What it has acknowledged is in its log on the disk (`commitlog_sync: batch`), so that it
//! survives its being killed.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
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

/// What the shell does: tells the id of what it started, and ends that when its input ends.
const GUARD: &str = "\"$@\" </dev/null >>log 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait";

pub(crate) struct Server {
    dir: tempfile::TempDir,
    archives: PathBuf,
    pub(crate) port: u16,
    storage_port: u16,
    /// The shell, and the id of the server.
    child: Option<(Child, u32)>,
    /// Keyspaces, and whose directory each is of: making one takes long, emptying it does not.
    keyspaces: BTreeMap<String, PathBuf>,
}

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

fn archives() -> Result<PathBuf> {
    let cache = std::env::var_os("DULSE_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/dulse"));
    let named = std::env::var_os("DULSE_CASSANDRA").map(PathBuf::from);
    let cached = cache.or(home).map(|cache| cache.join(ARCHIVES));
    let dir = named
        .or(cached)
        .context("no home, and no DULSE_CASSANDRA")?;
    // Laid down last.
    ensure!(
        dir.join("complete").is_file(),
        "no Cassandra in {}; run `cargo xtask setup`",
        dir.display()
    );
    Ok(dir)
}

fn java() -> Result<PathBuf> {
    let program = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|program| program.is_file())
        .unwrap_or_else(|| "java".into());
    let said = Command::new(&program)
        .arg("-version")
        .output()
        .context("no Java, which Cassandra needs (Debian's package `openjdk-17-jre-headless`)")?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15
    let version = text.split('"').nth(1).and_then(|it| it.split('.').next());
    let version: u32 = version.and_then(|it| it.parse().ok()).unwrap_or(0);
    ensure!(
        version == JAVA,
        "Java {JAVA} is needed for Cassandra; here is: {text}"
    );
    Ok(program)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// - `more`: lines of `cassandra.yaml`.
    pub(crate) fn start_with(more: &str) -> Result<Self> {
        let archives = archives()?;
        let dir = tempfile::tempdir()?;
        let (port, storage_port) = (free_port()?, free_port()?);
        std::fs::create_dir(dir.path().join("conf"))?;
        let settings = settings(port, storage_port) + more;
        std::fs::write(dir.path().join("conf/cassandra.yaml"), settings)?;
        std::fs::write(dir.path().join("conf/logback.xml"), LOGGING)?;
        let mut server = Self {
            dir,
            archives,
            port,
            storage_port,
            child: None,
            keyspaces: BTreeMap::new(),
        };
        server.start_again()?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a machine that loses power would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some((mut shell, _)) = self.child.take() {
            drop(shell.stdin.take());
            shell.wait()?;
        }
        Ok(())
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let (_, id) = self.child.as_ref().context("it was started")?;
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", signal, &id.to_string()]).status()?;
        ensure!(sent.success(), "no signal was sent");
        Ok(())
    }

    /// Starts it where it is not running, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let dir = self.dir.path();
        let log = dir.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(java()?);
        // About 1.3 GiB in all, however much it is asked for.
        command.args([
            "-Xms256m",
            "-Xmx900m",
            "-XX:MaxDirectMemorySize=256m",
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
            // It knows no others, and waits for none.
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=1",
        ]);
        command.arg(format!(
            "-Dcassandra.config=file://{}",
            path("conf/cassandra.yaml")
        ));
        command.arg(format!("-Dcassandra.storagedir={}", path("data")));
        command.arg("-cp");
        command.arg(format!("{}:{}/*", path("conf"), self.archives.display()));
        let mut shell = command
            .arg("org.apache.cassandra.service.CassandraDaemon")
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no `sh`")?;
        let mut told = String::new();
        let stdout = shell.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut told)?;
        let id = told.trim().parse();
        self.child = Some((shell, id.with_context(|| format!("`sh` said `{told}`"))?));
        self.wait().with_context(|| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(20).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("Cassandra's log ends with:\n{}", lines.join("\n"))
        })
    }

    /// Asks it who it is, until there is an answer.
    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let why = match self.run(&["SELECT release_version FROM system.local"]) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let (_, id) = self.child.as_ref().context("it was started")?;
            // One that has ended has no arguments any more.
            let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            ensure!(!arguments.is_empty(), "Cassandra ended");
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
        let address = self.address();
        let statements: Vec<String> = statements.iter().map(|&one| one.to_owned()).collect();
        let asked = async move {
            let profile = scylla::client::execution_profile::ExecutionProfile::builder()
                .request_timeout(Some(STATEMENT_TIME_MAX))
                .build();
            let session: Session = SessionBuilder::new()
                .known_node(address)
                .fetch_schema_metadata(false)
                .default_execution_profile_handle(profile.into_handle())
                .build()
                .await?;
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

    /// A keyspace with nothing in it.
    pub(crate) fn make_keyspace(&self, name: &str) -> Result<()> {
        let make = format!(
            "CREATE KEYSPACE {name} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
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

/// `cassandra.yaml`: one node of one range, on loopback.
fn settings(port: u16, storage_port: u16) -> String {
    format!(
        "cluster_name: test\n\
         num_tokens: 1\n\
         seed_provider:\n\
         - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
         \x20 parameters:\n\
         \x20 - seeds: \"127.0.0.1:{storage_port}\"\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         endpoint_snitch: SimpleSnitch\n\
         listen_address: 127.0.0.1\n\
         storage_port: {storage_port}\n\
         rpc_address: 127.0.0.1\n\
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
