// SPDX-License-Identifier: Apache-2.0
//! Filers' stores in Redis servers that have replicas, behind a sentinel and in a cluster.
//!
//! What a replica lacks when it takes over is lost (`docs/stores.md`). So that cases can ask for
//! all of it, a master is killed when it has let its writers wait for so long that its replica
//! has everything: nothing that it acknowledged is missing there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_shared_testkit::{Database, Place};
use dulse_tests::shared::Replaced;

use super::redis::server::Server;

/// What is acknowledged is on its server's disk.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// How long writers wait at most at a master that is about to be killed.
const PAUSE_MS: &str = "60000";

/// How long a replica may take to have everything.
const REPLICATION_TIME_MAX: Duration = Duration::from_secs(60);

/// The number behind a field of `INFO replication`.
fn field(server: &Server, name: &str) -> Result<u64> {
    let said = server.command(&["INFO", "replication"])?;
    let value = said
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.with_context(|| format!("no `{name}` in {said}"))?;
    Ok(value.trim().parse()?)
}

/// Has a master's writers wait, and kills it once a replica has all that it has.
fn kill_replicated(master: &mut Server, replica: &Server) -> Result<()> {
    master.command(&["CLIENT", "PAUSE", PAUSE_MS, "WRITE"])?;
    let began = Instant::now();
    while field(master, "master_repl_offset")? != field(replica, "slave_repl_offset")? {
        ensure!(
            began.elapsed() < REPLICATION_TIME_MAX,
            "the replica does not catch up"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    master.kill()
}

/// Two servers, of which a sentinel names the one that takes writes.
pub(crate) struct Watched {
    master: Server,
    replica: Server,
    sentinel: Server,
}

impl Database for Watched {
    const SECTIONS: &'static [&'static str] = &["redis2_sentinel"];
    const SYNCED: &'static str = "Redis with replicas (`appendfsync always`)";

    fn start() -> Result<Self> {
        let master = Server::start_with(&DURABLE)?;
        let of = format!("127.0.0.1 {}", master.port);
        let own = ["--replicaof", &of, "--repl-diskless-sync-delay", "0"];
        let replica = Server::start_with(&[&DURABLE[..], &own].concat())?;
        replica.wait_for(&["INFO", "replication"], "master_link_status:up")?;
        let sentinel = Server::start_sentinel(master.port)?;
        sentinel.wait_for(&["SENTINEL", "REPLICAS", "main"], "slave")?;
        Ok(Self {
            master,
            replica,
            sentinel,
        })
    }

    fn start_synced() -> Result<Self> {
        Self::start()
    }

    fn make(&self, section: &str, _: &str) -> Result<Place> {
        let sentinel = self.sentinel.address();
        self.master.command(&["FLUSHALL"])?;
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\naddresses = [\"{sentinel}\"]\n\
                 masterName = \"main\"\nsentinel_username = \"\"\n\
                 sentinel_password = \"\"\nusername = \"\"\npassword = \"\"\n\
                 database = 0\nsuperLargeDirectories = []\n"
            ),
            shown: format!("main/0, which the sentinels {sentinel} name"),
            database: String::new(),
        })
    }

    fn has_row(&self, _: &Place, directory: &str, name: &str) -> Result<bool> {
        let key = format!("{directory}/{name}");
        Ok(self.master.command(&["EXISTS", &key])? != "0")
    }

    fn kill(&mut self) -> Result<()> {
        self.master.kill()
    }

    /// What was the master comes back as one, until the sentinel has made it a replica.
    fn start_again(&mut self) -> Result<()> {
        self.master.start_again()?;
        self.master
            .wait_for(&["INFO", "replication"], "master_link_status:up")?;
        std::mem::swap(&mut self.master, &mut self.replica);
        Ok(())
    }
}

impl Replaced for Watched {
    fn replace(&mut self) -> Result<()> {
        kill_replicated(&mut self.master, &self.replica)?;
        self.replica.wait_for(&["ROLE"], "master")
    }
}

/// Three masters, each with a replica.
pub(crate) struct Cluster {
    servers: Vec<Server>,
    /// The one that was killed last.
    killed: usize,
}

impl Database for Cluster {
    const SECTIONS: &'static [&'static str] = &["redis_cluster2"];
    const SYNCED: &'static str = "Redis with replicas (`appendfsync always`)";

    fn start() -> Result<Self> {
        Ok(Self {
            servers: Server::start_cluster(1, &DURABLE)?,
            killed: 0,
        })
    }

    fn start_synced() -> Result<Self> {
        Self::start()
    }

    fn make(&self, section: &str, name: &str) -> Result<Place> {
        let all: Vec<String> = self.servers.iter().map(Server::address).collect();
        let quoted: Vec<String> = all.iter().map(|one| format!("\"{one}\"")).collect();
        let prefix = format!("{name}:");
        Ok(Place {
            toml: format!(
                "[{section}]\nenabled = true\naddresses = [{}]\nusername = \"\"\n\
                 password = \"\"\nkeyPrefix = \"{prefix}\"\nsuperLargeDirectories = []\n",
                quoted.join(", ")
            ),
            shown: format!("the cluster of {}", all.join(", ")),
            database: prefix,
        })
    }

    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        let server = self.servers.first().context("it was started")?;
        let key = format!("{}{directory}/{name}", place.database);
        Ok(server.command_at(&["EXISTS"], key.as_bytes())? != "0")
    }

    fn kill(&mut self) -> Result<()> {
        self.servers[self.killed].kill()
    }

    fn start_again(&mut self) -> Result<()> {
        let server = &mut self.servers[self.killed];
        server.start_again()?;
        server.wait_for(&["INFO", "replication"], "master_link_status:up")
    }
}

impl Replaced for Cluster {
    fn replace(&mut self) -> Result<()> {
        // `slave`, then whose, by host and port.
        let of = |server: &Server| -> Option<u16> {
            let role = server.command(&["ROLE"]).ok()?;
            let mut lines = role.lines();
            (lines.next()? == "slave").then_some(())?;
            lines.nth(1)?.parse().ok()
        };
        let pairs = self
            .servers
            .iter()
            .enumerate()
            .filter_map(|(replica, one)| {
                let port = of(one)?;
                let master = self.servers.iter().position(|other| other.port == port)?;
                Some((master, replica))
            });
        let Some((master, replica)) = pairs.max() else {
            bail!("no server is a replica");
        };
        self.killed = master;
        // Both at once, of one list.
        let [one, other] = self.servers.get_disjoint_mut([master, replica])?;
        kill_replicated(one, other)?;
        other.wait_for(&["ROLE"], "master")?;
        for (n, server) in self.servers.iter().enumerate() {
            if n != master {
                server.wait_for(&["CLUSTER", "INFO"], "cluster_state:ok")?;
            }
        }
        Ok(())
    }
}
