// SPDX-License-Identifier: Apache-2.0
//! The backend: reads, and what a transaction of ours becomes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bytes::Bytes;
use dulse_shared::{Backend, Held, Settled, SharedOptions, SharedStore, Work};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use redis::{Cmd, Pipeline, RedisError, Value};

use crate::advice::Settings;
use crate::config::{Config, Names};
use crate::error::{answer, server};
use crate::link::Link;
use crate::scripts;
use crate::tickets::Tickets;

/// Bytes that one answer to a listing holds, about.
pub(crate) const LIST_BYTES_MAX: usize = 8 << 20;

/// Opens the store of a server, and makes its id where it has none.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(config: Config, options: &SharedOptions) -> Result<SharedStore<Redis>, Error> {
    SharedStore::open(options, move || Redis::connect(config))
}

/// A server with upstream's keys.
pub struct Redis {
    pub(crate) link: Arc<Link>,
    pub(crate) tickets: Tickets,
    /// The greatest that the server's clock was, in nanoseconds.
    pub(crate) clock_ns: AtomicI64,
}

impl Redis {
    /// Connects, and says what the server's settings mean for what is acknowledged.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the server does not answer, `Invalid` for settings that cannot be.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let store = Self {
            link: Arc::new(Link::new(config)?),
            tickets: Tickets::default(),
            clock_ns: AtomicI64::new(0),
        };
        for warning in store.settings().await?.warnings() {
            tracing::warn!(store = store.name(), "{warning}");
        }
        Ok(store)
    }

    pub(crate) fn config(&self) -> &Config {
        self.link.config()
    }

    async fn settings(&self) -> Result<Settings, Error> {
        let info = self.read(Operation::Open, redis::cmd("INFO")).await?;
        let mut settings = match info {
            Value::BulkString(text) => Settings::of(&String::from_utf8_lossy(&text)),
            Value::VerbatimString { text, .. } => Settings::of(&text),
            other => return Err(answer(Operation::Open, "text", &other)),
        };
        settings.fsync = self.setting("appendfsync").await;
        let min = self.setting("min-replicas-to-write").await;
        settings.n_replicas_min = min.and_then(|text| text.parse().ok());
        Ok(settings)
    }

    /// One setting, where this user may ask for it: many operators forbid it.
    async fn setting(&self, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let said = self.read(Operation::Open, command).await.ok()?;
        match said {
            Value::Array(parts) => match parts.get(1)? {
                Value::BulkString(value) => String::from_utf8(value.clone()).ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Has a command answered that may be made twice, on another connection when the first one
    /// was broken.
    pub(crate) async fn read(&self, operation: Operation, command: Cmd) -> Result<Value, Error> {
        let mut commands = Pipeline::new();
        commands.add_command(command);
        let mut answers = self.read_all(operation, &commands).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// The same for several commands, of which none may be refused.
    pub(crate) async fn read_all(
        &self,
        operation: Operation,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        let (mut pause, pause_max) = self.config().retry_pause;
        let mut n_left = self.config().retries_max;
        loop {
            match self.ask(operation, commands).await {
                Err((error, is_old)) if error.kind() == ErrorKind::Unavailable => {
                    if is_old {
                        // Broken since it was used last: that is no try.
                        continue;
                    }
                    if n_left == 0 {
                        return Err(error);
                    }
                    n_left -= 1;
                    tokio::time::sleep(pause).await;
                    pause = pause_max.min(pause * 2);
                }
                Err((error, _)) => return Err(error),
                Ok(value) => return Ok(value),
            }
        }
    }

    /// Asks once; with an error, whether the connection was an old one.
    async fn ask(
        &self,
        operation: Operation,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, (Error, bool)> {
        let mut connection = self.link.take(operation).await.map_err(|e| (e, false))?;
        let is_old = connection.is_old();
        let limit = self.config().answer_time;
        let sent = connection.send(operation, commands, limit).await;
        let said = match sent {
            Ok(answers) => answers,
            Err(error) => {
                self.link.discard(connection);
                return Err((error, is_old));
            }
        };
        let refused = said.iter().find_map(|value| match value {
            Value::ServerError(error) => Some(RedisError::from(error.clone())),
            _ => None,
        });
        if let Some(error) = refused {
            let error = server(operation, error);
            if error.kind() == ErrorKind::Unavailable {
                self.link.discard(connection);
            } else {
                self.link.give_back(connection);
            }
            return Err((error, false));
        }
        self.link.give_back(connection);
        Ok(said)
    }

    pub(crate) async fn value(
        &self,
        operation: Operation,
        key: Vec<u8>,
    ) -> Result<Option<Bytes>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        bytes_of(operation, self.read(operation, command).await?)
    }

    /// A page of a directory whose names lie in one sorted set.
    async fn list_set(
        &self,
        key: Vec<u8>,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let (mut from, to) = bounds(range);
        let prefix = self.config().rows_prefix(directory.as_str());
        let mut out = Vec::new();
        while out.len() < range.limit {
            let mut command = redis::cmd("EVAL");
            command
                .arg(scripts::LIST)
                .arg(1)
                .arg(&key)
                .arg(&from)
                .arg(&to)
                .arg(range.limit - out.len())
                .arg(&prefix)
                .arg(LIST_BYTES_MAX);
            let page = self.read(Operation::List, command).await?;
            match rows_of(page, &mut out)? {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(out)
    }
}

impl Backend for Redis {
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
        let (mut commands, mut values) = (Pipeline::new(), vec![None; paths.len()]);
        let rows = paths.iter().enumerate().filter(|(_, path)| !path.is_root());
        let rows: Vec<(usize, Vec<u8>)> = rows
            .map(|(i, path)| (i, self.config().row_key(path)))
            .collect();
        if rows.is_empty() {
            return Ok(values);
        }
        for (_, key) in &rows {
            commands.cmd("GET").arg(key);
        }
        let said = self.read_all(Operation::Find, &commands).await?;
        if said.len() != rows.len() {
            let said = Value::Array(said);
            return Err(answer(Operation::Find, "a value for each row", &said));
        }
        for ((i, _), value) in rows.into_iter().zip(said) {
            values[i] = bytes_of(Operation::Find, value)?;
        }
        Ok(values)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let key = self.config().names_key(directory.as_str());
        match self.config().names {
            Names::SortedSet => self.list_set(key, directory, range).await,
            Names::SkipList => self.list_lists(directory, range).await,
        }
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(Operation::KvGet, self.config().pair_key(key))
            .await
    }

    fn apply(
        &self,
        work: &Work,
        held: &Held<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.transact(work, held)
    }

    fn settle(
        &self,
        ticket: i64,
        _: Option<&FullPath>,
    ) -> impl Future<Output = Result<Settled, Error>> + Send {
        self.ask_what_became(ticket)
    }

    async fn clock_ns(&self) -> Result<i64, Error> {
        let said = self.read(Operation::Find, redis::cmd("TIME")).await?;
        let clock = match &said {
            Value::Array(parts) => match parts.as_slice() {
                [seconds, us] => self.clock(seconds, us),
                _ => None,
            },
            _ => None,
        };
        clock.ok_or_else(|| answer(Operation::Find, "seconds and microseconds", &said))
    }
}

/// A value, or nothing.
pub(crate) fn bytes_of(operation: Operation, value: Value) -> Result<Option<Bytes>, Error> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(value) => Ok(Some(Bytes::from(value))),
        other => Err(answer(operation, "a value", &other)),
    }
}

/// The first and the last name of a range, as `ZRANGEBYLEX` has them.
pub(crate) fn bounds(range: &ListRange) -> (Vec<u8>, Vec<u8>) {
    // From the greater of both: a start before the prefix begins at the prefix itself.
    let is_before = range.start < range.prefix;
    let (start, is_inclusive) = match is_before {
        true => (&range.prefix, true),
        false => (&range.start, range.inclusive),
    };
    let from = match (start.is_empty(), is_inclusive) {
        (true, _) => b"-".to_vec(),
        (false, true) => [b"[", start.as_bytes()].concat(),
        (false, false) => [b"(", start.as_bytes()].concat(),
    };
    let to = match range.prefix.is_empty() {
        true => b"+".to_vec(),
        // No name has this byte: it is in no text.
        false => [b"(", range.prefix.as_bytes(), b"\xff"].concat(),
    };
    (from, to)
}

/// Adds the rows of a page; gives from where there may be more.
pub(crate) fn rows_of(
    page: Value,
    out: &mut Vec<(String, Bytes)>,
) -> Result<Option<Vec<u8>>, Error> {
    let wrong = |value: &Value| answer(Operation::List, "names and rows", value);
    let Value::Array(parts) = page else {
        return Err(wrong(&page));
    };
    let mut parts = parts.into_iter();
    let next = match (parts.next(), parts.next()) {
        (Some(Value::Int(is_more)), Some(Value::BulkString(from))) => {
            (is_more == 1).then_some(from)
        }
        (first, _) => return Err(wrong(&first.unwrap_or_default())),
    };
    while let Some(name) = parts.next() {
        let (Value::BulkString(name), Some(Value::BulkString(row))) = (&name, parts.next()) else {
            return Err(wrong(&name));
        };
        let name = String::from_utf8(name.clone())
            .map_err(|e| Error::new(Operation::List, ErrorKind::Corrupt).source(e))?;
        out.push((name, Bytes::from(row)));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_begins_at_the_greater_of_start_and_prefix() {
        let range = |prefix: &str, start: &str, inclusive| ListRange {
            prefix: prefix.to_owned(),
            start: start.to_owned(),
            inclusive,
            limit: 1,
        };
        for (range, from, to) in [
            (range("", "", false), &b"-"[..], &b"+"[..]),
            (range("", "a", false), b"(a", b"+"),
            (range("", "a", true), b"[a", b"+"),
            (range("b", "a", false), b"[b", b"(b\xff"),
            (range("b", "bc", false), b"(bc", b"(b\xff"),
        ] {
            assert_eq!(bounds(&range), (from.to_vec(), to.to_vec()));
        }
    }

    #[test]
    fn an_answer_of_another_form_is_corrupt_and_no_panic() {
        for value in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(0)]),
            Value::Array(vec![
                Value::Int(0),
                Value::BulkString(vec![]),
                Value::BulkString(vec![0xff]),
                Value::BulkString(vec![]),
            ]),
        ] {
            let error = rows_of(value, &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
