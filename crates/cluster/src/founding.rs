// SPDX-License-Identifier: Apache-2.0
//! Which of several fresh filers founds the cluster. ⚠ Two founders would be two clusters
//! under one name, so whoever is in doubt waits.

use std::time::Duration;

use dulse_types::{Origin, ServerAddress};

use crate::{Listing, Now};

/// The master's list must have been the same for this long before one founds a cluster.
pub const SETTLED_FOR: Duration = Duration::from_millis(1500);

/// What is known of one address that the master lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Candidate {
    /// It has not answered lately.
    Silent,
    /// It answered: it has no history.
    Fresh,
    /// It answered: it has a history, so one joins it.
    Settled,
    /// It can be no peer: another program, group or protocol.
    Stranger,
}

/// Whether to found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Yes: this filer is the first.
    Found,
    /// Not now; why, for whoever waits.
    Wait(String),
}

/// What the decision rests on.
#[derive(Clone, Copy)]
pub struct Founding<'a> {
    /// Where this filer is.
    pub own: &'a ServerAddress,
    /// Who it is.
    pub origin: Origin,
    /// The master's list and since when it has been the same; `None` before it answers.
    pub listing: Option<(&'a Listing, Now)>,
    /// Addresses of filers that greeted this one lately, listed or not.
    pub callers: &'a [ServerAddress],
    /// Origins that answered lately, without a history.
    pub fresh: &'a [Origin],
    /// What is known of an address.
    pub candidate: &'a dyn Fn(&ServerAddress) -> Candidate,
}

impl Founding<'_> {
    /// Decides for this filer, which is fresh. Of the fresh filers that the master lists the
    /// lowest address founds, if the master remembers no member and everyone listed has
    /// answered. ⚠ A list may be old: whoever greeted this filer lately counts as listed, so
    /// of two that know of each other at most one founds.
    #[must_use]
    pub fn decide(&self, now: Now) -> Verdict {
        let wait = |why: String| Verdict::Wait(why);
        let Some((listing, since)) = self.listing else {
            return wait("no master has answered yet".to_owned());
        };
        if !listing.filers.iter().any(|a| a.is_same_server(self.own)) {
            return wait("the master does not list this filer yet".to_owned());
        }
        let others = listing.filers.iter().chain(self.callers);
        let others = others.filter(|a| !a.is_same_server(self.own));
        // Remembered is also who reported itself and died before it began.
        let has_begun = |origin: Origin| origin != self.origin && !self.fresh.contains(&origin);
        let mut remembered = listing.known_members.iter();
        if let Some((_, member)) = remembered.find(|(origin, _)| has_begun(*origin)) {
            return wait(format!(
                "the master remembers {member} as a member of this cluster: start it, so that \
                 its state can be fetched, or start this filer with --alone to begin anew"
            ));
        }
        for other in others {
            match (self.candidate)(other) {
                Candidate::Silent => return wait(format!("{other} has not answered yet")),
                Candidate::Settled => return wait(format!("{other} has a history to join")),
                Candidate::Fresh if other < self.own => {
                    return wait(format!("{other} is to found the cluster"));
                }
                Candidate::Fresh | Candidate::Stranger => {}
            }
        }
        if now.saturating_sub(since) < SETTLED_FOR {
            return wait("the master's list is still changing".to_owned());
        }
        Verdict::Found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> ServerAddress {
        ServerAddress::new("127.0.0.1", port, 0).unwrap()
    }

    fn decide(own: u16, filers: &[u16], members: &[u16], of: fn(u16) -> Candidate) -> Verdict {
        let listing = Listing {
            filers: filers.iter().map(|p| at(*p)).collect(),
            known_members: members
                .iter()
                .map(|p| (Origin(u64::from(*p)), at(*p)))
                .collect(),
        };
        let founding = Founding {
            own: &at(own),
            listing: Some((&listing, Now::ZERO)),
            origin: Origin(u64::from(own)),
            fresh: &[Origin(2)],
            callers: &[],
            candidate: &|a| of(a.port()),
        };
        founding.decide(SETTLED_FOR)
    }

    #[test]
    fn of_fresh_filers_exactly_the_lowest_founds() {
        let founders: Vec<u16> = (1..=3)
            .filter(|own| decide(*own, &[1, 2, 3], &[], |_| Candidate::Fresh) == Verdict::Found)
            .collect();
        assert_eq!(founders, [1]);
    }

    #[test]
    fn nobody_founds_beside_a_history_a_silence_or_a_remembered_member() {
        let settled = |p| {
            if p == 3 {
                Candidate::Settled
            } else {
                Candidate::Fresh
            }
        };
        let silent = |p| {
            if p == 3 {
                Candidate::Silent
            } else {
                Candidate::Fresh
            }
        };
        assert_ne!(decide(1, &[1, 2, 3], &[], settled), Verdict::Found);
        assert_ne!(decide(1, &[1, 2, 3], &[], silent), Verdict::Found);
        assert_ne!(decide(1, &[1], &[9], |_| Candidate::Silent), Verdict::Found);
        assert_ne!(decide(1, &[2], &[], |_| Candidate::Fresh), Verdict::Found);
        assert_eq!(
            decide(1, &[1, 2], &[1], |_| Candidate::Stranger),
            Verdict::Found
        );
        // Remembered, but it answers without a history: it died before it had founded.
        assert_eq!(
            decide(1, &[1, 2], &[2], |_| Candidate::Fresh),
            Verdict::Found
        );
    }

    #[test]
    fn a_lower_filer_that_called_counts_though_the_list_lacks_it() {
        let listing = Listing {
            filers: vec![at(2)],
            known_members: Vec::new(),
        };
        let founding = Founding {
            own: &at(2),
            listing: Some((&listing, Now::ZERO)),
            origin: Origin(0),
            fresh: &[],
            callers: &[at(1)],
            candidate: &|_| Candidate::Fresh,
        };
        assert_ne!(founding.decide(SETTLED_FOR), Verdict::Found);
    }

    #[test]
    fn a_list_that_just_changed_is_not_trusted() {
        let listing = Listing {
            filers: vec![at(1)],
            known_members: Vec::new(),
        };
        let founding = Founding {
            own: &at(1),
            listing: Some((&listing, Now::from_secs(5))),
            origin: Origin(0),
            fresh: &[],
            callers: &[],
            candidate: &|_| Candidate::Silent,
        };
        assert_ne!(founding.decide(Now::from_secs(6)), Verdict::Found);
        assert_eq!(founding.decide(Now::from_secs(7)), Verdict::Found);
    }
}
