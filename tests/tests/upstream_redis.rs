// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and our store on one Redis, or one cluster: each reads what the other wrote.

#[path = "../../crates/stores/redis/tests/support/server.rs"]
mod server;

use std::sync::Arc;

use anyhow::{Result, ensure};
use dulse_shared::SharedOptions;
use dulse_store::EntryStore;
use dulse_store_redis::{Config, Names, Servers};
use dulse_tests::cross;
use server::Server;

/// Upstream's configuration of a server, or of the sentinel of one.
fn filer_toml(config: &Config) -> String {
    let layout = match config.names {
        Names::SortedSet => "redis2",
        Names::SkipList => "redis3",
    };
    let (section, servers) = match &config.servers {
        Servers::One(address) => (layout.to_owned(), format!("address = \"{address}\"")),
        Servers::Sentinel {
            sentinels, master, ..
        } => (
            format!("{layout}_sentinel"),
            format!(
                "addresses = [\"{}\"]\nmasterName = \"{master}\"",
                sentinels.join("\", \"")
            ),
        ),
        Servers::Cluster(addresses) => (
            layout.replace("redis", "redis_cluster"),
            format!("addresses = [\"{}\"]", addresses.join("\", \"")),
        ),
    };
    let database = match &config.servers {
        Servers::Cluster(_) => String::new(),
        _ => format!("database = {}\n", config.database),
    };
    format!(
        "[{section}]\nenabled = true\n{servers}\nusername = \"\"\npassword = \"\"\n\
         {database}keyPrefix = \"{}\"\nsuperLargeDirectories = []\n",
        config.key_prefix
    )
}

async fn cross_read(config: Config) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = SharedOptions {
        journal: dir.path().join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let toml = filer_toml(&config);
    let open = move || {
        if matches!(config.servers, Servers::Cluster(_)) {
            let store = dulse_store_redis::open_cluster(config, &options)?;
            return Ok(Arc::new(store) as Arc<dyn EntryStore>);
        }
        let store = dulse_store_redis::open(config, &options)?;
        Ok(Arc::new(store) as Arc<dyn EntryStore>)
    };
    cross::cross_read(&toml, open).await
}

/// Every name is a row's, and no row lacks its name: so whatever was moved and removed.
fn check_names(server: &Server, database: &str, prefix: &str) -> Result<()> {
    let script = "local lost = {}
        for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*\\0')) do
          local dir = string.sub(key, 1, -2)
          if string.sub(dir, -1) ~= '/' then dir = dir .. '/' end
          for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
            if redis.call('EXISTS', dir .. name) == 0 then lost[#lost + 1] = dir .. name end
          end
        end
        return lost";
    let lost = server.command(&["-n", database, "EVAL", script, "0", prefix])?;
    ensure!(lost.is_empty(), "names without rows: {lost}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_with_sorted_sets() -> Result<()> {
    let server = Server::start_in_memory()?;
    let config = Config {
        key_prefix: "here:".to_owned(),
        database: 2,
        ..Config::at(Names::SortedSet, Servers::One(server.address()))
    };
    cross_read(config).await?;
    check_names(&server, "2", "here:/")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_with_skip_lists() -> Result<()> {
    let server = Server::start_in_memory()?;
    cross_read(Config::at(Names::SkipList, Servers::One(server.address()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_behind_a_sentinel() -> Result<()> {
    let master = Server::start_in_memory()?;
    let sentinel = Server::start_sentinel(master.port)?;
    let servers = Servers::Sentinel {
        sentinels: vec![sentinel.address()],
        master: "main".to_owned(),
        username: String::new(),
        password: String::new(),
    };
    cross_read(Config::at(Names::SortedSet, servers)).await?;
    check_names(&master, "0", "/")
}

/// A cluster of three masters with a replica each.
async fn in_a_cluster(names: Names, prefix: &str) -> Result<()> {
    let servers = Server::start_cluster(1, &[])?;
    let addresses = servers.iter().take(1).map(Server::address).collect();
    let config = Config {
        key_prefix: prefix.to_owned(),
        ..Config::at(names, Servers::Cluster(addresses))
    };
    cross_read(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_in_a_cluster_with_sorted_sets() -> Result<()> {
    in_a_cluster(Names::SortedSet, "here:").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_read_both_ways_in_a_cluster_with_skip_lists() -> Result<()> {
    in_a_cluster(Names::SkipList, "").await
}
