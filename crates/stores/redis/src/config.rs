// SPDX-License-Identifier: Apache-2.0
//! How the servers are reached: upstream's keys of its Redis sections.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How the names in a directory are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// `redis2`: a sorted set for each directory.
    SortedSet,
    /// `redis3`: a skip list of sorted sets for each directory.
    SkipList,
}

/// Which servers there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Servers {
    /// One, `host:port`.
    One(String),
    /// A master that sentinels name.
    Sentinel {
        /// The sentinels, `host:port`.
        sentinels: Vec<String>,
        /// What they call the master (`masterName`).
        master: String,
        /// User at the sentinels; empty for none.
        username: String,
        /// Password at the sentinels; empty for none.
        password: String,
    },
    /// A cluster, of which some servers are known, `host:port`.
    Cluster(Vec<String>),
}

/// Encryption.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tls {
    /// None.
    Off,
    /// The server's name must be in a certificate of a trusted authority.
    On {
        /// PEM file of authorities; the system's when there is none.
        authorities: Option<PathBuf>,
        /// PEM files of the own certificate and its key, for servers that ask for one.
        own: Option<(PathBuf, PathBuf)>,
    },
}

/// Connection and layout. There are no defaults: who opens a store decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Layout of the names.
    pub names: Names,
    /// The servers.
    pub servers: Servers,
    /// User; empty for none.
    pub username: String,
    /// Password; empty for none.
    pub password: String,
    /// Number of the database.
    pub database: i64,
    /// What every key begins with.
    pub key_prefix: String,
    /// Directories whose names are not kept, and which therefore list nothing.
    pub super_large: BTreeSet<String>,
    /// Encryption, also to sentinels.
    pub tls: Tls,
    /// Connections, at most.
    pub connections_max: usize,
    /// Connections kept that nobody uses, at most.
    pub idle_max: usize,
    /// Longest wait for a connection of the pool.
    pub pool_time: Duration,
    /// Longest wait for a new connection.
    pub connect_time: Duration,
    /// Longest wait for an answer; writes of many rows are given more.
    pub answer_time: Duration,
    /// Times that a read is tried again on another connection.
    pub retries_max: u32,
    /// Pauses before it is tried again: the first, doubled up to the last.
    pub retry_pause: (Duration, Duration),
    /// A connection is not used any more when it was idle for longer.
    pub idle_time: Duration,
    /// A connection is not used any more when it is older; `None` for no limit.
    pub lifetime: Option<Duration>,
}

/// Upstream's `pool_size` is so many for each processor.
const CONNECTIONS_PER_CPU: usize = 10;

impl Config {
    /// A server by upstream's defaults, to be changed field by field.
    #[must_use]
    pub fn at(names: Names, servers: Servers) -> Self {
        let n_cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            names,
            servers,
            username: String::new(),
            password: String::new(),
            database: 0,
            key_prefix: String::new(),
            super_large: BTreeSet::new(),
            tls: Tls::Off,
            connections_max: CONNECTIONS_PER_CPU * n_cpus,
            idle_max: CONNECTIONS_PER_CPU * n_cpus,
            pool_time: Duration::from_secs(4),
            connect_time: Duration::from_secs(5),
            answer_time: Duration::from_secs(3),
            retries_max: 3,
            retry_pause: (Duration::from_millis(8), Duration::from_millis(512)),
            idle_time: Duration::from_secs(1_800),
            lifetime: None,
        }
    }

    /// What logs and errors call it.
    pub(crate) fn name(&self) -> &'static str {
        match (self.names, &self.servers) {
            (Names::SortedSet, Servers::One(_)) => "redis2",
            (Names::SortedSet, Servers::Sentinel { .. }) => "redis2_sentinel",
            (Names::SkipList, Servers::One(_)) => "redis3",
            (Names::SkipList, Servers::Sentinel { .. }) => "redis3_sentinel",
            (Names::SortedSet, Servers::Cluster(_)) => "redis_cluster2",
            (Names::SkipList, Servers::Cluster(_)) => "redis_cluster3",
        }
    }
}
