// SPDX-License-Identifier: Apache-2.0
//! What must hold, while things happen and when they are quiet: one file for each invariant.

mod clock;
mod expired;
mod i01;
mod i02;
mod i03;
mod i04;
mod i05;
mod i06;
mod i07;
mod i08;
mod i09;
mod i10;
mod i11;
mod i12;
mod one_founder;
mod one_writer;

use std::fmt::Write;

use bytes::Bytes;
use dulse_proto::replication::Heartbeat;
use dulse_replica::Applied;
use dulse_replication::core::Outcome;
use dulse_store::{Commit, Error, Transaction};
use dulse_types::{FileId, Origin};

use crate::filer::Filer;
use crate::world::World;

/// What a checker is shown, right after it happened.
pub(crate) enum Seen<'a> {
    /// A filer opened its store and runs.
    Started(usize),
    /// Its machine is gone, and an empty one is in its place; who it was.
    Lost(Origin),
    /// A copy of the store of this origin was put on a disk.
    Restored(Origin),
    /// It left its cluster and is about to end.
    Left(usize),
    /// It founded the cluster.
    Founded(Origin),
    /// Clients' transactions were answered.
    Committed {
        filer: usize,
        group: &'a [Transaction],
        results: &'a [Result<Commit, Error>],
    },
    /// Changes of a peer were handed to a filer.
    Applied {
        filer: usize,
        changes: &'a [Bytes],
        results: &'a [Applied],
        outcome: &'a Outcome,
    },
    /// A filer freed chunks on the volume servers.
    Freed(&'a [FileId]),
    /// A heartbeat arrived.
    Heard { filer: usize, beat: &'a Heartbeat },
    /// A filer did what it does each 100 ms: sync, forget, cut the log, tell subscribers.
    Turned(usize),
}

/// One invariant.
pub(crate) trait Check {
    /// Its name, for reports.
    fn name(&self) -> &'static str;

    /// Something happened.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn saw(&mut self, _world: &World, _seen: &Seen<'_>) -> Result<(), String> {
        Ok(())
    }

    /// All filers are ready and have the same changes, and nothing is under way.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn at_rest(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }

    /// It has been quiet for so long that all is stable and every grace is over.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn at_end(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

/// A checker of each kind, for one world.
pub(crate) fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(i01::Agreement),
        Box::new(i02::Durability::default()),
        Box::new(i03::Applied),
        Box::new(i04::StaysDeleted),
        Box::new(i05::Tree),
        Box::new(i06::OnePath),
        Box::new(i07::Chunks::default()),
        Box::new(i08::Watching::default()),
        Box::new(i09::NothingSkipped),
        Box::new(i10::ReadYourWrites),
        Box::new(i11::Budgets),
        Box::new(i12::AtMostOnce::default()),
        Box::new(expired::Expired),
        Box::new(clock::Clocks::default()),
        Box::new(one_founder::OneFounder::default()),
        Box::new(one_writer::OneWriter::default()),
    ]
}

/// Whether any filer holds an origin for a member no more, or will once it runs again.
pub(crate) fn is_gone(world: &World, origin: Origin) -> bool {
    if world.shut_out.contains(&origin) {
        return true;
    }
    let running = world.filers.iter().filter_map(|f| f.running.as_ref());
    let mut memberships = running.filter_map(|r| r.membership().ok());
    memberships.any(|m| m.gone.iter().any(|gone| gone.origin == origin))
}

/// Whether all are ready and have the same changes, and no tree change is under way.
pub(crate) fn is_level(filers: &[Filer]) -> bool {
    let vectors: Vec<_> = filers
        .iter()
        .filter_map(|f| f.running.as_ref().map(|r| r.shared().vector()))
        .collect();
    let mut running = filers.iter().filter_map(|f| f.running.as_ref());
    filers.iter().all(Filer::is_ready)
        && running.all(|r| r.shared().trees().is_empty())
        && vectors.len() == filers.len()
        && vectors.windows(2).all(|w| w[0] == w[1])
}

/// What keeps them apart, in words.
pub(crate) fn why_not_level(filers: &[Filer]) -> String {
    let mut why = "no progress after healing:".to_owned();
    for (n, filer) in filers.iter().enumerate() {
        let Some(running) = &filer.running else {
            continue;
        };
        let vector = running.shared().vector();
        let phase = running.core.phase();
        // Writing to a string cannot fail.
        let _ = write!(
            why,
            "\n  filer {n} {:?} {phase:?} {vector}",
            running.core.not_ready()
        );
        for tree in running.shared().trees() {
            let _ = write!(why, "\n    {tree:?}");
        }
        for peer in running.core.peers(&vector) {
            let _ = write!(why, "\n    {peer:?}");
        }
    }
    why
}
