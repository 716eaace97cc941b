// SPDX-License-Identifier: Apache-2.0
//! Filers free chunks, and ask one another which are freed: the real decisions, and the real
//! questions and answers.

use std::collections::BTreeMap;

use dulse_proto::replication::{FreedReply, FreedRequest};
use dulse_replica::{ASKED_MAX, Garbage, share};
use dulse_replication::core::Phase;
use dulse_replication::feed::Cursor;
use dulse_replication::{convert, freed};
use dulse_types::{FileId, Origin, Stamp, Vector};
use rand::Rng;

use crate::SECOND;
use crate::checks::Seen;
use crate::filer::address;
use crate::net::{Kind, Reply, Request};
use crate::volumes::Chunk;
use crate::world::World;

/// How long an answer may take.
const ANSWER_TIME_MAX: u64 = 5 * SECOND;

/// The questions of one process that are under way, by their numbers.
#[derive(Default)]
pub(crate) struct Asking {
    last: u64,
    open: BTreeMap<u64, Question>,
}

struct Question {
    asked: Origin,
    at: u64,
    rows: Vec<Garbage>,
}

impl World {
    /// A filer frees what it may, and now and then dies before it notes that; and asks the
    /// others for what they freed.
    pub(crate) fn collect(&mut self, f: usize) -> Result<(), String> {
        let since = self.now;
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let judged = running.judged()?;
        let aged = running.aged(since, judged);
        let shared = running.shared();
        let rows = shared.garbage(None, usize::MAX);
        let members = &running.membership()?.members;
        let live: Vec<_> = members.iter().map(|(origin, _)| *origin).collect();
        let rows = rows.map_err(|e| format!("garbage: {e}"))?;
        let shares = share(rows, &aged, shared.origin(), &live);
        if shares == dulse_replica::Share::default() {
            return Ok(());
        }
        for garbage in &shares.free {
            self.trace.note(&[garbage.chunk.key]);
            self.volumes.chunks.insert(garbage.chunk, Chunk::Freed);
            let why = [garbage.cause, garbage.winner];
            self.volumes.dropped.insert(garbage.chunk, why);
        }
        self.counts.freed += shares.free.len() as u64;
        self.say(|| format!("filer {f} frees {:?}", shares.free));
        let freed: Vec<FileId> = shares.free.iter().map(|g| g.chunk).collect();
        if !freed.is_empty() {
            self.show(&Seen::Freed(&freed))?;
            if !self.is_over && self.rng.random_bool(0.05) {
                return self.kill(f);
            }
        }
        let done: Vec<_> = shares.free.into_iter().chain(shares.forget).collect();
        self.tolerate(f, |running| running.replica.garbage_freed(&done))?;
        for (asked, mut rows) in shares.asked {
            rows.truncate(ASKED_MAX);
            self.ask_freed(f, asked, &aged, rows);
        }
        Ok(())
    }

    /// A question to whoever runs where the other was met last; one at a time.
    fn ask_freed(&mut self, f: usize, asked: Origin, covers: &Vector, rows: Vec<Garbage>) {
        let now = self.now;
        let Some(running) = &mut self.filers[f].running else {
            return;
        };
        let known = running.core.known();
        let Some((_, at)) = known.into_iter().find(|(origin, _)| *origin == asked) else {
            return;
        };
        let is_late = |question: &Question| now - question.at >= ANSWER_TIME_MAX;
        running.asking.open.retain(|_, question| !is_late(question));
        let mut open = running.asking.open.values();
        if open.any(|question| question.asked == asked) {
            return;
        }
        let request = FreedRequest {
            group: String::new(),
            asked: asked.0,
            covers: convert::positions(covers),
            chunks: freed::encode(&rows).into(),
        };
        running.asking.last += 1;
        let question = running.asking.last;
        let open = Question {
            asked,
            at: now,
            rows,
        };
        running.asking.open.insert(question, open);
        let server = self.filers.iter().position(|s| address(s.port) == at);
        let Some(server) = server.filter(|s| self.filers[*s].running.is_some()) else {
            return;
        };
        let cursor = Cursor {
            origin: asked,
            after: Stamp::ZERO,
        };
        let request = Request::Freed(request);
        self.connect(f, server, Kind::Freed(question), cursor, request);
    }

    /// What the service answers.
    pub(crate) fn serve_freed(
        &mut self,
        c: u64,
        server: usize,
        request: &FreedRequest,
    ) -> Result<(), String> {
        let Some(running) = &self.filers[server].running else {
            return Ok(());
        };
        if running.origin().0 != request.asked || *running.core.phase() != Phase::Ready {
            self.push_reply(c, Reply::Broken("another one, or not ready".to_owned()));
            return Ok(());
        }
        let chunks = freed::decode(&request.chunks)?;
        let covers = convert::vector(&request.covers);
        let freed = running.shared().freed(&covers, &chunks);
        let freed = freed.map_err(|e| format!("freed: {e}"))?;
        let freed = freed.into_iter().map(|at| at as u32).collect();
        self.push_reply(c, Reply::Freed(FreedReply { freed }));
        Ok(())
    }

    /// The rows of what was freed go.
    pub(crate) fn told_freed(
        &mut self,
        f: usize,
        question: u64,
        reply: &FreedReply,
    ) -> Result<(), String> {
        let Some(running) = &mut self.filers[f].running else {
            return Ok(());
        };
        let Some(question) = running.asking.open.remove(&question) else {
            return Ok(());
        };
        let done = freed::told(reply, &question.rows);
        self.trace.note(&[done.len() as u64]);
        self.counts.told_freed += done.len() as u64;
        self.tolerate(f, |running| running.replica.garbage_freed(&done))?;
        Ok(())
    }
}
