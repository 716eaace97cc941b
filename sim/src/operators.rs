// SPDX-License-Identifier: Apache-2.0
//! What operators do, and when: one thing after the other, as `docs/operations.md` asks them to.

use dulse_types::Vector;

use crate::world::World;

/// Whether operators put back and copy disks, take members away and have them leave.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Operators {
    /// Nothing of that happens.
    None,
    /// They do one thing while all is well, and the next one when that is over: when every filer
    /// runs and is ready, all reach each other, and what there was then has arrived everywhere.
    /// Where a disk was put back or copied, links hold until then.
    #[default]
    InTurn,
    /// They do what they like at any moment, also while what they did before is under way.
    AtWill,
}

/// Where the last act is.
#[derive(Clone, Default, Debug)]
pub(crate) enum Acts {
    /// Nothing is under way.
    #[default]
    Over,
    /// Something was done, and not all is well yet.
    UnderWay,
    /// All was well, and had this: it is over when everybody has it.
    Arriving(Vector),
}

impl World {
    /// Whether an operator may do the next thing now, to this filer; then that is under way.
    pub(crate) fn may_act(&mut self, whom: usize, is_of_disks: bool) -> bool {
        let may = match self.options.operators {
            Operators::None => false,
            Operators::AtWill => true,
            Operators::InTurn => self.is_well(Some(whom)) && self.is_last_over(),
        };
        if may {
            self.acts = Acts::UnderWay;
            self.is_disk_act = is_of_disks;
        }
        may
    }

    /// Whether links must hold: a store was put back or copied where the others can be reached.
    pub(crate) fn must_links_hold(&mut self) -> bool {
        let is_in_turn = self.options.operators == Operators::InTurn;
        let must = is_in_turn && self.is_disk_act && !self.is_last_over();
        self.is_disk_act &= must;
        must
    }

    /// Looks at all filers as `dulse status` does.
    fn is_last_over(&mut self) -> bool {
        match std::mem::take(&mut self.acts) {
            Acts::Over => true,
            acts if !self.is_well(None) => {
                self.acts = acts;
                false
            }
            Acts::UnderWay => {
                let mut all = Vector::new();
                for running in self.filers.iter().filter_map(|f| f.running.as_ref()) {
                    all.merge_max(&running.shared().vector());
                }
                self.acts = Acts::Arriving(all);
                false
            }
            Acts::Arriving(all) => {
                let mut running = self.filers.iter().filter_map(|f| f.running.as_ref());
                let is_over = running.all(|r| r.shared().durable_vector().includes(&all));
                if !is_over {
                    self.acts = Acts::Arriving(all);
                }
                is_over
            }
        }
    }

    /// Whether every filer that has begun, but this one, runs, is ready and reaches the others.
    fn is_well(&self, but: Option<usize>) -> bool {
        let begun = self.filers.iter().enumerate().filter(|(_, f)| f.life > 0);
        let mut others = begun.filter(|(n, _)| Some(*n) != but);
        let is_there = others.all(|(_, f)| f.is_ready() && f.frozen_until <= self.now);
        let mut links = self.net.is_cut.iter().flatten();
        let mut losses = self.net.loss.iter().flatten();
        let do_links_hold = links.all(|is_cut| !is_cut) && losses.all(|loss| *loss == 0.0);
        is_there && do_links_hold && self.master.is_up
    }
}
