// SPDX-License-Identifier: Apache-2.0
//! A filer as the one who calls: it carries out what its core decides, and takes answers.

use std::collections::VecDeque;

use bytes::Bytes;
use dulse_merge::Change;
use dulse_proto::replication::Heartbeat;
use dulse_replica::{Applied, ExportPart, Renewal};
use dulse_replication::convert;
use dulse_replication::core::{Action, LinkId, Outcome, Refusal, StreamId};
use dulse_replication::feed::Cursor;
use dulse_types::{Origin, ServerAddress, Stamp};
use rand::Rng;

use crate::MS;
use crate::checks::Seen;
use crate::filer::address;
use crate::net::{Begins, Connection, Kind, Reply, Request};
use crate::queue::Event;
use crate::world::World;

impl World {
    pub(crate) fn poll(&mut self, f: usize) -> Result<(), String> {
        let now = self.now;
        // The clock is judged at this moment, by this moment's clock.
        self.filers[f].tick(now);
        loop {
            let Some(running) = &mut self.filers[f].running else {
                return Ok(());
            };
            let actions = running.with(now, |core, since, view| core.poll(since, view))?;
            running.judge_clock(now)?;
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                self.carry_out(f, action)?;
            }
        }
    }

    pub(crate) fn carry_out(&mut self, f: usize, action: Action) -> Result<(), String> {
        self.say(|| format!("filer {f}: {action:?}"));
        match action {
            Action::Greet { link, address } => self.greet(f, link, &address),
            Action::Pull {
                stream,
                link,
                instance,
                origin,
                after,
                is_once,
            } => {
                self.counts.relays += u64::from(is_once);
                let cursor = Cursor { origin, after };
                self.call(
                    f,
                    link,
                    Kind::Pull(stream),
                    cursor,
                    Request::Pull { instance, is_once },
                )
            }
            Action::Join { stream, link } => {
                let Some(running) = &self.filers[f].running else {
                    return Ok(());
                };
                let (joiner, address) = (running.origin(), address(self.filers[f].port));
                let resume = running.shared().import_cursor();
                let resume = resume.map_err(|e| format!("import: {e}"))?;
                let request = Request::Join {
                    joiner,
                    address,
                    resume,
                };
                self.call(
                    f,
                    link,
                    Kind::Join(stream),
                    Cursor {
                        origin: joiner,
                        after: Stamp::ZERO,
                    },
                    request,
                )
            }
            Action::Found { beside } => self.found(f, &beside),
            Action::Renew {
                known,
                whole,
                of_thirds,
                behind,
                is_in_use,
                ..
            } => {
                let random = self.rng.random();
                let renewal = Renewal {
                    known,
                    whole,
                    of_thirds,
                    is_in_use,
                    random,
                };
                self.renew(f, renewal, behind)
            }
            Action::Appear => self.appear(f),
            Action::Fence { member } => self.shut_out(f, member, false),
            Action::Cancel(stream) => {
                self.net.cancel(f, Kind::Pull(stream));
                self.net.cancel(f, Kind::Join(stream));
                Ok(())
            }
            Action::Close(link) => {
                self.net.cancel(f, Kind::Greet(link));
                Ok(())
            }
        }
    }

    pub(crate) fn greet(
        &mut self,
        f: usize,
        link: LinkId,
        to: &ServerAddress,
    ) -> Result<(), String> {
        let server = self.filers.iter().position(|s| address(s.port) == *to);
        let Some(server) = server.filter(|s| self.filers[*s].running.is_some()) else {
            return self.refuse(f, link);
        };
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let request = Request::Hello {
            origin: running.origin(),
            address: address(self.filers[f].port),
        };
        let cursor = Cursor {
            origin: Origin(0),
            after: Stamp::ZERO,
        };
        self.connect(f, server, Kind::Greet(link), cursor, request);
        Ok(())
    }

    pub(crate) fn refuse(&mut self, f: usize, link: LinkId) -> Result<(), String> {
        let now = self.now;
        if let Some(running) = &mut self.filers[f].running {
            let refused = Err(Refusal::Broken("connection refused".to_owned()));
            running.with(now, |core, since, _| core.greeted(since, link, refused))?;
        }
        Ok(())
    }

    /// A call over the connection of a link that was greeted.
    pub(crate) fn call(
        &mut self,
        f: usize,
        link: LinkId,
        kind: Kind,
        cursor: Cursor,
        request: Request,
    ) -> Result<(), String> {
        let greeted = self
            .net
            .connections
            .values()
            .find(|c| c.client == f && c.kind == Kind::Greet(link));
        match greeted.map(|c| c.server) {
            Some(server) => self.connect(f, server, kind, cursor, request),
            None => self.fail(f, kind, "the connection is gone")?,
        }
        Ok(())
    }

    pub(crate) fn connect(
        &mut self,
        f: usize,
        server: usize,
        kind: Kind,
        cursor: Cursor,
        request: Request,
    ) {
        let is_once = matches!(request, Request::Pull { is_once: true, .. });
        let id = self.net.add(Connection {
            kind,
            client: f,
            client_life: self.filers[f].life,
            server,
            server_life: self.filers[server].life,
            requests: VecDeque::from([request]),
            replies: VecDeque::new(),
            cursor,
            is_once,
            is_stalled: false,
            export: None,
        });
        let delay = self.delay();
        self.at(delay, Event::Request(id));
    }

    /// The call came to nothing: the caller is told.
    pub(crate) fn fail(&mut self, f: usize, kind: Kind, why: &str) -> Result<(), String> {
        let now = self.now;
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        running.with(now, |core, since, _| match kind {
            Kind::Greet(link) => core.greeted(since, link, Err(Refusal::Broken(why.to_owned()))),
            Kind::Pull(stream) => core.ended(since, stream, Some(why.to_owned())),
            Kind::Join(stream) => core.joined(since, stream, Err(why.to_owned())),
            Kind::Freed(_) => {}
        })
    }

    pub(crate) fn reply(&mut self, c: u64) -> Result<(), String> {
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let (client, server) = (connection.client, connection.server);
        if self.net.is_cut[server][client] {
            self.at(50 * MS, Event::Reply(c));
            return Ok(());
        }
        if self.is_lost(c, server, client) {
            return Ok(());
        }
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let Some(reply) = connection.replies.pop_front() else {
            return Ok(());
        };
        let kind = connection.kind;
        if connection.client_life != self.filers[client].life {
            self.net.connections.remove(&c);
            return Ok(());
        }
        if matches!(reply, Reply::Broken(_) | Reply::Cut(_) | Reply::End) {
            self.net.connections.remove(&c);
        }
        // A mere heartbeat decides nothing that the next turn would not.
        let is_idle = matches!(&reply, Reply::Batch(changes, _) if changes.is_empty());
        self.take(client, kind, reply)?;
        if is_idle {
            return Ok(());
        }
        self.poll(client)
    }

    pub(crate) fn take(&mut self, f: usize, kind: Kind, reply: Reply) -> Result<(), String> {
        let now = self.now;
        match (kind, reply) {
            (_, Reply::Broken(why)) => self.fail(f, kind, &why),
            (Kind::Pull(stream), Reply::Cut(why)) => {
                self.core(f, |core, since, _| core.cut_off(since, stream, why))
            }
            (Kind::Greet(link), Reply::Hello(mut greeting)) => {
                let Some(running) = &mut self.filers[f].running else {
                    return Ok(());
                };
                let shared = running.shared();
                shared.met(greeting.origin).map_err(|e| e.to_string())?;
                greeting.compare(&shared).map_err(|e| e.to_string())?;
                running.with(now, |core, since, _| {
                    core.greeted(since, link, Ok(*greeting))
                })
            }
            (Kind::Pull(stream), Reply::End) => {
                let Some(running) = &mut self.filers[f].running else {
                    return Ok(());
                };
                running.with(now, |core, since, _| core.ended(since, stream, None))
            }
            (Kind::Pull(stream), Reply::Batch(changes, beat)) => {
                self.take_batch(f, stream, &changes, &beat)
            }
            (
                Kind::Join(stream),
                Reply::Part {
                    begins,
                    part,
                    kept,
                    is_last,
                },
            ) => self.take_part(f, stream, begins, (part, kept), is_last),
            (Kind::Freed(question), Reply::Freed(reply)) => self.told_freed(f, question, &reply),
            _ => Err("a reply of another kind".to_owned()),
        }
    }

    pub(crate) fn take_batch(
        &mut self,
        f: usize,
        stream: StreamId,
        changes: &[Bytes],
        beat: &Heartbeat,
    ) -> Result<(), String> {
        let now = self.now;
        self.say(|| {
            format!(
                "filer {f} takes {} changes of {stream:?}, {beat:?}",
                changes.len()
            )
        });
        let has_history = !changes.is_empty() || !beat.applied.is_empty();
        let mut through = None;
        self.core(f, |core, since, _| {
            through = core.takes_from(since, stream, has_history);
        })?;
        let Some(through) = through else {
            return Ok(());
        };
        let damaged;
        let changes = match self.damaged {
            Some((filer, origin)) if filer == f && is_of(changes, origin) => {
                let torn = changes
                    .iter()
                    .map(|change| change.slice(..change.len() / 2));
                damaged = torn.collect::<Vec<_>>();
                &damaged[..]
            }
            _ => changes,
        };
        let before = self.own_stamp(f);
        let applied = self.tolerate(f, |running| running.replica.apply_from(through, changes))?;
        // A verdict is a change of its own; what it lost itself may be what came.
        let own = self.filers[f].origin;
        if self.own_stamp(f) > before && !own.is_some_and(|own| is_of(changes, own)) {
            self.wrote(f);
        }
        let Some(applied) = applied else {
            let failed = Outcome::Failed("the disk is full".to_owned());
            return self.core(f, |core, since, _| core.applied(since, stream, failed));
        };
        let n_now = applied.iter().filter(|a| **a == Applied::Now).count() as u64;
        self.counts.applied += n_now;
        self.trace.note(&[n_now, changes.len() as u64]);
        let outcome = Outcome::of(&applied);
        self.show(&Seen::Applied {
            filer: f,
            changes,
            results: &applied,
            outcome: &outcome,
        })?;
        self.show(&Seen::Heard { filer: f, beat })?;
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let is_well = outcome == Outcome::Applied;
        let statement = convert::statement(beat);
        let known = convert::addresses(&beat.known);
        running.with(now, |core, since, _| {
            core.applied(since, stream, outcome);
            if is_well {
                core.heard(since, stream, statement, &known);
                // What is sent with changes may have waited behind others.
                if changes.is_empty() {
                    core.peers_clock(since, through, beat.now_ns);
                }
            }
        })
    }

    pub(crate) fn take_part(
        &mut self,
        f: usize,
        stream: StreamId,
        begins: Option<Begins>,
        (part, kept): (ExportPart, Vec<Bytes>),
        is_last: bool,
    ) -> Result<(), String> {
        let taken = self.tolerate(f, |running| {
            let replica = &mut running.replica;
            match begins {
                Some(begins) if begins.is_resumed => replica.resume_import(begins.vector),
                Some(begins) => replica.begin_import(begins.vector),
                None if is_last => replica.finish_import(),
                None => replica
                    .import(part)
                    .and_then(|()| replica.import_kept(&kept)),
            }
        })?;
        if taken.is_none() {
            self.net.cancel(f, Kind::Join(stream));
            return self.fail(f, Kind::Join(stream), "the disk is full");
        }
        if is_last {
            self.counts.joins += 1;
        }
        self.core(f, |core, since, _| {
            if is_last {
                core.joined(since, stream, Ok(()));
            } else {
                core.progressed(since, stream);
            }
        })
    }
}

/// Whether the first of some changes was made there.
fn is_of(changes: &[Bytes], origin: Origin) -> bool {
    let first = changes.first().map(|change| Change::decode(change));
    first.is_some_and(|change| change.is_ok_and(|change| change.origin == origin))
}
