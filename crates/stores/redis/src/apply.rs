// SPDX-License-Identifier: Apache-2.0
//! One attempt as one `MULTI` of the server, and what became of it.
//!
//! Order: what is looked at is watched; the server compares it and says what time it is; then all
//! is written at once, unless anything watched was touched since. Only an `EXEC` that was sent
//! and not answered leaves anything unknown: before it every failure means that nothing was
//! written. The server does not undo the half of a `MULTI` whose other half failed, so everything
//! that could fail is checked before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{Held, Settled, Work, is_directory};
use dulse_store::{Error, ErrorKind, Operation, Outcome};
use redis::{Pipeline, RedisError, Value};

use crate::config::Names;
use crate::error::{answer, server};
use crate::link::Connection;
use crate::list_plan::Plan;
use crate::lists::List;
use crate::rows::{Check, Rows};
use crate::scripts;
use crate::store::Redis;
use crate::tickets::TICKET_TIME_S;

/// Keys watched by one command. The server searches all that a connection watches for each, so
/// one command with all keys of a big attempt would let everybody wait.
const WATCH_MAX: usize = 500;

/// The lists of names that an attempt changes, as they are and as they are to be.
type Lists = BTreeMap<String, (List, Plan)>;

/// More time for an answer: for each command, and for each so many bytes.
const TIME_PER_COMMAND: Duration = Duration::from_millis(1);
const TIME_PER_BYTES: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

impl Redis {
    /// See [`dulse_shared::Backend::apply`].
    pub(crate) async fn transact(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let rows = Rows::of(self.config(), work)?;
        let mut connection = self.link.take(Operation::Commit).await?;
        self.tickets.begin(work.ticket);
        let result = self
            .attempt(&mut connection, work.ticket, &rows, held)
            .await;
        match &result {
            Ok(()) => {
                self.link.give_back(connection);
                self.tickets.made(work.ticket);
            }
            Err(error) => {
                if error.kind() == ErrorKind::Conflict {
                    self.link.give_back(connection);
                } else {
                    // What may be under way on it must not be met by the next one.
                    self.link.discard(connection);
                }
                if error.outcome() == Outcome::NotApplied {
                    self.tickets.not_made(work.ticket);
                }
            }
        }
        result
    }

    async fn attempt(
        &self,
        connection: &mut Connection,
        ticket: i64,
        rows: &Rows,
        held: &Held<'_>,
    ) -> Result<(), Error> {
        let (lists, clock_ns) = match self.watch(connection, ticket, rows).await {
            Ok(watched) => watched,
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.unwatch(connection).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        // Who touches any of it from now on has the server refuse what follows, and reads the
        // clock later than this.
        held(clock_ns).await?;
        self.write(connection, ticket, rows, &lists).await
    }

    /// Watches and compares; gives the lists of names as they are to be, and the server's clock.
    async fn watch(
        &self,
        connection: &mut Connection,
        ticket: i64,
        rows: &Rows,
    ) -> Result<(Lists, i64), Error> {
        let lists = self.watch_lists(connection, rows).await?;
        let ticket_key = self.config().ticket_key(ticket);
        let mut watched: Vec<&[u8]> = vec![&ticket_key];
        watched.extend(rows.watched.iter().map(Vec::as_slice));
        let limit = self.patience(0, rows.n_bytes);
        let mut commands = Pipeline::new();
        let mut parts = watched.chunks(WATCH_MAX).peekable();
        while let Some(part) = parts.next() {
            commands.cmd("WATCH").arg(part);
            if parts.peek().is_some() {
                let answers = connection.send(Operation::Commit, &commands, limit).await?;
                sound(answers)?;
                commands.clear();
            }
        }
        let mut check = redis::cmd("EVAL");
        check.arg(scripts::CHECK).arg(rows.checks.len() + 1);
        check.arg(&ticket_key);
        for (key, _) in &rows.checks {
            check.arg(key);
        }
        check.arg("absent").arg("");
        for (_, what) in &rows.checks {
            match what {
                Check::Absent => check.arg("absent").arg(""),
                Check::Same(value) => check.arg("same").arg(&value[..]),
                Check::Row => check.arg("row").arg(""),
                Check::Type(kind) => check.arg("type").arg(*kind),
                Check::Names(n, prefix) => {
                    let value = [format!("{n}:").as_bytes(), prefix].concat();
                    check.arg("names").arg(value)
                }
            };
        }
        commands.add_command(check);
        let answers = connection.send(Operation::Commit, &commands, limit).await?;
        let checked = sound(answers)?.pop().unwrap_or_default();
        Ok((lists, self.checked(rows, checked)?))
    }

    /// Watches the skip lists of the directories whose names change or are counted.
    async fn watch_lists(&self, connection: &mut Connection, rows: &Rows) -> Result<Lists, Error> {
        let mut lists = Lists::new();
        if self.config().names == Names::SortedSet {
            return Ok(lists);
        }
        for (directory, n) in &rows.counted {
            let list = self.watch_list(connection, directory).await?;
            if self.count_names(connection, directory, &list).await? != *n {
                let error = Error::new(Operation::Commit, ErrorKind::Conflict);
                return Err(error.with("path", directory));
            }
        }
        for (directory, changes) in &rows.names {
            let list = self.watch_list(connection, directory).await?;
            let plan = self
                .plan_names(connection, directory, &list, changes)
                .await?;
            lists.insert(directory.clone(), (list, plan));
        }
        Ok(lists)
    }

    fn checked(&self, rows: &Rows, checked: Value) -> Result<i64, Error> {
        let wrong = |value: &Value| answer(Operation::Commit, "what the check script gives", value);
        let Value::Array(parts) = &checked else {
            return Err(wrong(&checked));
        };
        let (seconds, us, held) = match parts.as_slice() {
            [Value::Int(0), seconds, us, Value::Array(held)] => (seconds, us, held),
            [Value::Int(first), ..] => {
                let at = usize::try_from(*first).unwrap_or(0).checked_sub(2);
                let key = at.and_then(|at| rows.checks.get(at));
                let key = key.map_or("the attempt's own", |(key, _)| {
                    std::str::from_utf8(key).unwrap_or("a binary one")
                });
                return Err(Error::new(Operation::Commit, ErrorKind::Conflict).with("key", key));
            }
            _ => return Err(wrong(&checked)),
        };
        for row in held {
            let Value::BulkString(row) = row else {
                return Err(wrong(row));
            };
            if !is_directory(Bytes::copy_from_slice(row)) {
                let error = Error::new(Operation::Commit, ErrorKind::Conflict);
                return Err(error.with("because", "no directory any more"));
            }
        }
        self.clock(seconds, us).ok_or_else(|| wrong(&checked))
    }

    /// The server's clock, never behind what it was here before: a server that takes over has
    /// one of its own.
    pub(crate) fn clock(&self, seconds: &Value, us: &Value) -> Option<i64> {
        let number = |value: &Value| match value {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
            Value::Int(number) => Some(*number),
            _ => None,
        };
        let ns = number(seconds)?
            .checked_mul(1_000_000)?
            .checked_add(number(us)?)?
            .checked_mul(1_000)?;
        let before = self.clock_ns.fetch_max(ns, Ordering::SeqCst);
        Some(ns.max(before))
    }

    async fn unwatch(&self, connection: &mut Connection) -> Result<(), Error> {
        let mut commands = Pipeline::new();
        commands.cmd("UNWATCH");
        let limit = self.config().answer_time;
        let answers = connection.send(Operation::Commit, &commands, limit).await?;
        sound(answers).map(drop)
    }

    /// Writes all of it at once.
    async fn write(
        &self,
        connection: &mut Connection,
        ticket: i64,
        rows: &Rows,
        lists: &Lists,
    ) -> Result<(), Error> {
        let mut commands = Pipeline::new();
        commands.cmd("MULTI");
        for (key, value, ttl_s) in &rows.set {
            commands.cmd("SET").arg(key).arg(&value[..]);
            if *ttl_s > 0 {
                commands.arg("EX").arg(*ttl_s);
            }
        }
        if !rows.gone.is_empty() {
            commands.cmd("DEL").arg(&rows.gone);
        }
        match self.config().names {
            Names::SortedSet => self.write_names(&mut commands, rows),
            Names::SkipList => {
                for (directory, (list, plan)) in lists {
                    self.write_list(&mut commands, directory, list, plan);
                }
            }
        }
        let own = self.config().ticket_key(ticket);
        commands
            .cmd("SET")
            .arg(own)
            .arg("1")
            .arg("EX")
            .arg(TICKET_TIME_S);
        let known = self.tickets.take();
        if !known.is_empty() {
            commands.cmd("UNLINK");
            for ticket in known {
                commands.arg(self.config().ticket_key(ticket));
            }
        }
        commands.cmd("EXEC");
        let limit = self.patience(commands.len(), rows.n_bytes);
        let sent = connection.send(Operation::Commit, &commands, limit).await;
        let mut answers = sent.map_err(Error::unknown_outcome)?;
        match answers.pop() {
            Some(Value::Array(made)) => all_made(made),
            Some(Value::Nil) => {
                let error = Error::new(Operation::Commit, ErrorKind::Conflict);
                Err(error.with("because", "touched meanwhile"))
            }
            // Refused as a whole; which command was the cause stands among the others' answers.
            Some(Value::ServerError(refused)) => {
                let cause = answers.into_iter().find_map(|value| match value {
                    Value::ServerError(error) => Some(error),
                    _ => None,
                });
                let error = RedisError::from(cause.unwrap_or(refused));
                Err(server(Operation::Commit, error))
            }
            other => {
                let other = other.unwrap_or_default();
                Err(answer(Operation::Commit, "what EXEC gives", &other).unknown_outcome())
            }
        }
    }

    fn write_names(&self, commands: &mut Pipeline, rows: &Rows) {
        for (directory, names) in &rows.names {
            let key = self.config().names_key(directory);
            if names.is_dropped {
                commands.cmd("DEL").arg(&key);
            }
            if !names.removed.is_empty() && !names.is_dropped {
                commands.cmd("ZREM").arg(&key);
                for name in &names.removed {
                    commands.arg(name);
                }
            }
            if !names.added.is_empty() {
                commands.cmd("ZADD").arg(&key).arg("NX");
                for name in &names.added {
                    commands.arg(0).arg(name);
                }
            }
        }
    }

    fn patience(&self, n_commands: usize, n_bytes: usize) -> Duration {
        let n_commands = u32::try_from(n_commands).unwrap_or(u32::MAX);
        let (time, bytes) = TIME_PER_BYTES;
        let n_parts = u32::try_from(n_bytes / bytes).unwrap_or(u32::MAX);
        self.config().answer_time + TIME_PER_COMMAND * n_commands + time * n_parts
    }

    /// See [`dulse_shared::Backend::settle`].
    pub(crate) async fn ask_what_became(&self, ticket: i64) -> Result<Settled, Error> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(scripts::SETTLE)
            .arg(1)
            .arg(self.config().ticket_key(ticket))
            .arg(TICKET_TIME_S);
        // Asked twice, it says the same.
        let said = self.read(Operation::Commit, command).await?;
        let is_own = self.tickets.is_open(ticket);
        match said {
            Value::BulkString(said) if said == b"1" => {
                self.tickets.made(ticket);
                // One of an earlier run is told with a later stamp: only what nobody wrote over
                // since may be told as it was made.
                Ok(match is_own {
                    true => Settled::Applied,
                    false => Settled::Perhaps,
                })
            }
            Value::BulkString(said) if said == b"0" => {
                self.tickets.made(ticket);
                // One of an earlier run may have been made so long ago that its ticket is gone.
                Ok(if is_own {
                    Settled::NotApplied
                } else {
                    Settled::Over
                })
            }
            other => Err(answer(Operation::Commit, "1 or 0", &other)),
        }
    }
}

/// Answers of which none is an error.
pub(crate) fn sound(answers: Vec<Value>) -> Result<Vec<Value>, Error> {
    for value in &answers {
        if let Value::ServerError(error) = value {
            return Err(server(Operation::Commit, RedisError::from(error.clone())));
        }
    }
    Ok(answers)
}

/// A command that failed inside leaves the others made: nothing that was checked before can.
fn all_made(made: Vec<Value>) -> Result<(), Error> {
    let failed = made.into_iter().find_map(|value| match value {
        Value::ServerError(error) => Some(RedisError::from(error)),
        _ => None,
    });
    match failed {
        None => Ok(()),
        Some(error) => {
            tracing::error!(%error, "the server made a part of a change only");
            let error = Error::new(Operation::Commit, ErrorKind::Corrupt).source(error);
            Err(error
                .with("because", "a part of it was made")
                .unknown_outcome())
        }
    }
}
