// SPDX-License-Identifier: Apache-2.0
//! Writes of one partition that wait for their turn are made together.
//!
//! A conditional write is a round of Paxos among the servers that have the partition. Two at once
//! on one partition keep one another from ending, so those of this filer take turns; those of
//! several filers find out, which takes them longer. Whoever has the turn takes along what waits
//! behind it for the same partition: one round for all, as a log is synced once for all that
//! wait. The servers make such a write whole or not at all; where one of its rows was not as its
//! writer had read it, each writer's rows are asked for alone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use dulse_shared::RowWrite;
use dulse_store::{Error, ErrorKind, Operation, Outcome};
use parking_lot::Mutex;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::oneshot::{Sender, channel};
use tokio::time::{Instant, timeout_at};

use crate::layout::Place;
use crate::store::{GROUP_BYTES_MAX, GROUP_ROWS_MAX};

/// Partitions that share a turn have the same hash below this.
const N_LANES: usize = 1_024;

/// Rows of one partition, at least one, that one caller writes.
pub(crate) type Write = Vec<(RowWrite, Place)>;

/// Who asks the servers.
pub(crate) trait Asks: Sync {
    /// Writes rows of one partition, if each is as it was read; gives whether they were.
    fn ask(&self, rows: &[(RowWrite, Place)]) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// What waits to be written, and whose turn it is.
pub(crate) struct Lanes(Vec<Lane>);

#[derive(Default)]
struct Lane {
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Waiting>,
}

/// No more than the callers that wait: none is here twice.
#[derive(Default)]
struct Waiting {
    next_id: u64,
    writes: VecDeque<Waiter>,
}

struct Waiter {
    id: u64,
    rows: Write,
    /// When its turn is to have come.
    until: Instant,
    done: Sender<Result<bool, Error>>,
}

/// A caller's place among those that wait; taken back when the caller goes.
struct Ticket<'a> {
    lane: &'a Lane,
    id: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self((0..N_LANES).map(|_| Lane::default()).collect())
    }
}

impl Lanes {
    /// Writes rows of one partition when it is their turn, with what waits there as well.
    ///
    /// - `wait_max`: how long until it is: many that wait for a server that does not answer would
    ///   each wait for all before them.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the turn did not come, and nothing was written; as [`Asks::ask`].
    pub(crate) async fn write(
        &self,
        to: &impl Asks,
        rows: Write,
        wait_max: Duration,
    ) -> Result<bool, Error> {
        let Some((_, place)) = rows.first() else {
            return Ok(true);
        };
        let lane = &self.0[place.dirhash.rem_euclid(N_LANES as i64) as usize];
        let (done, mut answer) = channel();
        let until = Instant::now() + wait_max;
        let ticket = lane.join(rows, until, done);
        let turn = tokio::select! {
            biased;
            told = &mut answer => return told.unwrap_or_else(|_| Err(left())),
            turn = timeout_at(until, lane.turn.lock()) => turn.ok(),
        };
        while turn.is_some() {
            match answer.try_recv() {
                Ok(told) => return told,
                Err(TryRecvError::Closed) => return Err(left()),
                Err(TryRecvError::Empty) if Instant::now() > until => break,
                Err(TryRecvError::Empty) => lane.make_next(to).await,
            }
        }
        match ticket.withdraw() {
            true => Err(waited()),
            // Another caller took it along and waits for the servers, who are asked for a
            // limited time.
            false => answer.await.unwrap_or_else(|_| Err(left())),
        }
    }
}

impl Lane {
    fn join(&self, rows: Write, until: Instant, done: Sender<Result<bool, Error>>) -> Ticket<'_> {
        let mut waiting = self.waiting.lock();
        waiting.next_id += 1;
        let id = waiting.next_id;
        let writer = Waiter {
            id,
            rows,
            until,
            done,
        };
        waiting.writes.push_back(writer);
        Ticket { lane: self, id }
    }

    /// Makes the write that waits longest and what may go with it, and tells their callers.
    async fn make_next(&self, to: &impl Asks) {
        let together = self.waiting.lock().take();
        if together.len() > 1 {
            let rows: Write = together.iter().flat_map(|w| w.rows.clone()).collect();
            let told = to.ask(&rows).await;
            let is_for_all = match &told {
                Ok(is_made) => *is_made,
                // ⚠ It may be made yet: asked for again, it would be a second write.
                Err(error) => error.outcome() == Outcome::Unknown || !is_of_rows(error),
            };
            if is_for_all {
                for waiter in together {
                    waiter.tell(match &told {
                        Ok(is_made) => Ok(*is_made),
                        Err(error) => Err(error.repeated()),
                    });
                }
                return;
            }
            // ⚠ One of them had read its row before others wrote it, or cannot be written. That
            // says nothing of the rest.
        }
        for waiter in together {
            let told = match Instant::now() > waiter.until {
                // Those before it took all the time that it has.
                true => Err(waited()),
                false => to.ask(&waiter.rows).await,
            };
            waiter.tell(told);
        }
    }
}

impl Waiting {
    /// Takes out what waits longest, and what else of its partition fits into one write with it.
    fn take(&mut self) -> Vec<Waiter> {
        let Some(first) = self.writes.pop_front() else {
            return Vec::new();
        };
        let place = first.rows.first().map(|(_, place)| place.clone());
        let (mut n_rows, mut n_bytes) = (first.rows.len(), first.n_bytes());
        let mut taken: BTreeSet<String> = first.names().cloned().collect();
        let (mut together, mut left) = (vec![first], VecDeque::new());
        for waiter in self.writes.drain(..) {
            let is_beside = |(_, other): &(RowWrite, Place)| {
                place.as_ref().is_some_and(|place| place.is_beside(other))
            };
            let is_apart = !waiter.rows.iter().all(is_beside)
                || n_rows + waiter.rows.len() > GROUP_ROWS_MAX
                || n_bytes + waiter.n_bytes() > GROUP_BYTES_MAX
                // ⚠ A row is compared once in one write, and written once.
                || waiter.names().any(|name| taken.contains(name));
            if is_apart {
                left.push_back(waiter);
                continue;
            }
            n_rows += waiter.rows.len();
            n_bytes += waiter.n_bytes();
            taken.extend(waiter.names().cloned());
            together.push(waiter);
        }
        self.writes = left;
        together
    }
}

impl Waiter {
    /// Of its rows in their partition.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().map(|(_, place)| &place.name)
    }

    fn n_bytes(&self) -> usize {
        let values = self
            .rows
            .iter()
            .flat_map(|(row, _)| [&row.before, &row.after]);
        values.flatten().map(bytes::Bytes::len).sum()
    }

    fn tell(self, told: Result<bool, Error>) {
        // A caller may have gone.
        let _ = self.done.send(told);
    }
}

impl Ticket<'_> {
    /// Whether it still waited, and now does no more.
    fn withdraw(&self) -> bool {
        let mut waiting = self.lane.waiting.lock();
        let at = waiting.writes.iter().position(|w| w.id == self.id);
        at.and_then(|at| waiting.writes.remove(at)).is_some()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // ⚠ Nobody would hear what became of it.
        self.withdraw();
    }
}

/// Whether it says something of the rows that were written, and not of the servers.
fn is_of_rows(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge)
}

/// Of a write whose turn did not come.
fn waited() -> Error {
    let text = "other writes to the same directory wait for the database";
    let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
    error.with("because", text)
}

/// Of a write that another caller took along, and left while the servers were asked.
fn left() -> Error {
    let text = "the write was given up while the servers were asked";
    let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
    error.with("because", text).unknown_outcome()
}

#[cfg(test)]
mod tests;
