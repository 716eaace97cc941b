// SPDX-License-Identifier: Apache-2.0
//! The rows of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{GroupMax, RowWrite, Rows, SharedOptions, SharedStore, Stepwise};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use redis::{Cmd, Value};

use super::lanes::Lanes;
use super::lists::OwnLocks;
use super::names::text;
use super::nodes::{Nodes, Routed};
use super::scripts;
use super::slots::{Places, slot_of};
use crate::advice::Settings;
use crate::config::Config;
use crate::error::{answer, invalid};
use crate::store::bytes_of;

/// Bytes of values in one write.
const GROUP_BYTES_MAX: usize = 48 << 20;

/// Reads of what is not written in one go, and writes that are tried again, at once for one change.
const WRITES_MAX: usize = 16;

/// Rows read at once.
const ROWS_MAX: usize = 200;

/// How long what a server was asked for may still be made when nobody says. One that stands
/// still for longer has been replaced where it has replicas; where it has none, that is a limit
/// (`docs/stores.md`).
const LATE_MAX: Duration = Duration::from_secs(10);

/// Opens the store of a cluster, and makes its id where it has none.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open_cluster(
    config: Config,
    options: &SharedOptions,
) -> Result<SharedStore<Stepwise<RedisCluster>>, Error> {
    SharedStore::open(options, move || async move {
        RedisCluster::connect(config).await.map(Stepwise)
    })
}

/// A cluster with upstream's keys.
pub struct RedisCluster {
    pub(super) nodes: Nodes,
    pub(super) places: Places,
    pub(super) own_locks: OwnLocks,
    pub(super) lanes: Lanes,
}

impl RedisCluster {
    /// Connects, and says what the servers' settings mean for what is acknowledged.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no server answers, `Invalid` for settings that cannot be.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        if !config.super_large.is_empty() {
            return Err(invalid(
                "`superLargeDirectories` is not supported in clusters: what has no name could not \
                 be moved with its directory; expected none",
            ));
        }
        let places = Places::new(&config.key_prefix).ok_or_else(|| {
            invalid("`keyPrefix` has `{}`, which hides where keys lie; expected none")
        })?;
        let store = Self {
            nodes: Nodes::new(config)?,
            places,
            own_locks: OwnLocks::new(),
            lanes: Lanes::new(),
        };
        store.nodes.learn(Operation::Open, 0).await?;
        store.warn().await?;
        Ok(store)
    }

    pub(super) fn config(&self) -> &Config {
        self.nodes.config()
    }

    /// Says once what the settings of any server mean.
    async fn warn(&self) -> Result<(), Error> {
        let mut warnings = BTreeSet::new();
        for node in self.nodes.masters() {
            let info = self.nodes.ask_node(&node, &redis::cmd("INFO")).await?;
            let mut settings = match info {
                Value::BulkString(info) => Settings::of(&String::from_utf8_lossy(&info)),
                Value::VerbatimString { text, .. } => Settings::of(&text),
                other => return Err(answer(Operation::Open, "text", &other)),
            };
            let mut said = Vec::new();
            for name in ["appendfsync", "min-replicas-to-write"] {
                let mut command = redis::cmd("CONFIG");
                command.arg("GET").arg(name);
                // Many operators forbid it.
                said.push(match self.nodes.ask_node(&node, &command).await {
                    Ok(Value::Array(parts)) => parts.get(1).and_then(text),
                    _ => None,
                });
            }
            settings.n_replicas_min = said.pop().flatten().and_then(|n| n.parse().ok());
            settings.fsync = said.pop().flatten();
            warnings.extend(settings.warnings());
        }
        for warning in warnings {
            tracing::warn!(store = self.name(), "{warning}");
        }
        Ok(())
    }

    /// One command, which may be made twice.
    pub(super) async fn ask(
        &self,
        operation: Operation,
        slot: u16,
        command: Cmd,
    ) -> Result<Value, Error> {
        let asked = self.nodes.ask(operation, slot, command).await;
        asked.map_err(|failed| failed.error)
    }

    /// One command; `None` at once when its keys lie on two servers, as their slot moves.
    pub(super) async fn ask_unless_split(
        &self,
        operation: Operation,
        slot: u16,
        command: Cmd,
    ) -> Result<Option<Value>, Error> {
        self.nodes.ask_unless_split(operation, slot, command).await
    }

    /// Commands, each of which may be made twice.
    pub(super) async fn ask_all(
        &self,
        operation: Operation,
        commands: Vec<Routed>,
    ) -> Result<Vec<Value>, Error> {
        let asked = self.nodes.ask_all(operation, commands).await;
        asked.map_err(|failed| failed.error)
    }

    pub(super) async fn value(
        &self,
        operation: Operation,
        key: Vec<u8>,
    ) -> Result<Option<Bytes>, Error> {
        let slot = slot_of(&key);
        let mut command = redis::cmd("GET");
        command.arg(key);
        bytes_of(operation, self.ask(operation, slot, command).await?)
    }

    /// The rows of names in a directory, those that are there, until there are `limit`; and the
    /// names that were looked at and have none.
    async fn rows_of(
        &self,
        directory: &str,
        names: &BTreeSet<String>,
        limit: usize,
    ) -> Result<(Vec<(String, Bytes)>, BTreeSet<String>), Error> {
        let prefix = self.config().rows_prefix(directory);
        let names: Vec<&String> = names.iter().collect();
        let (mut out, mut without) = (Vec::new(), BTreeSet::new());
        let (mut rest, mut n) = (names.as_slice(), limit.clamp(1, ROWS_MAX));
        while out.len() < limit && !rest.is_empty() {
            let part;
            (part, rest) = rest.split_at(n.min(rest.len()));
            // Where many have none, not one after another.
            n = (n * 8).min(ROWS_MAX);
            let commands = part.iter().map(|name| {
                let key = [&prefix[..], name.as_bytes()].concat();
                let slot = slot_of(&key);
                let mut command = redis::cmd("GET");
                command.arg(key);
                Routed { slot, command }
            });
            let rows = self.ask_all(Operation::List, commands.collect()).await?;
            for (name, row) in part.iter().zip(rows) {
                match bytes_of(Operation::List, row)? {
                    Some(row) => out.push(((*name).clone(), row)),
                    None => drop(without.insert((*name).clone())),
                }
            }
        }
        Ok((out, without))
    }

    /// The key of all filers' numbers.
    fn numbers_key(&self) -> Vec<u8> {
        format!("{}dulse.up", self.config().key_prefix).into_bytes()
    }
}

impl Rows for RedisCluster {
    fn name(&self) -> &'static str {
        self.config().name()
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        if path.is_root() {
            return Ok(None);
        }
        self.value(Operation::Find, self.config().row_key(path))
            .await
    }

    async fn get_all(&self, paths: &[FullPath]) -> Result<Vec<Option<Bytes>>, Error> {
        let (mut commands, mut which) = (Vec::new(), Vec::new());
        for (i, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_root()) {
            let key = self.config().row_key(path);
            let slot = slot_of(&key);
            let mut command = redis::cmd("GET");
            command.arg(key);
            commands.push(Routed { slot, command });
            which.push(i);
        }
        let mut values = vec![None; paths.len()];
        let said = self.ask_all(Operation::Find, commands).await?;
        for (i, value) in which.into_iter().zip(said) {
            values[i] = bytes_of(Operation::Find, value)?;
        }
        Ok(values)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let directory = directory.as_str();
        let mut range = range.clone();
        let mut out: Vec<(String, Bytes)> = Vec::new();
        loop {
            let page = self.page(directory, &range).await?;
            let rows = self.rows_of(directory, &page.names, range.limit).await?;
            let (rows, without) = rows;
            later(self.clean(directory, &(&without & &page.sure)).await);
            if !page.old.is_empty() {
                later(self.look_and_end(directory, &page.old).await);
            }
            let n_rows = rows.len().min(range.limit);
            out.extend(rows.into_iter().take(n_rows));
            range.limit -= n_rows;
            let Some(last) = page.last.filter(|_| range.limit > 0) else {
                return Ok(out);
            };
            range.start = last;
            range.inclusive = false;
        }
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(Operation::KvGet, self.config().pair_key(key))
            .await
    }

    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let [write] = group else {
            let error = Error::new(Operation::Commit, ErrorKind::Invalid);
            return Err(error.with("because", "rows of a cluster are written one by one"));
        };
        let mut made = self.write_rows(&[write]).await;
        made.pop().unwrap_or(Ok(false))
    }

    /// In one go to all servers: rows, and before and behind them the names of each directory.
    async fn write_all(&self, groups: &[Vec<RowWrite>]) -> Vec<Result<bool, Error>> {
        let rows: Vec<&RowWrite> = groups.iter().flatten().collect();
        if rows.len() != groups.len() {
            let error = Error::new(Operation::Commit, ErrorKind::Invalid);
            let error = error.with("because", "rows of a cluster are written one by one");
            return groups.iter().map(|_| Err(error.repeated())).collect();
        }
        self.write_rows(&rows).await
    }

    fn group_max(&self) -> GroupMax {
        GroupMax {
            n_rows: 1,
            n_bytes: GROUP_BYTES_MAX,
        }
    }

    fn writes_max(&self) -> usize {
        WRITES_MAX.min(self.config().connections_max.max(1))
    }

    fn late_max(&self) -> Duration {
        LATE_MAX
    }

    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        let key = self.numbers_key();
        let slot = slot_of(&key);
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::RAISE).arg(1).arg(key);
        command
            .arg(format!("{filer:08x}"))
            .arg(format!("{:020}", stamp.max(0)));
        self.ask(Operation::Commit, slot, command).await.map(drop)
    }

    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        let key = self.numbers_key();
        let slot = slot_of(&key);
        let mut command = redis::cmd("HGETALL");
        command.arg(key);
        let said = self.ask(Operation::Find, slot, command).await?;
        let wrong = || answer(Operation::Find, "filers and their numbers", &said);
        let Value::Array(parts) = &said else {
            return Err(wrong());
        };
        let number = |pair: &[Value]| {
            let [filer, stamp] = pair else { return None };
            let filer = u32::from_str_radix(&text(filer)?, 16).ok()?;
            Some((filer, text(stamp)?.parse().ok()?))
        };
        let numbers: Option<Vec<_>> = parts.chunks(2).map(number).collect();
        numbers.ok_or_else(wrong)
    }
}

/// What is left undone is done by whoever lists the directory.
pub(super) fn later(done: Result<(), Error>) {
    if let Err(error) = done {
        tracing::debug!(%error, "a name is left in doubt");
    }
}
