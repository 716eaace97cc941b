// SPDX-License-Identifier: Apache-2.0
//! The thread that makes the journal durable in the background, and what is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::Vector;
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
    /// Taken to end the thread.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// `Io` when the system gives no thread.
    pub(crate) fn start(shared: Arc<Shared>, reporter: Arc<Reporter>) -> Result<Self, Error> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || run(&shared, &reporter, &woken))
            .map_err(|e| Error::new(Operation::Open, ErrorKind::Io).source(e))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Something may have to be synced.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // A full channel wakes the thread as well.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process; there is nothing to hear from the thread.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, reporter: &Reporter, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        let journal = shared.journal();
        if journal.synced() == journal.end() || journal.is_poisoned() {
            continue;
        }
        match shared.sync() {
            Ok(()) => reporter.tell(),
            Err(error) => tracing::error!(%error, "the journal could not be synced: this filer \
                takes no more writes until it is restarted"),
        }
        std::thread::sleep(PAUSE);
    }
}
