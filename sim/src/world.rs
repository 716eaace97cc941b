// SPDX-License-Identifier: Apache-2.0
//! One world: filers, a master's list, a network, faults, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use dulse_cluster::Listing;
use dulse_merge::change::MemberStep;
use dulse_replica::{ExportPart, ImportCursor};
use dulse_replication::core::{Action, LinkId, Outcome, Refusal, StreamId};
use dulse_replication::feed::{self, Cursor, KeptCursor, Next};
use dulse_replication::{convert, core::Greeting};
use dulse_types::{Origin, ServerAddress, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check;
use crate::filer::{Filer, Running, address};
use crate::net::{Begins, Connection, Kind, Net, Reply, Request};
use crate::workload;

/// Filers of a world.
pub(crate) const FILERS: usize = 3;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Faults and writes happen for this long.
const TROUBLE: u64 = 30 * SECOND;

/// After healing everything must be ready and equal within this time.
const HEALING: u64 = 60 * SECOND;

/// Rows of a transfer that wait for a slow joiner, and batches for a slow puller.
const AHEAD: usize = 4;

/// What happened.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) applied: u64,
    pub(crate) crashes: u64,
    pub(crate) log_cuts: u64,
    pub(crate) cuts: u64,
    pub(crate) joins: u64,
    pub(crate) relays: u64,
    pub(crate) resumes: u64,
}

impl Counts {
    /// Adds another world's.
    pub(crate) fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.applied += other.applied;
        self.crashes += other.crashes;
        self.log_cuts += other.log_cuts;
        self.cuts += other.cuts;
        self.joins += other.joins;
        self.relays += other.relays;
        self.resumes += other.resumes;
    }
}

enum Event {
    /// The driver's timer of a life.
    Poll(usize, u64),
    /// The first request or reply of a connection arrives.
    Request(u64),
    Reply(u64),
    /// The server goes on with a stream.
    Feed(u64),
    /// The master's list reaches a filer.
    Listed(usize),
    Write(usize),
    Fault,
    Start(usize),
}

pub(crate) struct World {
    pub(crate) now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    pub(crate) filers: Vec<Filer>,
    net: Net,
    pub(crate) rng: StdRng,
    pub(crate) counts: Counts,
    /// Whether the master answers, and the members it remembers.
    is_master_up: bool,
    known_members: Vec<(Origin, ServerAddress)>,
    is_over: bool,
    founders: Vec<Origin>,
    is_traced: bool,
}

/// Runs one seed to its end.
///
/// # Errors
///
/// The invariant that does not hold, in words.
pub(crate) fn run(seed: u64, is_traced: bool) -> Result<Counts, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let filers = (0..FILERS as u16)
        .map(|n| Filer::new(n, &mut rng))
        .collect();
    let mut world = World {
        now: 0,
        order: 0,
        queue: BinaryHeap::new(),
        events: BTreeMap::new(),
        filers,
        net: Net::new(FILERS),
        rng,
        counts: Counts::default(),
        is_master_up: true,
        known_members: Vec::new(),
        is_over: false,
        founders: Vec::new(),
        is_traced,
    };
    world
        .live()
        .map_err(|why| format!("at {:.3} s: {why}", world.now as f64 / 1e9))?;
    Ok(world.counts)
}

impl World {
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{:9.4} {}", self.now as f64 / 1e9, what());
        }
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order)));
        self.events.insert(self.order, event);
    }

    fn live(&mut self) -> Result<(), String> {
        for f in 0..FILERS {
            let delay = self.rng.random_range(0..2 * SECOND);
            self.at(delay, Event::Start(f));
            self.at(SECOND, Event::Listed(f));
            self.at(SECOND, Event::Write(f));
        }
        self.at(2 * SECOND, Event::Fault);
        self.until(TROUBLE)?;
        self.is_over = true;
        self.is_master_up = true;
        self.net.heal();
        for f in 0..FILERS {
            self.filers[f].frozen_until = 0;
            if self.filers[f].running.is_none() {
                self.start(f)?;
            }
        }
        let mut until = self.now;
        while until < TROUBLE + HEALING {
            until += SECOND;
            self.until(until)?;
            if check::is_level(&self.filers) {
                return check::agree(&self.filers);
            }
        }
        Err(check::why_not_level(&self.filers))
    }

    fn until(&mut self, end: u64) -> Result<(), String> {
        while let Some(Reverse((at, order))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.events.remove(&order) {
                self.happen(event)?;
            }
        }
        self.now = end;
        Ok(())
    }

    /// A frozen filer's events happen when it thaws.
    fn is_frozen(&self, f: usize) -> Option<u64> {
        let until = self.filers[f].frozen_until;
        (until > self.now).then(|| until - self.now)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let whose = match &event {
            Event::Poll(f, _) | Event::Write(f) | Event::Listed(f) => Some(*f),
            Event::Request(c) | Event::Feed(c) => self.net.connections.get(c).map(|c| c.server),
            Event::Reply(c) => self.net.connections.get(c).map(|c| c.client),
            Event::Fault | Event::Start(_) => None,
        };
        if let Some(wait) = whose.and_then(|f| self.is_frozen(f)) {
            self.at(wait, event);
            return Ok(());
        }
        if let Some(f) = whose {
            self.filers[f].tick(self.now);
        }
        match event {
            Event::Poll(f, life) => self.poll_event(f, life),
            Event::Request(c) => self.request(c),
            Event::Reply(c) => self.reply(c),
            Event::Feed(c) => self.feed(c),
            Event::Listed(f) => self.listed(f),
            Event::Write(f) => self.write(f),
            Event::Fault => self.fault(),
            Event::Start(f) => self.start(f),
        }
    }

    fn start(&mut self, f: usize) -> Result<(), String> {
        if self.filers[f].running.is_some() {
            return Ok(());
        }
        self.filers[f].start(self.now, &mut self.rng)?;
        self.trace(|| {
            let origin = self.filers[f].running.as_ref().map(Running::origin);
            format!(
                "filer {f} starts as {origin:?} at port {}",
                self.filers[f].port
            )
        });
        let life = self.filers[f].life;
        self.at(0, Event::Poll(f, life));
        self.at(50 * MS, Event::Listed(f));
        Ok(())
    }

    fn write(&mut self, f: usize) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        let delay = self.rng.random_range(10 * MS..400 * MS);
        self.at(delay, Event::Write(f));
        if !self.filers[f].is_ready() {
            return Ok(());
        }
        let group = workload::group(&mut self.rng);
        let filer = &mut self.filers[f];
        let Some(running) = &mut filer.running else {
            return Ok(());
        };
        for commit in running.replica.commit(group).into_iter().flatten() {
            if commit.stamp <= running.watermark {
                let mark = running.watermark;
                return Err(format!(
                    "I8: own change at {} below the watermark {mark}",
                    commit.stamp
                ));
            }
            filer.acknowledged = commit.stamp;
            self.counts.writes += 1;
        }
        Ok(())
    }

    fn listed(&mut self, f: usize) -> Result<(), String> {
        let delay = self.rng.random_range(500 * MS..2 * SECOND);
        self.at(delay, Event::Listed(f));
        if !self.is_master_up {
            return Ok(());
        }
        let up = self.filers.iter().filter(|filer| filer.running.is_some());
        let mut filers: Vec<_> = up.map(|filer| address(filer.port)).collect();
        filers.sort();
        let listing = Listing {
            filers,
            known_members: self.known_members.clone(),
        };
        let now = self.now;
        if let Some(running) = &mut self.filers[f].running {
            running.with(now, |core, since, _| core.listed(since, listing))?;
            // Filers report the members they know; the master never forgets one.
            for member in running.members()? {
                if !self.known_members.contains(&member) {
                    self.known_members.push(member);
                }
            }
        }
        Ok(())
    }

    fn poll_event(&mut self, f: usize, life: u64) -> Result<(), String> {
        if self.filers[f].life != life || self.filers[f].running.is_none() {
            return Ok(());
        }
        self.at(100 * MS, Event::Poll(f, life));
        self.poll(f)?;
        let now = self.now;
        if let Some(running) = self.filers[f].running.as_mut() {
            self.counts.log_cuts += u64::from(running.in_background(now)?);
        }
        // Subscribers are served by filers that are ready.
        let is_ready = self.filers[f].is_ready();
        if let Some(running) = self.filers[f].running.as_mut().filter(|_| is_ready) {
            running.tell_watermark(now)?;
        }
        check::stability(&mut self.filers, f, now)
    }

    fn poll(&mut self, f: usize) -> Result<(), String> {
        let now = self.now;
        loop {
            let Some(running) = &mut self.filers[f].running else {
                return Ok(());
            };
            let actions = running.with(now, |core, since, view| core.poll(since, view))?;
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                self.carry_out(f, action)?;
            }
        }
    }

    fn carry_out(&mut self, f: usize, action: Action) -> Result<(), String> {
        self.trace(|| format!("filer {f}: {action:?}"));
        match action {
            Action::Greet { link, address } => self.greet(f, link, &address),
            Action::Pull {
                stream,
                link,
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
                    Request::Pull { is_once },
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
            Action::Found => self.found(f),
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

    fn found(&mut self, f: usize) -> Result<(), String> {
        let now = self.now;
        let address = address(self.filers[f].port);
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let member = running.origin();
        if !self.is_master_up {
            let result = Err("the master does not answer".to_owned());
            return running.with(now, |core, since, _| core.founded(since, result));
        }
        self.known_members.push((member, address.clone()));
        // Now and then it dies in between.
        if self.rng.random_bool(0.1) {
            self.kill(f);
            return Ok(());
        }
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let address = address.to_string();
        let result = running.replica.member(MemberStep::Join { member, address });
        let result = result.map(drop).map_err(|e| e.to_string());
        running.with(now, |core, since, _| core.founded(since, result))?;
        self.founders.push(member);
        if self.founders.len() > 1 {
            return Err(format!("two filers founded a cluster: {:?}", self.founders));
        }
        Ok(())
    }

    fn greet(&mut self, f: usize, link: LinkId, to: &ServerAddress) -> Result<(), String> {
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

    fn refuse(&mut self, f: usize, link: LinkId) -> Result<(), String> {
        let now = self.now;
        if let Some(running) = &mut self.filers[f].running {
            let refused = Err(Refusal::Broken("connection refused".to_owned()));
            running.with(now, |core, since, _| core.greeted(since, link, refused))?;
        }
        Ok(())
    }

    /// A call over the connection of a link that was greeted.
    fn call(
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

    fn connect(&mut self, f: usize, server: usize, kind: Kind, cursor: Cursor, request: Request) {
        let is_once = matches!(request, Request::Pull { is_once: true });
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
            export: None,
        });
        let delay = self.delay();
        self.at(delay, Event::Request(id));
    }

    fn delay(&mut self) -> u64 {
        if self.rng.random_bool(0.02) {
            self.rng.random_range(MS..800 * MS)
        } else {
            self.rng.random_range(MS / 10..5 * MS)
        }
    }

    /// The call came to nothing: the caller is told.
    fn fail(&mut self, f: usize, kind: Kind, why: &str) -> Result<(), String> {
        let now = self.now;
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        running.with(now, |core, since, _| match kind {
            Kind::Greet(link) => core.greeted(since, link, Err(Refusal::Broken(why.to_owned()))),
            Kind::Pull(stream) => core.ended(since, stream, Some(why.to_owned())),
            Kind::Join(stream) => core.joined(stream, Err(why.to_owned())),
        })
    }

    fn push_reply(&mut self, c: u64, reply: Reply) {
        let delay = self.delay();
        if let Some(connection) = self.net.connections.get_mut(&c) {
            connection.replies.push_back(reply);
            self.at(delay, Event::Reply(c));
        }
    }

    fn request(&mut self, c: u64) -> Result<(), String> {
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let (client, server) = (connection.client, connection.server);
        if self.net.is_cut[client][server] {
            self.at(50 * MS, Event::Request(c));
            return Ok(());
        }
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
                running.with(now, |core, since, _| {
                    core.called_by(since, origin, &address)
                })?;
                let hello = hello(running);
                self.push_reply(c, Reply::Hello(hello));
                self.poll(server)
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
        }
    }

    fn serve_join(
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
        if !running
            .members()?
            .iter()
            .any(|(origin, _)| *origin == joiner)
        {
            let step = MemberStep::Join {
                member: joiner,
                address: address.to_string(),
            };
            running
                .replica
                .member(step)
                .map_err(|e| format!("join: {e}"))?;
        }
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
    fn feed(&mut self, c: u64) -> Result<(), String> {
        let bytes = self.rng.random_range(100..20_000);
        let part_rows = self.rng.random_range(1..6);
        // A transfer is short here: without this few are interrupted.
        let is_interrupted = self.rng.random_bool(0.03) && !self.is_over;
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let server = connection.server;
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
                self.push_reply(c, Reply::Broken(why));
                return Ok(());
            }
        };
        let is_idle = changes.is_empty();
        if is_idle && connection.is_once {
            self.push_reply(c, Reply::End);
            return Ok(());
        }
        if running.shared().needs_ceiling() {
            running
                .replica
                .raise_ceiling()
                .map_err(|e| format!("ceiling: {e}"))?;
        }
        let known = convert::known(&running.core.known());
        let beat = feed::heartbeat(&running.shared(), known, false);
        self.push_reply(c, Reply::Batch(changes, Box::new(beat)));
        let pause = if is_idle { 60 * MS } else { MS };
        self.at(pause, Event::Feed(c));
        Ok(())
    }

    fn reply(&mut self, c: u64) -> Result<(), String> {
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return Ok(());
        };
        let (client, server) = (connection.client, connection.server);
        if self.net.is_cut[server][client] {
            self.at(50 * MS, Event::Reply(c));
            return Ok(());
        }
        let Some(reply) = connection.replies.pop_front() else {
            return Ok(());
        };
        let kind = connection.kind;
        if connection.client_life != self.filers[client].life {
            self.net.connections.remove(&c);
            return Ok(());
        }
        if matches!(reply, Reply::Broken(_) | Reply::End) {
            self.net.connections.remove(&c);
        }
        self.take(client, kind, reply)?;
        self.poll(client)
    }

    fn take(&mut self, f: usize, kind: Kind, reply: Reply) -> Result<(), String> {
        let now = self.now;
        match (kind, reply) {
            (_, Reply::Broken(why)) => self.fail(f, kind, &why),
            (Kind::Greet(link), Reply::Hello(greeting)) => {
                let Some(running) = &mut self.filers[f].running else {
                    return Ok(());
                };
                running.with(now, |core, since, _| {
                    core.greeted(since, link, Ok(greeting))
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
            _ => Err("a reply of another kind".to_owned()),
        }
    }

    fn take_batch(
        &mut self,
        f: usize,
        stream: StreamId,
        changes: &[bytes::Bytes],
        beat: &dulse_proto::replication::Heartbeat,
    ) -> Result<(), String> {
        let now = self.now;
        self.trace(|| {
            format!(
                "filer {f} takes {} changes of {stream:?}, {beat:?}",
                changes.len()
            )
        });
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let applied = running
            .replica
            .apply_remote(changes)
            .map_err(|e| format!("apply: {e}"))?;
        check::above_watermark(running, changes, &applied)?;
        let n_now = applied
            .iter()
            .filter(|a| **a == dulse_replica::Applied::Now)
            .count();
        self.counts.applied += n_now as u64;
        let outcome = Outcome::of(&applied);
        if let Outcome::Stuck(why) | Outcome::Cut(why) = &outcome {
            return Err(format!("I9: a change could not be applied: {why}"));
        }
        let is_well = outcome == Outcome::Applied;
        let statement = convert::statement(beat);
        let known = convert::addresses(&beat.known);
        check::same_digest(running, beat)?;
        running.with(now, |core, since, _| {
            core.applied(since, stream, outcome);
            if is_well {
                core.heard(since, stream, statement, &known);
            }
        })
    }

    fn take_part(
        &mut self,
        f: usize,
        stream: StreamId,
        begins: Option<Begins>,
        (part, kept): (ExportPart, Vec<bytes::Bytes>),
        is_last: bool,
    ) -> Result<(), String> {
        let now = self.now;
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let replica = &mut running.replica;
        let taken = match begins {
            Some(begins) if begins.is_resumed => replica.resume_import(begins.vector),
            Some(begins) => replica.begin_import(begins.vector),
            None if is_last => replica.finish_import(),
            None => replica
                .import(part)
                .and_then(|()| replica.import_kept(&kept)),
        };
        taken.map_err(|e| format!("import: {e}"))?;
        if is_last {
            self.counts.joins += 1;
        }
        running.with(now, |core, since, _| {
            if is_last {
                core.joined(stream, Ok(()));
            } else {
                core.progressed(since, stream);
            }
        })
    }

    fn fault(&mut self) -> Result<(), String> {
        if self.is_over {
            return Ok(());
        }
        let delay = self.rng.random_range(50 * MS..2 * SECOND);
        self.at(delay, Event::Fault);
        let (a, b) = (
            self.rng.random_range(0..FILERS),
            self.rng.random_range(0..FILERS),
        );
        let fault = self.rng.random_range(0..100);
        self.trace(|| format!("fault {fault} at {a}, {b}"));
        match fault {
            0..=24 => self.kill(a),
            25..=29 => self.wipe(a),
            30..=54 => {
                self.net.is_cut[a][b] = a != b;
                if self.rng.random_bool(0.5) {
                    self.net.is_cut[b][a] = a != b;
                }
                self.counts.cuts += 1;
            }
            55..=74 => self.net.heal(),
            75..=84 => {
                self.filers[a].frozen_until = self.now + self.rng.random_range(0..15 * SECOND);
            }
            85..=92 => {
                let jump = self.rng.random_range(-400_000_000..400_000_000);
                self.filers[a].jump(jump);
            }
            _ => self.is_master_up = !self.is_master_up,
        }
        Ok(())
    }

    fn kill(&mut self, f: usize) {
        if self.filers[f].running.is_none() {
            return;
        }
        self.counts.crashes += 1;
        self.filers[f].crash(&mut self.rng);
        self.after_death(f);
    }

    /// An empty machine in its place; only while another has all it had, or what it alone had
    /// would be lost by the operator's hand and not ours.
    fn wipe(&mut self, f: usize) {
        let Some(running) = &self.filers[f].running else {
            return;
        };
        let own = running.shared().vector();
        // A founder that was reported and lost before it began takes an operator's word.
        if own.is_empty() {
            return;
        }
        let others = self
            .filers
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != f);
        let mut held = others.filter_map(|(_, filer)| filer.running.as_ref());
        if !held.any(|other| other.shared().durable_vector().includes(&own)) {
            return;
        }
        self.filers[f].wipe(&mut self.rng);
        self.after_death(f);
    }

    /// Its connections are reset; it comes back later, sometimes somewhere else, sometimes
    /// where another was.
    fn after_death(&mut self, f: usize) {
        let calls: Vec<u64> = self
            .net
            .connections
            .iter()
            .filter(|(_, c)| c.server == f)
            .map(|(id, _)| *id)
            .collect();
        for id in calls {
            self.push_reply(id, Reply::Broken("connection reset".to_owned()));
        }
        self.net.connections.retain(|_, c| c.client != f);
        if self.rng.random_bool(0.2) {
            self.filers[f].port = self.free_port();
        } else if self.rng.random_bool(0.1)
            && let Some(other) = (0..FILERS).find(|o| *o != f && self.filers[*o].running.is_none())
        {
            let port = self.filers[other].port;
            self.filers[other].port = self.filers[f].port;
            self.filers[f].port = port;
        }
        let delay = self.rng.random_range(10 * MS..5 * SECOND);
        self.at(delay, Event::Start(f));
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.rng.random_range(1_000..1_020);
            if self.filers.iter().all(|filer| filer.port != port) {
                return port;
            }
        }
    }
}

fn hello(running: &Running) -> Greeting {
    let shared = running.shared();
    Greeting {
        origin: shared.origin(),
        instance: running.instance,
        is_fresh: shared.is_fresh(),
        vector: shared.vector(),
    }
}
