// SPDX-License-Identifier: Apache-2.0
//! Losses of this replica's own writes on which it has not said its verdict yet, because
//! verdicts are held ([`crate::shared::Shared::hold_verdicts`]).
//!
//! ⚠ While there are any, what caused them is not acknowledged: others take an
//! acknowledgement for the word that the verdict is in the log, and let go of their own note of
//! the loss and of the chunks that it keeps. Were this machine lost then, whoever judges in its
//! place would record a loss whose content is freed.

use dulse_merge::keys::Space;
use dulse_merge::txn::Losses;
use dulse_merge::{Txn, conflict};
use dulse_store::{Error, Operation};
use dulse_types::{Identity, Origin, Stamp, Vector};

use crate::error;

/// Rows looked at by one scan at the opening.
const ROWS_MAX: usize = 1_024;

/// What others must not take for acknowledged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Unsaid {
    /// Of each origin the first change that caused a loss.
    causes: Vector,
    /// The verdicts are in the log, up to this stamp of this replica; not on disk yet.
    said: Option<Stamp>,
}

impl Unsaid {
    /// Notes what caused one more loss of `own`.
    fn note(&mut self, own: Origin, cause: &Vector) {
        self.said = None;
        for (origin, stamp) in cause.iter().filter(|(origin, _)| *origin != own) {
            let first = self.causes.get(origin);
            if first == Stamp::ZERO || stamp < first {
                self.causes.set(origin, stamp);
            }
        }
    }

    /// All verdicts are in the log, up to this stamp of this replica.
    pub(crate) fn said(&mut self, up_to: Stamp) {
        self.said = Some(up_to);
    }

    /// What of `durable` may be acknowledged.
    pub(crate) fn bound(&mut self, own: Origin, mut durable: Vector) -> Vector {
        if self.said.is_some_and(|said| durable.get(own) >= said) {
            *self = Self::default();
        }
        for (origin, first) in self.causes.iter() {
            if durable.get(origin) >= first {
                durable.set(origin, Stamp(first.0 - 1));
            }
        }
        durable
    }
}

/// Up to where this replica has said what it had to say of losses, for freeing chunks.
///
/// ⚠ A pending loss may still become a record that names what was lost, though another filer
/// takes it for settled and knows no reason to keep that: whoever has the row may not have heard
/// what the judge acknowledged before it was lost, or has come after that. So a pending row
/// anywhere holds back what was dropped after the write that it is about.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Judged {
    vector: Vector,
    /// What a look found, and the last stamp of this replica then: what was said in it must be
    /// on disk first, so that it is sent before.
    found: Option<(Vector, Stamp)>,
}

impl Judged {
    /// A look at all conflicts is over.
    ///
    /// - `durable`: what was on disk when it began. Rows that are noted since are about changes
    ///   behind it.
    /// - `first`: the earliest write that lost and is pending.
    pub(crate) fn looked(&mut self, durable: Vector, first: Option<Stamp>, applied: Stamp) {
        let bound = first.map_or(i64::MAX, |first| first.0 - 1);
        let found = durable
            .iter()
            .map(|(o, stamp)| (o, Stamp(stamp.0.min(bound))));
        self.found = Some((found.collect(), applied));
    }

    /// What may be told.
    pub(crate) fn told(&mut self, durable: Stamp) -> Vector {
        if let Some((vector, _)) = self.found.take_if(|(_, applied)| durable >= *applied) {
            self.vector = vector;
        }
        self.vector.clone()
    }
}

/// Notes those of `losses` that `own` is to judge.
///
/// # Errors
///
/// `Corrupt`, `Io`.
pub(crate) fn note(
    txn: &Txn<'_>,
    own: Origin,
    losses: &Losses,
    unsaid: &mut Unsaid,
) -> Result<(), Error> {
    for id in losses.lost.iter().filter(|id| id.origin == own) {
        let row = txn.conflict(*id);
        let row = row.map_err(|e| error::read(Operation::Apply, e))?;
        if let Some(row) = row.filter(dulse_merge::ConflictRow::is_pending) {
            unsaid.note(own, &row.cause);
        }
    }
    Ok(())
}

/// What the process before this one had not said. A pending loss of an own write is one: while
/// verdicts are not held, they are in the append of what causes them.
///
/// # Errors
///
/// `Corrupt`, `Io`.
pub(crate) fn load(txn: &Txn<'_>, own: Origin) -> Result<(Losses, Unsaid), Error> {
    let (mut losses, mut unsaid) = (Losses::default(), Unsaid::default());
    let mut from = Some(Space::Conflicts.range().0);
    while let Some(first) = from.take() {
        let look = conflict::conflicts(txn, &first, ROWS_MAX);
        let look = look.map_err(|e| error::read(Operation::Open, e))?;
        let is_own = |id: &Identity| id.origin == own;
        let found = look.found.iter().filter(|kept| kept.row.is_pending());
        losses.lost.extend(found.map(|kept| kept.id).filter(is_own));
        from = look.next;
    }
    note(txn, own, &losses, &mut unsaid)?;
    Ok((losses, unsaid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Origin = Origin(1);
    const PEER: Origin = Origin(2);

    fn vector(own: i64, peer: i64) -> Vector {
        [(OWN, Stamp(own)), (PEER, Stamp(peer))]
            .into_iter()
            .collect()
    }

    #[test]
    fn what_is_judged_is_told_once_it_is_on_disk() {
        let mut judged = Judged::default();
        judged.looked(vector(5, 9), None, Stamp(7));
        assert!(judged.told(Stamp(6)).is_empty());
        assert_eq!(judged.told(Stamp(7)), vector(5, 9));
        judged.looked(vector(9, 12), Some(Stamp(4)), Stamp(9));
        assert_eq!(judged.told(Stamp(8)), vector(5, 9), "as before");
        assert_eq!(judged.told(Stamp(9)), vector(3, 3));
    }

    #[test]
    fn a_cause_is_acknowledged_once_its_verdict_is_on_disk() {
        let mut unsaid = Unsaid::default();
        unsaid.note(OWN, &vector(3, 8));
        unsaid.note(OWN, &vector(3, 9));
        assert_eq!(unsaid.bound(OWN, vector(5, 7)), vector(5, 7));
        assert_eq!(unsaid.bound(OWN, vector(5, 10)), vector(5, 7));
        unsaid.said(Stamp(6));
        assert_eq!(unsaid.bound(OWN, vector(5, 10)), vector(5, 7));
        assert_eq!(unsaid.bound(OWN, vector(6, 10)), vector(6, 10));
        assert_eq!(unsaid.bound(OWN, vector(5, 11)), vector(5, 11));
    }
}
