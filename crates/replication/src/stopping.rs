// SPDX-License-Identifier: Apache-2.0
//! Whether an operator may stop this filer: what would be lost, or stand still, without it.

use std::sync::atomic::Ordering;

use dulse_types::ServerAddress;

use crate::Replicator;
use crate::core::HandedOver;

/// What the answer rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stopping<'a> {
    /// Why this filer does not serve, if it does not.
    pub(crate) not_ready: Option<&'a str>,
    /// Other members that answer.
    pub(crate) n_live: usize,
    /// Who has everything that is on disk here.
    pub(crate) over: &'a HandedOver,
    /// Fresh filers that take their state from here.
    pub(crate) n_transfers: usize,
    /// Writes whose answer waits for other filers.
    pub(crate) n_awaited: usize,
    /// Connected filers that the strictest durability asks for beside the one written to.
    pub(crate) n_needed: usize,
}

impl Stopping<'_> {
    /// Why this filer is not to be stopped now, each reason a sentence; none when it may be.
    #[must_use]
    pub(crate) fn why_not(&self) -> Vec<String> {
        let mut why = Vec::new();
        let over = self.over;
        let (n_live, n_others) = (
            self.n_live,
            over.n_have + over.lacking.len() + over.silent.len(),
        );
        if n_others == 0 {
            why.push("it is the only member: nobody else has its data".to_owned());
        } else if n_live == 0 {
            why.push("no other member answers: nobody would serve".to_owned());
        } else if over.n_have == 0 {
            why.push(format!(
                "no other member has all of it on disk yet: {} lag",
                names(&over.lacking)
            ));
        }
        if let Some(not_ready) = self.not_ready {
            why.push(format!("it is not ready itself: {not_ready}"));
        }
        if self.n_transfers > 0 {
            why.push(format!(
                "{} fresh filers take their state from it",
                self.n_transfers
            ));
        }
        if self.n_awaited > 0 {
            why.push(format!(
                "{} writes wait until other filers have them",
                self.n_awaited
            ));
        }
        // The others lose this one as a place to write to before they acknowledge.
        if n_live > 0 && n_live - 1 < self.n_needed {
            why.push(format!(
                "peers({}) could not be kept by the {n_live} members that are left",
                self.n_needed
            ));
        }
        why
    }
}

fn names(of: &[(dulse_types::Origin, ServerAddress)]) -> String {
    let names: Vec<String> = of.iter().map(|(_, address)| address.to_string()).collect();
    names.join(", ")
}

impl Replicator {
    /// Why this filer is not to be stopped now; none when it may be.
    #[must_use]
    pub fn why_not_stop(&self) -> Vec<String> {
        let inner = &self.inner;
        let (now, durable) = (inner.now(), inner.store.shared().acknowledged_vector());
        let own = inner.origin();
        let (over, n_live) = inner.with(|core, view| {
            let others = view.members.iter().filter(|(origin, _)| *origin != own);
            let n_live = others
                .filter(|(origin, _)| core.is_live(now, *origin))
                .count();
            (core.handed_over(now, view, &durable), n_live)
        });
        let not_ready = inner.ready.borrow().clone();
        Stopping {
            not_ready: not_ready.as_deref(),
            n_live,
            over: &over,
            n_transfers: inner.n_transfers.load(Ordering::Relaxed),
            n_awaited: inner.store.n_awaited(),
            n_needed: inner.store.n_peers_max(),
        }
        .why_not()
    }

    /// Origins with a change that cannot be applied here, and why.
    #[must_use]
    pub fn stuck(&self) -> Vec<(dulse_types::Origin, String)> {
        self.inner.core.lock().stuck()
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::Origin;

    use super::*;

    fn at(port: u16) -> (Origin, ServerAddress) {
        let address = ServerAddress::new("h", port, 0).unwrap();
        (Origin(port.into()), address)
    }

    fn why(n_live: usize, n_have: usize, lacking: &[u16], silent: &[u16]) -> Vec<String> {
        let over = HandedOver {
            n_have,
            lacking: lacking.iter().map(|port| at(*port)).collect(),
            silent: silent.iter().map(|port| at(*port)).collect(),
        };
        Stopping {
            not_ready: None,
            n_live,
            over: &over,
            n_transfers: 0,
            n_awaited: 0,
            n_needed: 0,
        }
        .why_not()
    }

    #[test]
    fn a_filer_may_stop_when_another_one_that_answers_has_everything() {
        assert_eq!(why(1, 1, &[], &[]), Vec::<String>::new());
        assert_eq!(why(2, 1, &[2], &[3]), Vec::<String>::new());
        assert!(why(0, 0, &[], &[])[0].contains("only member"));
        assert!(why(0, 0, &[], &[3])[0].contains("no other member answers"));
        assert!(
            why(0, 1, &[], &[])[0].contains("no other member answers"),
            "it has everything and is away"
        );
        assert!(why(1, 0, &[2], &[3])[0].contains("h:2"));
    }

    #[test]
    fn each_thing_that_would_stand_still_is_a_reason() {
        let over = HandedOver {
            n_have: 1,
            ..HandedOver::default()
        };
        let stopping = Stopping {
            not_ready: Some("catching up"),
            n_live: 1,
            over: &over,
            n_transfers: 1,
            n_awaited: 2,
            n_needed: 1,
        };
        assert_eq!(stopping.why_not().len(), 4);
    }
}
