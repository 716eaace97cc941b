// SPDX-License-Identifier: Apache-2.0
//! Filers free chunks, and ask one another which are freed: the real decisions, and the real
//! questions and answers. Manifests are read and deleted in the order that the product keeps.

use std::collections::{BTreeMap, BTreeSet};

use dulse_merge::holders::Resolving;
use dulse_proto::replication::{FreedReply, FreedRequest};
use dulse_replica::{ASKED_MAX, Garbage, share};
use dulse_replication::core::Phase;
use dulse_replication::feed::Cursor;
use dulse_replication::{convert, freed};
use dulse_types::{FileId, Identity, Origin, Stamp, Vector};
use rand::Rng;

use crate::SECOND;
use crate::checks::Seen;
use crate::filer::address;
use crate::net::{Kind, Reply, Request};
use crate::world::World;

/// How long an answer may take.
const ANSWER_TIME_MAX: u64 = 5 * SECOND;

/// How often reading manifests takes a while, and how often a process dies between two deletes.
const SLOW: f64 = 0.4;
const DIES: f64 = 0.03;

/// Of each inode with manifests whose dropped chunks are due, what is read of it so far.
pub(crate) type Looks = BTreeMap<Identity, Look>;

/// One look at an inode's dropped chunks.
pub(crate) struct Look {
    rows: Vec<Garbage>,
    resolving: Resolving,
}

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
        let plain: Vec<FileId> = shares.free.iter().map(|g| g.chunk).collect();
        let mut freed = self.volumes.delete(&plain);
        for garbage in &shares.free {
            let why = [garbage.cause, garbage.winner];
            self.volumes.dropped.insert(garbage.chunk, why);
        }
        let is_freed = |row: &Garbage| freed.contains(&row.chunk);
        let mut done = shares.forget;
        done.extend(shares.free.into_iter().filter(is_freed));
        let mut is_dying = !freed.is_empty() && !self.is_over && self.rng.random_bool(0.05);
        for (inode, rows) in shares.resolve {
            if is_dying {
                break;
            }
            let (gone, forgotten) = self.look(f, inode, rows, &aged)?;
            is_dying = forgotten.is_none();
            freed.extend(gone);
            done.extend(forgotten.unwrap_or_default());
        }
        self.say(|| format!("filer {f} frees {freed:?}, forgets {done:?}"));
        if !freed.is_empty() {
            freed.iter().for_each(|id| self.trace.note(&[id.key]));
            self.counts.freed += freed.len() as u64;
            self.show(&Seen::Freed(&freed))?;
        }
        if is_dying {
            return self.kill(f);
        }
        self.tolerate(f, |running| running.replica.garbage_freed(&done))?;
        for (asked, mut rows) in shares.asked {
            rows.truncate(ASKED_MAX);
            self.ask_freed(f, asked, &aged, rows);
        }
        Ok(())
    }

    /// Goes on with what an inode dropped that has manifests: what was deleted, and which rows
    /// are to be forgotten, none when the process dies in the middle.
    fn look(
        &mut self,
        f: usize,
        inode: Identity,
        rows: Vec<Garbage>,
        aged: &Vector,
    ) -> Result<(Vec<FileId>, Option<Vec<Garbage>>), String> {
        let nothing = || Ok((Vec::new(), Some(Vec::new())));
        let Some(running) = &mut self.filers[f].running else {
            return nothing();
        };
        let shared = running.shared();
        let mut look = match running.looks.remove(&inode) {
            Some(look) => look,
            None => {
                let resolving = shared.resolving(&rows, aged);
                let resolving = resolving.map_err(|e| format!("dropped chunks: {e}"))?;
                Look { rows, resolving }
            }
        };
        while let Some(manifest) = look.resolving.wanted() {
            // What happens meanwhile must change nothing.
            if !self.is_over && self.rng.random_bool(SLOW) {
                running.looks.insert(inode, look);
                return nothing();
            }
            let Some(listing) = self.volumes.read(manifest) else {
                self.counts.unreadable += 1;
                return nothing();
            };
            let read = shared.listed(&mut look.resolving, listing);
            if !read.map_err(|e| format!("what a manifest lists: {e}"))? {
                return nothing();
            }
        }
        let verdict = look.resolving.finish();
        self.counts.looks += 1;
        let mut gone: BTreeSet<FileId> = verdict.held.iter().copied().collect();
        let mut deleted = Vec::new();
        let (listed, rows) = (verdict.listed.len(), look.rows);
        let parts = [verdict.free].into_iter().chain(verdict.listed);
        let parts: Vec<_> = parts.chain([verdict.manifests]).collect();
        // What a manifest lists goes with it, so what dropped one of those is why.
        if let Some(why) = rows.iter().map(|row| [row.cause, row.winner]).max() {
            let all = parts.iter().flatten().map(|id| (*id, why));
            self.volumes.dropped.extend(all);
        }
        for (n, part) in parts.into_iter().enumerate() {
            if !part.is_empty() && !self.is_over && self.rng.random_bool(DIES) {
                let n = self.rng.random_range(0..=part.len());
                deleted.extend(self.volumes.delete(&part[..n]));
                return Ok((deleted, None));
            }
            let now = self.volumes.delete(&part);
            let is_whole = now.len() == part.len();
            deleted.extend(&now);
            if (1..=listed).contains(&n) {
                self.counts.listed += now.len() as u64;
                if !is_whole {
                    break;
                }
            } else {
                gone.extend(now);
            }
        }
        let done = rows.into_iter().filter(|row| gone.contains(&row.chunk));
        Ok((deleted, Some(done.collect())))
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
