// SPDX-License-Identifier: Apache-2.0
//! What each peer said last, and what follows: stability and the low watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dulse_types::{Origin, Stamp, Vector, Version};

use crate::Now;

/// A peer silent for this long is left out of the low watermark.
pub const WATERMARK_SILENT_MAX: Duration = Duration::from_secs(120);

/// What a peer states in a heartbeat.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Statement {
    /// Its own last stamp.
    pub position: Stamp,
    /// Merged and on disk there.
    pub durable: Vector,
    /// Merged there.
    pub applied: Vector,
    /// Of `durable` that of whose losses there is nothing left to say: no later verdict there
    /// names content that these changes dropped.
    pub judged: Vector,
    /// No later change of it is stamped at or below this.
    pub promise: Stamp,
    /// It stops: it changes nothing until it is met again.
    pub is_stopping: bool,
    /// It began and does not know yet whether its store was set back or copied: another may
    /// have acknowledged more in its name, or less.
    pub is_unsure: bool,
    /// Who is about to leave, as far as it knows, itself included.
    pub leaving: Vec<Origin>,
}

/// The last statement of every peer.
#[derive(Clone, Default, Debug)]
pub struct Acknowledgements {
    heard: BTreeMap<Origin, (Now, Statement)>,
    /// The greatest promise of each.
    promised: BTreeMap<Origin, Stamp>,
    /// Who runs again, as it says itself, and was not met since.
    runs_again: BTreeSet<Origin>,
}

impl Acknowledgements {
    /// A peer stated something.
    pub fn stated(&mut self, now: Now, by: Origin, mut statement: Statement) {
        // The last word of the process before may be read late.
        statement.is_stopping &= !self.runs_again.contains(&by);
        let promised = self.promised.entry(by).or_insert(Stamp::ZERO);
        *promised = statement.promise.max(*promised);
        self.heard.insert(by, (now, statement));
    }

    /// The greatest promise that was heard of a peer. ⚠ It holds though the peer promises less
    /// later: a store that was set back has forgotten it. Not for a watermark: what it waits for
    /// may not be here.
    #[must_use]
    pub fn promised_by(&self, peer: Origin) -> Stamp {
        self.promised.get(&peer).copied().unwrap_or(Stamp::ZERO)
    }

    /// A peer was met again: what it said when it stopped no longer holds.
    pub fn met(&mut self, now: Now, peer: Origin) {
        self.runs_again.remove(&peer);
        self.goes_on(now, peer);
    }

    /// A peer says that it runs as another process than the one that was met. ⚠ It serves as soon
    /// as it has been answered, which may be before it is met: what it does then is waited for,
    /// though it had said that it stops.
    pub fn runs_again(&mut self, now: Now, peer: Origin) {
        let has_stopped = self.of(peer).is_some_and(|said| said.is_stopping);
        if self.runs_again.insert(peer) || has_stopped {
            self.goes_on(now, peer);
        }
    }

    fn goes_on(&mut self, now: Now, peer: Origin) {
        if let Some((heard, statement)) = self.heard.get_mut(&peer) {
            *heard = now;
            statement.is_stopping = false;
        }
    }

    /// The last statement of a peer.
    #[must_use]
    pub fn of(&self, peer: Origin) -> Option<&Statement> {
        self.heard.get(&peer).map(|(_, statement)| statement)
    }

    /// Who says last that it is about to leave itself.
    pub fn leaving(&self) -> impl Iterator<Item = Origin> {
        let said = self.heard.iter();
        let leaving = said.filter(|(peer, (_, said))| said.leaving.contains(peer));
        leaving.map(|(peer, _)| *peer)
    }

    /// The last statement of a peer, if it was made within this time and the peer goes on.
    #[must_use]
    pub fn lately(&self, now: Now, peer: Origin, within: Duration) -> Option<&Statement> {
        let (heard, statement) = self.heard.get(&peer)?;
        let is_late = now.saturating_sub(*heard) >= within;
        (!is_late && !statement.is_stopping).then_some(statement)
    }

    /// The greatest stamp of an origin that anybody is known to have, itself included.
    #[must_use]
    pub fn greatest(&self, origin: Origin) -> Stamp {
        let applied = self.heard.values().map(|(_, s)| s.applied.get(origin));
        let own = self.of(origin).map_or(Stamp::ZERO, |s| s.position);
        applied.max().unwrap_or(Stamp::ZERO).max(own)
    }

    /// What every member has acknowledged. ⚠ An acknowledgement counts only once all that its
    /// sender had stamped before it is applied here,
    /// ⚠ and that of one that is not sure of itself not at all.
    #[must_use]
    pub fn stable(
        &self,
        own: Origin,
        members: impl IntoIterator<Item = Origin>,
        durable: &Vector,
        applied: &Vector,
    ) -> Vector {
        self.least(own, members, (durable, |said| &said.durable), applied)
    }

    /// What every member has judged, too ([`Statement::judged`]): chunks that changes up to there
    /// dropped are named by no later verdict. Counted as in [`Acknowledgements::stable`].
    #[must_use]
    pub fn judged(
        &self,
        own: Origin,
        members: impl IntoIterator<Item = Origin>,
        judged: &Vector,
        applied: &Vector,
    ) -> Vector {
        self.least(own, members, (judged, |said| &said.judged), applied)
    }

    /// The least of what this filer has and what the others state.
    fn least(
        &self,
        own: Origin,
        members: impl IntoIterator<Item = Origin>,
        (has, stated): (&Vector, fn(&Statement) -> &Vector),
        applied: &Vector,
    ) -> Vector {
        let mut least = has.clone();
        for member in members.into_iter().filter(|m| *m != own) {
            let statement = self.of(member);
            let sure = statement.filter(|s| !s.is_unsure);
            let counted = sure.filter(|s| applied.get(member) >= s.position);
            let other = counted.map(|s| stated(s).clone()).unwrap_or_default();
            least = least
                .iter()
                .map(|(origin, stamp)| (origin, stamp.min(other.get(origin))))
                .collect();
        }
        least
    }

    /// Whether nothing of `gone`, which was shut out, can arrive here any more, so that it need
    /// not acknowledge anything: the cut is drawn.
    ///
    /// ⚠ Who knows that an origin was shut out takes its changes from members alone. Once every
    /// other member has acknowledged that, what the greatest of them has is all that there will
    /// ever be; and all of that must be here. Before, a change made in ignorance of what others
    /// did may still arrive through a member that had not heard of the end. ⚠ They must have
    /// acknowledged the end of *all* that are gone: from one that they hold for a member they
    /// would take what it has of another.
    ///
    /// - `members`: who is a member now; the own origin does not count.
    /// - `ends`: the changes by which origins went, all of them.
    #[must_use]
    pub fn is_cut(
        &self,
        own: Origin,
        members: impl IntoIterator<Item = Origin>,
        ends: &[Version],
        gone: Origin,
        applied: &Vector,
    ) -> bool {
        let mut others = members.into_iter().filter(|m| *m != own && *m != gone);
        others.all(|member| {
            self.of(member).is_some_and(|said| {
                !said.is_unsure
                    && applied.get(member) >= said.position
                    && ends.iter().all(|end| said.durable.covers(*end))
                    && applied.get(gone) >= said.applied.get(gone)
            })
        })
    }

    /// When a peer stated something last, or was met.
    #[must_use]
    pub fn heard_at(&self, peer: Origin) -> Option<Now> {
        self.heard.get(&peer).map(|(at, _)| *at)
    }

    /// What all of `members` have, as far as they said so: behind it somebody may lack changes.
    /// Who said nothing has nothing, unless `only_heard`. `None` without members.
    #[must_use]
    pub fn floor(
        &self,
        members: impl IntoIterator<Item = Origin>,
        only_heard: bool,
    ) -> Option<Vector> {
        let mut floor: Option<Vector> = None;
        for member in members {
            let has = match self.of(member) {
                Some(statement) => statement.durable.clone(),
                None if only_heard => continue,
                None => Vector::new(),
            };
            floor = Some(match floor {
                None => has,
                Some(floor) => floor
                    .iter()
                    .map(|(origin, stamp)| (origin, stamp.min(has.get(origin))))
                    .collect(),
            });
        }
        floor
    }

    /// The stamp up to which everything of everybody has been applied here; `None` when
    /// nobody else counts. Members silent for [`WATERMARK_SILENT_MAX`] do not count.
    #[must_use]
    pub fn watermark(
        &self,
        now: Now,
        own: Origin,
        members: impl IntoIterator<Item = Origin>,
        applied: &Vector,
    ) -> Option<Stamp> {
        let marks = members
            .into_iter()
            .filter(|m| *m != own)
            .filter_map(|member| {
                let have = applied.get(member);
                let (heard, statement) = match self.heard.get(&member) {
                    Some((heard, statement)) => (*heard, Some(statement)),
                    None => (Now::ZERO, None),
                };
                match statement {
                    Some(s) if s.is_stopping && have >= s.position => None,
                    _ if now.saturating_sub(heard) >= WATERMARK_SILENT_MAX => None,
                    Some(s) if have >= s.position => Some(s.promise.max(have)),
                    _ => Some(have),
                }
            });
        marks.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin(1);
    const B: Origin = Origin(2);
    const C: Origin = Origin(3);
    const D: Origin = Origin(4);

    fn vector(of: &[(Origin, i64)]) -> Vector {
        of.iter().map(|(o, s)| (*o, Stamp(*s))).collect()
    }

    fn statement(position: i64, promise: i64, durable: &[(Origin, i64)]) -> Statement {
        Statement {
            position: Stamp(position),
            promise: Stamp(promise),
            durable: vector(durable),
            ..Statement::default()
        }
    }

    #[test]
    fn what_one_member_never_acknowledged_is_not_stable() {
        let mut acks = Acknowledgements::default();
        let own = vector(&[(A, 10), (B, 20)]);
        acks.stated(Now::ZERO, B, statement(20, 0, &[(A, 7), (B, 20)]));
        let stable = acks.stable(A, [A, B], &own, &own);
        assert_eq!((stable.get(A), stable.get(B)), (Stamp(7), Stamp(20)));
        let stable = acks.stable(A, [A, B, C], &own, &own);
        assert_eq!((stable.get(A), stable.get(B)), (Stamp(0), Stamp(0)));
    }

    #[test]
    fn an_acknowledgement_waits_for_what_its_sender_did_before_it() {
        let mut acks = Acknowledgements::default();
        acks.stated(Now::ZERO, B, statement(21, 0, &[(A, 10), (B, 21)]));
        let own = vector(&[(A, 10), (B, 20)]);
        assert_eq!(acks.stable(A, [A, B], &own, &own).get(A), Stamp(0));
        let own = vector(&[(A, 10), (B, 21)]);
        assert_eq!(acks.stable(A, [A, B], &own, &own).get(A), Stamp(10));
    }

    #[test]
    fn what_one_acknowledges_that_is_not_sure_of_itself_counts_for_nothing() {
        let mut acks = Acknowledgements::default();
        let own = vector(&[(A, 10), (B, 20)]);
        let end = Version {
            stamp: Stamp(10),
            origin: A,
        };
        for is_unsure in [true, false] {
            let said = Statement {
                is_unsure,
                judged: own.clone(),
                ..statement(20, 0, &[(A, 10), (B, 20)])
            };
            acks.stated(Now::ZERO, B, said);
            let stamp = Stamp(if is_unsure { 0 } else { 10 });
            assert_eq!(acks.stable(A, [A, B], &own, &own).get(A), stamp);
            assert_eq!(acks.judged(A, [A, B], &own, &own).get(A), stamp);
            assert_eq!(acks.is_cut(A, [A, B], &[end], C, &own), !is_unsure);
        }
    }

    #[test]
    fn one_that_was_shut_out_is_cut_when_all_know_it_and_all_they_have_of_it_is_here() {
        let mut acks = Acknowledgements::default();
        let shut_out = Version {
            stamp: Stamp(11),
            origin: A,
        };
        let said = |position, durable: &[(Origin, i64)]| Statement {
            applied: vector(durable),
            ..statement(position, 0, durable)
        };
        let is_cut = |acks: &Acknowledgements, have: &[(Origin, i64)]| {
            acks.is_cut(A, [A, B, D], &[shut_out], C, &vector(have))
        };
        let have = [(A, 11), (B, 20), (C, 30), (D, 40)];
        acks.stated(Now::ZERO, B, said(20, &[(A, 11), (B, 20), (C, 30)]));
        assert!(!is_cut(&acks, &have), "D has said nothing");
        acks.stated(Now::ZERO, D, said(40, &[(A, 10), (C, 30), (D, 40)]));
        assert!(!is_cut(&acks, &have), "D has not heard of it");
        acks.stated(Now::ZERO, D, said(41, &[(A, 11), (C, 30), (D, 41)]));
        assert!(!is_cut(&acks, &have), "what D did before is not here");
        acks.stated(Now::ZERO, D, said(40, &[(A, 11), (C, 35), (D, 40)]));
        assert!(!is_cut(&acks, &have), "D has more of it");
        let have = [(A, 11), (B, 20), (C, 35), (D, 40)];
        assert!(is_cut(&acks, &have));
        let another = Version {
            stamp: Stamp(12),
            origin: A,
        };
        let both = [shut_out, another];
        let is_cut = |acks: &Acknowledgements| acks.is_cut(A, [A, B, D], &both, C, &vector(&have));
        assert!(!is_cut(&acks), "B and D may take its changes from another");
        acks.stated(Now::ZERO, B, said(20, &[(A, 12), (B, 20), (C, 30)]));
        acks.stated(Now::ZERO, D, said(40, &[(A, 12), (C, 35), (D, 40)]));
        assert!(is_cut(&acks));
    }

    #[test]
    fn the_watermark_waits_for_members_and_after_two_minutes_goes_on_without() {
        let mut acks = Acknowledgements::default();
        let applied = vector(&[(A, 10), (B, 20)]);
        let second = Duration::from_secs(1);
        assert_eq!(
            acks.watermark(second, A, [A, B, C], &applied),
            Some(Stamp(0))
        );
        acks.stated(second, B, statement(20, 90, &[]));
        acks.stated(second, C, statement(0, 80, &[]));
        assert_eq!(
            acks.watermark(second, A, [A, B, C], &applied),
            Some(Stamp(80))
        );
        acks.stated(second, B, statement(30, 90, &[]));
        assert_eq!(
            acks.watermark(second, A, [A, B, C], &applied),
            Some(Stamp(20))
        );
        let late = WATERMARK_SILENT_MAX + second;
        assert_eq!(acks.watermark(late, A, [A, B, C], &applied), None);
    }

    /// Its store was set back, and it has forgotten what others were told on its word.
    #[test]
    fn what_a_peer_promised_holds_though_it_promises_less() {
        let mut acks = Acknowledgements::default();
        acks.stated(Now::ZERO, Origin(2), statement(9, 50, &[]));
        acks.stated(Now::ZERO, Origin(2), statement(9, 20, &[]));
        assert_eq!(acks.promised_by(Origin(2)), Stamp(50));
        let said = acks.of(Origin(2)).map(|said| said.promise);
        assert_eq!(said, Some(Stamp(20)), "a watermark goes by what is here");
    }

    #[test]
    fn a_filer_that_stopped_in_order_holds_nobody_up() {
        let mut acks = Acknowledgements::default();
        let stopping = Statement {
            is_stopping: true,
            ..statement(20, 90, &[])
        };
        acks.stated(Now::ZERO, B, stopping);
        assert_eq!(
            acks.watermark(Now::ZERO, A, [B], &vector(&[(B, 19)])),
            Some(Stamp(19))
        );
        assert_eq!(acks.watermark(Now::ZERO, A, [B], &vector(&[(B, 20)])), None);
        acks.met(Now::ZERO, B);
        assert_eq!(
            acks.watermark(Now::ZERO, A, [B], &vector(&[(B, 20)])),
            Some(Stamp(90))
        );
    }

    #[test]
    fn one_that_runs_again_is_waited_for_before_it_is_met() {
        let mut acks = Acknowledgements::default();
        let stopping = Statement {
            is_stopping: true,
            ..statement(20, 90, &[])
        };
        let mark = |acks: &Acknowledgements| {
            let applied = vector(&[(B, 20)]);
            acks.watermark(Now::ZERO, A, [B], &applied)
        };
        acks.stated(Now::ZERO, B, stopping.clone());
        assert_eq!(mark(&acks), None);
        acks.runs_again(Now::ZERO, B);
        assert_eq!(mark(&acks), Some(Stamp(90)));
        acks.stated(Now::ZERO, B, stopping.clone());
        assert_eq!(mark(&acks), Some(Stamp(90)), "of the process before");
        acks.met(Now::ZERO, B);
        acks.stated(Now::ZERO, B, stopping);
        assert_eq!(mark(&acks), None, "it stops again");
    }
}
