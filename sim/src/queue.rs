// SPDX-License-Identifier: Apache-2.0
//! What will happen, in order of virtual time; what is due at one moment comes in the order
//! in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Event {
    /// The driver's timer of a life.
    Poll(usize, u64),
    /// The first request or reply of a connection arrives.
    Request(u64),
    Reply(u64),
    /// The server goes on with a stream.
    Feed(u64),
    /// The master's list reaches a filer.
    Listed(usize),
    Write(usize),
    Fault,
    Start(usize),
    /// Somebody makes room on a disk that was full.
    DiskFreed(usize),
}

impl Event {
    /// For the hash of what happened.
    pub(crate) fn number(self) -> u64 {
        let (kind, whom) = match self {
            Event::Poll(f, _) => (0, f as u64),
            Event::Request(c) => (1, c),
            Event::Reply(c) => (2, c),
            Event::Feed(c) => (3, c),
            Event::Listed(f) => (4, f as u64),
            Event::Write(f) => (5, f as u64),
            Event::Fault => (6, 0),
            Event::Start(f) => (7, f as u64),
            Event::DiskFreed(f) => (8, f as u64),
        };
        kind << 56 | whom
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse((at, self.order, event)));
    }

    /// The next event up to a moment.
    pub(crate) fn pop(&mut self, end: u64) -> Option<(u64, Event)> {
        let Reverse((at, _, _)) = self.heap.peek()?;
        if *at > end {
            return None;
        }
        let Reverse((at, _, event)) = self.heap.pop()?;
        Some((at, event))
    }
}
