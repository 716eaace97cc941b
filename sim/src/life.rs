// SPDX-License-Identifier: Apache-2.0
//! Filers begin, serve writes, die, and come back, sometimes somewhere else.

use std::time::Duration;

use dulse_replication::core::{Core, View};
use dulse_store::{Commit, Error, ErrorKind, Transaction};
use rand::Rng;

use crate::checks::Seen;
use crate::filer::Running;
use crate::net::Reply;
use crate::queue::Event;
use crate::world::World;
use crate::{MS, SECOND};

impl World {
    /// Starts a filer that does not run.
    pub(crate) fn start(&mut self, f: usize) -> Result<(), String> {
        if self.filers[f].running.is_some() {
            return Ok(());
        }
        if let Err(why) = self.filers[f].start(self.now, &mut self.rng) {
            if self.filers[f].is_disk_full {
                self.say(|| format!("filer {f} does not start: {why}"));
                self.at(SECOND, Event::Start(f));
                return Ok(());
            }
            return Err(why);
        }
        self.say(|| {
            let origin = self.filers[f].running.as_ref().map(Running::origin);
            let port = self.filers[f].port;
            format!("filer {f} starts as {origin:?} at port {port}")
        });
        let life = self.filers[f].life;
        self.at(0, Event::Poll(f, life));
        self.at(50 * MS, Event::Listed(f));
        self.show(&Seen::Started(f))
    }

    /// Hands transactions to a filer; their results.
    pub(crate) fn commit(
        &mut self,
        f: usize,
        group: Vec<Transaction>,
    ) -> Result<Vec<Result<Commit, Error>>, String> {
        let Some(running) = &mut self.filers[f].running else {
            return Ok(Vec::new());
        };
        let origin = running.origin();
        let results = running.replica.commit(group.clone());
        for commit in results.iter().flatten() {
            self.counts.writes += 1;
            self.trace.note(&[commit.stamp.0.cast_unsigned()]);
        }
        self.say(|| format!("filer {f} commits {group:?}: {results:?}"));
        self.volumes.answered(&group, &results);
        self.clients.answered(origin, &group, &results);
        self.wrote(f);
        let seen = Seen::Committed {
            filer: f,
            group: &group,
            results: &results,
        };
        self.show(&seen)?;
        Ok(results)
    }

    /// Has a replica do something; `None` when it could not because its disk is full.
    pub(crate) fn tolerate<T>(
        &mut self,
        f: usize,
        act: impl FnOnce(&mut Running) -> Result<T, Error>,
    ) -> Result<Option<T>, String> {
        let filer = &mut self.filers[f];
        let Some(running) = &mut filer.running else {
            return Ok(None);
        };
        match act(running) {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                let is_excused =
                    matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Unavailable);
                // One that left or was shut out stamps nothing more.
                let own = running.origin();
                let gone = &running.membership()?.gone;
                let is_out = gone.iter().any(|gone| gone.origin == own);
                if is_excused && (filer.is_disk_full || is_out) {
                    return Ok(None);
                }
                Err(format!(
                    "filer {f}: {error}, {:?}",
                    std::error::Error::source(&error)
                ))
            }
        }
    }

    /// Has a filer's core do something.
    pub(crate) fn core(
        &mut self,
        f: usize,
        act: impl FnOnce(&mut Core, Duration, &View<'_>),
    ) -> Result<(), String> {
        let now = self.now;
        match &mut self.filers[f].running {
            Some(running) => running.with(now, act),
            None => Ok(()),
        }
    }

    /// kill -9 and power loss.
    pub(crate) fn kill(&mut self, f: usize) -> Result<(), String> {
        if self.filers[f].running.is_none() {
            return Ok(());
        }
        self.counts.crashes += 1;
        self.filers[f].crash(&mut self.rng);
        self.after_death(f);
        Ok(())
    }

    /// Its machine is replaced by an empty one.
    pub(crate) fn lose(&mut self, f: usize) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let origin = running.origin();
        self.filers[f].wipe(&mut self.rng);
        self.disk_lost_at = self.now;
        self.show(&Seen::Lost(origin))?;
        self.forget_what_is_lost();
        self.after_death(f);
        Ok(())
    }

    /// Its connections are reset; it comes back later, sometimes somewhere else, sometimes
    /// where another was.
    pub(crate) fn after_death(&mut self, f: usize) {
        self.reset_connections(f);
        if self.rng.random_bool(0.2) {
            self.filers[f].port = self.free_port();
        } else if self.rng.random_bool(0.1) {
            let others = 0..self.filers.len();
            let mut down = others.filter(|o| *o != f && self.filers[*o].running.is_none());
            if let Some(other) = down.next() {
                let port = self.filers[other].port;
                self.filers[other].port = self.filers[f].port;
                self.filers[f].port = port;
            }
        }
        let delay = self.rng.random_range(10 * MS..5 * SECOND);
        self.at(delay, Event::Start(f));
    }

    /// Whoever called it hears so, if that can be heard.
    pub(crate) fn reset_connections(&mut self, f: usize) {
        let life = self.filers[f].life;
        let connections = self.net.connections.iter();
        let calls: Vec<u64> = connections
            .filter(|(_, c)| c.server == f && c.server_life == life)
            .map(|(id, _)| *id)
            .collect();
        for id in calls {
            self.push_reply(id, Reply::Broken("connection reset".to_owned()));
        }
        self.net.connections.retain(|_, c| c.client != f);
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.rng.random_range(1_000..1_030);
            if self.filers.iter().all(|filer| filer.port != port) {
                return port;
            }
        }
    }
}
