// SPDX-License-Identifier: Apache-2.0
//! Tickets: the keys that say which attempts were made.
//!
//! A ticket is set by the same `MULTI` as what it stands for, so the server has both or neither,
//! also behind a crash and at a replica. It is taken out by a later attempt, once whoever made it
//! has written down that it knows; what nobody takes out goes by itself.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long the server keeps a ticket that nobody takes out.
pub(crate) const TICKET_TIME_S: u32 = 7 * 24 * 3_600;

/// How long a ticket stays behind the answer: by then the filer's journal has it.
const KNOWN_TIME: Duration = Duration::from_secs(5);

/// Tickets that one attempt takes out.
const TAKEN_MAX: usize = 64;

/// Tickets remembered; those above go by themselves at the server.
const REMEMBERED_MAX: usize = 100_000;

/// The tickets of this process.
#[derive(Default)]
pub(crate) struct Tickets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sent, and not known to be over.
    open: HashSet<i64>,
    /// Made, with when that was known.
    done: VecDeque<(Instant, i64)>,
}

impl Tickets {
    pub(crate) fn begin(&self, ticket: i64) {
        let mut state = self.state.lock();
        if state.open.len() < REMEMBERED_MAX {
            state.open.insert(ticket);
        }
    }

    /// It was made, and the server has its key.
    pub(crate) fn made(&self, ticket: i64) {
        let mut state = self.state.lock();
        state.open.remove(&ticket);
        if state.done.len() < REMEMBERED_MAX {
            state.done.push_back((Instant::now(), ticket));
        }
    }

    /// It was not made and the server has no key of it.
    pub(crate) fn not_made(&self, ticket: i64) {
        self.state.lock().open.remove(&ticket);
    }

    /// Whether this process sent it and its answer was lost.
    pub(crate) fn is_open(&self, ticket: i64) -> bool {
        self.state.lock().open.contains(&ticket)
    }

    /// Tickets that may be taken out.
    pub(crate) fn take(&self) -> Vec<i64> {
        let mut state = self.state.lock();
        let n = state
            .done
            .iter()
            .take(TAKEN_MAX)
            .take_while(|(since, _)| since.elapsed() >= KNOWN_TIME)
            .count();
        state.done.drain(..n).map(|(_, ticket)| ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_open_until_what_became_of_it_is_known() {
        let tickets = Tickets::default();
        assert!(!tickets.is_open(1), "another process' is not");
        tickets.begin(1);
        tickets.begin(2);
        assert!(tickets.is_open(1) && tickets.is_open(2));
        tickets.made(1);
        tickets.not_made(2);
        assert!(!tickets.is_open(1) && !tickets.is_open(2));
        assert!(tickets.take().is_empty(), "the journal may not have it yet");
    }
}
