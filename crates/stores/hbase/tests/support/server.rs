// SPDX-License-Identifier: Apache-2.0
//! An HBase server for tests: master, region server and ZooKeeper in one process, in a directory
//! of its own, on loopback, ended with its test.
//!
//! Its archives are Maven Central's, laid into the cache by `cargo xtask setup`; `DULSE_HBASE`
//! names their folder where they lie elsewhere. It needs Java 17 or later.
//!
//! Its log is on the local disk through a file system of Hadoop's that hands on what is flushed,
//! so that what it has acknowledged survives its being killed.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_hbase_client::zookeeper::Address;
use dulse_hbase_client::{Client, Options};
use dulse_shared_testkit::{Process, java, place};
use dulse_store_hbase::Config;

/// Where `cargo xtask setup` lays the archives, below the cache.
const ARCHIVES: &str = "servers/hbase-2.6.4-hadoop3";

/// How long the server may take until it answers: most of a minute on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(180);

/// Oldest Java that it is started with here.
const JAVA_MIN: u32 = 17;

/// What HBase reaches into of Java's own.
const OPENED: [&str; 8] = [
    "java.io",
    "java.nio",
    "sun.nio.ch",
    "java.lang",
    "jdk.internal.ref",
    "java.lang.reflect",
    "java.util",
    "java.util.concurrent",
];

pub(crate) struct Server {
    dir: tempfile::TempDir,
    archives: PathBuf,
    pub(crate) zookeeper: u16,
    process: Option<Process>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// Starts the one server of this process.
pub(crate) fn start() -> Result<()> {
    let server = Server::start()?;
    *SERVER.lock().expect("no thread has panicked here") = Some(server);
    Ok(())
}

/// Ends it.
pub(crate) fn stop() {
    drop(SERVER.lock().expect("no thread has panicked here").take());
}

/// The table that belongs to a directory.
pub(crate) fn table_of(dir: &Path) -> Config {
    let server = SERVER.lock().expect("no thread has panicked here");
    let server = server.as_ref().expect("a case runs only with a server");
    server.table_of(dir)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        Self::start_in(place()?, &[])
    }

    /// Where its syncs cost what they cost.
    ///
    /// - `more`: settings beside those that every test needs.
    pub(crate) fn start_on_disk(more: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, more)
    }

    fn start_in(dir: tempfile::TempDir, more: &[(&str, &str)]) -> Result<Self> {
        let archives = java::archives("HBase", "DULSE_HBASE", ARCHIVES)?;
        let zookeeper = free_port()?;
        std::fs::create_dir(dir.path().join("conf"))?;
        let site = site(dir.path(), [zookeeper, free_port()?, free_port()?], more);
        std::fs::write(dir.path().join("conf/hbase-site.xml"), site)?;
        std::fs::write(dir.path().join("conf/log4j.properties"), LOGGING)?;
        let mut server = Self {
            dir,
            archives,
            zookeeper,
            process: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Kills it as a machine that loses power would end it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it where it is not running, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let log = self.dir.path().join("log");
        let mut command = Command::new(java::java("HBase", JAVA_MIN..=u32::MAX)?);
        // About 1.3 GiB in all, however much it is asked for.
        command.args([
            "-Xmx800m",
            "-XX:MaxMetaspaceSize=192m",
            "-XX:MaxDirectMemorySize=192m",
            "-XX:ReservedCodeCacheSize=64m",
            "-Xss512k",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ]);
        command.arg("-Djava.net.preferIPv4Stack=true");
        command.arg("-Dorg.apache.hbase.thirdparty.io.netty.tryReflectionSetAccessible=true");
        for package in OPENED {
            command.args(["--add-opens", &format!("java.base/{package}=ALL-UNNAMED")]);
        }
        for export in [
            "java.base/jdk.internal.misc",
            "java.security.jgss/sun.security.krb5",
        ] {
            command.args(["--add-exports", &format!("{export}=ALL-UNNAMED")]);
        }
        let path = format!(
            "{}:{}/*",
            self.dir.path().join("conf").display(),
            self.archives.display()
        );
        command
            .args([
                "-cp",
                &path,
                "org.apache.hadoop.hbase.master.HMaster",
                "start",
            ])
            .current_dir(self.dir.path());
        // What it says is behind what an earlier one said.
        let said = std::fs::metadata(&log).map_or(0, |log| log.len());
        self.process = Some(Process::start(&command, &log)?);
        self.wait(said)
            .with_context(|| format!("HBase's log ends with:\n{}", java::end_of(&log)))
    }

    /// Asks for a table that every HBase has, until there is an answer, and it has said that it is
    /// complete: before that it makes no table, and upstream's filer ends.
    ///
    /// - `said`: bytes of its log that are of an earlier one.
    fn wait(&mut self, said: u64) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = Client::new(Options {
            quorum: vec![Address {
                host: "127.0.0.1".to_owned(),
                port: self.zookeeper,
            }],
            root: "/hbase".to_owned(),
            table: "hbase:namespace".to_owned(),
            user: "root".to_owned(),
            n_connections: 1,
            time_max: Duration::from_secs(1),
        });
        let began = Instant::now();
        loop {
            let asked = runtime.block_on(async { client.get(b"default", b"info", b"d").await });
            let why = match asked {
                Ok(Some(_)) if self.is_complete(said)? => return Ok(()),
                Ok(Some(_)) => "it has not said that it is complete".to_owned(),
                Ok(None) => "it has no namespace yet".to_owned(),
                Err(error) => error.to_string(),
            };
            let process = self.process.as_ref().context("it was started")?;
            ensure!(!process.has_ended(), "HBase ended");
            if began.elapsed() > START_TIME_MAX {
                bail!(
                    "HBase does not answer within {} s: {why}",
                    START_TIME_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_complete(&self, said: u64) -> Result<bool> {
        let log = std::fs::read(self.dir.path().join("log"))?;
        let own = log.get(usize::try_from(said)?..).unwrap_or_default();
        Ok(String::from_utf8_lossy(own).contains("Master has completed initialization"))
    }

    /// The table that belongs to a directory.
    pub(crate) fn table_of(&self, dir: &Path) -> Config {
        let name: String = dir
            .display()
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        Config {
            zkquorum: format!("127.0.0.1:{}", self.zookeeper),
            table: format!("t{name}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is needed: its directory goes with it.
        let _ = self.kill();
    }
}

const LOGGING: &str = "log4j.rootLogger=INFO, A\n\
    log4j.appender.A=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.A.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.A.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n\n";

/// `hbase-site.xml`: everything in one process, on loopback.
fn site(dir: &Path, [zookeeper, master, region_server]: [u16; 3], more: &[(&str, &str)]) -> String {
    let dir = dir.display();
    let settings = [
        ("hbase.cluster.distributed", "false".to_owned()),
        ("hbase.rootdir", format!("file://{dir}/root")),
        ("hbase.tmp.dir", format!("{dir}/tmp")),
        // The other local file system keeps what it was told to flush.
        (
            "fs.file.impl",
            "org.apache.hadoop.fs.RawLocalFileSystem".to_owned(),
        ),
        ("hbase.wal.provider", "filesystem".to_owned()),
        ("hbase.zookeeper.quorum", "127.0.0.1".to_owned()),
        ("hbase.zookeeper.property.dataDir", format!("{dir}/zk")),
        ("hbase.zookeeper.property.clientPort", zookeeper.to_string()),
        (
            "hbase.zookeeper.property.clientPortAddress",
            "127.0.0.1".to_owned(),
        ),
        ("hbase.master.hostname", "127.0.0.1".to_owned()),
        ("hbase.master.ipc.address", "127.0.0.1".to_owned()),
        ("hbase.master.port", master.to_string()),
        ("hbase.master.info.port", "-1".to_owned()),
        ("hbase.regionserver.hostname", "127.0.0.1".to_owned()),
        ("hbase.regionserver.ipc.address", "127.0.0.1".to_owned()),
        ("hbase.regionserver.port", region_server.to_string()),
        ("hbase.regionserver.info.port", "-1".to_owned()),
        ("hbase.localcluster.assign.random.ports", "false".to_owned()),
        // It starts sooner.
        ("hbase.regionserver.msginterval", "500".to_owned()),
        (
            "hbase.master.wait.on.regionservers.interval",
            "200".to_owned(),
        ),
    ];
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let settings = settings.chain(more.iter().copied()).map(|(name, value)| {
        format!("<property><name>{name}</name><value>{value}</value></property>\n")
    });
    format!(
        "<configuration>\n{}</configuration>\n",
        settings.collect::<String>()
    )
}
