// SPDX-License-Identifier: Apache-2.0
//! The thread that makes the journal durable in the background, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::Vector;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::shared::Shared;

/// Pause between two syncs in the background: peers hear of what is durable soon, and many
/// changes share a sync. With the sync itself it stays far below 100 ms.
const PAUSE: Duration = Duration::from_millis(10);

/// What is applied and durable; each change wakes those who watch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Applied of everybody's log.
    pub applied: Vector,
    /// On disk of everybody's log.
    pub durable: Vector,
    /// Local and peers' changes applied since start.
    pub n_changes: u64,
}

/// Tells of progress, for whoever makes some.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    sender: watch::Sender<Progress>,
    n_changes: AtomicU64,
}

impl Reporter {
    /// Knows what is there now.
    pub(crate) fn new(shared: Arc<Shared>) -> (Arc<Self>, watch::Receiver<Progress>) {
        let (sender, receiver) = watch::channel(Progress::default());
        let n_changes = AtomicU64::new(0);
        let reporter = Arc::new(Self {
            shared,
            sender,
            n_changes,
        });
        reporter.tell();
        (reporter, receiver)
    }

    /// Counts changes; told with the next [`Reporter::tell`].
    pub(crate) fn count(&self, n: u64) {
        self.n_changes.fetch_add(n, Ordering::Relaxed);
    }

    /// Wakes those who watch when something is new.
    pub(crate) fn tell(&self) {
        let n_changes = self.n_changes.load(Ordering::Relaxed);
        self.sender.send_if_modified(|before| {
            // Read here: two tellers must not replace the newer by the older.
            let vectors = self.shared.vectors.read();
            let is_new = before.applied != vectors.applied
                || before.durable != vectors.durable
                || before.n_changes != n_changes;
            if is_new {
                before.applied = vectors.applied.clone();
                before.durable = vectors.durable.clone();
                before.n_changes = n_changes;
            }
            is_new
        });
    }
}

/// The thread; it ends when this is dropped.
pub(crate) struct Syncer {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the thread.
#[derive(Default)]
pub(crate) struct Bell {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
enum Asked {
    #[default]
    Nothing,
    /// After the pause.
    Soon,
    /// Now: somebody waits for it.
    Now,
    /// The thread is to end.
    End,
}

impl Bell {
    /// Something may have to be synced.
    pub(crate) fn wake(&self) {
        self.ring(Asked::Soon);
    }

    /// A client waits for what was appended so far: no pause before the sync.
    pub(crate) fn urge(&self) {
        self.ring(Asked::Now);
    }

    fn ring(&self, asked: Asked) {
        let mut before = self.asked.lock();
        if *before < asked {
            *before = asked;
            self.changed.notify_one();
        }
    }

    /// Waits for work; false at the end.
    fn heard(&self) -> bool {
        let mut asked = self.asked.lock();
        self.changed
            .wait_while(&mut asked, |asked| *asked == Asked::Nothing);
        if *asked == Asked::End {
            return false;
        }
        *asked = Asked::Nothing;
        true
    }

    /// Waits for [`PAUSE`] at most.
    fn rest(&self) {
        let mut asked = self.asked.lock();
        self.changed
            .wait_while_for(&mut asked, |asked| *asked < Asked::Now, PAUSE);
    }
}

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// `Io` when the system gives no thread.
    pub(crate) fn start(shared: Arc<Shared>, reporter: Arc<Reporter>) -> Result<Self, Error> {
        let bell = Arc::<Bell>::default();
        let rung = Arc::clone(&bell);
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || run(&shared, &reporter, &rung))
            .map_err(|e| Error::new(Operation::Open, ErrorKind::Io).source(e))?;
        Ok(Self {
            bell,
            thread: Some(thread),
        })
    }

    /// What wakes it.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.bell.ring(Asked::End);
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process; there is nothing to hear from the thread.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, reporter: &Reporter, bell: &Bell) {
    while bell.heard() {
        let journal = shared.journal();
        if journal.synced() == journal.end() || journal.is_poisoned() {
            continue;
        }
        match shared.sync() {
            Ok(()) => reporter.tell(),
            Err(error) => tracing::error!(%error, "the journal could not be synced: this filer \
                takes no more writes until it is restarted"),
        }
        bell.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_urgent_call_cuts_the_pause_short_and_an_end_is_final() {
        let bell = Bell::default();
        bell.urge();
        bell.wake();
        // It returns at once: what is urgent is still to be done.
        bell.rest();
        assert_eq!(*bell.asked.lock(), Asked::Now);
        assert!(bell.heard());
        assert_eq!(*bell.asked.lock(), Asked::Nothing);
        bell.ring(Asked::End);
        bell.urge();
        assert!(!bell.heard());
    }
}
