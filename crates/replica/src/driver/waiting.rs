// SPDX-License-Identifier: Apache-2.0
//! Local writes that wait until a tree change is done, and callers of tree changes.
//!
//! Upstream's clients see a directory that is being moved as busy for the time of one call;
//! an error would end up as EIO at a mount. So writes wait, but not for ever and not in any
//! number.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use dulse_store::{
    Done, Error, ErrorKind, Operation, Transaction, TreeChange, TreeDone, TreeOpened,
};
use dulse_types::Identity;

use crate::levels::Durability;
use crate::metrics;
use crate::sequencer::Replica;

/// How long a write waits: a rename of half a million names fits in.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes that wait; more are refused at once.
const WAITERS_MAX: usize = 1_024;

/// A local write.
pub(super) enum Write {
    Commit(Transaction, Done),
    Tree(TreeChange, TreeOpened, TreeDone),
}

impl Write {
    /// Why it must wait.
    pub(super) fn waits_for(&self, replica: &Replica) -> Option<Error> {
        match self {
            Self::Commit(transaction, _) => replica.waits_for_tree(&transaction.steps, None),
            Self::Tree(change, ..) => replica.waits_for_tree(&change.before.steps, Some(change)),
        }
    }

    /// Answers that it was not done.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Commit(_, done) => done(Err(error)),
            Self::Tree(_, _, done) => done(Err(error)),
        }
    }
}

struct Waiter {
    write: Write,
    since: Instant,
}

/// Who waits for a tree change, in order of arrival.
#[derive(Default)]
pub(crate) struct Waiting {
    waiters: VecDeque<Waiter>,
    callers: HashMap<Identity, (Durability, TreeDone)>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Has a write wait, or refuses it.
    pub(super) fn park(&mut self, write: Write, why: Error) {
        if self.waiters.len() >= WAITERS_MAX {
            metrics::TREES_REFUSED.add(1);
            let text = format!("{WAITERS_MAX} writes wait for it already");
            return write.fail(why.with("and", text));
        }
        let since = Instant::now();
        self.waiters.push_back(Waiter { write, since });
        self.count();
    }

    /// Takes out what need not wait any more; refuses what has waited long enough.
    pub(super) fn wake(&mut self, replica: &Replica) -> Vec<Write> {
        let mut free = Vec::new();
        for waiter in std::mem::take(&mut self.waiters) {
            match waiter.write.waits_for(replica) {
                None => free.push(waiter.write),
                Some(why) if waiter.since.elapsed() >= PATIENCE => {
                    metrics::TREES_REFUSED.add(1);
                    waiter.write.fail(why);
                }
                Some(_) => self.waiters.push_back(waiter),
            }
        }
        self.count();
        free
    }

    /// A tree change has begun; its caller is answered when it is over.
    pub(super) fn call(&mut self, intent: Identity, level: Durability, done: TreeDone) {
        self.callers.insert(intent, (level, done));
    }

    /// Whom to answer when one is over; nobody when it began before a restart.
    pub(super) fn over(&mut self, intent: Identity) -> Option<(Durability, TreeDone)> {
        self.callers.remove(&intent)
    }

    /// The store stops: what waits was not done, what has begun goes on after a restart.
    pub(super) fn stop(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.write.fail(super::stopped());
        }
        for (_, (_, done)) in self.callers.drain() {
            let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
            let text = "the store is stopping; it is done when this filer runs again";
            done(Err(error.with("because", text).unknown_outcome()));
        }
        self.count();
    }

    fn count(&self) {
        metrics::TREES_WAITING.set(self.waiters.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;

    fn why() -> Error {
        Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", "`/t` is being moved")
    }

    #[test]
    fn writes_beyond_the_bound_are_refused_at_once_and_may_be_tried_again() {
        let mut waiting = Waiting::default();
        let n_answered = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..WAITERS_MAX + 3 {
            let (n_answered, refused) = (Arc::clone(&n_answered), Arc::clone(&refused));
            let done: Done = Box::new(move |result| {
                n_answered.fetch_add(1, Ordering::Relaxed);
                refused.lock().extend(result.err());
            });
            waiting.park(Write::Commit(Transaction::default(), done), why());
        }
        assert_eq!(waiting.waiters.len(), WAITERS_MAX);
        let refused = std::mem::take(&mut *refused.lock());
        assert_eq!(refused.len(), 3);
        for error in refused {
            assert!(error.is_retryable());
            let text = error.to_string();
            assert!(text.contains("`/t` is being moved"), "{text}");
            assert!(text.contains("1024 writes wait for it already"), "{text}");
        }
        // Those that wait are answered when the store stops.
        assert_eq!(n_answered.load(Ordering::Relaxed), 3);
        waiting.stop();
        assert_eq!(n_answered.load(Ordering::Relaxed), WAITERS_MAX + 3);
        assert!(waiting.is_empty());
    }
}
