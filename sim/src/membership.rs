// SPDX-License-Identifier: Apache-2.0
//! Members that are shut out.

use dulse_merge::MemberStep;
use dulse_replica::{Known, Renewal};
use dulse_types::Origin;
use rand::Rng;

use crate::MS;
use crate::queue::Event;
use crate::world::World;

impl World {
    /// A filer prepares its store for a new origin, and its process begins again.
    pub(crate) fn renew(&mut self, f: usize, known: Known, is_in_use: bool) -> Result<(), String> {
        self.say(|| format!("filer {f} takes a new origin, others have {known}"));
        let random = self.rng.random();
        let renewal = Renewal {
            known,
            is_in_use,
            random,
        };
        let Some(n_items) = self.tolerate(f, |running| running.replica.renew(&renewal))? else {
            return self.core(f, |core, since, _| {
                core.renewed(since, Err("the disk is full".to_owned()));
            });
        };
        self.say(|| format!("filer {f} set aside {n_items}"));
        self.filers[f].running = None;
        self.reset_connections(f);
        self.at(10 * MS, Event::Start(f));
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
        let done = self.tolerate(f, |running| running.replica.reissue())?;
        self.say(|| format!("filer {f} made anew {done:?}"));
        Ok(())
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
        done.map(drop)
    }
}
