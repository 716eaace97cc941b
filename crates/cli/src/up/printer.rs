// SPDX-License-Identifier: Apache-2.0
//! Writes to standard output without waiting for its reader.
//!
//! A terminal that was stopped with Ctrl-S, or a pager that reads no further, blocks a write
//! for ever; Ctrl-C must stop the cluster all the same. So a thread writes, and what it has
//! no room for is left out.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

/// Texts that wait for a slow reader.
const WAITING_MAX: usize = 64;

/// How long the last texts may take.
const FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// Prints on a thread of its own.
pub(super) struct Printer {
    texts: Option<SyncSender<String>>,
    is_closed: Arc<AtomicBool>,
    finished: Receiver<()>,
}

impl Printer {
    pub(super) fn start() -> Self {
        let (texts, waiting) = sync_channel::<String>(WAITING_MAX);
        let (finish, finished) = channel();
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        std::thread::spawn(move || {
            let mut out = std::io::stdout();
            for text in waiting {
                if out.write_all(text.as_bytes()).is_err() || out.flush().is_err() {
                    closed.store(true, Ordering::Relaxed);
                    break;
                }
            }
            // Whoever waits for it may have gone.
            let _ = finish.send(());
        });
        Self {
            texts: Some(texts),
            is_closed,
            finished,
        }
    }

    /// Whether somebody may still read.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn print(&self, text: String) {
        let Some(texts) = &self.texts else { return };
        if let Err(TrySendError::Disconnected(_)) = texts.try_send(text) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.texts = None;
        // A reader that stands still does not get the last texts.
        let _ = self.finished.recv_timeout(FINISH_TIME_MAX);
    }
}
