// SPDX-License-Identifier: Apache-2.0
//! Which server has a slot, and the way there.
//!
//! A map of all slots is asked for at the start and whenever a server says that it is wrong. A
//! command that a server refuses since it does not have the slot, or not all of it yet, goes to
//! the one that has. Every command given here may be made twice: one whose connection broke is
//! sent again.
//!
//! The client for clusters of the crate `redis` was considered: it tells errors without saying
//! whether a command was sent, keeps one connection to each server for all, so that a long answer
//! lets all others wait, and splits no pipeline among servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_store::{Error, ErrorKind, Operation};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::slots::SLOTS;
use crate::config::{Config, Servers};
use crate::error::{self, answer, server};
use crate::link::{Address, Link, address_of};

/// Times that one command is sent on from server to server before that counts as a failure.
const REDIRECTS_MAX: u32 = 8;

/// How long keys of one script that lie on two servers, as their slot moves, are waited for.
const SPLIT_TIME_MAX: Duration = Duration::from_secs(5);

/// Pause before such a script is sent again.
const SPLIT_PAUSE: Duration = Duration::from_millis(50);

/// More time for an answer, for each so many bytes that are sent.
const TIME_PER_BYTES: (Duration, usize) = (Duration::from_secs(1), 4 << 20);

/// A command, and the slot of its keys.
#[derive(Clone)]
pub(super) struct Routed {
    pub(super) slot: u16,
    pub(super) command: Cmd,
}

/// Why commands have no answer.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Whether a server may have done what it was asked.
    pub(super) was_sent: bool,
}

/// The servers of a cluster.
pub(super) struct Nodes {
    config: Config,
    seeds: Vec<Address>,
    /// Short sections.
    state: Mutex<State>,
    /// Held while the map is asked for: one asks for all.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<Address, Arc<Link>>,
    /// First and last slot of a part, and its server.
    parts: Vec<(u16, u16, Address)>,
    /// How often the map was asked for.
    n_asked: u64,
}

/// What becomes of one command after one try.
enum Said {
    Answer(Value),
    /// Another server has the slot, or is getting it: asked once with `ASKING`.
    Elsewhere(Address, bool),
    /// Later.
    Failed(Failed),
}

/// How far one command is.
#[derive(Default)]
struct Asked {
    answer: Option<Result<Value, Failed>>,
    /// Where it was sent on to.
    to: Option<(Address, bool)>,
    /// Why the last try failed.
    failed: Option<Error>,
    /// Whether a server may have done it at some try.
    was_sent: bool,
}

impl Asked {
    /// It is not tried again.
    fn end(&mut self, error: Error) {
        let was_sent = self.was_sent;
        self.answer = Some(Err(Failed { error, was_sent }));
    }
}

impl Nodes {
    /// # Errors
    ///
    /// `Invalid` for addresses that are none and certificates that cannot be read.
    pub(super) fn new(config: Config) -> Result<Self, Error> {
        let Servers::Cluster(addresses) = &config.servers else {
            return Err(error::invalid("expected the addresses of a cluster"));
        };
        let seeds: Result<Vec<Address>, Error> =
            addresses.iter().map(|text| address_of(text)).collect();
        let nodes = Self {
            seeds: seeds?,
            config,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        // Certificates are read now rather than at the first connection.
        for seed in &nodes.seeds {
            nodes.link(seed)?;
        }
        Ok(nodes)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// One command.
    pub(super) async fn ask(
        &self,
        operation: Operation,
        slot: u16,
        command: Cmd,
    ) -> Result<Value, Failed> {
        let mut answers = self
            .ask_all(operation, vec![Routed { slot, command }])
            .await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// One command, which fails at once when its keys lie on two servers: `None`.
    pub(super) async fn ask_unless_split(
        &self,
        operation: Operation,
        slot: u16,
        command: Cmd,
    ) -> Result<Option<Value>, Error> {
        let commands = vec![Routed { slot, command }];
        let mut answers = self.ask_within(operation, commands, Duration::ZERO).await;
        match answers.pop().transpose() {
            Ok(answer) => Ok(answer),
            Err(failed) if is_split(&failed.error) => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    /// Has commands answered, in order, by whichever servers have their slots.
    ///
    /// # Errors
    ///
    /// The first error of any of them; others may have been done.
    pub(super) async fn ask_all(
        &self,
        operation: Operation,
        commands: Vec<Routed>,
    ) -> Result<Vec<Value>, Failed> {
        let answers = self.ask_each(operation, commands).await;
        answers.into_iter().collect()
    }

    /// Has commands answered, each for itself, in order.
    pub(super) async fn ask_each(
        &self,
        operation: Operation,
        commands: Vec<Routed>,
    ) -> Vec<Result<Value, Failed>> {
        self.ask_within(operation, commands, SPLIT_TIME_MAX).await
    }

    /// - `split_time`: how long keys are waited for that lie on two servers.
    async fn ask_within(
        &self,
        operation: Operation,
        commands: Vec<Routed>,
        split_time: Duration,
    ) -> Vec<Result<Value, Failed>> {
        let began = Instant::now();
        let mut asked: Vec<Asked> = commands.iter().map(|_| Asked::default()).collect();
        let (mut pause, pause_max) = self.config.retry_pause;
        let (mut n_left, mut n_redirects) = (self.config.retries_max, 0);
        loop {
            let seen = self.state.lock().n_asked;
            let tried = self.try_all(operation, &commands, &asked).await;
            let (mut is_moved, mut is_failed, mut is_all_split) = (false, false, true);
            for (i, said) in tried {
                let one = &mut asked[i];
                one.to = None;
                one.failed = None;
                match said {
                    Said::Elsewhere(address, is_asking) => {
                        is_moved |= !is_asking;
                        one.to = Some((address, is_asking));
                    }
                    Said::Failed(failed) => {
                        one.was_sent |= failed.was_sent;
                        one.failed = Some(failed.error);
                    }
                    Said::Answer(Value::ServerError(refused)) => {
                        let error = server(operation, RedisError::from(refused));
                        let is_late = is_split(&error) && began.elapsed() >= split_time;
                        match error.kind() {
                            ErrorKind::Unavailable if !is_late => one.failed = Some(error),
                            _ => one.end(error),
                        }
                    }
                    Said::Answer(value) => one.answer = Some(Ok(value)),
                }
                if let Some(error) = &one.failed {
                    is_failed = true;
                    is_all_split &= is_split(error);
                }
            }
            if asked.iter().all(|one| one.answer.is_some()) {
                break;
            }
            if is_moved || is_failed {
                // Where nobody answers, the map stays, and the next try says what is wrong.
                let _ = self.learn(operation, seen).await;
            }
            if !is_failed {
                n_redirects += 1;
                if n_redirects > REDIRECTS_MAX {
                    break;
                }
            } else if is_all_split {
                tokio::time::sleep(SPLIT_PAUSE).await;
            } else if n_left == 0 {
                break;
            } else {
                n_left -= 1;
                tokio::time::sleep(pause).await;
                pause = pause_max.min(pause * 2);
            }
        }
        let answers = asked.into_iter().map(|mut one| {
            if one.answer.is_none() {
                let error = one.failed.take().unwrap_or_else(|| {
                    let text = "servers send each other what none of them has";
                    Error::new(operation, ErrorKind::Unavailable).with("because", text)
                });
                one.end(error);
            }
            one.answer.unwrap_or_else(|| Ok(Value::Nil))
        });
        answers.collect()
    }

    /// Sends what has no answer yet, to all servers at once.
    async fn try_all(
        &self,
        operation: Operation,
        commands: &[Routed],
        asked: &[Asked],
    ) -> Vec<(usize, Said)> {
        let mut by_node: BTreeMap<(Address, bool), Vec<usize>> = BTreeMap::new();
        let mut out = Vec::new();
        for (i, (command, asked)) in commands.iter().zip(asked).enumerate() {
            if asked.answer.is_some() {
                continue;
            }
            let known = asked.to.clone();
            match known.or_else(|| Some((self.node_of(command.slot)?, false))) {
                Some(node) => by_node.entry(node).or_default().push(i),
                None => {
                    let text = format!("no server is known for slot {}", command.slot);
                    let error = Error::new(operation, ErrorKind::Unavailable).with("because", text);
                    let failed = Failed {
                        error,
                        was_sent: false,
                    };
                    out.push((i, Said::Failed(failed)));
                }
            }
        }
        let tries = by_node.into_iter().map(|((node, is_asking), which)| {
            let commands: Vec<&Cmd> = which.iter().map(|i| &commands[*i].command).collect();
            async move {
                let said = self.try_one(operation, &node, is_asking, &commands).await;
                which.into_iter().zip(said).collect::<Vec<_>>()
            }
        });
        let tried = futures::future::join_all(tries).await;
        out.extend(tried.into_iter().flatten());
        out
    }

    async fn try_one(
        &self,
        operation: Operation,
        node: &Address,
        is_asking: bool,
        commands: &[&Cmd],
    ) -> Vec<Said> {
        let sent = self.send(operation, node, is_asking, commands).await;
        match sent {
            Ok(values) => values.into_iter().map(|value| said(value, node)).collect(),
            Err(failed) => {
                let (kind, was_sent) = (failed.error.kind(), failed.was_sent);
                let others = commands.iter().skip(1).map(|_| {
                    let error = Error::new(operation, kind);
                    Said::Failed(Failed { error, was_sent })
                });
                let mut out: Vec<Said> = others.collect();
                out.push(Said::Failed(failed));
                out
            }
        }
    }

    async fn send(
        &self,
        operation: Operation,
        node: &Address,
        is_asking: bool,
        commands: &[&Cmd],
    ) -> Result<Vec<Value>, Failed> {
        let unsent = |error| Failed {
            error,
            was_sent: false,
        };
        let mut pipeline = Pipeline::new();
        for command in commands {
            if is_asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command((*command).clone());
        }
        let n_bytes = pipeline.get_packed_pipeline().len();
        let (time, bytes) = TIME_PER_BYTES;
        let n_parts = u32::try_from(n_bytes / bytes).unwrap_or(u32::MAX);
        let limit = self.config.answer_time + time * n_parts;
        let link = self.link(node).map_err(unsent)?;
        let mut was_sent = false;
        loop {
            let mut connection = link
                .take(operation)
                .await
                .map_err(|error| Failed { error, was_sent })?;
            let is_old = connection.is_old();
            match connection.send(operation, &pipeline, limit).await {
                Ok(mut values) => {
                    link.give_back(connection);
                    if is_asking {
                        values = values.into_iter().skip(1).step_by(2).collect();
                    }
                    return Ok(values);
                }
                Err(error) => {
                    link.discard(connection);
                    was_sent = true;
                    // Broken since it was used last: that is no try.
                    if !is_old || error.kind() != ErrorKind::Unavailable {
                        return Err(Failed { error, was_sent });
                    }
                }
            }
        }
    }

    /// The server that is thought to have a slot.
    pub(super) fn node_of(&self, slot: u16) -> Option<Address> {
        let state = self.state.lock();
        let mut parts = state.parts.iter();
        let part = parts.find(|(first, last, _)| (*first..=*last).contains(&slot));
        part.map(|(_, _, node)| node.clone())
    }

    fn link(&self, node: &Address) -> Result<Arc<Link>, Error> {
        if let Some(link) = self.state.lock().links.get(node) {
            return Ok(Arc::clone(link));
        }
        let (host, port) = node;
        let address = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let link = Arc::new(Link::new(Config {
            servers: Servers::One(address),
            database: 0,
            ..self.config.clone()
        })?);
        let mut state = self.state.lock();
        let link = state.links.entry(node.clone()).or_insert(link);
        Ok(Arc::clone(link))
    }

    /// Asks which server has which slots, unless somebody has since `seen`.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no server says.
    pub(super) async fn learn(&self, operation: Operation, seen: u64) -> Result<(), Error> {
        let _one = self.asking.lock().await;
        let known: Vec<Address> = {
            let state = self.state.lock();
            if state.n_asked != seen {
                return Ok(());
            }
            let known = state.parts.iter().map(|(_, _, node)| node);
            let mut all: Vec<Address> = known.chain(&self.seeds).cloned().collect();
            all.sort();
            all.dedup();
            all
        };
        let mut last = Error::new(operation, ErrorKind::Unavailable);
        for node in known {
            let mut command = redis::cmd("CLUSTER");
            command.arg("SLOTS");
            let said = self.send(operation, &node, false, &[&command]).await;
            let said = said.map_err(|failed| failed.error);
            match said.and_then(|said| parts_of(operation, said, &node)) {
                Ok(parts) => {
                    let mut state = self.state.lock();
                    let is_there = |node: &Address| parts.iter().any(|(_, _, other)| other == node);
                    // Those that are gone, or have become replicas, keep no connections.
                    state.links.retain(|node, _| is_there(node));
                    state.parts = parts;
                    state.n_asked += 1;
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// All servers that take writes.
    pub(super) fn masters(&self) -> Vec<Address> {
        let state = self.state.lock();
        let mut all: Vec<Address> = state
            .parts
            .iter()
            .map(|(_, _, node)| node.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Has one server answer, whatever its slots.
    pub(super) async fn ask_node(&self, node: &Address, command: &Cmd) -> Result<Value, Error> {
        let said = self.send(Operation::Open, node, false, &[command]).await;
        let mut said = said.map_err(|failed| failed.error)?;
        match said.pop().unwrap_or_default() {
            Value::ServerError(refused) => Err(server(Operation::Open, RedisError::from(refused))),
            value => Ok(value),
        }
    }
}

/// Whether keys of one script lie on two servers.
fn is_split(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let refused = source.and_then(|source| source.downcast_ref::<RedisError>());
    refused.is_some_and(|refused| refused.code() == Some("TRYAGAIN"))
}

/// - `from`: who said it; a server without a name is that one.
fn said(value: Value, from: &Address) -> Said {
    let Value::ServerError(refused) = &value else {
        return Said::Answer(value);
    };
    let is_asking = refused.code() == "ASK";
    if !is_asking && refused.code() != "MOVED" {
        return Said::Answer(value);
    }
    // `MOVED slot host:port`
    let words = refused.details().unwrap_or_default();
    let address = words.split_whitespace().last().and_then(|text| {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() { &from.0 } else { host };
        Some((host.to_owned(), port.parse().ok()?))
    });
    match address {
        Some(address) => Said::Elsewhere(address, is_asking),
        None => Said::Answer(value),
    }
}

/// What `CLUSTER SLOTS` says: first and last slot, then servers, of which the first takes writes.
fn parts_of(
    operation: Operation,
    said: Vec<Value>,
    from: &Address,
) -> Result<Vec<(u16, u16, Address)>, Error> {
    let said = said.into_iter().next().unwrap_or_default();
    if let Value::ServerError(refused) = said {
        return Err(server(operation, RedisError::from(refused)));
    }
    let Value::Array(parts) = &said else {
        return Err(answer(operation, "the slots of servers", &said));
    };
    if parts.is_empty() {
        let text = "its servers have no slots";
        return Err(Error::new(operation, ErrorKind::Unavailable).with("because", text));
    }
    let part = |part: &Value| {
        let Value::Array(part) = part else {
            return None;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = part.as_slice()
        else {
            return None;
        };
        let slot = |n: i64| u16::try_from(n).ok().filter(|slot| *slot < SLOTS);
        let host = match master.first()? {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => from.0.clone(),
        };
        let Value::Int(port) = master.get(1)? else {
            return None;
        };
        Some((
            slot(*first)?,
            slot(*last)?,
            (host, u16::try_from(*port).ok()?),
        ))
    };
    let parts: Option<Vec<_>> = parts.iter().map(part).collect();
    parts.ok_or_else(|| answer(operation, "the slots of servers", &said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_another_form_is_corrupt_and_no_panic() {
        let from = ("h".to_owned(), 1);
        for value in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(99_999)])]),
        ] {
            let error = parts_of(Operation::Open, vec![value], &from).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let master = Value::Array(vec![Value::Nil, Value::Int(7)]);
        let part = Value::Array(vec![Value::Int(0), Value::Int(16_383), master]);
        let parts = parts_of(Operation::Open, vec![Value::Array(vec![part])], &from);
        assert_eq!(parts.unwrap(), [(0, 16_383, ("h".to_owned(), 7))]);
    }
}
