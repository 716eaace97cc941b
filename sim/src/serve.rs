// SPDX-License-Identifier: Apache-2.0
//! A filer as the one who is called: greetings, changes, whole states.

use dulse_merge::change::MemberStep;
use dulse_replica::{ExportPart, ImportCursor};
use dulse_replication::convert;
use dulse_replication::core::{Greeting, Phase};
use dulse_replication::feed::{self, KeptCursor, Next};
use dulse_types::{Origin, ServerAddress, Stamp};
use rand::Rng;

use crate::MS;
use crate::filer::Running;
use crate::net::{Begins, Reply, Request};
use crate::queue::Event;
use crate::world::World;

/// Rows of a transfer that wait for a slow joiner, and batches for a slow puller.
pub(crate) const AHEAD: usize = 4;

/// How often an idle stream says that there is nothing; half of what the service takes.
const HEARTBEAT_EVERY: u64 = 100 * MS;

impl World {
    pub(crate) fn request(&mut self, c: u64) -> Result<(), String> {
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let (client, server) = (connection.client, connection.server);
        if self.net.is_cut[client][server] {
            self.at(50 * MS, Event::Request(c));
            return Ok(());
        }
        if self.is_lost(c, client, server) {
            return Ok(());
        }
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let is_there = self.filers[server].life == connection.server_life;
        let (Some(request), true) = (connection.requests.pop_front(), is_there) else {
            self.push_reply(c, Reply::Broken("connection reset".to_owned()));
            return Ok(());
        };
        let now = self.now;
        let Some(running) = &mut self.filers[server].running else {
            self.push_reply(c, Reply::Broken("connection reset".to_owned()));
            return Ok(());
        };
        match request {
            Request::Hello { origin, address } => {
                running.shared().met(origin).map_err(|e| e.to_string())?;
                running.with(now, |core, since, _| {
                    core.called_by(since, origin, &address)
                })?;
                let promised = running.core.promised_by(origin).min(running.watermark);
                let mut hello = Box::new(hello(running)?);
                hello.promised = promised;
                self.push_reply(c, Reply::Hello(hello));
                self.poll(server)
            }
            Request::Pull { instance, .. } if !feed::is_asked(running.instance, instance) => {
                self.push_reply(c, Reply::Broken(feed::ANOTHER_FILER.to_owned()));
                Ok(())
            }
            Request::Pull { .. } => {
                self.at(0, Event::Feed(c));
                Ok(())
            }
            Request::Join {
                joiner,
                address,
                resume,
            } => self.serve_join(c, server, joiner, &address, resume.as_ref()),
            Request::Freed(request) => self.serve_freed(c, server, &request),
        }
    }

    pub(crate) fn serve_join(
        &mut self,
        c: u64,
        server: usize,
        joiner: Origin,
        address: &ServerAddress,
        resume: Option<&ImportCursor>,
    ) -> Result<(), String> {
        let now = self.now;
        let Some(running) = &mut self.filers[server].running else {
            return Ok(());
        };
        if running.shared().is_fresh() {
            self.push_reply(c, Reply::Broken("this filer is fresh itself".to_owned()));
            return Ok(());
        }
        if *running.core.phase() != Phase::Ready {
            self.push_reply(c, Reply::Broken("this filer is not ready".to_owned()));
            return Ok(());
        }
        let is_admitted = running.shared().has_admitted(joiner);
        if !is_admitted.map_err(|e| e.to_string())? {
            let step = MemberStep::Join {
                member: joiner,
                address: address.to_string(),
            };
            let joined = self.tolerate(server, |running| running.replica.member(step))?;
            if joined.is_none() {
                self.push_reply(c, Reply::Broken("the disk is full".to_owned()));
                return Ok(());
            }
            self.wrote(server);
        }
        let Some(running) = &mut self.filers[server].running else {
            return Ok(());
        };
        let mut export = running
            .shared()
            .export()
            .map_err(|e| format!("export: {e}"))?;
        let vector = export.vector().clone();
        let is_resumed = match resume {
            Some(cursor) => export
                .resume(&running.shared(), cursor)
                .map_err(|e| format!("export: {e}"))?,
            None => false,
        };
        self.counts.resumes += u64::from(is_resumed);
        let floor = running.with(now, |core, _, view| core.floor(view, joiner, false))?;
        let kept = KeptCursor::new(floor.as_ref(), &vector);
        let begins = Some(Begins { vector, is_resumed });
        if let Some(connection) = self.net.connections.get_mut(&c) {
            connection.export = Some((export, kept));
        }
        self.push_reply(
            c,
            Reply::Part {
                begins,
                part: ExportPart::default(),
                kept: Vec::new(),
                is_last: false,
            },
        );
        self.at(0, Event::Feed(c));
        Ok(())
    }

    /// The server goes on with a stream: a batch, a part, or a heartbeat.
    pub(crate) fn feed(&mut self, c: u64) -> Result<(), String> {
        let bytes = self.rng.random_range(100..20_000);
        // Few rows, so that it is interrupted anywhere; in the end it must get on.
        let is_slow = !self.is_over && self.rng.random_bool(0.8);
        let part_rows = if is_slow {
            self.rng.random_range(1..6)
        } else {
            200
        };
        // A transfer is short here: without this few are interrupted.
        let is_interrupted = self.rng.random_bool(0.03) && !self.is_over;
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let server = connection.server;
        if connection.is_stalled {
            return Ok(());
        }
        let is_there = self.filers[server].life == connection.server_life;
        let Some(running) = self.filers[server].running.as_mut().filter(|_| is_there) else {
            return Ok(());
        };
        if connection.replies.len() >= AHEAD {
            self.at(20 * MS, Event::Feed(c));
            return Ok(());
        }
        if connection.export.is_some() && is_interrupted {
            self.push_reply(c, Reply::Broken("connection reset".to_owned()));
            return Ok(());
        }
        if let Some((export, kept)) = &mut connection.export {
            let part = export
                .next_part(part_rows)
                .map_err(|e| format!("export: {e}"))?;
            let kept = match part.is_empty() {
                true => kept
                    .next(&running.shared(), bytes)
                    .map_err(|e| e.to_string())?,
                false => Vec::new(),
            };
            let is_last = part.is_empty() && kept.is_empty();
            self.push_reply(
                c,
                Reply::Part {
                    begins: None,
                    part,
                    kept,
                    is_last,
                },
            );
            if !is_last {
                self.at(MS, Event::Feed(c));
            }
            return Ok(());
        }
        let next = connection.cursor.next(&running.shared(), bytes);
        let changes = match next.map_err(|e| format!("read the journal: {e}"))? {
            Next::Changes(changes) => changes,
            Next::Idle => Vec::new(),
            Next::Cut(at) => {
                let why = format!("changes up to {at} are no longer here");
                self.push_reply(c, Reply::Cut(why));
                return Ok(());
            }
        };
        let is_idle = changes.is_empty();
        if is_idle && connection.is_once {
            self.push_reply(c, Reply::End);
            return Ok(());
        }
        if running.shared().needs_ceiling() {
            self.tolerate(server, |running| running.replica.raise_ceiling())?;
        }
        let Some(running) = &self.filers[server].running else {
            return Ok(());
        };
        let known = convert::known(&running.core.known());
        let mut beat = feed::heartbeat(&running.shared(), known, false);
        beat.leaving = running.core.who_leaves();
        self.push_reply(c, Reply::Batch(changes, Box::new(beat)));
        let pause = if is_idle { HEARTBEAT_EVERY } else { MS };
        self.at(pause, Event::Feed(c));
        Ok(())
    }
}

fn hello(running: &Running) -> Result<Greeting, String> {
    let shared = running.shared();
    let (vector, membership) = (shared.vector(), running.membership()?);
    let gone = membership.gone.iter().map(|gone| gone.origin);
    Ok(Greeting {
        origin: shared.origin(),
        instance: running.instance,
        is_fresh: shared.is_fresh(),
        gone: gone.map(|origin| (origin, vector.get(origin))).collect(),
        members: membership
            .members
            .iter()
            .map(|(origin, _)| *origin)
            .collect(),
        is_ready: *running.core.phase() == Phase::Ready,
        started_ns: running.core.started_ns(),
        forked: None,
        is_cut_behind: false,
        forgotten: shared.forgotten(),
        lacks_forgotten: false,
        own: Stamp::ZERO,
        joins: Vec::new(),
        unheard: shared.joins().map_err(|e| e.to_string())?,
        is_founder_told: false,
        promised: Stamp::ZERO,
        vector,
    })
}
