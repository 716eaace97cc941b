// SPDX-License-Identifier: Apache-2.0
//! The sequencer's queue: bounded, and its length can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SendError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::time::Duration;

/// A queue of at most `max` requests.
pub(crate) fn queue<T>(max: usize) -> (Queue<T>, Requests<T>) {
    let (sender, receiver) = sync_channel(max);
    let n_waiting = Arc::new(AtomicUsize::new(0));
    let requests = Requests {
        receiver,
        n_waiting: Arc::clone(&n_waiting),
    };
    (Queue { sender, n_waiting }, requests)
}

/// Where requests go in.
pub(crate) struct Queue<T> {
    sender: SyncSender<T>,
    n_waiting: Arc<AtomicUsize>,
}

impl<T> Queue<T> {
    /// Requests that wait; for showing, since it changes at once.
    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn try_send(&self, request: T) -> Result<(), TrySendError<T>> {
        // Order: counted before it can be taken out, so that the count does not go below 0.
        self.n_waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.sender.try_send(request);
        if sent.is_err() {
            self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// Waits for room.
    pub(crate) fn send(&self, request: T) -> Result<(), SendError<T>> {
        self.n_waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.sender.send(request);
        if sent.is_err() {
            self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}

/// Where requests come out.
pub(crate) struct Requests<T> {
    receiver: Receiver<T>,
    n_waiting: Arc<AtomicUsize>,
}

impl<T> Requests<T> {
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        let request = self.receiver.recv_timeout(patience)?;
        self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(request)
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let request = self.receiver.try_recv()?;
        self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_does_not_wait() {
        let (queue, requests) = queue(2);
        assert!(queue.try_send(1).is_ok() && queue.send(2).is_ok());
        assert!(matches!(queue.try_send(3), Err(TrySendError::Full(3))));
        assert_eq!(queue.n_waiting(), 2);
        assert_eq!(requests.try_recv(), Ok(1));
        assert_eq!(queue.n_waiting(), 1);
        assert_eq!(requests.recv_timeout(Duration::ZERO), Ok(2));
        drop(requests);
        assert!(queue.try_send(4).is_err() && queue.send(5).is_err());
        assert_eq!(queue.n_waiting(), 0);
    }
}
