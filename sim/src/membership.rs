// SPDX-License-Identifier: Apache-2.0
//! Members that are shut out.

use dulse_merge::MemberStep;
use dulse_types::Origin;

use crate::world::World;

impl World {
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
