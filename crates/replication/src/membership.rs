// SPDX-License-Identifier: Apache-2.0
//! Leaving, and removing another: what operators and shutdown ask for.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dulse_merge::change::MemberStep;
use dulse_types::{Origin, Stamp, Vector};

use crate::core::{Gone, HandedOver, MemberState, MemberStatus};
use crate::{Inner, Replicator};

/// How long a leaving filer waits for the others, unless told otherwise.
pub const LEAVE_WAIT: Duration = Duration::from_secs(30);

/// How often a leaving filer looks whether the others have what it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of leaving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Left {
    /// It is a member no more, and every member that answered has all that it had.
    HandedOver,
    /// It is a member no more, and some that answered have not said yet that they know all.
    Lagging(Vec<String>),
    /// It is a member no more, and nobody answers who has all that it had: those that did when
    /// it asked were lost since, perhaps with their disks.
    Unheard(Vec<String>),
    /// It stays a member: nobody else has all that it has, and why.
    Stayed(String),
}

impl Left {
    /// What came of a leave that is journaled, by who has it.
    fn after(over: &HandedOver) -> Self {
        let others = over.lacking.iter().chain(&over.silent);
        let others: Vec<String> = others.map(|(_, address)| address.to_string()).collect();
        match (over.n_have, others.is_empty()) {
            (0, _) => Self::Unheard(others),
            (_, true) => Self::HandedOver,
            (_, false) => Self::Lagging(others),
        }
    }
}

/// Why a member was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No such member.
    #[error("`{0}` is no member of this cluster; `dulse cluster members` lists them")]
    Unknown(Origin),
    /// It is this filer.
    #[error("`{0}` is this filer itself: ask another one, or stop it with --leave-on-shutdown")]
    Own(Origin),
    /// It answers.
    #[error("`{0}` is alive: stop it first, or force it")]
    Live(Origin),
    /// This filer is not ready.
    #[error("this filer is not ready: {0}")]
    NotReady(String),
    /// It could not be written.
    #[error("journal the removal")]
    Store(#[from] dulse_store::Error),
}

impl Inner {
    fn handed_over(&self, wanted: &Vector) -> HandedOver {
        let now = self.now();
        self.with(|core, view| core.handed_over(now, view, wanted))
    }

    /// Waits until every member that answers has `wanted` on disk; what was so at the end.
    async fn hand_over(&self, wanted: &Vector, until: Instant) -> HandedOver {
        loop {
            let over = self.handed_over(wanted);
            if over.lacking.is_empty() && (over.n_have > 0 || over.silent.is_empty()) {
                return over;
            }
            if Instant::now() >= until {
                return over;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Replicator {
    /// Leaves the cluster for good: takes no more writes, hands over all it has, journals that
    /// it leaves, and hands that over. Bounded by `wait`.
    ///
    /// ⚠ Only once somebody else has everything: the last copy stays a member.
    ///
    /// # Errors
    ///
    /// When the leave cannot be journaled.
    pub async fn leave(&self, wait: Duration) -> Result<Left, dulse_store::Error> {
        let inner = &self.inner;
        inner.is_leaving.store(true, Ordering::Relaxed);
        inner.core.lock().leaving();
        inner.wake.notify_one();
        let own = inner.origin();
        let membership = inner.membership();
        if !membership.members.iter().any(|(origin, _)| *origin == own) {
            return Ok(Left::Stayed("it is no member".to_owned()));
        }
        if membership.members.len() == 1 {
            return Ok(Left::Stayed("it is the only member".to_owned()));
        }
        let until = Instant::now() + wait;
        let mut ready = self.ready();
        // The director tells it at once; when it is gone, nobody is served anyway.
        let _ = ready.wait_for(Option::is_some).await;
        let over = inner.hand_over(&inner.store.shared().vector(), until).await;
        if over.n_have == 0 {
            return Ok(Left::Stayed(format!(
                "no other member has all that it has within {} s",
                wait.as_secs()
            )));
        }
        inner
            .store
            .member(MemberStep::Leave { member: own })
            .await?;
        let over = inner.hand_over(&inner.store.shared().vector(), until).await;
        Ok(Left::after(&over))
    }

    /// Every member and every former one, as this filer sees them.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let now = self.inner.now();
        let durable = self.inner.store.shared().acknowledged_vector();
        self.inner
            .with(|core, view| core.members(now, view, &durable))
    }

    /// Everybody that was a member and is one no more.
    #[must_use]
    pub fn gone(&self) -> Vec<Gone> {
        self.inner.membership().gone
    }

    /// Shuts out a member: what it acknowledged and handed to nobody counts no more until it
    /// comes back and makes it anew.
    ///
    /// # Errors
    ///
    /// See [`RemoveError`]; a member that answers is removed only with `is_forced`.
    pub async fn remove(&self, member: Origin, is_forced: bool) -> Result<Stamp, RemoveError> {
        if let Some(why) = self.inner.ready.borrow().clone() {
            return Err(RemoveError::NotReady(why));
        }
        let known = self.members();
        let found = known.iter().find(|known| known.origin == member);
        match found.map(|known| known.state) {
            None | Some(MemberState::Gone(_)) => return Err(RemoveError::Unknown(member)),
            Some(MemberState::Own) => return Err(RemoveError::Own(member)),
            Some(MemberState::Live) if !is_forced => return Err(RemoveError::Live(member)),
            Some(MemberState::Live | MemberState::Silent) => {}
        }
        let cut = self.inner.store.shared().vector().get(member);
        let stamp = self.inner.store.member(MemberStep::Remove { member, cut });
        let stamp = stamp.await?;
        tracing::warn!(%member, %cut, "a member was removed");
        self.inner.wake.notify_one();
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leave_that_nobody_has_heard_of_is_no_handing_over() {
        let other = (Origin(2), "filer-2:8888.18888".parse().expect("an address"));
        let silent = HandedOver {
            silent: vec![other.clone()],
            ..HandedOver::default()
        };
        let name = vec![other.1.to_string()];
        assert_eq!(Left::after(&silent), Left::Unheard(name.clone()));
        let lagging = HandedOver {
            n_have: 1,
            ..silent
        };
        assert_eq!(Left::after(&lagging), Left::Lagging(name));
        let all = HandedOver {
            n_have: 1,
            ..HandedOver::default()
        };
        assert_eq!(Left::after(&all), Left::HandedOver);
    }
}
