// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that Redis passes, in each of upstream's layouts: with one server,
//! behind a sentinel, and in a cluster.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::{Arc, Mutex};

use dulse_shared::{SharedOptions, SharedStore, Stepwise};
use dulse_store::Error;
use dulse_store_redis::{Config, Names, Redis, RedisCluster, Servers};
use dulse_store_testkit::{self as testkit, opener};
use server::Server;

/// The servers of this process: one alone, one behind a sentinel, three in a cluster.
struct All {
    one: Server,
    _master: Server,
    sentinel: Server,
    cluster: Vec<Server>,
}

fn main() -> std::process::ExitCode {
    let started = start();
    let lacks = started.as_ref().err().map(|e| format!("{e:#}"));
    let all = Arc::new(Mutex::new(started.ok()));
    let mut trials = Vec::new();
    for (prefix, names, is_sentinel) in [
        ("redis2::", Names::SortedSet, false),
        ("redis2_sentinel::", Names::SortedSet, true),
        ("redis3::", Names::SkipList, false),
        ("redis3_sentinel::", Names::SkipList, true),
    ] {
        let all = Arc::clone(&all);
        let opener = opener(move |dir| {
            let servers = {
                let all = all.lock().expect("no thread has panicked here");
                let all = all.as_ref().expect("a case runs only with servers");
                all.servers(is_sentinel)
            };
            open(names, servers, dir)
        });
        trials.extend(testkit::trials(&opener, lacks.as_deref(), prefix));
        // For a minute, so once for each kind of list.
        if !is_sentinel {
            let million = testkit::million::SUITE;
            trials.extend(million.trials(&opener, lacks.as_deref(), prefix));
        }
    }
    for (prefix, names) in [
        ("redis_cluster2::", Names::SortedSet),
        ("redis_cluster3::", Names::SkipList),
    ] {
        let all = Arc::clone(&all);
        let opener = opener(move |dir| {
            let addresses = {
                let all = all.lock().expect("no thread has panicked here");
                let all = all.as_ref().expect("a case runs only with servers");
                all.cluster.iter().map(Server::address).collect()
            };
            open_cluster(names, Servers::Cluster(addresses), dir)
        });
        trials.extend(testkit::trials(&opener, lacks.as_deref(), prefix));
        let million = testkit::million::SUITE;
        trials.extend(million.trials(&opener, lacks.as_deref(), prefix));
    }
    let code = testkit::run(trials);
    drop(all.lock().expect("no thread has panicked here").take());
    code
}

fn start() -> anyhow::Result<All> {
    let master = Server::start_in_memory()?;
    let sentinel = Server::start_sentinel(master.port)?;
    Ok(All {
        one: Server::start_in_memory()?,
        _master: master,
        sentinel,
        cluster: Server::start_cluster(0, &[])?,
    })
}

impl All {
    fn servers(&self, is_sentinel: bool) -> Servers {
        if !is_sentinel {
            return Servers::One(self.one.address());
        }
        Servers::Sentinel {
            sentinels: vec![self.sentinel.address()],
            master: "main".to_owned(),
            username: String::new(),
            password: String::new(),
        }
    }
}

/// The store of a directory: a prefix of keys named after it, its journal inside it.
fn open(names: Names, servers: Servers, dir: &Path) -> Result<SharedStore<Redis>, Error> {
    let (config, options) = of(names, servers, dir);
    dulse_store_redis::open(config, &options)
}

/// The same in a cluster.
fn open_cluster(
    names: Names,
    servers: Servers,
    dir: &Path,
) -> Result<SharedStore<Stepwise<RedisCluster>>, Error> {
    let (config, options) = of(names, servers, dir);
    dulse_store_redis::open_cluster(config, &options)
}

fn of(names: Names, servers: Servers, dir: &Path) -> (Config, SharedOptions) {
    let config = Config {
        key_prefix: format!("{}:", dir.display()),
        ..Config::at(names, servers)
    };
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    (config, options)
}
