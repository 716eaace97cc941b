// SPDX-License-Identifier: Apache-2.0
//! Members that are shut out.

use bytes::Bytes;
use dulse_merge::{Change, MemberStep};
use dulse_replica::{Applied, Renewal};
use dulse_replication::core::Outcome;
use dulse_types::{Origin, Stamp, Vector};

use crate::MS;
use crate::checks::Seen;
use crate::filer::Running;
use crate::net::Kind;
use crate::queue::Event;
use crate::world::World;

impl World {
    /// A filer prepares its store for a new origin, and its process begins again.
    pub(crate) fn renew(
        &mut self,
        f: usize,
        mut renewal: Renewal,
        behind: Option<Stamp>,
    ) -> Result<(), String> {
        let own = self.filers[f].running.as_ref().map(Running::origin);
        let (known, is_in_use) = (&mut renewal.known, renewal.is_in_use);
        if let (Some(own), Some(behind)) = (own, behind)
            && let Some(common) = self.parted_at(f, own, behind)?
        {
            let known_now = known.get(own);
            known.set(own, known_now.map_or(common, |known| common.min(known)));
        }
        self.say(|| {
            let Renewal {
                known, of_thirds, ..
            } = &renewal;
            format!("filer {f} takes a new origin, others have {known}and {of_thirds}")
        });
        if let (Some(own), true) = (own, is_in_use)
            && renewal.known.get(own) < self.own_stamp(f)
        {
            // What it wrote comes again under the new one; the copy goes on without.
            self.parted.insert(own);
            self.doubt(own);
        }
        let Some(n_items) = self.tolerate(f, |running| running.replica.renew(&renewal))? else {
            return self.core(f, |core, since, _| {
                core.renewed(since, Err("the disk is full".to_owned()));
            });
        };
        self.say(|| format!("filer {f} set aside {n_items}"));
        self.counts.renewed += 1;
        // Of a copy another one may go on with it.
        self.given_up.extend(own.filter(|_| !is_in_use));
        self.disk_lost_at = self.now;
        self.filers[f].stop();
        self.reset_connections(f);
        self.at(10 * MS, Event::Start(f));
        Ok(())
    }

    /// Where the log of an origin that some peer has parted from the one here, which ends at
    /// `behind`. Asked over any connection that there is, without delay.
    fn parted_at(&self, f: usize, own: Origin, behind: Stamp) -> Result<Option<Stamp>, String> {
        let mut calls = self.net.connections.values();
        let call = calls.find(|c| c.client == f && matches!(c.kind, Kind::Greet(_)));
        let Some(server) = call.map(|call| call.server) else {
            return Ok(None);
        };
        let is_cut = self.net.is_cut[f][server] || self.net.is_cut[server][f];
        let Some(running) = self.filers[server].running.as_ref().filter(|_| !is_cut) else {
            return Ok(None);
        };
        let records = running.shared().changes_after(own, behind, 1);
        // What it has no more, it cannot tell.
        let Some(first) = records.ok().and_then(|records| records.into_iter().next()) else {
            return Ok(None);
        };
        let first = Change::decode(&first.payload).map_err(|e| e.to_string())?;
        Ok((first.prev < behind).then_some(first.prev))
    }

    /// Keeps who journaled a filer's join.
    pub(crate) fn note_who_admitted(&mut self, f: usize) -> Result<(), String> {
        let running = self.filers[f].running.as_ref().filter(|r| r.has_state());
        let Some(running) = running else {
            return Ok(());
        };
        let own = running.origin();
        if !self.admitted_by.contains_key(&own) {
            let joins = running.shared().joins().map_err(|e| e.to_string())?;
            let by = joins.first().map(|join| join.origin);
            self.admitted_by.extend(by.map(|by| (own, by)));
        }
        Ok(())
    }

    /// A filer that has the state again makes anew what only it had.
    pub(crate) fn make_anew(&mut self, f: usize) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let has_reissue = running.shared().has_reissue().map_err(|e| e.to_string())?;
        if !has_reissue || !running.has_state() {
            return Ok(());
        }
        let before = running.shared().vector();
        let former = running.shared().former().map_err(|e| e.to_string())?;
        self.renewed.insert(running.origin());
        let mut in_use = None;
        self.core(f, |core, since, view| {
            in_use = core.in_use(since, view, &former)
        })?;
        let Some(in_use) = in_use else {
            return Ok(());
        };
        let done = self.tolerate(f, |running| running.replica.reissue(&in_use))?;
        self.say(|| format!("filer {f} made anew {done:?}"));
        self.wrote(f);
        self.took_again(f, &before)
    }

    /// What of third filers it had kept and took in again.
    fn took_again(&mut self, f: usize, before: &Vector) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let shared = running.shared();
        let own = running.origin();
        let mut taken = Vec::new();
        for (origin, stamp) in shared.vector().iter() {
            if origin != own && stamp > before.get(origin) {
                let records = shared.changes_after(origin, before.get(origin), usize::MAX);
                taken.extend(records.map_err(|e| e.to_string())?);
            }
        }
        let changes: Vec<Bytes> = taken.into_iter().map(|record| record.payload).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.say(|| format!("filer {f} took {} changes again", changes.len()));
        let results = vec![Applied::Now; changes.len()];
        self.show(&Seen::Applied {
            filer: f,
            changes: &changes,
            results: &results,
            outcome: &Outcome::Applied,
        })
    }

    /// A filer says by a change that it runs at another place.
    pub(crate) fn appear(&mut self, f: usize) -> Result<(), String> {
        let done = self.tolerate(f, |running| running.replica.appear())?;
        if done.is_some() {
            self.wrote(f);
        }
        let result = done.map(drop).ok_or("the disk is full".to_owned());
        self.core(f, |core, since, _| core.appeared(since, result))
    }

    /// A filer journals that a member is shut out, by itself or by an operator's word.
    pub(crate) fn shut_out(
        &mut self,
        f: usize,
        member: Origin,
        is_operator: bool,
    ) -> Result<(), String> {
        self.say(|| format!("filer {f} shuts out {member}"));
        let done = self.tolerate(f, |running| {
            let cut = running.shared().vector().get(member);
            let step = match is_operator {
                true => MemberStep::Remove { member, cut },
                false => MemberStep::Fence { member, cut },
            };
            running.replica.member(step)
        });
        self.wrote(f);
        self.shut_out.extend(done?.map(|_| member));
        Ok(())
    }
}
